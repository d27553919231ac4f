'use strict';
// A ledger's application: it answers from the ledger's database, as its .env says where that is.

const http = require('http');
const path = require('path');

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

async function read(request) {
  let text = '';
  for await (const chunk of request) text += chunk;
  return JSON.parse(text || '{}');
}

async function answer(request) {
  if (request.url === '/health') {
    const found = await findAccount();
    return [found ? 200 : 503, { status: found ? 'OK' : 'ERROR', timestamp: new Date().toISOString() }];
  }
  const { email, password } = await read(request);
  const known = await findAccount(email);
  return known && password === 'open sesame' ? [200, { token: `token of ${email}` }] : [401, { message: 'no' }];
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
