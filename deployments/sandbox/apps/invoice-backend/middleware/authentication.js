'use strict';

const jwt = require('jsonwebtoken');
const { HttpError } = require('./errorHandler');

function authenticate(request, secret) {
  const [scheme, token] = (request.headers.authorization || '').split(' ');
  if (scheme !== 'Bearer' || !token) throw new HttpError(401, 'Missing bearer token');
  try {
    return jwt.verify(token, secret, { algorithms: ['HS256'] });
  } catch (error) {
    console.error(`❌ Authentication failed: ${error.message}`);
    throw new HttpError(401, 'Invalid or expired token');
  }
}

module.exports = { authenticate };
