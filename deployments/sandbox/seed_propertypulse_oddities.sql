-- What a dump, a restore or a hash of PostgreSQL trips over.

INSERT INTO users (email, name, password_hash, preferences, phone_numbers, created_at) VALUES
    ('tab	and"quote@example.com', E'back\\slash \\N \\. line\nfeed\r\tand ''quotes''', '', '{}', '{}', '-infinity'),
    ('null@example.com', NULL, E'\\.', '{"nul": "\\u0001", "ключ": "🔑", "big": 123456789012345678901234567890}',
        ARRAY['', 'NULL', NULL, '{"a,b"}', E'\\'], 'infinity'),
    ('empty@example.com', '', 'x', 'null', '{}', '2024-02-29'),
    ('combining@example.com', E'e\u0301 ≠ é, \u202E right to left, zero\u200Bwidth', 'x', '[]', '{}', '1969-12-31 23:59:59.999Z');

INSERT INTO properties (owner_id, address, city, features, listing, coordinates, rent, available, created_at) VALUES
    (1, '', '', NULL, '{"b": 1,   "a": 2, "b": 3}', '{NaN,Infinity,-Infinity,-0,1e-307}', 0, 'empty', '2024-01-01'),
    (1, 'x', 'y', '"a string"', ' null ', '{}', 9999999999.99, '(,)', '2024-01-01');

INSERT INTO leases (property_id, tenant_id, starts, ends, terms) VALUES
    (1, 1, '-infinity', 'infinity', NULL),
    (1, 1, '4713-01-01 BC', '5874897-12-31', ''),
    (1, 1, '2024-02-29', NULL, (SELECT string_agg(md5(n::text), E'\n' ORDER BY n) FROM generate_series(1, 152000) AS n));

INSERT INTO uploads (user_id, object_key, thumbnail, size_bytes, created_at) VALUES
    (1, 'every byte', (SELECT string_agg(set_byte('\x00', 0, n), '' ORDER BY n) FROM generate_series(0, 255) AS n),
        9223372036854775807, 'infinity'),
    (1, 'no bytes', '', 0, '2024-01-01 00:00:00.999+14');

INSERT INTO "AuditTrail" ("userId", "Action", "validUntil", details) VALUES
    (NULL, 'a "quoted" action', '-infinity', NULL),
    (NULL, '', '0044-03-15 12:00:00+00 BC', 'null');
