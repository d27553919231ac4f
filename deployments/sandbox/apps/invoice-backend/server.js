'use strict';

const http = require('http');
const { load } = require('./config/environment');
const { databaseConfig } = require('./config/database');
const { initialize } = require('./firebase-admin-config');
const { authenticate } = require('./middleware/authentication');
const { HttpError, errorHandler } = require('./middleware/errorHandler');
const { health } = require('./routes/health');
const auth = require('./routes/auth');
const audit = require('./routes/audit');
const internal = require('./routes/internal');

const LIMIT_BYTES = 1024 * 1024;
const settings = load();

const routes = {
  'GET /internal/fingerprints': { handle: internal.fingerprints },
  'POST /auth/login': { handle: auth.login },
  'GET /audit': { handle: audit.list, authenticated: true },
  'POST /audit': { handle: audit.create, authenticated: true },
};

async function readJson(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > LIMIT_BYTES) throw new HttpError(413, 'Request body too large');
    chunks.push(chunk);
  }
  if (size === 0) return {};
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8')) || {};
  } catch {
    throw new HttpError(400, 'Request body is not valid JSON');
  }
}

async function dispatch(request) {
  const { pathname } = new URL(request.url, 'http://localhost');
  if (request.method === 'GET' && pathname === '/health') return health();
  const route = routes[`${request.method} ${pathname}`];
  if (!route) throw new HttpError(404, `Not found: ${request.method} ${pathname}`);
  const user = route.authenticated ? authenticate(request, settings.jwtSecrets) : null;
  const body = request.method === 'POST' ? await readJson(request) : {};
  return { statusCode: 200, body: await route.handle({ body, request, user, settings }) };
}

const server = http.createServer(async (request, response) => {
  const started = Date.now();
  try {
    const { statusCode, body } = await dispatch(request);
    response.writeHead(statusCode, { 'content-type': 'application/json' });
    response.end(JSON.stringify(body));
  } catch (error) {
    errorHandler(error, response);
  }
  const took = Date.now() - started;
  if (took > settings.slowRequestMs) console.warn(`Slow request: ${request.method} ${request.url} took ${took}ms`);
});

async function stop() {
  console.log('Server stopping');
  server.close();
  server.closeIdleConnections();
  if (databaseConfig.client) await databaseConfig.client.close();
  process.exit(0);
}

async function start() {
  const trouble = initialize(process.env);
  if (trouble) console.error(`❌ Firebase Error: ${trouble}`);
  else console.log('✅ Firebase Messaging initialized successfully');
  try {
    await databaseConfig.connect(settings.mongodbUri);
  } catch (error) {
    console.error(`❌ Database connection failed: ${error.message}`);
    process.exit(1);
  }
  server.on('error', (error) => {
    console.error(`❌ Server error: ${error.message}`);
    process.exit(1);
  });
  server.listen(settings.port, process.env.HOST || '127.0.0.1', () => {
    console.log(`Server running on port ${settings.port}`);
    if (process.send) process.send('ready');
  });
}

process.on('SIGINT', stop);
process.on('SIGTERM', stop);
start();
