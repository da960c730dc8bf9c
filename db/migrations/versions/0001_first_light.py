"""Tenants, subscribers, orders, pools and delegations, FreeRADIUS's schema; row-level security on all of it."""

from alembic import op

from db.script import run_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# The tenant that the connection named; NULL, which equals nothing, where it named none.
CURRENT_TENANT = "nullif(current_setting('lastmile.tenant', true), '')"

# Roles belong to the whole cluster, not to one database: another stack may have made them.
ROLES = """
DO $$
DECLARE role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['lastmile_app', 'lastmile_platform', 'lastmile_radius'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS', role);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
END $$;
"""

SUBSCRIBERS = """
CREATE TABLE tenants (
    id          text PRIMARY KEY CHECK (id ~ '^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$'),
    name        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE orders (
    tenant_id       text NOT NULL REFERENCES tenants (id),
    order_id        text NOT NULL,
    operation       text NOT NULL,
    subscriber_ref  text NOT NULL,
    digest          text NOT NULL,
    run_id          text NOT NULL,
    status          text NOT NULL CHECK (status IN ('running', 'rolling_back', 'completed', 'degraded',
                                                    'rolled_back', 'abandoned', 'superseded')),
    result          jsonb,
    created_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    PRIMARY KEY (tenant_id, order_id)
);
CREATE INDEX orders_by_subscriber ON orders (tenant_id, subscriber_ref, created_at);

CREATE TABLE customers (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id         text NOT NULL REFERENCES tenants (id),
    ref               text NOT NULL,
    name              text NOT NULL,
    email             text,
    phone             text,
    created_by_order  text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, ref)
);

CREATE TABLE subscribers (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id         text NOT NULL REFERENCES tenants (id),
    ref               text NOT NULL,
    customer_id       uuid NOT NULL REFERENCES customers (id),
    created_by_order  text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    archived_at       timestamptz,
    archived_by_order text,
    archive_reason    text
);
CREATE UNIQUE INDEX subscribers_current ON subscribers (tenant_id, ref) WHERE archived_at IS NULL;
CREATE INDEX subscribers_by_ref ON subscribers (tenant_id, ref);
CREATE INDEX subscribers_by_customer ON subscribers (customer_id);

CREATE TABLE network_profiles (
    id                uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id         text NOT NULL REFERENCES tenants (id),
    subscriber_id     uuid NOT NULL UNIQUE REFERENCES subscribers (id),
    connection_type   text NOT NULL,
    onu_serial        text,
    olt               text,
    pon_port          text,
    cpe_mac           macaddr,
    s_vlan            integer CHECK (s_vlan BETWEEN 1 AND 4094),
    c_vlan            integer CHECK (c_vlan BETWEEN 1 AND 4094),
    circuit_id        text,
    remote_id         text,
    option82_policy   text NOT NULL,
    created_by_order  text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT network_profiles_onu_serial UNIQUE (tenant_id, onu_serial),
    CONSTRAINT network_profiles_cpe_mac UNIQUE (tenant_id, cpe_mac)
);

CREATE TABLE billing_services (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id           text NOT NULL REFERENCES tenants (id),
    subscriber_id       uuid NOT NULL REFERENCES subscribers (id),
    plan                text NOT NULL,
    price_ref           text,
    status              text NOT NULL CHECK (status IN ('active', 'suspended', 'ended')),
    started_at          timestamptz NOT NULL DEFAULT now(),
    ended_at            timestamptz,
    suspended_by_order  text,
    created_by_order    text NOT NULL
);
CREATE UNIQUE INDEX billing_services_current ON billing_services (subscriber_id) WHERE status <> 'ended';

-- What a billing system reads. Never updated, never deleted: a rolled-back order leaves 'started' and 'cancelled'.
CREATE TABLE billing_events (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id       text NOT NULL REFERENCES tenants (id),
    service_id      uuid NOT NULL,
    subscriber_ref  text NOT NULL,
    event           text NOT NULL CHECK (event IN ('started', 'cancelled', 'suspended', 'resumed', 'ended')),
    plan            text NOT NULL,
    price_ref       text,
    order_id        text NOT NULL,
    at              timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX billing_events_by_subscriber ON billing_events (tenant_id, subscriber_ref, id);

-- The state that an ONU or CPE should be in; what a controller confirmed, once one is configured.
CREATE TABLE devices (
    tenant_id         text NOT NULL REFERENCES tenants (id),
    subscriber_ref    text NOT NULL,
    kind              text NOT NULL CHECK (kind IN ('onu', 'cpe')),
    identity          text NOT NULL,
    wanted            boolean NOT NULL,
    confirmed         boolean NOT NULL DEFAULT false,
    created_by_order  text NOT NULL,
    updated_by_order  text NOT NULL,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, subscriber_ref, kind)
);
"""

ADDRESSES = """
-- The n-th prefix of `length` bits in `pool`. Up to /64 the arithmetic is on the upper 64 bits, because the
-- distance between two prefixes does not fit in a bigint; /128 and IPv4 are plain inet + bigint.
CREATE FUNCTION lastmile_nth_prefix(pool cidr, length integer, slot bigint) RETURNS cidr
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT CASE
        WHEN family(pool) = 4 THEN set_masklen(pool::inet + (slot << (32 - length)), length)::cidr
        WHEN length > 64 THEN set_masklen(pool::inet + (slot << (128 - length)), length)::cidr
        ELSE (regexp_replace(
                lpad(to_hex(('x' || encode(substring(inet_send(pool) FROM 5 FOR 8), 'hex'))::bit(64)::bigint
                            + (slot << (64 - length))), 16, '0'),
                '(....)(....)(....)(....)', '\\1:\\2:\\3:\\4::') || '/' || length)::cidr
    END
$$;

CREATE TABLE pools (
    id                bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id         text REFERENCES tenants (id),
    name              text NOT NULL,
    purpose           text NOT NULL CHECK (purpose IN ('ipv6_pd', 'ipv6_framed', 'ipv6_address', 'ipv4')),
    prefix            cidr NOT NULL,
    delegated_length  integer NOT NULL,
    vrf               text NOT NULL DEFAULT '',
    region            text,
    country           text,
    first_slot        bigint NOT NULL,
    end_slot          bigint NOT NULL,
    frontier          bigint NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT pools_name UNIQUE NULLS NOT DISTINCT (tenant_id, name),
    CHECK (0 <= first_slot AND first_slot <= frontier AND frontier <= end_slot AND first_slot < end_slot),
    CHECK (delegated_length >= masklen(prefix)),
    -- btree_gist is not everywhere; a range of one hash is how plain GiST compares for equality.
    CONSTRAINT pools_no_overlap EXCLUDE USING gist (
        int8range(hashtextextended(vrf, 0), hashtextextended(vrf, 0), '[]') WITH &&, prefix inet_ops WITH &&)
);
CREATE INDEX pools_by_purpose ON pools (purpose, delegated_length);

-- A row for every slot that was ever within reach: taken, quarantined (free_at ahead) or free (free_at past).
-- Slots from pools.frontier on have no row yet.
CREATE TABLE slots (
    pool_id        bigint NOT NULL REFERENCES pools (id) ON DELETE CASCADE,
    slot           bigint NOT NULL,
    tenant_id      text,
    delegation_id  bigint UNIQUE,
    free_at        timestamptz NOT NULL DEFAULT '-infinity',
    last_holder    text,
    PRIMARY KEY (pool_id, slot)
);
CREATE INDEX slots_free ON slots (pool_id, free_at, slot) WHERE delegation_id IS NULL;
CREATE INDEX slots_by_last_holder ON slots (last_holder, pool_id)
    WHERE delegation_id IS NULL AND last_holder IS NOT NULL;

CREATE TABLE delegations (
    id                    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id             text NOT NULL REFERENCES tenants (id),
    pool_id               bigint NOT NULL REFERENCES pools (id),
    slot                  bigint NOT NULL,
    prefix                cidr NOT NULL,
    subscriber_ref        text NOT NULL,
    purpose               text NOT NULL,
    allocation_key        text NOT NULL,
    created_by_order      text NOT NULL,
    state                 text NOT NULL CHECK (state IN ('pending', 'allocated', 'active', 'suspended',
                                                         'revoking', 'revoked', 'failed')),
    state_since           timestamptz NOT NULL DEFAULT now(),
    disconnect_confirmed  boolean,
    created_at            timestamptz NOT NULL DEFAULT now(),
    released_at           timestamptz CHECK (released_at IS NULL OR state = 'revoked'),
    CONSTRAINT delegations_key UNIQUE (tenant_id, allocation_key)
);
CREATE UNIQUE INDEX delegations_slot ON delegations (pool_id, slot) WHERE released_at IS NULL;
CREATE UNIQUE INDEX delegations_live ON delegations (tenant_id, subscriber_ref, purpose) WHERE state <> 'revoked';
CREATE INDEX delegations_by_subscriber ON delegations (tenant_id, subscriber_ref);
CREATE INDEX delegations_by_prefix ON delegations USING gist (prefix inet_ops);

CREATE TABLE delegation_events (
    id              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id       text NOT NULL REFERENCES tenants (id),
    delegation_id   bigint NOT NULL,
    prefix          cidr NOT NULL,
    subscriber_ref  text NOT NULL,
    from_state      text NOT NULL,
    to_state        text NOT NULL,
    order_id        text NOT NULL,
    reason          text NOT NULL,
    at              timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX delegation_events_by_subscriber ON delegation_events (tenant_id, subscriber_ref, id);
CREATE INDEX delegation_events_by_delegation ON delegation_events (delegation_id, id);
"""

# FreeRADIUS 3.2's own PostgreSQL schema, plus: the tenant, read off the realm of the name (user@tenant.lastmile),
# who created an account, the port where a NAS takes Disconnect and CoA, and keys that keep rows single.
TENANT_OF = "text GENERATED ALWAYS AS (split_part(split_part({column}, '@', 2), '.', 1)) STORED"
RADIUS = f"""
CREATE TABLE radcheck (
    id                serial PRIMARY KEY,
    username          text NOT NULL DEFAULT '',
    attribute         text NOT NULL DEFAULT '',
    op                varchar(2) NOT NULL DEFAULT '==',
    value             text NOT NULL DEFAULT '',
    tenant_id         {TENANT_OF.format(column="username")},
    created_by_order  text,
    CONSTRAINT radcheck_once UNIQUE (username, attribute)
);

CREATE TABLE radreply (
    id         serial PRIMARY KEY,
    username   text NOT NULL DEFAULT '',
    attribute  text NOT NULL DEFAULT '',
    op         varchar(2) NOT NULL DEFAULT '=',
    value      text NOT NULL DEFAULT '',
    tenant_id  {TENANT_OF.format(column="username")},
    CONSTRAINT radreply_once UNIQUE (username, attribute, value)
);

CREATE TABLE radusergroup (
    id         serial PRIMARY KEY,
    username   text NOT NULL DEFAULT '',
    groupname  text NOT NULL DEFAULT '',
    priority   integer NOT NULL DEFAULT 0,
    tenant_id  {TENANT_OF.format(column="username")},
    CONSTRAINT radusergroup_once UNIQUE (username, groupname)
);

CREATE TABLE radgroupcheck (
    id         serial PRIMARY KEY,
    groupname  text NOT NULL DEFAULT '',
    attribute  text NOT NULL DEFAULT '',
    op         varchar(2) NOT NULL DEFAULT '==',
    value      text NOT NULL DEFAULT '',
    tenant_id  {TENANT_OF.format(column="groupname")},
    CONSTRAINT radgroupcheck_once UNIQUE (groupname, attribute)
);

CREATE TABLE radgroupreply (
    id         serial PRIMARY KEY,
    groupname  text NOT NULL DEFAULT '',
    attribute  text NOT NULL DEFAULT '',
    op         varchar(2) NOT NULL DEFAULT '=',
    value      text NOT NULL DEFAULT '',
    tenant_id  {TENANT_OF.format(column="groupname")},
    CONSTRAINT radgroupreply_once UNIQUE (groupname, attribute)
);

CREATE TABLE radacct (
    radacctid            bigserial PRIMARY KEY,
    acctsessionid        text NOT NULL,
    acctuniqueid         text NOT NULL UNIQUE,
    username             text,
    realm                text,
    nasipaddress         inet NOT NULL,
    nasportid            text,
    nasporttype          text,
    acctstarttime        timestamptz,
    acctupdatetime       timestamptz,
    acctstoptime         timestamptz,
    acctinterval         bigint,
    acctsessiontime      bigint,
    acctauthentic        text,
    connectinfo_start    text,
    connectinfo_stop     text,
    acctinputoctets      bigint,
    acctoutputoctets     bigint,
    calledstationid      text,
    callingstationid     text,
    acctterminatecause   text,
    servicetype          text,
    framedprotocol       text,
    framedipaddress      inet,
    framedipv6address    inet,
    framedipv6prefix     inet,
    framedinterfaceid    text,
    delegatedipv6prefix  inet,
    class                text,
    tenant_id            {TENANT_OF.format(column="username")}
);
CREATE INDEX radacct_active_session_idx ON radacct (acctuniqueid) WHERE acctstoptime IS NULL;
CREATE INDEX radacct_bulk_close ON radacct (nasipaddress, acctstarttime) WHERE acctstoptime IS NULL;
CREATE INDEX radacct_start_user_idx ON radacct (acctstarttime, username);
CREATE INDEX radacct_class_idx ON radacct (class);
-- Ours: who is online, to disconnect them.
CREATE INDEX radacct_open_by_user ON radacct (username) WHERE acctstoptime IS NULL;
-- And who may be on the way there.
CREATE INDEX radacct_starts_by_user ON radacct (username, acctstarttime);

CREATE TABLE radpostauth (
    id                bigserial PRIMARY KEY,
    username          text NOT NULL,
    pass              text,
    reply             text,
    calledstationid   text,
    callingstationid  text,
    authdate          timestamptz NOT NULL DEFAULT now(),
    class             text,
    tenant_id         {TENANT_OF.format(column="username")}
);
CREATE INDEX radpostauth_username_idx ON radpostauth (username);
CREATE INDEX radpostauth_class_idx ON radpostauth (class);
CREATE INDEX radpostauth_accepts_by_user ON radpostauth (username, authdate) WHERE reply = 'Access-Accept';

CREATE TABLE nas (
    id           serial PRIMARY KEY,
    nasname      text NOT NULL UNIQUE,
    shortname    text NOT NULL,
    type         text NOT NULL DEFAULT 'other',
    ports        integer,
    secret       text NOT NULL,
    server       text,
    community    text,
    description  text,
    coa_port     integer NOT NULL DEFAULT 3799 CHECK (coa_port BETWEEN 1 AND 65535)
);

CREATE TABLE nasreload (
    nasipaddress  inet PRIMARY KEY,
    reloadtime    timestamptz NOT NULL
);
"""

OWNED = ("orders", "customers", "subscribers", "network_profiles", "billing_services", "billing_events",
         "devices", "delegations", "delegation_events")  # fmt: skip
SHAREABLE = ("pools", "slots")  # a pool without a tenant serves them all
RADIUS_ACCOUNTS = ("radcheck", "radreply", "radusergroup", "radgroupcheck", "radgroupreply")
RADIUS_LOGS = ("radacct", "radpostauth")
ALL_TENANTS = ("nas", "nasreload")  # equipment of the network, not of a tenant


def _policies() -> str:
    conditions = {"tenants": f"id = {CURRENT_TENANT}"}
    conditions |= dict.fromkeys((*OWNED, *RADIUS_ACCOUNTS, *RADIUS_LOGS), f"tenant_id = {CURRENT_TENANT}")
    conditions |= dict.fromkeys(
        SHAREABLE, f"{CURRENT_TENANT} IS NOT NULL AND (tenant_id IS NULL OR tenant_id = {CURRENT_TENANT})"
    )
    statements = []
    for table, condition in conditions.items():
        statements += [
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY;",
            f"CREATE POLICY tenant ON {table} TO lastmile_app USING ({condition});",
            f"CREATE POLICY platform ON {table} TO lastmile_platform USING (true);",
        ]
    for table in (*RADIUS_ACCOUNTS, *RADIUS_LOGS):
        statements.append(f"CREATE POLICY radius ON {table} TO lastmile_radius USING (true);")
    return "\n".join(statements)


def _grants() -> str:
    everything = ", ".join((*OWNED, *SHAREABLE, *RADIUS_ACCOUNTS))
    return f"""
    GRANT USAGE ON SCHEMA public TO lastmile_app, lastmile_platform, lastmile_radius;
    GRANT SELECT, INSERT, UPDATE, DELETE ON {everything} TO lastmile_app, lastmile_platform;
    REVOKE UPDATE, DELETE ON billing_events, delegation_events FROM lastmile_app;
    -- Pools are the platform's to make; a tenant takes slots from them, also from those that serve everybody.
    REVOKE INSERT, UPDATE, DELETE ON pools FROM lastmile_app;
    GRANT UPDATE (frontier) ON pools TO lastmile_app;
    REVOKE DELETE ON slots FROM lastmile_app;
    GRANT SELECT ON alembic_version TO lastmile_app, lastmile_platform;
    GRANT SELECT ON tenants, radacct, radpostauth, nas TO lastmile_app;
    GRANT SELECT, INSERT, UPDATE, DELETE ON tenants, radacct, radpostauth, nas TO lastmile_platform;
    GRANT SELECT ON {", ".join(RADIUS_ACCOUNTS)}, nas TO lastmile_radius;
    GRANT SELECT, INSERT, UPDATE ON radacct, radpostauth, nasreload TO lastmile_radius;
    GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO lastmile_app, lastmile_platform, lastmile_radius;
    """


def upgrade() -> None:
    for script in (ROLES, SUBSCRIBERS, ADDRESSES, RADIUS, _policies(), _grants()):
        run_script(script)


def downgrade() -> None:
    tables = ("tenants", *OWNED, *SHAREABLE, *RADIUS_ACCOUNTS, *RADIUS_LOGS, *ALL_TENANTS)
    op.execute(f"DROP TABLE {', '.join(tables)} CASCADE")
    op.execute("DROP FUNCTION lastmile_nth_prefix")
    # The roles stay: they belong to the cluster, and another database may use them.
