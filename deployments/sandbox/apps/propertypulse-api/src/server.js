'use strict';

const cluster = require('cluster');
const http = require('http');
const { setTimeout } = require('timers/promises');
const { load } = require('./config/environment');
const database = require('./config/database');
const { die } = require('./utils/die');
const { HttpError, bodyOf } = require('./utils/errors');
const auth = require('./routes/auth');
const internal = require('./routes/internal');
const payments = require('./routes/payments');
const uploads = require('./routes/uploads');
const webhooks = require('./routes/webhooks');

const LIMIT_BYTES = 1024 * 1024;
const WRONG_LOGIN = ['28P01', '28000', '3D000']; // SQLSTATE: password, role, database
const DRAIN_MS = 1000; // PM2 kills after 1,600
let settings;
let stopping = false;

const routes = {
  'GET /health': { handle: health },
  'GET /internal/fingerprints': { handle: internal.fingerprints },
  'POST /auth/login': { handle: auth.login },
  'POST /api/auth/login': { handle: auth.login },
  'GET /api/payments': { handle: payments.list, authenticated: true },
  'POST /api/payments/intent': { handle: payments.intent, authenticated: true },
  'POST /api/uploads/signed-url': { handle: uploads.signedUrl, authenticated: true },
  'POST /api/webhooks/stripe': { handle: webhooks.stripe, rawBody: true },
};

async function health() {
  let healthy = true;
  try {
    await database.query('SELECT 1 FROM users LIMIT 1');
  } catch (error) {
    console.error(`❌ Database health check failed: ${error.message}`);
    healthy = false;
  }
  const body = { status: healthy ? 'OK' : 'ERROR', timestamp: new Date().toISOString() };
  return { statusCode: healthy ? 200 : 503, body };
}

async function readBody(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > LIMIT_BYTES) throw new HttpError(413, 'Request body too large');
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function parse(raw) {
  try {
    return (raw.length > 0 && JSON.parse(raw.toString('utf8'))) || {};
  } catch {
    throw new HttpError(400, 'Request body is not valid JSON');
  }
}

async function dispatch(request) {
  const { pathname } = new URL(request.url, 'http://localhost');
  const route = routes[`${request.method} ${pathname}`];
  if (!route) throw new HttpError(404, `Not found: ${request.method} ${pathname}`);
  const user = route.authenticated ? auth.authenticate(request, settings) : null;
  const raw = request.method === 'POST' ? await readBody(request) : Buffer.alloc(0);
  const body = route.rawBody ? null : parse(raw);
  const answer = await route.handle({ raw, body, request, user, settings });
  return answer && answer.statusCode ? answer : { statusCode: 200, body: answer };
}

const server = http.createServer(async (request, response) => {
  const started = Date.now();
  let answer;
  try {
    answer = await dispatch(request);
  } catch (error) {
    const body = bodyOf(error);
    if (body.statusCode >= 500) console.error(`❌ ${body.message}: ${error.message}`);
    answer = { statusCode: body.statusCode, body };
  }
  response.writeHead(answer.statusCode, { 'content-type': 'application/json' });
  response.end(JSON.stringify(answer.body));
  const took = Date.now() - started;
  if (took > settings.slowRequestMs) console.warn(`⚠️ Slow request: ${request.method} ${request.url} took ${took}ms`);
});

// A connection that the cluster's primary hands to a process which exits meanwhile is never answered by anyone:
// the primary is told first, and disconnects when nothing is on the way any more.
function drain() {
  const drained = new Promise((resolve) => {
    if (!cluster.isWorker || !process.connected) return server.close(resolve);
    process.once('disconnect', resolve);
    return cluster.worker.disconnect();
  });
  server.closeIdleConnections();
  return Promise.race([drained, setTimeout(DRAIN_MS)]);
}

async function stop() {
  // PM2 sends a message and then a signal.
  if (stopping) return;
  stopping = true;
  console.log('Server stopping');
  await drain();
  await database.close();
  process.exit(0);
}

async function connect() {
  try {
    database.connect(settings.databaseUrl);
    await database.query('SELECT 1');
    console.log('✅ Database connected');
  } catch (error) {
    // A wrong URL or password will not mend itself; a server that is away may come back.
    if (error.code === 'ERR_INVALID_URL' || WRONG_LOGIN.includes(error.code)) throw error;
    console.error(`❌ Database connection failed: ${error.message}`);
  }
}

async function start() {
  try {
    settings = load();
    await connect();
  } catch (error) {
    die(settings ? `Database connection failed: ${error.message}` : error.message);
    return;
  }
  server.on('error', (error) => die(`Server error: ${error.message}`));
  server.listen(settings.port, process.env.HOST || '127.0.0.1', () => {
    console.log(`🚀 Server running on port ${settings.port}`);
    if (process.send) process.send('ready');
  });
}

process.on('SIGINT', stop);
process.on('SIGTERM', stop);
process.on('message', (message) => message === 'shutdown' && stop());
start();
