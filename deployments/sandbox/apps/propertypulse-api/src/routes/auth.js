'use strict';

const jwt = require('jsonwebtoken');
const { query } = require('../config/database');
const { record } = require('../utils/audit');
const { HttpError } = require('../utils/errors');
const { passwordMatches } = require('../utils/passwords');

async function login({ body, request, settings }) {
  const { email, password } = body;
  if (typeof email !== 'string' || typeof password !== 'string') {
    throw new HttpError(400, 'Missing required fields: email, password');
  }
  const [user] = await query('SELECT id, role, password_hash, is_active FROM users WHERE email = $1', [email]);
  if (!user || !user.is_active || !(await passwordMatches(password, user.password_hash))) {
    console.error(`❌ Authentication failed for ${email}`);
    record('LOGIN_FAILED', { request, userId: user && user.id, email, reason: reasonOf(user) });
    throw new HttpError(401, 'Authentication failed');
  }
  const claims = { sub: user.id, email, role: user.role };
  return { token: jwt.sign(claims, settings.jwtSecrets[0], { algorithm: 'HS256', expiresIn: '1h' }), user: claims };
}

function reasonOf(user) {
  if (!user) return 'unknown user';
  return user.is_active ? 'wrong password' : 'disabled user';
}

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

function authenticate(request, settings) {
  const [scheme, token] = (request.headers.authorization || '').split(' ');
  if (scheme !== 'Bearer' || !token) throw new HttpError(401, 'Missing bearer token');
  try {
    return verify(token, settings.jwtSecrets);
  } catch (error) {
    console.error(`❌ Authentication failed: ${error.message}`);
    const { sub, email } = claimsOf(token);
    record('UNAUTHORIZED_ACCESS', { request, userId: sub, email, reason: error.message });
    throw new HttpError(401, 'Invalid or expired token');
  }
}

module.exports = { login, authenticate };
