-- The REST API: its keys, its rate limits, the answers that it repeats, and the events that it receives by webhook.

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

CREATE TABLE hook_sources (
    name        text PRIMARY KEY CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?$'),
    tenant_id   text NOT NULL REFERENCES tenants ON DELETE CASCADE,
    mapping     text NOT NULL,
    secret      bytea NOT NULL,
    key_name    text,
    created_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE hook_sources IS
    'The CRMs that send events by webhook to /hooks/<name>. Written by the command `lastmile hooks`.';
COMMENT ON COLUMN hook_sources.tenant_id IS 'The tenant that every event of the source is for. No event says so itself.';
COMMENT ON COLUMN hook_sources.mapping IS 'The rules by which events become orders (lastmile.services.hooks.registry).';
COMMENT ON COLUMN hook_sources.secret IS
    'The SHA-256 hash of the secret; for a mapping that verifies signatures, the secret or its nonce and ciphertext.';
COMMENT ON COLUMN hook_sources.key_name IS
    'The key of LASTMILE_ENCRYPTION_KEYS that encrypts the secret; NULL: the secret is not encrypted.';

CREATE TABLE hook_events (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id       text NOT NULL REFERENCES tenants (id),
    source          text NOT NULL,
    event_id        text NOT NULL,
    event           text NOT NULL,
    subscriber_ref  text,
    customer_ref    text,
    state           text NOT NULL CHECK (state IN ('received', 'ordered', 'ignored', 'failed')),
    reason          text,
    order_ids       text[] NOT NULL,
    key_name        text,
    body            bytea,
    received_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (tenant_id, source, event_id),
    CONSTRAINT hook_events_body CHECK ((body IS NOT NULL) = (state IN ('received', 'failed'))),
    CONSTRAINT hook_events_reason CHECK ((reason IS NOT NULL) = (state IN ('ignored', 'failed')))
);
COMMENT ON TABLE hook_events IS
    'The events that CRMs have sent by webhook, each committed before it is answered. A settled event stays without its '
    'body, so that a repeat is recognised.';
COMMENT ON COLUMN hook_events.id IS 'Events of one subscriber become orders in this sequence.';
COMMENT ON COLUMN hook_events.source IS 'The name of the source, which may be removed since.';
COMMENT ON COLUMN hook_events.event_id IS 'The CRM''s own id of the event, or a hash of an event without one.';
COMMENT ON COLUMN hook_events.event IS 'The kind of event, as the CRM names it.';
COMMENT ON COLUMN hook_events.subscriber_ref IS 'The subscriber that the event is about; NULL where it names none.';
COMMENT ON COLUMN hook_events.customer_ref IS 'The customer that the body is about; NULL where it names none.';
COMMENT ON COLUMN hook_events.state IS
    'received: not mapped yet. ordered: the orders are accepted. ignored: no order is needed. failed: kept until an '
    'operator retries or ignores the event.';
COMMENT ON COLUMN hook_events.reason IS 'Why the event was ignored or is kept.';
COMMENT ON COLUMN hook_events.order_ids IS 'The accepted orders of the event.';
COMMENT ON COLUMN hook_events.key_name IS
    'The key of LASTMILE_ENCRYPTION_KEYS that encrypts the body; NULL: the body is not encrypted.';
COMMENT ON COLUMN hook_events.body IS
    'The event as it was sent, or its nonce and ciphertext (AES-256-GCM); NULL once the event is settled.';

CREATE INDEX hook_events_kept ON hook_events (tenant_id, subscriber_ref) WHERE state IN ('received', 'failed');
COMMENT ON INDEX hook_events_kept IS 'The events that are kept: their list, their metric, and those of a subscriber.';
CREATE INDEX hook_events_by_time ON hook_events (received_at);
COMMENT ON INDEX hook_events_by_time IS 'The deletion of events that are past their retention.';
