-- The REST API: its keys, its rate limits, and the answers that it repeats.

CREATE TABLE api_keys (
    id            text PRIMARY KEY CHECK (id ~ '^[0-9a-f]{12}$'),
    tenant_id     text REFERENCES tenants ON DELETE CASCADE,
    name          text NOT NULL,
    key_sha256    bytea NOT NULL CHECK (length(key_sha256) = 32),
    permissions   text[] NOT NULL,
    kind          text NOT NULL CHECK (kind IN ('person', 'system')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz,
    revoked_at    timestamptz,
    last_used_at  timestamptz
);
COMMENT ON TABLE api_keys IS
    'Keys of the REST API. Written by the command `lastmile api-key`. A revoked key stays, since the audit log names it.';
COMMENT ON COLUMN api_keys.id IS 'The public part of the key: lm_<id>_<secret>.';
COMMENT ON COLUMN api_keys.tenant_id IS 'The only tenant that the key may work for; NULL: the key is for all tenants.';
COMMENT ON COLUMN api_keys.key_sha256 IS
    'The SHA-256 hash of the whole key. The key itself is stored nowhere: the secret has 256 random bits, so that a '
    'slow hash would add nothing.';
COMMENT ON COLUMN api_keys.permissions IS 'lastmile.api.auth.permissions.Permission.';
COMMENT ON COLUMN api_keys.kind IS 'system: a program that sends orders, with the rate limit for systems.';
COMMENT ON COLUMN api_keys.expires_at IS 'NULL: the key does not expire.';
COMMENT ON COLUMN api_keys.revoked_at IS 'NULL: the key is valid until it expires.';
COMMENT ON COLUMN api_keys.last_used_at IS 'The last use of the key, to the minute; NULL: the key was never used.';

-- UNLOGGED: a request costs no write to the log of PostgreSQL. A clean restart keeps the rows. After a crash, and after
-- a failover to a standby, the table is empty: each caller may send one more burst.
CREATE UNLOGGED TABLE rate_limits (
    caller_sha256  bytea PRIMARY KEY CHECK (length(caller_sha256) = 32),
    idle_at        timestamptz NOT NULL,
    allowed        boolean NOT NULL
) WITH (fillfactor = 50);
COMMENT ON TABLE rate_limits IS
    'The rate limits of the REST API (generic cell rate algorithm), a row for each caller and rate class. Unlogged: '
    'empty after a crash of PostgreSQL, so that each caller may send one more burst. The daily cleanup deletes rows of '
    'callers that are idle.';
COMMENT ON COLUMN rate_limits.caller_sha256 IS 'A hash of the rate class, the tenant and the subject of the caller.';
COMMENT ON COLUMN rate_limits.idle_at IS
    'The time at which the caller has its whole burst again, if it sends nothing more (theoretical arrival time).';
COMMENT ON COLUMN rate_limits.allowed IS 'Whether the last request that asked was allowed.';

CREATE TABLE idempotency_keys (
    id          bytea PRIMARY KEY CHECK (length(id) = 32),
    tenant_id   text REFERENCES tenants ON DELETE CASCADE,
    digest      bytea NOT NULL,
    status      smallint NOT NULL,
    location    text,
    body        bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE idempotency_keys IS
    'The answers to requests of the REST API with an Idempotency-Key, written in the transaction of their effect. The '
    'daily cleanup deletes answers that are older than 24 hours.';
COMMENT ON COLUMN idempotency_keys.id IS 'A hash of the tenant, the subject of the caller, and the key.';
COMMENT ON COLUMN idempotency_keys.tenant_id IS 'NULL: the request was for no tenant.';
COMMENT ON COLUMN idempotency_keys.digest IS
    'A hash of the request: the same key with another request is refused.';
COMMENT ON COLUMN idempotency_keys.location IS 'The header Location of the answer.';

CREATE INDEX idempotency_keys_by_time ON idempotency_keys (created_at);
COMMENT ON INDEX idempotency_keys_by_time IS 'The cleanup: answers that are older than 24 hours.';

CREATE TABLE cursor_key (key bytea PRIMARY KEY CHECK (length(key) = 32));
COMMENT ON TABLE cursor_key IS
    'The key that signs the cursors of lists: random, one for each installation, so that all processes of the API take '
    'each other''s cursors.';
-- Each random UUID has 122 random bits.
INSERT INTO cursor_key VALUES (sha256(convert_to(gen_random_uuid() || '/' || gen_random_uuid(), 'UTF8')));
