'use strict';
// A presigned URL of AWS Signature Version 4, by hand: all that this application asks of S3.

const crypto = require('crypto');

const ALGORITHM = 'AWS4-HMAC-SHA256';

function hmac(key, text) {
  return crypto.createHmac('sha256', key).update(text).digest();
}

function escaped(text) {
  const more = (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`;
  return encodeURIComponent(text).replace(/[!'()*]/g, more);
}

function presign({ method, endpoint, bucket, key, region, keyId, secret, seconds, now = new Date() }) {
  const base = new URL(endpoint);
  const stamp = now.toISOString().replace(/[-:]|\.\d{3}/g, '');
  const scope = `${stamp.slice(0, 8)}/${region}/s3/aws4_request`;
  const path = `/${[bucket, ...key.split('/')].map(escaped).join('/')}`;
  const parameters = {
    'X-Amz-Algorithm': ALGORITHM,
    'X-Amz-Credential': `${keyId}/${scope}`,
    'X-Amz-Date': stamp,
    'X-Amz-Expires': String(seconds),
    'X-Amz-SignedHeaders': 'host',
  };
  const search = Object.entries(parameters).map(([name, value]) => `${name}=${escaped(value)}`).join('&');
  const canonical = [method, path, search, `host:${base.host}\n`, 'host', 'UNSIGNED-PAYLOAD'].join('\n');
  const digest = crypto.createHash('sha256').update(canonical).digest('hex');
  const signingKey = scope.split('/').reduce(hmac, `AWS4${secret}`);
  const signature = hmac(signingKey, [ALGORITHM, stamp, scope, digest].join('\n')).toString('hex');
  return `${base.origin}${path}?${search}&X-Amz-Signature=${signature}`;
}

module.exports = { presign };
