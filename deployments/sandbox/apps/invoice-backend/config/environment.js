'use strict';
// Reads .env and refuses to start with a wrong one.

const path = require('path');

// override: PM2 keeps the environment of the first start; the file is the truth.
require('dotenv').config({ path: path.join(__dirname, '..', '.env'), override: true, quiet: true });

const REQUIRED = ['MONGODB_URI', 'PORT', 'EMAIL_FOR_OTP', 'EMAIL_PASSWORD', 'JWT_SECRET', 'ENCRYPTION_KEY', 'NODE_ENV'];
const FIREBASE = ['FIREBASE_PROJECT_ID', 'FIREBASE_CLIENT_EMAIL', 'FIREBASE_PRIVATE_KEY'];
// What /internal/fingerprints tells of: never the values.
const SECRETS = [
  'MONGODB_URI', 'JWT_SECRET', 'JWT_SECRET_PREVIOUS', 'ENCRYPTION_KEY', 'EMAIL_PASSWORD', 'FIREBASE_PRIVATE_KEY',
];

function problems(env) {
  const found = REQUIRED.filter((name) => !env[name]).map((name) => `${name} is missing`);
  if (env.MONGODB_URI && !/^mongodb(\+srv)?:\/\//.test(env.MONGODB_URI)) found.push('MONGODB_URI is not a MongoDB URI');
  if (env.PORT && !(Number.isInteger(Number(env.PORT)) && Number(env.PORT) > 0 && Number(env.PORT) < 65536)) {
    found.push('PORT is not a port number');
  }
  if (env.JWT_SECRET && env.JWT_SECRET.length < 32) found.push('JWT_SECRET is shorter than 32 characters');
  if (env.ENCRYPTION_KEY && env.ENCRYPTION_KEY.length !== 32) found.push('ENCRYPTION_KEY is not 32 characters long');
  return found;
}

function load() {
  const found = problems(process.env);
  if (found.length > 0) {
    console.error(`❌ Environment variable errors: ${found.join('; ')}`);
    process.exit(1);
  }
  const env = process.env;
  return {
    port: Number(env.PORT),
    mongodbUri: env.MONGODB_URI,
    // The first signs; a token of any is accepted, so that a rotation logs nobody out.
    jwtSecrets: [env.JWT_SECRET, env.JWT_SECRET_PREVIOUS].filter(Boolean),
    secrets: Object.fromEntries(SECRETS.filter((name) => env[name]).map((name) => [name, env[name]])),
    slowRequestMs: Number(env.SLOW_REQUEST_MS || 1000),
    firebase: FIREBASE.every((name) => env[name]),
  };
}

module.exports = { load, problems };
