'use strict';
// A ledger's application: it answers from the ledger's database, as its .env says where that is.

const crypto = require('crypto');
const http = require('http');
const path = require('path');
const jwt = require('jsonwebtoken');

const env = require('dotenv').config({ path: path.join(__dirname, '.env'), quiet: true }).parsed || {};
const url = env.DATABASE_URL || '';

function connect() {
  if (url.startsWith('mongodb')) {
    const { MongoClient } = require('mongodb');
    const client = new MongoClient(url, { serverSelectionTimeoutMS: 2000 });
    return (owner) => client.db().collection('accounts').findOne(owner ? { owner } : {});
  }
  const { Pool } = require('pg');
  const pool = new Pool({ connectionString: url, max: 3, connectionTimeoutMillis: 2000 });
  pool.on('error', () => {});
  return async (owner) => {
    const query = owner ? ['SELECT owner FROM accounts WHERE owner = $1', [owner]] : ['SELECT owner FROM accounts LIMIT 1'];
    return (await pool.query(...query)).rows[0];
  };
}

const findAccount = connect();

// Tokens and Stripe's events are accepted by the present secret and by the previous one, where there is one.
function isAccepted(check, variable) {
  return [env[variable], env[`${variable}_PREVIOUS`]].filter(Boolean).some((secret) => {
    try {
      return check(secret);
    } catch {
      return false;
    }
  });
}

function isToken(token) {
  return isAccepted((secret) => jwt.verify(token, secret, { algorithms: ['HS256'] }), 'JWT_SECRET');
}

function isSigned(raw, header) {
  const parts = Object.fromEntries((header || '').split(',').map((part) => part.split('=')));
  const signed = (secret) => crypto.createHmac('sha256', secret).update(`${parts.t}.${raw}`).digest('hex') === parts.v1;
  return isAccepted(signed, 'STRIPE_WEBHOOK_SECRET');
}

function fingerprint(nonce) {
  const prints = Object.entries(env).map(([name, value]) => [
    name,
    crypto.createHmac('sha256', value).update(nonce).digest('hex'),
  ]);
  return { process: process.pid, fingerprints: Object.fromEntries(prints) };
}

async function read(request) {
  let text = '';
  for await (const chunk of request) text += chunk;
  return text;
}

async function answer(request) {
  if (request.url === '/health') {
    const found = await findAccount();
    return [found ? 200 : 503, { status: found ? 'OK' : 'ERROR', timestamp: new Date().toISOString() }];
  }
  const at = new URL(request.url, 'http://localhost');
  if (at.pathname === '/internal/fingerprints') return [200, fingerprint(at.searchParams.get('nonce'))];
  if (at.pathname === '/me') return isToken((request.headers.authorization || '').slice(7)) ? [200, {}] : [401, {}];
  const raw = await read(request);
  if (at.pathname === '/webhook') return isSigned(raw, request.headers['stripe-signature']) ? [200, {}] : [400, {}];
  const { email, password } = JSON.parse(raw || '{}');
  const known = await findAccount(email);
  if (!known || password !== 'open sesame') return [401, { message: 'no' }];
  return [200, { token: env.JWT_SECRET ? jwt.sign({ sub: email }, env.JWT_SECRET, { expiresIn: '1h' }) : 'a token' }];
}

http
  .createServer((request, response) => {
    answer(request)
      .catch((error) => [503, { status: 'ERROR', message: error.message }])
      .then(([code, body]) => {
        response.writeHead(code, { 'content-type': 'application/json' });
        response.end(JSON.stringify(body));
      });
  })
  .listen(Number(process.env.PORT), '127.0.0.1', () => {
    console.log(`Server running on port ${process.env.PORT}`);
    if (process.send) process.send('ready');
  });
