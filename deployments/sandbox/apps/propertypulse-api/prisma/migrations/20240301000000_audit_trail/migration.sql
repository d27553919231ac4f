-- CreateTable
CREATE TABLE "AuditTrail" (
    "auditId" BIGSERIAL PRIMARY KEY,
    "userId" INTEGER REFERENCES users (id) ON DELETE SET NULL,
    "Action" TEXT NOT NULL,
    "validUntil" TIMESTAMPTZ NOT NULL DEFAULT 'infinity',
    details JSONB
);

-- CreateTable: feature flags, of which there are none yet
CREATE TABLE feature_flags (
    name TEXT PRIMARY KEY,
    enabled BOOLEAN NOT NULL DEFAULT false
);

-- CreateView
CREATE VIEW overdue_payments AS
SELECT p.id, p.amount, p.due_date, l.tenant_id
FROM payments p JOIN leases l ON l.id = p.lease_id
WHERE p.status = 'PENDING';
