'use strict';

const crypto = require('crypto');
const { promisify } = require('util');

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

module.exports = { passwordMatches };
