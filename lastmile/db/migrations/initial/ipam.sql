-- Pools, their slots, and the delegations of prefixes to subscribers.
--
-- A pool of length-56 prefixes in a /40 has 2^16 slots: the slot n is the n-th prefix. A delegation is one subscriber's
-- hold on one prefix.

CREATE FUNCTION lastmile_nth_prefix(pool cidr, length integer, slot bigint) RETURNS cidr
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE
        WHEN family(pool) = 4 THEN set_masklen(pool::inet + (slot << (32 - length)), length)::cidr
        WHEN length > 64 THEN set_masklen(pool::inet + (slot << (128 - length)), length)::cidr
        ELSE (regexp_replace(
                lpad(to_hex(('x' || encode(substring(inet_send(pool) FROM 5 FOR 8), 'hex'))::bit(64)::bigint
                            + (slot << (64 - length))), 16, '0'),
                '(....)(....)(....)(....)', '\1:\2:\3:\4::') || '/' || length)::cidr
    END
$$;
COMMENT ON FUNCTION lastmile_nth_prefix IS
    'The prefix of `length` bits with the number `slot` in `pool`. Up to /64 the upper 64 bits are added, because the '
    'distance between two prefixes does not fit in a bigint; /128 and IPv4 are plain inet + bigint.';

CREATE FUNCTION lastmile_slot(pool cidr, length integer, prefix cidr) RETURNS bigint
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE
        WHEN family(pool) = 4 OR length > 64 THEN host(prefix)::inet - host(pool)::inet
        ELSE (('x' || encode(substring(inet_send(prefix) FROM 5 FOR 8), 'hex'))::bit(64)::bigint
              - ('x' || encode(substring(inet_send(pool) FROM 5 FOR 8), 'hex'))::bit(64)::bigint) >> (64 - length)
    END
$$;
COMMENT ON FUNCTION lastmile_slot IS 'The inverse of lastmile_nth_prefix, for IPv6 and single IPv4 addresses.';

CREATE FUNCTION lastmile_holder(tenant_id text, subscriber_ref text, purpose text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT tenant_id || '/' || subscriber_ref || '/' || purpose
$$;
COMMENT ON FUNCTION lastmile_holder IS
    'The text of slots.last_holder (ipam.allocation_key.AllocationKey.holder).';

CREATE TABLE pools (
    id                   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id            text REFERENCES tenants (id),
    name                 text NOT NULL,
    purpose              text NOT NULL CHECK (purpose IN ('ipv6_pd', 'ipv6_framed', 'ipv6_address', 'ipv4')),
    prefix               cidr NOT NULL,
    delegated_length     integer NOT NULL,
    vrf                  text NOT NULL DEFAULT '',
    region               text,
    country              text,
    mode                 text NOT NULL DEFAULT 'database' CHECK (mode IN ('database', 'direct', 'delegated')),
    first_slot           bigint NOT NULL,
    end_slot             bigint NOT NULL,
    frontier             bigint NOT NULL,
    excluded             int8multirange NOT NULL DEFAULT '{}',
    closed_at            timestamptz,
    netbox_prefix_id     bigint,
    netbox_vrf_id        bigint,
    netbox_release       text CHECK (netbox_release IN ('deprecate', 'delete')),
    netbox_record        text CHECK (netbox_record IN ('block', 'prefix')),
    netbox_block_length  integer,
    netbox_closed_until  timestamptz,
    netbox_full_since    timestamptz,
    created_at           timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pools_name UNIQUE NULLS NOT DISTINCT (tenant_id, name),
    CONSTRAINT pools_frontier CHECK (
        0 <= first_slot AND first_slot <= frontier AND frontier <= end_slot AND first_slot < end_slot),
    CONSTRAINT pools_delegated_length CHECK (delegated_length >= masklen(prefix)),
    CONSTRAINT pools_excluded CHECK (mode = 'database' OR excluded = '{}'),
    -- btree_gist is not available everywhere; a range of one hash is how plain GiST compares for equality.
    CONSTRAINT pools_no_overlap EXCLUDE USING gist (
        int8range(hashtextextended(vrf, 0), hashtextextended(vrf, 0), '[]') WITH &&, prefix inet_ops WITH &&),
    -- The columns of each mode, as in ipam.modes. netbox_vrf_id may be NULL in every mode.
    CONSTRAINT pools_mode CHECK (
        CASE mode
            WHEN 'database' THEN num_nonnulls(netbox_prefix_id, netbox_vrf_id, netbox_release, netbox_record,
                                              netbox_block_length) = 0
            WHEN 'direct' THEN num_nulls(netbox_prefix_id, netbox_release) = 0
                               AND num_nonnulls(netbox_record, netbox_block_length) = 0
            ELSE num_nulls(netbox_prefix_id, netbox_release, netbox_record, netbox_block_length) = 0 END),
    CONSTRAINT pools_delegated CHECK (
        mode <> 'delegated' OR netbox_block_length > masklen(prefix) AND netbox_block_length <= delegated_length
                               AND frontier = end_slot)
);
COMMENT ON TABLE pools IS
    'Address space that prefixes are delegated from. Written by `lastmile pool`; allocations move the frontier.';
COMMENT ON COLUMN pools.tenant_id IS 'NULL: the pool serves every tenant.';
COMMENT ON COLUMN pools.purpose IS
    'What a subscriber uses the prefix for, and thereby its RADIUS attribute: ipv6_pd is Delegated-IPv6-Prefix, '
    'ipv6_framed is Framed-IPv6-Prefix, ipv6_address is Framed-IPv6-Address, ipv4 is Framed-IP-Address.';
COMMENT ON COLUMN pools.delegated_length IS
    'The length of each delegated prefix, in bits; an address is a /32 or /128.';
COMMENT ON COLUMN pools.vrf IS 'The name of the VRF; empty: the global routing table.';
COMMENT ON COLUMN pools.region IS 'An order may ask for a region; NULL: the pool is in none.';
COMMENT ON COLUMN pools.mode IS
    'database: the pool is in the database alone. direct: NetBox chooses each prefix, which then has no slot. '
    'delegated: Lastmile gets whole blocks from NetBox and assigns inside them. pools_mode says which columns each has.';
COMMENT ON COLUMN pools.first_slot IS
    'The first slot that may be delegated: not IPv4''s network address, nor IPv6''s Subnet-Router anycast (RFC 4291, '
    '2.6.1).';
COMMENT ON COLUMN pools.end_slot IS 'The slot after the last one that may be delegated.';
COMMENT ON COLUMN pools.frontier IS
    'The first slot without a row in `slots`: slots from here on were never within reach. It moves in batches.';
COMMENT ON COLUMN pools.excluded IS 'Ranges of slots that are not delegated; only in pools that are not in NetBox.';
COMMENT ON COLUMN pools.closed_at IS 'When an operator closed the pool to new allocations; NULL: open.';
COMMENT ON COLUMN pools.netbox_prefix_id IS 'The id of the pool''s container prefix in NetBox.';
COMMENT ON COLUMN pools.netbox_vrf_id IS 'The id of the VRF in NetBox; NULL: the global table.';
COMMENT ON COLUMN pools.netbox_release IS
    'What becomes of a released prefix in NetBox. deprecate: it stays, deprecated, during quarantine, and is then '
    'deleted. delete: it is deleted at once.';
COMMENT ON COLUMN pools.netbox_record IS
    'What a delegated pool records in NetBox. block: blocks and how full they are. prefix: also every prefix.';
COMMENT ON COLUMN pools.netbox_block_length IS 'The length of the blocks that a delegated pool acquires, in bits.';
COMMENT ON COLUMN pools.netbox_closed_until IS
    'While the pool''s NetBox mode changes, it is closed to new allocations until then, which the change renews. An '
    'operator''s closing is closed_at.';
COMMENT ON COLUMN pools.netbox_full_since IS
    'When NetBox first had no further block or prefix for the pool; NULL as soon as it has one. Written by '
    'allocations.';

CREATE INDEX pools_by_purpose ON pools (purpose, delegated_length);
COMMENT ON INDEX pools_by_purpose IS 'The pools that an allocation can be served from.';

-- Conditions on a pool. The planner inlines each of them, so that the query uses pools_by_purpose: each must stay one
-- expression without a sub-select. NULL for need_pool, need_region and need_address: any.

CREATE FUNCTION lastmile_pool_serves(
    pool pools, need_purpose text, need_length integer, need_pool text, need_region text, need_address inet
) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT pool.purpose = need_purpose AND pool.delegated_length = need_length
       AND (need_pool IS NULL OR pool.name = need_pool)
       AND (need_region IS NULL OR pool.region = need_region)
       AND (need_address IS NULL OR pool.prefix >>= need_address)
$$;
COMMENT ON FUNCTION lastmile_pool_serves IS
    'Whether the pool could serve the need of an order (ipam.models.Need), if it were open and in the VRF.';

CREATE FUNCTION lastmile_pool_is_changing(pool pools) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(pool.netbox_closed_until > now(), false)
$$;
COMMENT ON FUNCTION lastmile_pool_is_changing IS
    'Whether the pool is closed to new allocations while its NetBox mode changes.';

CREATE FUNCTION lastmile_pool_is_candidate(
    pool pools, need_purpose text, need_length integer, need_vrf text, need_pool text, need_region text,
    need_address inet
) RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT pool.closed_at IS NULL AND NOT lastmile_pool_is_changing(pool) AND pool.vrf = need_vrf
       AND lastmile_pool_serves(pool, need_purpose, need_length, need_pool, need_region, need_address)
$$;
COMMENT ON FUNCTION lastmile_pool_is_candidate IS 'Whether the pool can serve the need of an order (ipam.models.Need).';

CREATE FUNCTION lastmile_pool_can_grow(pool pools) RETURNS boolean LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT pool.frontier < pool.end_slot AND NOT int8range(pool.frontier, pool.end_slot) <@ pool.excluded
$$;
COMMENT ON FUNCTION lastmile_pool_can_grow IS
    'Whether there is a slot beyond the frontier of the pool that is not excluded.';

CREATE FUNCTION lastmile_exclusions_lock(pool_id bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS $$
    SELECT hashtextextended('lastmile/exclusions/' || pool_id, 0)
$$;
COMMENT ON FUNCTION lastmile_exclusions_lock IS
    'The advisory lock on the exclusions of a pool: exclusive to change them, shared to free a slot by them.';

CREATE TABLE slots (
    pool_id        bigint NOT NULL REFERENCES pools (id) ON DELETE CASCADE,
    slot           bigint NOT NULL,
    tenant_id      text,
    delegation_id  bigint,
    free_at        timestamptz NOT NULL DEFAULT '-infinity',
    last_holder    text,
    PRIMARY KEY (pool_id, slot),
    CONSTRAINT slots_last_holder CHECK (delegation_id IS NULL OR last_holder IS NULL)
)
-- An allocation takes the first free slot in the order of slots_free, and reads past the index entries of the slots
-- taken since the last vacuum. Autovacuum's default, a fifth of the table, would let that become slow in a large pool;
-- and it would skip the indexes where few pages of the table have changed.
WITH (autovacuum_vacuum_threshold = 10000, autovacuum_vacuum_scale_factor = 0.001, vacuum_index_cleanup = on);
COMMENT ON TABLE slots IS
    'A row for each slot that was ever within reach: held, in quarantine or free. Written by allocation and release.';
COMMENT ON COLUMN slots.tenant_id IS 'The pool''s tenant, copied for row-level security.';
COMMENT ON COLUMN slots.delegation_id IS 'The delegation that holds the slot now; NULL: no holder.';
COMMENT ON COLUMN slots.free_at IS
    'The end of the quarantine of a slot without a holder. In the past: free. infinity: not to be delegated, because '
    'it is excluded or a foreign prefix in NetBox covers it.';
COMMENT ON COLUMN slots.last_holder IS
    'tenant/subscriber/purpose of the last holder of a slot without a holder, which gets the same prefix again '
    '(RIPE-690).';

CREATE INDEX slots_free ON slots (pool_id, free_at, slot) WHERE delegation_id IS NULL;
COMMENT ON INDEX slots_free IS 'An allocation''s first free slot, in the order (free_at, slot).';
CREATE UNIQUE INDEX slots_by_delegation ON slots (delegation_id) WHERE delegation_id IS NOT NULL;
COMMENT ON INDEX slots_by_delegation IS
    'A delegation holds one slot; release finds it. Partial: with the free slots in it, the planner read all of them '
    'here instead of the first one of slots_free.';
CREATE INDEX slots_by_last_holder ON slots (last_holder, pool_id) WHERE last_holder IS NOT NULL;
COMMENT ON INDEX slots_by_last_holder IS
    'The former slots of a returning subscriber. Partial, and last_holder is NULL in held slots: otherwise the planner '
    'used this index for all free slots of a full pool.';

CREATE TABLE delegations (
    id                    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id             text NOT NULL REFERENCES tenants (id),
    pool_id               bigint NOT NULL REFERENCES pools (id),
    slot                  bigint,
    prefix                cidr,
    subscriber_ref        text NOT NULL,
    purpose               text NOT NULL,
    allocation_key        text NOT NULL,
    created_by_order      text NOT NULL,
    state                 text NOT NULL CHECK (state IN ('pending', 'allocated', 'active', 'suspended', 'revoking',
                                                         'revoked', 'failed')),
    state_since           timestamptz NOT NULL DEFAULT now(),
    disconnect_confirmed  boolean,
    netbox_id             bigint,
    created_at            timestamptz NOT NULL DEFAULT now(),
    released_at           timestamptz CHECK (released_at IS NULL OR state = 'revoked'),
    login_name            text,
    replaced_by_order     text,
    replaced_at           timestamptz,
    replaced_until        timestamptz,
    CONSTRAINT delegations_key UNIQUE (tenant_id, allocation_key),
    CONSTRAINT delegations_given CHECK (prefix IS NOT NULL OR state IN ('pending', 'failed', 'revoking', 'revoked')),
    CONSTRAINT delegations_in_netbox CHECK (slot IS NULL OR netbox_id IS NULL),
    CONSTRAINT delegations_replaced CHECK (
        num_nulls(replaced_at, replaced_until) <> 1 AND (replaced_at IS NULL OR replaced_by_order IS NOT NULL))
);
COMMENT ON TABLE delegations IS
    'One subscriber''s hold on one prefix, from pending to revoked. A new allocation is a new row. Written by the '
    'address steps of workflows, by the audit''s repairs and by the clean-up.';
COMMENT ON COLUMN delegations.slot IS 'NULL: NetBox chose the prefix (pools.mode = direct).';
COMMENT ON COLUMN delegations.prefix IS 'NULL: NetBox has not chosen yet, or the allocation failed and was undone.';
COMMENT ON COLUMN delegations.purpose IS 'As pools.purpose.';
COMMENT ON COLUMN delegations.allocation_key IS
    'tenant/subscriber/purpose/order: the same key always returns the same prefix. NetBox records carry it too.';
COMMENT ON COLUMN delegations.state IS
    'The lifecycle, which ipam.lifecycle defines. Each transition is a guarded UPDATE with a row in delegation_events.';
COMMENT ON COLUMN delegations.disconnect_confirmed IS
    'true: a NAS confirmed that the subscriber''s sessions ended. false: none did, and the quarantine is longer. '
    'NULL: not revoked yet.';
COMMENT ON COLUMN delegations.login_name IS
    'The RADIUS user name of the line, where it is not a generated one; a trigger sets it.';
COMMENT ON COLUMN delegations.netbox_id IS 'The id of the prefix''s record in NetBox, where NetBox chose the prefix.';
COMMENT ON COLUMN delegations.released_at IS
    'When the prefix went into quarantine. A revoked delegation without it still holds its slot.';
COMMENT ON COLUMN delegations.replaced_by_order IS
    'The order that replaces the prefix: the subscriber has, or is about to get, another prefix of the purpose, or none.';
COMMENT ON COLUMN delegations.replaced_at IS
    'When RADIUS stopped assigning the prefix because an order replaced it. Logins after that did not get the prefix.';
COMMENT ON COLUMN delegations.replaced_until IS
    'The end of the overlap, in which the subscriber has both prefixes. The order then revokes and releases this one.';

CREATE UNIQUE INDEX delegations_slot ON delegations (pool_id, slot) WHERE released_at IS NULL;
COMMENT ON INDEX delegations_slot IS 'A slot has one holder.';
CREATE UNIQUE INDEX delegations_prefix ON delegations (pool_id, prefix)
    WHERE slot IS NULL AND prefix IS NOT NULL AND released_at IS NULL;
COMMENT ON INDEX delegations_prefix IS 'A prefix that NetBox chose has one holder; it has no slot.';
CREATE UNIQUE INDEX delegations_live ON delegations (tenant_id, subscriber_ref, purpose)
    WHERE state <> 'revoked' AND replaced_by_order IS NULL;
COMMENT ON INDEX delegations_live IS
    'A subscriber has one live delegation for each purpose, beside the one that an order replaces; an allocation finds '
    'what the subscriber has.';
CREATE INDEX delegations_by_subscriber ON delegations (subscriber_ref, tenant_id);
COMMENT ON INDEX delegations_by_subscriber IS
    'The status of a subscriber. The tenant is second: with the tenant first, the planner used this index for an '
    'allocation key until the table was analysed, and read all delegations of the tenant.';
CREATE INDEX delegations_by_prefix ON delegations USING gist (prefix inet_ops);
COMMENT ON INDEX delegations_by_prefix IS 'The holder of an address; the audit''s search for overlaps.';
CREATE INDEX delegations_passing ON delegations (state_since, id)
    WHERE released_at IS NULL AND state IN ('pending', 'allocated', 'revoking', 'revoked', 'failed');
COMMENT ON INDEX delegations_passing IS
    'Leaks and unfinished revocations of the clean-up and the metrics: few rows, in states that should pass.';
CREATE INDEX delegations_ended ON delegations (released_at, id) WHERE released_at IS NOT NULL;
COMMENT ON INDEX delegations_ended IS
    'The clean-up''s deletion of delegations that ended long ago, in order of release.';
CREATE INDEX delegations_in_netbox_by_id ON delegations (pool_id, netbox_id)
    WHERE slot IS NULL AND prefix IS NOT NULL AND released_at IS NULL;
COMMENT ON INDEX delegations_in_netbox_by_id IS
    'Reconciliation: the direct pool''s records side by side with NetBox''s.';
CREATE INDEX delegations_in_netbox_by_change ON delegations (pool_id, greatest(state_since, released_at))
    WHERE slot IS NULL AND netbox_id IS NOT NULL;
COMMENT ON INDEX delegations_in_netbox_by_change IS 'Reconciliation: what changed since the last comparison.';

CREATE TABLE delegation_events (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id       text NOT NULL REFERENCES tenants (id),
    delegation_id   bigint NOT NULL,
    prefix          cidr,
    vrf             text,
    subscriber_ref  text NOT NULL,
    from_state      text NOT NULL,
    to_state        text NOT NULL,
    order_id        text NOT NULL,
    reason          text NOT NULL,
    at              timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE delegation_events IS
    'Every transition of a delegation, in the transaction of the transition. Kept for the audit period after the '
    'delegation ends: they are the record of the holder of a prefix at a given time.';
COMMENT ON COLUMN delegation_events.delegation_id IS 'delegations.id; the delegation may be deleted.';
COMMENT ON COLUMN delegation_events.prefix IS 'NULL: the delegation had no prefix at that time.';
COMMENT ON COLUMN delegation_events.vrf IS 'The pool''s VRF; a trigger fills it in unless the statement does.';
COMMENT ON COLUMN delegation_events.order_id IS 'The order, or the maintenance run, that made the transition.';
COMMENT ON COLUMN delegation_events.reason IS 'The reason in words.';

CREATE INDEX delegation_events_by_subscriber ON delegation_events (tenant_id, subscriber_ref, id);
COMMENT ON INDEX delegation_events_by_subscriber IS 'The history of a subscriber.';
CREATE INDEX delegation_events_by_delegation ON delegation_events (delegation_id, id);
COMMENT ON INDEX delegation_events_by_delegation IS 'The events of one delegation, in order; their deletion.';
CREATE INDEX delegation_events_by_prefix ON delegation_events USING gist (prefix inet_ops);
COMMENT ON INDEX delegation_events_by_prefix IS '`lastmile history`: the holder of an address at a time.';
CREATE INDEX delegation_events_ended ON delegation_events (at) WHERE to_state = 'revoked';
COMMENT ON INDEX delegation_events_ended IS 'The clean-up: delegations whose audit period is over.';

CREATE FUNCTION lastmile_event_vrf() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.vrf := (SELECT p.vrf FROM delegations d JOIN pools p ON p.id = d.pool_id WHERE d.id = NEW.delegation_id);
    RETURN NEW;
END $$;
COMMENT ON FUNCTION lastmile_event_vrf IS 'Events outlive their delegation: each names its VRF.';
CREATE TRIGGER vrf BEFORE INSERT ON delegation_events FOR EACH ROW WHEN (NEW.vrf IS NULL)
EXECUTE FUNCTION lastmile_event_vrf();
