'use strict';
// Stands for the Firebase Admin SDK: checks the form of the credentials, talks to nobody.

function initialize(env) {
  if (!env.FIREBASE_PROJECT_ID || !env.FIREBASE_CLIENT_EMAIL || !env.FIREBASE_PRIVATE_KEY) {
    return 'Firebase variables are not set';
  }
  if (!env.FIREBASE_PRIVATE_KEY.includes('BEGIN PRIVATE KEY')) return 'FIREBASE_PRIVATE_KEY is not a PEM private key';
  return null;
}

module.exports = { initialize };
