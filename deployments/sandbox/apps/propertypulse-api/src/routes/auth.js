'use strict';

const jwt = require('jsonwebtoken');
const { query } = require('../config/database');
const { HttpError } = require('../utils/errors');
const { passwordMatches } = require('../utils/passwords');

async function login({ body, settings }) {
  const { email, password } = body;
  if (typeof email !== 'string' || typeof password !== 'string') {
    throw new HttpError(400, 'Missing required fields: email, password');
  }
  const [user] = await query('SELECT id, role, password_hash, is_active FROM users WHERE email = $1', [email]);
  if (!user || !user.is_active || !(await passwordMatches(password, user.password_hash))) {
    console.error(`❌ Authentication failed for ${email}`);
    throw new HttpError(401, 'Authentication failed');
  }
  const claims = { sub: user.id, email, role: user.role };
  return { token: jwt.sign(claims, settings.jwtSecret, { algorithm: 'HS256', expiresIn: '1h' }), user: claims };
}

function authenticate(request, settings) {
  const [scheme, token] = (request.headers.authorization || '').split(' ');
  if (scheme !== 'Bearer' || !token) throw new HttpError(401, 'Missing bearer token');
  try {
    return jwt.verify(token, settings.jwtSecret, { algorithms: ['HS256'] });
  } catch (error) {
    console.error(`❌ Authentication failed: ${error.message}`);
    throw new HttpError(401, 'Invalid or expired token');
  }
}

module.exports = { login, authenticate };
