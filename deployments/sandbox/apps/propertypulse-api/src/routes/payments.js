'use strict';

const { query } = require('../config/database');
const { HttpError } = require('../utils/errors');

async function list({ user }) {
  if (user.role === 'TENANT') {
    const own = `SELECT p.id, p.amount, p.status, p.paid_date FROM payments p JOIN leases l ON l.id = p.lease_id
                 WHERE l.tenant_id = $1 ORDER BY p.due_date DESC LIMIT 20`;
    return query(own, [user.sub]);
  }
  if (user.role === 'ADMIN' || user.role === 'MANAGER') {
    return query('SELECT id, amount, status, paid_date FROM payments ORDER BY due_date DESC LIMIT 20');
  }
  throw new HttpError(403, 'Access denied: role may not read payments');
}

async function markPaid(intentId) {
  const paid = await query(
    `UPDATE payments SET status = 'PAID', paid_date = now() WHERE provider_intent_id = $1 AND status <> 'PAID'
     RETURNING id`,
    [intentId],
  );
  if (paid.length > 0) console.log(`✅ Payment marked as paid: ${intentId}`);
  return paid.length;
}

module.exports = { list, markPaid };
