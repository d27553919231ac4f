'use strict';
// What became of logins and tokens, without the password or the token.

const { databaseConfig } = require('../config/database');
const { clientAddress } = require('./addresses');

const LONGEST = 254;

function short(value) {
  return typeof value === 'string' ? value.slice(0, LONGEST) : null;
}

// Nobody waits for it: a database that is away must not delay the refusal.
function record(action, { request, user, email, reason }) {
  const entry = {
    action,
    entityType: 'user',
    entityId: user ? String(user._id) : null,
    userEmail: short(email),
    ipAddress: clientAddress(request),
    timestamp: new Date(),
    details: { reason, agent: short(request.headers['user-agent']) },
  };
  if (user && user.organizationId) entry.organizationId = user.organizationId;
  // An insert would make a database that is missing, and hide that it is.
  const written = databaseConfig.executeOperation(async (db) => {
    const known = await db.listCollections({ name: 'auditLogs' }, { nameOnly: true }).hasNext();
    if (known) await db.collection('auditLogs').insertOne(entry);
  });
  written.catch((error) => console.error(`❌ Audit log failed: ${error.message}`));
}

module.exports = { record };
