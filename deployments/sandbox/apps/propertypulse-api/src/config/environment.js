'use strict';
// Reads .env and refuses to start with a wrong one.

const path = require('path');

// override: PM2 keeps the environment of the first start; the file is the truth.
require('dotenv').config({ path: path.join(__dirname, '..', '..', '.env'), override: true, quiet: true });

const REQUIRED = [
  'NODE_ENV', 'PORT', 'DATABASE_URL', 'JWT_SECRET', 'STRIPE_SECRET_KEY', 'STRIPE_WEBHOOK_SECRET',
  'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'SENDGRID_API_KEY',
];
// What /internal/fingerprints tells of: never the values.
const SECRETS = [
  'DATABASE_URL', 'JWT_SECRET', 'JWT_SECRET_PREVIOUS', 'STRIPE_SECRET_KEY', 'STRIPE_WEBHOOK_SECRET',
  'STRIPE_WEBHOOK_SECRET_PREVIOUS', 'AWS_ACCESS_KEY_ID', 'AWS_SECRET_ACCESS_KEY', 'SENDGRID_API_KEY',
];
const FORMS = [
  ['DATABASE_URL', /^postgres(ql)?:\/\//, 'is not a PostgreSQL URL'],
  ['PORT', /^[1-9][0-9]{0,4}$/, 'is not a port number'],
  ['JWT_SECRET', /^.{32,}$/, 'is shorter than 32 characters'],
  ['STRIPE_SECRET_KEY', /^(sk|rk)_(live|test)_/, 'is not a Stripe secret key'],
  ['STRIPE_WEBHOOK_SECRET', /^whsec_/, 'is not a Stripe webhook secret'],
  ['SENDGRID_API_KEY', /^SG\./, 'is not a SendGrid key'],
];

function problems(env) {
  const missing = REQUIRED.filter((name) => !env[name]).map((name) => `${name} is missing`);
  const malformed = FORMS.filter(([name, form]) => env[name] && !form.test(env[name]));
  return [...missing, ...malformed.map(([name, , complaint]) => `${name} ${complaint}`)];
}

function load() {
  const found = problems(process.env);
  if (found.length > 0) throw new Error(`Environment variable errors: ${found.join('; ')}`);
  const env = process.env;
  return {
    port: Number(env.PORT),
    databaseUrl: env.DATABASE_URL,
    // The first signs; a token of any is accepted, so that a rotation logs nobody out.
    jwtSecrets: [env.JWT_SECRET, env.JWT_SECRET_PREVIOUS].filter(Boolean),
    stripe: { url: env.STRIPE_API_URL || 'https://api.stripe.com', key: env.STRIPE_SECRET_KEY },
    stripeWebhookSecrets: [env.STRIPE_WEBHOOK_SECRET, env.STRIPE_WEBHOOK_SECRET_PREVIOUS].filter(Boolean),
    uploads: uploads(env),
    secrets: Object.fromEntries(SECRETS.filter((name) => env[name]).map((name) => [name, env[name]])),
    slowRequestMs: Number(env.SLOW_REQUEST_MS || 1000),
  };
}

function uploads(env) {
  const region = env.AWS_REGION || 'us-east-1';
  return {
    endpoint: env.AWS_ENDPOINT_URL || `https://s3.${region}.amazonaws.com`,
    bucket: env.AWS_S3_BUCKET || 'uploads',
    region,
    keyId: env.AWS_ACCESS_KEY_ID,
    secret: env.AWS_SECRET_ACCESS_KEY,
  };
}

module.exports = { load, problems };
