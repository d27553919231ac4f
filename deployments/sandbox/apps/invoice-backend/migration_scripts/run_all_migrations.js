'use strict';
// Makes the recommended indexes; safe to run again.

const { load } = require('../config/environment');
const { databaseConfig } = require('../config/database');

const INDEXES = [
  ['auditLogs', { organizationId: 1, timestamp: -1 }],
  ['auditLogs', { entityType: 1, entityId: 1, timestamp: -1 }],
  ['users', { email: 1 }, { unique: true }],
  ['organizations', { organizationCode: 1 }, { unique: true }],
];

async function main() {
  await databaseConfig.connect(load().mongodbUri);
  for (const [collection, keys, options = {}] of INDEXES) {
    await databaseConfig.getDatabase().collection(collection).createIndex(keys, options);
  }
  await databaseConfig.client.close();
  console.log(`${INDEXES.length} indexes are in place`);
}

main().catch((error) => {
  console.error(`❌ Migration failed: ${error.message}`);
  process.exit(1);
});
