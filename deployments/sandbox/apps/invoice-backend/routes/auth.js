'use strict';

const crypto = require('crypto');
const { promisify } = require('util');
const jwt = require('jsonwebtoken');
const { databaseConfig } = require('../config/database');
const { record } = require('../middleware/audit');
const { HttpError } = require('../middleware/errorHandler');

const scrypt = promisify(crypto.scrypt);

// Stored as scrypt$N$r$p$salt$key, salt and key in base64.
async function passwordMatches(password, stored) {
  const [scheme, N, r, p, salt, key] = String(stored || '').split('$');
  if (scheme !== 'scrypt') return false;
  const expected = Buffer.from(key, 'base64');
  const options = { N: Number(N), r: Number(r), p: Number(p) };
  const actual = await scrypt(password, Buffer.from(salt, 'base64'), expected.length, options);
  return crypto.timingSafeEqual(actual, expected);
}

function reasonOf(user) {
  if (!user) return 'unknown user';
  return user.isActive === false ? 'disabled user' : 'wrong password';
}

async function login({ body, request, settings }) {
  const { email, password } = body;
  if (typeof email !== 'string' || typeof password !== 'string') {
    throw new HttpError(400, 'Missing required fields: email, password');
  }
  const user = await databaseConfig.executeOperation((db) => db.collection('users').findOne({ email }));
  const welcome = user && user.isActive !== false && (await passwordMatches(password, user.passwordHash));
  if (!welcome) {
    console.error(`❌ Authentication failed for ${email}`);
    record('LOGIN_FAILED', { request, user, email, reason: reasonOf(user) });
    throw new HttpError(401, 'Authentication failed');
  }
  const claims = { sub: String(user._id), email, role: user.role, organizationId: String(user.organizationId) };
  return { token: jwt.sign(claims, settings.jwtSecrets[0], { algorithm: 'HS256', expiresIn: '1h' }), user: claims };
}

module.exports = { login, passwordMatches };
