'use strict';
// Which secrets this very process runs with, for those of this host who know them: never the secret itself.

const crypto = require('crypto');
const { isLoopback } = require('../utils/addresses');
const { HttpError } = require('../utils/errors');

async function fingerprints({ request, settings }) {
  if (!isLoopback(request.socket.remoteAddress) || 'x-forwarded-for' in request.headers) {
    throw new HttpError(403, 'Only for this host');
  }
  const nonce = new URL(request.url, 'http://localhost').searchParams.get('nonce') || '';
  if (!/^[0-9a-f]{32,128}$/.test(nonce)) throw new HttpError(400, 'nonce must be 32 to 128 hexadecimal digits');
  const prints = Object.entries(settings.secrets).map(([name, value]) => [
    name,
    crypto.createHmac('sha256', value).update(nonce).digest('hex'),
  ]);
  return { process: process.pid, fingerprints: Object.fromEntries(prints) };
}

module.exports = { fingerprints };
