'use strict';

const { databaseConfig } = require('../config/database');

async function health() {
  const healthy = await databaseConfig.isHealthy();
  return {
    statusCode: healthy ? 200 : 503,
    body: { status: healthy ? 'OK' : 'ERROR', timestamp: new Date().toISOString() },
  };
}

module.exports = { health };
