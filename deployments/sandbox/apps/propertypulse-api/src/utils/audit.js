'use strict';
// What became of logins and tokens, without the password or the token. An event is over at once, so that
// validUntil is its moment.

const { query } = require('../config/database');
const { clientAddress } = require('./addresses');

const LONGEST = 254;

function short(value) {
  return typeof value === 'string' ? value.replace(/\0/g, '').slice(0, LONGEST) : null;
}

// Nobody waits for it: a database that is away must not delay the refusal.
function record(action, { request, userId = null, email, reason }) {
  const details = {
    ip: clientAddress(request),
    agent: short(request.headers['user-agent']),
    email: short(email),
    reason,
  };
  const insert = `INSERT INTO "AuditTrail" ("userId", "Action", "validUntil", details)
                  VALUES ((SELECT id FROM users WHERE id = $1::bigint), $2, now(), $3)`;
  query(insert, [Number.isSafeInteger(userId) ? userId : null, action, JSON.stringify(details)]).catch((error) =>
    console.error(`❌ Audit trail failed: ${error.message}`),
  );
}

module.exports = { record };
