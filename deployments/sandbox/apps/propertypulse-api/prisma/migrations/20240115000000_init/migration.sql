-- CreateEnum
CREATE TYPE "UserRole" AS ENUM ('ADMIN', 'MANAGER', 'TENANT');
CREATE TYPE "LeaseStatus" AS ENUM ('DRAFT', 'ACTIVE', 'ENDED');
CREATE TYPE "PaymentStatus" AS ENUM ('PENDING', 'PAID', 'FAILED', 'REFUNDED');
CREATE TYPE "RequestPriority" AS ENUM ('LOW', 'NORMAL', 'URGENT');

-- CreateTable
CREATE TABLE users (
    id SERIAL PRIMARY KEY,
    email TEXT NOT NULL,
    name TEXT,
    password_hash TEXT NOT NULL,
    role "UserRole" NOT NULL DEFAULT 'TENANT',
    is_active BOOLEAN NOT NULL DEFAULT true,
    preferences JSONB NOT NULL DEFAULT '{}',
    phone_numbers TEXT[] NOT NULL DEFAULT ARRAY[]::TEXT[],
    last_login TIMESTAMPTZ(3),
    created_at TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP
);

CREATE TABLE properties (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    owner_id INTEGER NOT NULL,
    address TEXT NOT NULL,
    city TEXT NOT NULL,
    features JSONB,
    listing JSON,
    coordinates DOUBLE PRECISION[],
    rent NUMERIC(12, 2) NOT NULL,
    rent_per_year NUMERIC(14, 2) GENERATED ALWAYS AS (rent * 12) STORED,
    available DATERANGE,
    created_at TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT properties_rent_is_not_negative CHECK (rent >= 0),
    CONSTRAINT properties_owner_id_fkey FOREIGN KEY (owner_id) REFERENCES users (id) ON DELETE RESTRICT
);

CREATE TABLE leases (
    id SERIAL PRIMARY KEY,
    property_id BIGINT NOT NULL,
    tenant_id INTEGER NOT NULL,
    status "LeaseStatus" NOT NULL DEFAULT 'DRAFT',
    starts DATE NOT NULL,
    ends DATE,
    terms TEXT,
    CONSTRAINT leases_ends_after_start CHECK (ends IS NULL OR ends >= starts),
    CONSTRAINT leases_property_id_fkey FOREIGN KEY (property_id) REFERENCES properties (id) ON DELETE CASCADE,
    CONSTRAINT leases_tenant_id_fkey FOREIGN KEY (tenant_id) REFERENCES users (id) ON DELETE RESTRICT
);

CREATE TABLE payments (
    id UUID PRIMARY KEY,
    lease_id INTEGER NOT NULL,
    provider_intent_id TEXT,
    amount NUMERIC(12, 2) NOT NULL,
    currency CHAR(3) NOT NULL DEFAULT 'usd',
    status "PaymentStatus" NOT NULL DEFAULT 'PENDING',
    due_date DATE NOT NULL,
    paid_date TIMESTAMPTZ(3),
    CONSTRAINT payments_paid_has_a_date CHECK (status <> 'PAID' OR paid_date IS NOT NULL),
    CONSTRAINT payments_lease_id_fkey FOREIGN KEY (lease_id) REFERENCES leases (id) ON DELETE RESTRICT
);

CREATE TABLE uploads (
    id SERIAL PRIMARY KEY,
    user_id INTEGER NOT NULL,
    object_key TEXT NOT NULL,
    thumbnail BYTEA,
    size_bytes BIGINT NOT NULL,
    created_at TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT uploads_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id) ON DELETE CASCADE
);

CREATE TABLE maintenance_requests (
    id SERIAL PRIMARY KEY,
    property_id BIGINT NOT NULL,
    reported_by INTEGER,
    priority "RequestPriority" NOT NULL DEFAULT 'NORMAL',
    description TEXT NOT NULL,
    tags TEXT[] NOT NULL DEFAULT ARRAY[]::TEXT[],
    resolved_at TIMESTAMPTZ(3),
    CONSTRAINT maintenance_requests_property_id_fkey
        FOREIGN KEY (property_id) REFERENCES properties (id) ON DELETE CASCADE,
    CONSTRAINT maintenance_requests_reported_by_fkey
        FOREIGN KEY (reported_by) REFERENCES users (id) ON DELETE SET NULL
);

-- CreateIndex
CREATE UNIQUE INDEX users_email_key ON users (email);
CREATE UNIQUE INDEX payments_provider_intent_id_key ON payments (provider_intent_id);
CREATE INDEX payments_lease_id_due_date_idx ON payments (lease_id, due_date DESC);
CREATE INDEX payments_overdue_idx ON payments (due_date) WHERE status = 'PENDING';
CREATE INDEX properties_features_idx ON properties USING gin (features);
CREATE INDEX users_lower_email_idx ON users (lower(email));
