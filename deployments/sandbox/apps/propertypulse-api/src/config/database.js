'use strict';

const { Pool } = require('pg');

let pool = null;

// DATABASE_URL is written in Prisma's manner: schema and connection_limit are Prisma's words, not PostgreSQL's.
function poolOptions(databaseUrl) {
  const url = new URL(databaseUrl);
  const schema = url.searchParams.get('schema') || 'public';
  const max = Number(url.searchParams.get('connection_limit') || 5);
  for (const name of ['schema', 'connection_limit', 'pool_timeout', 'pgbouncer']) url.searchParams.delete(name);
  return {
    connectionString: url.toString(),
    max,
    options: `-c search_path=${schema}`,
    application_name: 'propertypulse-api',
    connectionTimeoutMillis: 2000,
    query_timeout: 5000,
  };
}

function connect(databaseUrl) {
  pool = new Pool(poolOptions(databaseUrl));
  // A connection that dies idle is replaced by the next query; without a listener it would end the process.
  pool.on('error', (error) => console.error(`❌ Database connection lost: ${error.message}`));
}

async function query(text, values) {
  return (await pool.query(text, values)).rows;
}

async function close() {
  if (pool) await pool.end();
}

module.exports = { connect, query, close, poolOptions };
