'use strict';
// Stripe's webhook: the signature is checked over the raw body, as Stripe's own library does.

const crypto = require('crypto');
const { HttpError } = require('../utils/errors');
const { markPaid } = require('./payments');

const TOLERANCE_SECONDS = 300;

function signatureIsValid(raw, header, secret, nowSeconds) {
  const parts = String(header || '').split(',').map((part) => part.trim().split('='));
  const timestamp = (parts.find(([name]) => name === 't') || [])[1];
  if (!timestamp || Math.abs(nowSeconds - Number(timestamp)) > TOLERANCE_SECONDS) return false;
  const expected = crypto.createHmac('sha256', secret).update(`${timestamp}.`).update(raw).digest();
  return parts
    .filter(([name, value]) => name === 'v1' && /^[0-9a-f]{64}$/.test(value || ''))
    .some(([, value]) => crypto.timingSafeEqual(Buffer.from(value, 'hex'), expected));
}

async function stripe({ raw, request, settings }) {
  const header = request.headers['stripe-signature'];
  const now = Date.now() / 1000;
  if (!settings.stripeWebhookSecrets.some((secret) => signatureIsValid(raw, header, secret, now))) {
    console.error('❌ Stripe webhook signature verification failed');
    throw new HttpError(400, 'Webhook signature verification failed');
  }
  const event = JSON.parse(raw.toString('utf8'));
  if (event.type === 'payment_intent.succeeded') await markPaid(event.data.object.id);
  return { received: true };
}

module.exports = { stripe, signatureIsValid };
