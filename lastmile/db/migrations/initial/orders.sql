-- Tenants and their orders.

CREATE TABLE tenants (
    id          text PRIMARY KEY CHECK (id ~ '^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$'),
    name        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tenants IS 'The operators that share this installation. Written by the command `lastmile tenant`.';
COMMENT ON COLUMN tenants.id IS 'A DNS label, since it is part of RADIUS realms: user@<id>.lastmile.';
COMMENT ON COLUMN tenants.name IS 'The display name.';

-- Sets of statuses. The planner inlines these functions, so that orders_open is used as if the set were written out.

CREATE FUNCTION lastmile_order_unfinished(status text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT status IN ('running', 'rolling_back')
$$;
COMMENT ON FUNCTION lastmile_order_unfinished IS 'Whether a run works on the order, or was lost while it did.';

CREATE FUNCTION lastmile_order_completed(status text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT status IN ('completed', 'degraded')
$$;
COMMENT ON FUNCTION lastmile_order_completed IS 'Whether the order has done what it promised.';

CREATE FUNCTION lastmile_order_rolled_back(status text) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT status IN ('rolled_back', 'partly_rolled_back')
$$;
COMMENT ON FUNCTION lastmile_order_rolled_back IS 'Whether the order was undone, perhaps except steps that were skipped.';

CREATE TABLE orders (
    tenant_id       text NOT NULL REFERENCES tenants (id),
    order_id        text NOT NULL,
    operation       text NOT NULL,
    effect          text NOT NULL CHECK (effect IN ('creates', 'changes', 'ends')),
    subscriber_ref  text NOT NULL,
    customer_ref    text,
    digest          text NOT NULL,
    run_id          text NOT NULL,
    run_started_at  timestamptz NOT NULL DEFAULT now(),
    status          text NOT NULL CHECK (status IN ('running', 'rolling_back', 'completed', 'degraded', 'rolled_back',
                                                    'partly_rolled_back', 'abandoned', 'superseded')),
    taken_over      boolean NOT NULL DEFAULT false,
    adopts          boolean NOT NULL DEFAULT false,
    urgency         text NOT NULL DEFAULT 'normal' CHECK (urgency IN ('urgent', 'normal', 'bulk')),
    requested_by    text,
    result          jsonb,
    created_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    PRIMARY KEY (tenant_id, order_id)
);
COMMENT ON TABLE orders IS
    'Every order that a workflow has opened. Written by the workflow''s first and last activity.';
COMMENT ON COLUMN orders.order_id IS 'The caller''s idempotency key: the same order twice gives the same result.';
COMMENT ON COLUMN orders.operation IS 'The order type (lastmile.contract.operations).';
COMMENT ON COLUMN orders.effect IS
    'What the order type does to the line (lastmile.contract.operations.LineEffect). Statements ask for the effect, and '
    'name no order type.';
COMMENT ON COLUMN orders.customer_ref IS
    'The customer that the order gives a line; NULL: the order names no customer. The history of its run in Temporal has '
    'the personal data of this customer.';
COMMENT ON COLUMN orders.digest IS 'A hash of the order''s content: the same order_id with another content is refused.';
COMMENT ON COLUMN orders.run_id IS 'The Temporal run that works on the order.';
COMMENT ON COLUMN orders.run_started_at IS
    'When Temporal started that run. An opening by an older run is refused: it comes from a run that was terminated.';
COMMENT ON COLUMN orders.status IS
    'running and rolling_back are open. degraded: done, except best-effort steps. partly_rolled_back: an operator '
    'skipped an undo. abandoned: an operator ended the order as it stood. superseded: the run was lost, and another '
    'order took over.';
COMMENT ON COLUMN orders.taken_over IS
    'The order has taken over a lost run of the subscriber. Set when the order is opened.';
COMMENT ON COLUMN orders.adopts IS
    'The order adopts a line that is in service elsewhere. Set when the order is opened.';
COMMENT ON COLUMN orders.urgency IS 'The urgency that the order was sent with, or got while it was scheduled.';
COMMENT ON COLUMN orders.requested_by IS 'The actor that sent the order; NULL where the caller named none.';
COMMENT ON COLUMN orders.result IS 'What the workflow returned; NULL while the order is open.';

CREATE INDEX orders_by_subscriber ON orders (tenant_id, subscriber_ref, created_at);
COMMENT ON INDEX orders_by_subscriber IS
    'The history of a subscriber, and the audit''s "last order of each subscriber".';
CREATE INDEX orders_by_time ON orders (tenant_id, created_at, order_id);
COMMENT ON INDEX orders_by_time IS 'The list of orders, newest first, by pages.';
CREATE INDEX orders_by_customer ON orders (tenant_id, customer_ref) WHERE customer_ref IS NOT NULL;
COMMENT ON INDEX orders_by_customer IS 'Forgetting the personal data of a customer.';
CREATE INDEX orders_open ON orders (tenant_id, created_at) WHERE status IN ('running', 'rolling_back');
COMMENT ON INDEX orders_open IS
    'The metric of the oldest open order; deleting ended delegations, which spares open orders.';

CREATE TABLE accepted_orders (
    tenant_id       text NOT NULL REFERENCES tenants (id),
    order_id        text NOT NULL,
    operation       text NOT NULL,
    subscriber_ref  text NOT NULL,
    customer_ref    text,
    digest          text NOT NULL,
    requested_by    text,
    urgency         text NOT NULL CHECK (urgency IN ('urgent', 'normal', 'bulk')),
    not_before      timestamptz,
    when_busy       text NOT NULL CHECK (when_busy IN ('refuse', 'wait')),
    state           text NOT NULL CHECK (state IN ('waiting', 'scheduled', 'refused', 'cancelled')),
    reason          text,
    key_name        text,
    body            bytea,
    accepted_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    claimed_until   timestamptz,
    PRIMARY KEY (tenant_id, order_id),
    CONSTRAINT accepted_orders_body CHECK ((body IS NOT NULL) = (state = 'waiting')),
    CONSTRAINT accepted_orders_reason CHECK ((reason IS NOT NULL) = (state IN ('refused', 'cancelled')))
);
COMMENT ON TABLE accepted_orders IS
    'Orders that were accepted and that no workflow has opened. The transaction that opens an order moves its row to '
    'orders, so that an accepted order has a row in exactly one of both tables.';
COMMENT ON COLUMN accepted_orders.customer_ref IS
    'The customer that the order gives a line; NULL: the order names no customer. Its personal data is in the body, or '
    'in the Schedule: it is not forgotten while the order waits.';
COMMENT ON COLUMN accepted_orders.digest IS
    'A hash of the order''s content: the same order_id with another content is refused.';
COMMENT ON COLUMN accepted_orders.not_before IS 'When the order may start; NULL: now.';
COMMENT ON COLUMN accepted_orders.when_busy IS
    'What the caller asked for in case that another order of the subscriber is open. refuse: the order was accepted '
    'while the subscriber was free.';
COMMENT ON COLUMN accepted_orders.state IS
    'waiting: to be started. scheduled: a Temporal Schedule holds the order until not_before. refused: the order cannot '
    'be carried out. cancelled: the order was cancelled before it was opened.';
COMMENT ON COLUMN accepted_orders.reason IS 'Why the order was refused or cancelled, in one sentence.';
COMMENT ON COLUMN accepted_orders.key_name IS
    'The key of LASTMILE_ENCRYPTION_KEYS that encrypts the body; NULL: the body is not encrypted.';
COMMENT ON COLUMN accepted_orders.body IS 'The order as JSON, or its nonce and ciphertext (AES-256-GCM); NULL once it is not needed.';
COMMENT ON COLUMN accepted_orders.claimed_until IS
    'A sweeper has claimed the order until then: another sweeper leaves it alone. For a scheduled order, the time of the '
    'next look at its Schedule.';

CREATE INDEX accepted_orders_by_time ON accepted_orders (tenant_id, accepted_at, order_id);
COMMENT ON INDEX accepted_orders_by_time IS 'The list of orders, newest first.';
CREATE INDEX accepted_orders_waiting ON accepted_orders (tenant_id, subscriber_ref, accepted_at) WHERE state = 'waiting';
COMMENT ON INDEX accepted_orders_waiting IS 'The orders to start, and those of a subscriber in their turn.';
CREATE INDEX accepted_orders_scheduled ON accepted_orders (claimed_until) WHERE state = 'scheduled';
COMMENT ON INDEX accepted_orders_scheduled IS 'The scheduled orders whose Schedules a sweeper looks at.';

CREATE FUNCTION lastmile_is_ahead(moment timestamptz) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT moment IS NOT NULL AND moment > now()
$$;
COMMENT ON FUNCTION lastmile_is_ahead IS 'Whether the moment is in the future; NULL: the moment is now.';

-- An order of a later date does not wait for others here: its Schedule waits.
CREATE VIEW startable_orders WITH (security_invoker = true) AS
    SELECT a.tenant_id, a.order_id, a.accepted_at, a.claimed_until,
           NOT lastmile_is_ahead(a.not_before) AND EXISTS (
               SELECT FROM orders o
               WHERE o.tenant_id = a.tenant_id AND o.subscriber_ref = a.subscriber_ref
                 AND lastmile_order_unfinished(o.status)
           ) AS busy
    FROM accepted_orders a
    WHERE a.state = 'waiting' AND (lastmile_is_ahead(a.not_before) OR NOT EXISTS (
        SELECT FROM accepted_orders earlier
        WHERE earlier.tenant_id = a.tenant_id AND earlier.subscriber_ref = a.subscriber_ref
          AND earlier.state = 'waiting' AND NOT lastmile_is_ahead(earlier.not_before)
          AND (earlier.accepted_at, earlier.order_id) < (a.accepted_at, a.order_id)
    ));
COMMENT ON VIEW startable_orders IS
    'The accepted orders that are next of their subscriber. busy: an order of the subscriber is open, or its run was lost.';
