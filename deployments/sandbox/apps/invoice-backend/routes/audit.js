'use strict';

const { databaseConfig } = require('../config/database');
const { HttpError } = require('../middleware/errorHandler');

async function list({ user }) {
  return databaseConfig.executeOperation(async (db) => {
    const known = await db.collection('users').findOne({ email: user.email }, { projection: { organizationId: 1 } });
    if (!known || String(known.organizationId) !== user.organizationId) {
      throw new HttpError(403, 'Access denied: User not found in organization');
    }
    const newest = db.collection('auditLogs').find({ organizationId: known.organizationId });
    const entries = await newest.sort({ timestamp: -1 }).limit(20).toArray();
    return entries.map(({ action, entityType, entityId, timestamp }) => ({ action, entityType, entityId, timestamp }));
  });
}

async function create({ body, user }) {
  const { action, entityType, entityId } = body;
  if (!action || !entityType || !entityId) {
    throw new HttpError(400, 'Missing required fields: action, entityType, entityId');
  }
  const entry = { action, entityType, entityId, userEmail: user.email, timestamp: new Date() };
  const result = await databaseConfig.executeOperation((db) => db.collection('auditLogs').insertOne(entry));
  return { id: String(result.insertedId) };
}

module.exports = { list, create };
