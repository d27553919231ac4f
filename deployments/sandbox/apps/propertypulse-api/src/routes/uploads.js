'use strict';

const crypto = require('crypto');
const { HttpError } = require('../utils/errors');
const { presign } = require('../utils/presign');

const SECONDS = 300;

async function signedUrl({ body, user, settings }) {
  const { filename } = body;
  if (typeof filename !== 'string' || !/^[\w.-]{1,100}$/.test(filename)) {
    throw new HttpError(400, 'filename must be 1 to 100 letters, digits, dots, dashes and underscores');
  }
  const key = `users/${user.sub}/${crypto.randomUUID()}/${filename}`;
  const url = presign({ method: 'PUT', key, seconds: SECONDS, ...settings.uploads });
  return { method: 'PUT', url, key, expiresIn: SECONDS };
}

module.exports = { signedUrl };
