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
    digest          text NOT NULL,
    run_id          text NOT NULL,
    run_started_at  timestamptz NOT NULL DEFAULT now(),
    status          text NOT NULL CHECK (status IN ('running', 'rolling_back', 'completed', 'degraded', 'rolled_back',
                                                    'partly_rolled_back', 'abandoned', 'superseded')),
    taken_over      boolean NOT NULL DEFAULT false,
    adopts          boolean NOT NULL DEFAULT false,
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
COMMENT ON COLUMN orders.requested_by IS 'The actor that sent the order; NULL where the caller named none.';
COMMENT ON COLUMN orders.result IS 'What the workflow returned; NULL while the order is open.';

CREATE INDEX orders_by_subscriber ON orders (tenant_id, subscriber_ref, created_at);
COMMENT ON INDEX orders_by_subscriber IS
    'The history of a subscriber, and the audit''s "last order of each subscriber".';
CREATE INDEX orders_open ON orders (tenant_id, created_at) WHERE status IN ('running', 'rolling_back');
COMMENT ON INDEX orders_open IS
    'The metric of the oldest open order; deleting ended delegations, which spares open orders.';
