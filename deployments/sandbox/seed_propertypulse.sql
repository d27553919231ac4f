-- The ordinary rows. seed.users, seed.properties ... say how many; every value is a hash of the row's number.

CREATE FUNCTION pg_temp.hash(number BIGINT, salt BIGINT, bound BIGINT) RETURNS BIGINT
LANGUAGE SQL IMMUTABLE RETURN (hashint8extended(number, salt) & 9223372036854775807) % bound;

CREATE FUNCTION pg_temp.pick(number BIGINT, salt BIGINT, words TEXT[]) RETURNS TEXT
LANGUAGE SQL IMMUTABLE RETURN words[1 + pg_temp.hash(number, salt, cardinality(words))];

CREATE FUNCTION pg_temp.rows(name TEXT) RETURNS BIGINT
LANGUAGE SQL STABLE RETURN current_setting('seed.' || name)::bigint;

INSERT INTO users (email, name, password_hash, role, is_active, preferences, phone_numbers, last_login, created_at)
SELECT
    'user' || n || '@example.com',
    CASE WHEN n % 11 <> 0 THEN pg_temp.pick(n, 1, '{Ada,Björn,Chloé,Дмитрий,Eun-ji 은지,فاطمة}') || ' ' || n END,
    'scrypt$1024$8$1$' || encode(sha256(n::text::bytea), 'base64') || '$'
        || encode(sha256(('key ' || n)::bytea), 'base64'),
    (CASE WHEN n % 50 = 1 THEN 'ADMIN' WHEN n % 10 = 1 THEN 'MANAGER' ELSE 'TENANT' END)::"UserRole",
    n % 23 <> 0,
    jsonb_build_object('theme', pg_temp.pick(n, 2, '{dark,light}'), 'alerts', jsonb_build_array(n % 2 = 0, NULL)),
    CASE WHEN n % 3 = 0 THEN ARRAY['+1-555-' || pg_temp.hash(n, 3, 10000), NULL] ELSE '{}' END,
    CASE WHEN n % 4 <> 0 THEN TIMESTAMPTZ '2026-01-01' - pg_temp.hash(n, 4, 63072000) * INTERVAL '1 second' END,
    TIMESTAMPTZ '2024-01-01' + pg_temp.hash(n, 5, 31536000) * INTERVAL '1 second'
FROM generate_series(1, pg_temp.rows('users')) AS n;

INSERT INTO properties (owner_id, address, city, features, listing, coordinates, rent, available, created_at)
SELECT
    1 + pg_temp.hash(n, 10, pg_temp.rows('users')),
    1 + pg_temp.hash(n, 11, 400) || ' ' || pg_temp.pick(n, 12, '{Main St,Rue de l''Église,Straße des 17. Juni}'),
    pg_temp.pick(n, 13, '{Zürich,São Paulo,東京,Kraków,Austin}'),
    jsonb_build_object('rooms', 1 + n % 6, 'pets', n % 2 = 0, 'tags', ARRAY['new', 'city ' || n % 7]),
    json_build_object('title', 'Flat ' || n, 'price', 500 + n % 2000),
    ARRAY[pg_temp.hash(n, 14, 180) - 90 + n / 1000.0, pg_temp.hash(n, 15, 360) - 180],
    500 + pg_temp.hash(n, 16, 500000) / 100.0,
    CASE WHEN n % 5 = 0 THEN NULL ELSE daterange('2025-01-01', DATE '2025-02-01' + (n % 300)::integer) END,
    TIMESTAMPTZ '2024-01-01' + n * INTERVAL '1 minute'
FROM generate_series(1, pg_temp.rows('properties')) AS n;

INSERT INTO leases (property_id, tenant_id, status, starts, ends, terms)
SELECT
    1 + pg_temp.hash(n, 20, pg_temp.rows('properties')),
    1 + pg_temp.hash(n, 21, pg_temp.rows('users')),
    pg_temp.pick(n, 22, '{DRAFT,ACTIVE,ACTIVE,ENDED}')::"LeaseStatus",
    DATE '2024-01-01' + pg_temp.hash(n, 23, 365)::integer,
    CASE WHEN n % 3 = 0 THEN NULL ELSE DATE '2025-06-01' + pg_temp.hash(n, 24, 365)::integer END,
    'The tenant of lease ' || n || ' pays on day ' || 1 + n % 28 || ' of the month, by '
        || pg_temp.pick(n, 25, '{card,bank transfer,direct debit}') || '. Deposit: '
        || pg_temp.hash(n, 26, 5000) || ' USD. Reference ' || md5(n::text) || '.'
FROM generate_series(1, pg_temp.rows('leases')) AS n;

INSERT INTO payments (id, lease_id, provider_intent_id, amount, currency, status, due_date, paid_date)
SELECT
    md5('payment ' || n)::uuid,
    1 + pg_temp.hash(n, 30, pg_temp.rows('leases')),
    CASE WHEN n % 13 <> 0 THEN 'pi_' || left(md5('intent ' || n), 24) END,
    500 + pg_temp.hash(n, 31, 500000) / 100.0,
    pg_temp.pick(n, 32, '{usd,usd,eur}'),
    status::"PaymentStatus",
    due,
    CASE WHEN status IN ('PAID', 'REFUNDED') THEN due + (n % 86400) * INTERVAL '1 second' END
FROM generate_series(1, pg_temp.rows('payments')) AS n,
    LATERAL (SELECT pg_temp.pick(n, 33, '{PAID,PAID,PAID,PENDING,FAILED,REFUNDED}')) AS s (status),
    LATERAL (SELECT DATE '2024-01-01' + pg_temp.hash(n, 34, 730)::integer) AS d (due);

INSERT INTO uploads (user_id, object_key, thumbnail, size_bytes, created_at)
SELECT
    1 + pg_temp.hash(n, 40, pg_temp.rows('users')),
    'uploads/' || md5(n::text) || '/photo ' || n || '.jpg',
    CASE WHEN n % 4 <> 0 THEN sha256(n::text::bytea) || sha256(('more' || n)::bytea) END,
    pg_temp.hash(n, 41, 5000000000),
    TIMESTAMPTZ '2025-01-01' + n * INTERVAL '1 hour' / 60
FROM generate_series(1, pg_temp.rows('uploads')) AS n;

INSERT INTO maintenance_requests (property_id, reported_by, priority, description, tags, resolved_at)
SELECT
    1 + pg_temp.hash(n, 50, pg_temp.rows('properties')),
    CASE WHEN n % 6 <> 0 THEN 1 + pg_temp.hash(n, 51, pg_temp.rows('users')) END,
    pg_temp.pick(n, 52, '{LOW,NORMAL,NORMAL,URGENT}')::"RequestPriority",
    'The ' || pg_temp.pick(n, 53, '{boiler,lift,roof,drain,Türschloss}') || ' in unit ' || n % 40 || ' '
        || pg_temp.pick(n, 54, '{leaks,is broken,makes noise,smells}') || ' since last '
        || pg_temp.pick(n, 55, '{Monday,Tuesday,Friday,night}') || '. Please call before you come.',
    ARRAY[pg_temp.pick(n, 56, '{water,heat,doors}'), 'unit ' || n % 40],
    CASE WHEN n % 2 = 0 THEN TIMESTAMPTZ '2025-03-01' + n * INTERVAL '1 second' END
FROM generate_series(1, pg_temp.rows('requests')) AS n;

INSERT INTO "AuditTrail" ("userId", "Action", "validUntil", details)
SELECT
    CASE WHEN n % 9 <> 0 THEN 1 + pg_temp.hash(n, 60, pg_temp.rows('users')) END,
    pg_temp.pick(n, 61, '{LOGIN,LOGIN_FAILED,PAYMENT_MARKED_PAID,LEASE_SIGNED}'),
    CASE WHEN n % 2 = 0 THEN 'infinity' ELSE TIMESTAMPTZ '2026-01-01' - n * INTERVAL '1 second' END,
    jsonb_build_object('ip', '192.0.2.' || n % 256, 'agent', 'Mozilla/5.0', 'number', n)
FROM generate_series(1, pg_temp.rows('audits')) AS n;
