'use strict';

const jwt = require('jsonwebtoken');
const { record } = require('./audit');
const { HttpError } = require('./errorHandler');

function verify(token, [secret, ...others]) {
  try {
    return jwt.verify(token, secret, { algorithms: ['HS256'] });
  } catch (error) {
    if (error.message === 'invalid signature' && others.length > 0) return verify(token, others);
    throw error;
  }
}

// Whom a refused token names, which nothing proves.
function claimsOf(token) {
  try {
    return jwt.decode(token) || {};
  } catch {
    return {};
  }
}

function authenticate(request, secrets) {
  const [scheme, token] = (request.headers.authorization || '').split(' ');
  if (scheme !== 'Bearer' || !token) throw new HttpError(401, 'Missing bearer token');
  try {
    return verify(token, secrets);
  } catch (error) {
    console.error(`❌ Authentication failed: ${error.message}`);
    record('UNAUTHORIZED_ACCESS', { request, email: claimsOf(token).email, reason: error.message });
    throw new HttpError(401, 'Invalid or expired token');
  }
}

module.exports = { authenticate };
