"""The first `.env` of each application, as its operator would have written it."""

INVOICE_ENV = """\
# invoice-backend, written once by the sandbox and from then on the operator's: a rotation edits it.
NODE_ENV=production
PORT={port}

# The password has characters that a URL must escape.
MONGODB_URI="{mongodb_uri}"

JWT_SECRET={jwt_secret}
ENCRYPTION_KEY='{encryption_key}' # 32 characters
EMAIL_FOR_OTP=otp@example.com
EMAIL_PASSWORD="{email_password}"

FIREBASE_PROJECT_ID=invoice-sandbox
FIREBASE_CLIENT_EMAIL={firebase_account}
FIREBASE_PRIVATE_KEY="{firebase_key}"
"""

PROPERTYPULSE_ENV = """\
# propertypulse-api, written once by the sandbox and from then on the operator's: a rotation edits it.
NODE_ENV="production"
PORT={port}

# Prisma's manner: schema and connection_limit are Prisma's words, libpq refuses them.
DATABASE_URL="{database_url}?schema=public&connection_limit=5"

JWT_SECRET='{jwt_secret}'

# Stripe
STRIPE_SECRET_KEY={stripe_key}
STRIPE_WEBHOOK_SECRET=whsec_{stripe_webhook}
STRIPE_API_URL={vendors}/stripe

# Uploads
AWS_ACCESS_KEY_ID={s3_key_id}
AWS_SECRET_ACCESS_KEY="{s3_key_secret}"
AWS_REGION=us-east-1
AWS_ENDPOINT_URL={s3_endpoint}
AWS_S3_BUCKET=uploads

SENDGRID_API_KEY={sendgrid_key}
"""
