'use strict';

const crypto = require('crypto');
const { query } = require('../config/database');
const { HttpError } = require('../utils/errors');

const STRIPE_MS = 5000;

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

async function intent({ body, settings }) {
  const { amount, currency = 'usd' } = body;
  if (!Number.isSafeInteger(amount) || amount <= 0 || typeof currency !== 'string') {
    throw new HttpError(400, 'amount must be a whole number of cents above 0, currency a code such as usd');
  }
  const made = await askStripe('/v1/payment_intents', { amount: String(amount), currency }, settings.stripe);
  return { id: made.id, clientSecret: made.client_secret, status: made.status };
}

async function askStripe(path, form, { url, key }) {
  let answer;
  try {
    answer = await fetch(url + path, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}`, 'idempotency-key': crypto.randomUUID() },
      body: new URLSearchParams(form),
      signal: AbortSignal.timeout(STRIPE_MS),
    });
    const said = await answer.json();
    if (answer.ok) return said;
  } catch (error) {
    console.error(`❌ Stripe did not answer: ${error.name}`);
    throw new HttpError(502, 'Payment provider did not answer');
  }
  // Not Stripe's sentence: it shows the end of the key.
  console.error(`❌ Stripe refused a payment: HTTP ${answer.status}`);
  throw new HttpError(502, 'Payment provider refused');
}

module.exports = { intent, list, markPaid };
