-- FreeRADIUS 3.2's own PostgreSQL schema (raddb/mods-config/sql/main/postgresql/schema.sql), so that a stock FreeRADIUS
-- serves what Lastmile provisions. Added to it:
--
--   tenant_id         the tenant of the user, for row-level security: from the realm of a generated user name,
--                     user@<tenant>.lastmile, otherwise from the account with this user name; empty: of no tenant
--   subscriber_ref    in radcheck: the account's line
--   created_by_order  in radcheck, for the undo of create_radius_account
--   recorded_at       in radacct and radpostauth: one clock to order logins and sessions by
--   coa_port, coa_address in nas
--   the keys that keep rows single, and indexes by user
--
-- FreeRADIUS's queries name their columns and do not notice. The comments are on what was added; for the rest see
-- FreeRADIUS's documentation.

CREATE FUNCTION lastmile_radius_username(subscriber_ref text, tenant_id text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT subscriber_ref || '@' || tenant_id || '.lastmile'
$$;
COMMENT ON FUNCTION lastmile_radius_username IS
    'The user name that Lastmile generates (lastmile.radius.logins.username). The planner inlines it.';

CREATE FUNCTION lastmile_parse_username(username text) RETURNS text[] LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT regexp_match(username, '^([^@]+)@([a-z0-9-]+)\.lastmile$')
$$;
COMMENT ON FUNCTION lastmile_parse_username IS
    'The line and the tenant that a generated user name names; NULL: Lastmile has not generated the user name. The '
    'planner inlines it.';

CREATE FUNCTION lastmile_is_account(attribute text, value text) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT attribute = 'Cleartext-Password' OR attribute = 'Auth-Type' AND value = 'Accept'
$$;
COMMENT ON FUNCTION lastmile_is_account IS
    'Whether a row of radcheck is an account: each has one such row. An IPoE account has no password. The planner '
    'inlines it.';

CREATE FUNCTION lastmile_reply_attribute(purpose text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE purpose WHEN 'ipv6_pd' THEN 'Delegated-IPv6-Prefix' WHEN 'ipv6_framed' THEN 'Framed-IPv6-Prefix'
                        WHEN 'ipv6_address' THEN 'Framed-IPv6-Address' WHEN 'ipv4' THEN 'Framed-IP-Address' END
$$;
COMMENT ON FUNCTION lastmile_reply_attribute IS
    'The RADIUS attribute of a purpose (lastmile.radius.reply_attributes). The planner inlines it.';

CREATE VIEW delegation_reply_items WITH (security_invoker = true) AS
    SELECT id, tenant_id, pool_id, subscriber_ref, prefix, state,
           state IN ('active', 'suspended') AND replaced_at IS NULL AS assigned,
           coalesce(login_name, lastmile_radius_username(subscriber_ref, tenant_id)) AS username,
           lastmile_reply_attribute(purpose) AS attribute,
           CASE WHEN purpose IN ('ipv4', 'ipv6_address') THEN host(prefix) ELSE prefix::text END AS value
    FROM delegations;
COMMENT ON VIEW delegation_reply_items IS
    'Every delegation with its row of radreply, which is there while the delegation is assigned: active or suspended, and '
    'not replaced.';

CREATE TABLE radcheck (
    id                serial PRIMARY KEY,
    username          text NOT NULL DEFAULT '',
    attribute         text NOT NULL DEFAULT '',
    op                varchar(2) NOT NULL DEFAULT '==',
    value             text NOT NULL DEFAULT '',
    tenant_id         text NOT NULL,
    subscriber_ref    text,
    created_by_order  text,
    CONSTRAINT radcheck_once UNIQUE (username, attribute, value)
);
COMMENT ON TABLE radcheck IS
    'FreeRADIUS: check items of users. Written by create_radius_account: the password, or Auth-Type := Accept, and the '
    'circuit id and remote id that the line enforces.';
COMMENT ON COLUMN radcheck.username IS 'As FreeRADIUS''s SQL module escapes the user name (lastmile.radius.escaping).';
COMMENT ON COLUMN radcheck.subscriber_ref IS 'The line of the account.';
COMMENT ON COLUMN radcheck.created_by_order IS 'The order that made the account.';

CREATE UNIQUE INDEX radcheck_account ON radcheck (username) WHERE lastmile_is_account(attribute, value);
COMMENT ON INDEX radcheck_account IS 'A user name has one account, whatever its tenant.';
CREATE UNIQUE INDEX radcheck_line ON radcheck (tenant_id, subscriber_ref)
    WHERE lastmile_is_account(attribute, value) AND tenant_id <> '';
COMMENT ON INDEX radcheck_line IS 'A line has one account; its user name.';

CREATE TABLE given_passwords (
    tenant_id   text NOT NULL REFERENCES tenants (id),
    order_id    text NOT NULL,
    key_name    text NOT NULL,
    sealed      bytea NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, order_id)
);
COMMENT ON TABLE given_passwords IS
    'The passwords that orders give, encrypted, until an account has them. The clean-up deletes those that no order took.';
COMMENT ON COLUMN given_passwords.key_name IS 'The key of LASTMILE_ENCRYPTION_KEYS.';
COMMENT ON COLUMN given_passwords.sealed IS 'The nonce and the ciphertext (AES-256-GCM).';

CREATE TABLE former_usernames (
    tenant_id     text NOT NULL REFERENCES tenants (id) ON DELETE CASCADE,
    username      text NOT NULL,
    former        text NOT NULL,
    logins_until  timestamptz NOT NULL,
    PRIMARY KEY (former, username, tenant_id)
);
COMMENT ON TABLE former_usernames IS
    'The user names that accounts had before. A session of an account can go on under a former one. The clean-up deletes '
    'those that are older than the audit period.';
COMMENT ON COLUMN former_usernames.username IS 'The present user name, or the last one of an account that is gone.';
COMMENT ON COLUMN former_usernames.logins_until IS
    'A later login under the former user name is another account''s. A RADIUS server records a login after it has read '
    'the account: 5 minutes after the change, or until another account gets the user name.';

CREATE INDEX former_usernames_by_username ON former_usernames (username);
COMMENT ON INDEX former_usernames_by_username IS 'All user names under which an account can have sessions.';

CREATE TABLE radreply (
    id         serial PRIMARY KEY,
    username   text NOT NULL DEFAULT '',
    attribute  text NOT NULL DEFAULT '',
    op         varchar(2) NOT NULL DEFAULT '=',
    value      text NOT NULL DEFAULT '',
    tenant_id  text NOT NULL,
    CONSTRAINT radreply_once UNIQUE (username, attribute, value)
);
COMMENT ON TABLE radreply IS
    'FreeRADIUS: reply items of users. Written by activate_ipv6_lifecycle: the prefixes and addresses of active '
    'delegations.';

CREATE TABLE radusergroup (
    id         serial PRIMARY KEY,
    username   text NOT NULL DEFAULT '',
    groupname  text NOT NULL DEFAULT '',
    priority   integer NOT NULL DEFAULT 0,
    tenant_id  text NOT NULL,
    CONSTRAINT radusergroup_once UNIQUE (username, groupname)
);
COMMENT ON TABLE radusergroup IS
    'FreeRADIUS: the groups of users. A group is a plan with its rates and the mode of a suspension, as in '
    'home-50000-10000:slow@<tenant>.lastmile.';

CREATE TABLE radgroupcheck (
    id         serial PRIMARY KEY,
    groupname  text NOT NULL DEFAULT '',
    attribute  text NOT NULL DEFAULT '',
    op         varchar(2) NOT NULL DEFAULT '==',
    value      text NOT NULL DEFAULT '',
    tenant_id  text GENERATED ALWAYS AS (split_part(split_part(groupname, '@', 2), '.', 1)) STORED,
    CONSTRAINT radgroupcheck_once UNIQUE (groupname, attribute)
);
COMMENT ON TABLE radgroupcheck IS
    'FreeRADIUS: check items of groups. The groups of blocked accounts have Auth-Type := Reject.';

CREATE TABLE radgroupreply (
    id         serial PRIMARY KEY,
    groupname  text NOT NULL DEFAULT '',
    attribute  text NOT NULL DEFAULT '',
    op         varchar(2) NOT NULL DEFAULT '=',
    value      text NOT NULL DEFAULT '',
    tenant_id  text GENERATED ALWAYS AS (split_part(split_part(groupname, '@', 2), '.', 1)) STORED,
    CONSTRAINT radgroupreply_once UNIQUE (groupname, attribute, value)
);
COMMENT ON TABLE radgroupreply IS
    'FreeRADIUS: reply items of groups. Written from the attribute templates of the tenant.';

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
    tenant_id            text NOT NULL,
    recorded_at          timestamptz DEFAULT clock_timestamp()
);
COMMENT ON TABLE radacct IS
    'FreeRADIUS: accounting. FreeRADIUS writes it; Lastmile reads it to find a user''s sessions.';
COMMENT ON COLUMN radacct.acctstarttime IS 'By the clock of the NAS, which can be hours off.';
COMMENT ON COLUMN radacct.acctstoptime IS
    'NULL: open. Before acctstarttime: the NAS has used the Acct-Session-Id again.';
COMMENT ON COLUMN radacct.recorded_at IS
    'When the database inserted the row, by its own clock. NULL in rows that another system''s table was copied from.';

CREATE INDEX radacct_active_session_idx ON radacct (acctuniqueid) WHERE acctstoptime IS NULL;
COMMENT ON INDEX radacct_active_session_idx IS 'FreeRADIUS: its update of an open session.';
CREATE INDEX radacct_bulk_close ON radacct (nasipaddress, acctstarttime) WHERE acctstoptime IS NULL;
COMMENT ON INDEX radacct_bulk_close IS
    'FreeRADIUS: closing a NAS''s sessions at Accounting-On. Lastmile: whether a NAS reports addresses.';
CREATE INDEX radacct_start_user_idx ON radacct (acctstarttime, username);
COMMENT ON INDEX radacct_start_user_idx IS 'FreeRADIUS: statistics by time.';
CREATE INDEX radacct_class_idx ON radacct (class);
COMMENT ON INDEX radacct_class_idx IS 'FreeRADIUS: sessions by Class.';
CREATE INDEX radacct_open_by_user ON radacct (username) WHERE acctstoptime IS NULL;
COMMENT ON INDEX radacct_open_by_user IS 'Lastmile: who is online.';
CREATE INDEX radacct_starts_by_user ON radacct (username, acctstarttime);
COMMENT ON INDEX radacct_starts_by_user IS
    'Lastmile: all sessions of a user, to disconnect them and to count logins against.';

CREATE TABLE radpostauth (
    id                bigserial PRIMARY KEY,
    username          text NOT NULL,
    pass              text,
    reply             text,
    calledstationid   text,
    callingstationid  text,
    authdate          timestamptz NOT NULL DEFAULT now(),
    class             text,
    tenant_id         text NOT NULL,
    recorded_at       timestamptz DEFAULT clock_timestamp()
);
COMMENT ON TABLE radpostauth IS 'FreeRADIUS: the log of logins. FreeRADIUS writes it.';
COMMENT ON COLUMN radpostauth.recorded_at IS 'As radacct.recorded_at.';

CREATE INDEX radpostauth_username_idx ON radpostauth (username);
COMMENT ON INDEX radpostauth_username_idx IS 'FreeRADIUS: logins of a user.';
CREATE INDEX radpostauth_class_idx ON radpostauth (class);
COMMENT ON INDEX radpostauth_class_idx IS 'FreeRADIUS: logins by Class.';
CREATE INDEX radpostauth_accepts_by_user ON radpostauth (username, authdate) WHERE reply = 'Access-Accept';
COMMENT ON INDEX radpostauth_accepts_by_user IS
    'Lastmile: the accepted logins of a user, to find one whose session accounting has not reported.';

-- SECURITY DEFINER: also the account of another tenant, so that no tenant adds a row to it.
CREATE FUNCTION lastmile_find_account(named text, OUT tenant_id text, OUT subscriber_ref text) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT r.tenant_id, r.subscriber_ref FROM radcheck r
    WHERE r.username = named AND lastmile_is_account(r.attribute, r.value)
$$;
COMMENT ON FUNCTION lastmile_find_account IS
    'The tenant and the line of the account with this user name; not its password.';
REVOKE EXECUTE ON FUNCTION lastmile_find_account(text) FROM PUBLIC;

CREATE FUNCTION lastmile_find_former_tenant(named text) RETURNS text LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT max(f.tenant_id) FROM former_usernames f WHERE f.former = named AND f.logins_until > now()
$$;
COMMENT ON FUNCTION lastmile_find_former_tenant IS
    'The tenant of the account that had this user name until now.';
REVOKE EXECUTE ON FUNCTION lastmile_find_former_tenant(text) FROM PUBLIC;

-- SECURITY DEFINER: the accounts of other systems belong to no tenant.
CREATE FUNCTION lastmile_is_foreign_account(named text) RETURNS boolean LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT EXISTS (
        SELECT FROM radcheck r
        WHERE r.username = named AND r.attribute ILIKE '%password%' AND NOT lastmile_is_account(r.attribute, r.value))
$$;
COMMENT ON FUNCTION lastmile_is_foreign_account IS
    'Whether another system has written an account with this user name, such as one with User-Password or a hashed '
    'password. An account with Cleartext-Password violates radcheck_account.';
REVOKE EXECUTE ON FUNCTION lastmile_is_foreign_account(text) FROM PUBLIC;

CREATE FUNCTION lastmile_set_radius_tenant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.tenant_id := coalesce((lastmile_parse_username(NEW.username))[2],
                              (lastmile_find_account(NEW.username)).tenant_id, NEW.tenant_id,
                              lastmile_find_former_tenant(NEW.username), '');
    RETURN NEW;
END $$;
COMMENT ON FUNCTION lastmile_set_radius_tenant IS
    'Set the tenant of a user''s row. The statement''s own value counts only for a user name without an account.';

CREATE FUNCTION lastmile_set_account() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    generated text[] := lastmile_parse_username(NEW.username);
    tenant text := generated[2];
    line text := generated[1];
BEGIN
    IF generated IS NULL AND NOT lastmile_is_account(NEW.attribute, NEW.value) THEN
        SELECT tenant_id, subscriber_ref INTO tenant, line FROM lastmile_find_account(NEW.username);
    END IF;
    NEW.tenant_id := coalesce(tenant, NEW.tenant_id, '');
    NEW.subscriber_ref := coalesce(line, NEW.subscriber_ref);
    RETURN NEW;
END $$;
COMMENT ON FUNCTION lastmile_set_account IS
    'Set the tenant and the line of a row of radcheck. The statement''s own values count for the account itself.';

DO $$
DECLARE
    "table" text;
BEGIN
    FOREACH "table" IN ARRAY ARRAY['radreply', 'radusergroup', 'radacct', 'radpostauth'] LOOP
        EXECUTE format('CREATE TRIGGER tenant BEFORE INSERT OR UPDATE OF username ON %I '
                       'FOR EACH ROW EXECUTE FUNCTION lastmile_set_radius_tenant()', "table");
    END LOOP;
END $$;
CREATE TRIGGER account BEFORE INSERT OR UPDATE OF username ON radcheck
    FOR EACH ROW EXECUTE FUNCTION lastmile_set_account();

-- SECURITY DEFINER: a tenant's order may not write to accounting.
CREATE FUNCTION lastmile_account_named() RETURNS trigger LANGUAGE plpgsql
SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    UPDATE radacct SET tenant_id = NEW.tenant_id WHERE username = NEW.username AND tenant_id = '';
    UPDATE radpostauth SET tenant_id = NEW.tenant_id WHERE username = NEW.username AND tenant_id = '';
    UPDATE former_usernames SET logins_until = clock_timestamp()
    WHERE former = NEW.username AND logins_until > clock_timestamp();
    UPDATE delegations SET login_name = nullif(NEW.username, lastmile_radius_username(subscriber_ref, tenant_id))
    WHERE tenant_id = NEW.tenant_id AND subscriber_ref = NEW.subscriber_ref AND released_at IS NULL;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION lastmile_account_named IS
    'Give the account the sessions and logins of its user name from before, and its line''s delegations the user name. From '
    'now on, logins are not those of an account that had the user name before.';
-- A role that may run the function could make a trigger of it on a table of its own, and write to any tenant that way.
REVOKE EXECUTE ON FUNCTION lastmile_account_named() FROM PUBLIC;
CREATE TRIGGER named AFTER INSERT ON radcheck FOR EACH ROW
    WHEN (lastmile_is_account(NEW.attribute, NEW.value) AND lastmile_parse_username(NEW.username) IS NULL)
    EXECUTE FUNCTION lastmile_account_named();
CREATE TRIGGER renamed AFTER UPDATE OF username ON radcheck FOR EACH ROW
    WHEN (lastmile_is_account(NEW.attribute, NEW.value)) EXECUTE FUNCTION lastmile_account_named();

CREATE FUNCTION lastmile_set_login_name() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.login_name := (
        SELECT username FROM radcheck
        WHERE tenant_id = NEW.tenant_id AND subscriber_ref = NEW.subscriber_ref
          AND lastmile_is_account(attribute, value) AND lastmile_parse_username(username) IS NULL);
    RETURN NEW;
END $$;
COMMENT ON FUNCTION lastmile_set_login_name IS 'Set the user name of the line, unless it is a generated one.';
CREATE TRIGGER login_name BEFORE INSERT ON delegations
    FOR EACH ROW EXECUTE FUNCTION lastmile_set_login_name();

CREATE FUNCTION lastmile_session_recorded(session radacct) RETURNS timestamptz
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(session.recorded_at, session.acctstarttime + interval '10 s', '-infinity')
$$;
COMMENT ON FUNCTION lastmile_session_recorded IS
    'When the session was recorded. A row without recorded_at has only the time of the NAS''s clock; accounting has '
    'whole seconds.';

CREATE FUNCTION lastmile_login_recorded(login radpostauth) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT coalesce(login.recorded_at, login.authdate)
$$;
COMMENT ON FUNCTION lastmile_login_recorded IS
    'When the login was recorded. A row without recorded_at has only the time of the RADIUS server''s clock.';

CREATE FUNCTION lastmile_session_may_be_open(session radacct) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT session.acctstoptime IS NULL OR session.acctstarttime > session.acctstoptime
$$;
COMMENT ON FUNCTION lastmile_session_may_be_open IS
    'Whether the session may be open. A start after the stop means that the NAS has reused the Acct-Session-Id: '
    'FreeRADIUS has one row for both sessions.';

CREATE FUNCTION lastmile_has_unaccounted_login(login_name text, since timestamptz, until timestamptz) RETURNS boolean
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(bool_or(missing > 0), false) FROM (
        SELECT sum(step) OVER (ORDER BY at DESC, step DESC ROWS UNBOUNDED PRECEDING) AS missing FROM (
            SELECT 1 AS step, lastmile_login_recorded(l) AS at FROM radpostauth l
            WHERE l.username = login_name AND l.reply = 'Access-Accept'
              AND lastmile_login_recorded(l) > since AND lastmile_login_recorded(l) <= until
            UNION ALL
            SELECT -1, lastmile_session_recorded(s) FROM radacct s
            WHERE s.username = login_name
              AND lastmile_session_recorded(s) > since AND lastmile_session_recorded(s) <= until
        ) recorded
    ) counted
$$;
COMMENT ON FUNCTION lastmile_has_unaccounted_login IS
    'Whether one of the user''s logins between two times has no session in radacct. Each session belongs to one login '
    'that was recorded before it. So from each login on, there must be at least as many sessions as logins. Uses '
    'radpostauth_accepts_by_user and radacct_starts_by_user.';

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
    coa_port     integer NOT NULL DEFAULT 3799 CHECK (coa_port BETWEEN 1 AND 65535),
    coa_address  text
);
COMMENT ON TABLE nas IS
    'FreeRADIUS: RADIUS clients. Written by `lastmile nas`. Equipment of the network, not of a tenant.';
COMMENT ON COLUMN nas.type IS 'The name of the attribute template that the NAS understands in a CoA-Request.';
COMMENT ON COLUMN nas.nasname IS 'The address that the NAS sends from.';
COMMENT ON COLUMN nas.shortname IS 'The display name.';
COMMENT ON COLUMN nas.secret IS 'In clear text, since FreeRADIUS reads it. The audit log records only that it changed.';
COMMENT ON COLUMN nas.coa_port IS 'The UDP port that takes Disconnect and CoA requests (RFC 5176).';
COMMENT ON COLUMN nas.coa_address IS 'The address that takes Disconnect and CoA requests; NULL: nasname.';

CREATE TABLE nasreload (
    nasipaddress  inet PRIMARY KEY,
    reloadtime    timestamptz NOT NULL
);
COMMENT ON TABLE nasreload IS 'FreeRADIUS: when a NAS last restarted. Lastmile does not use it.';

CREATE TABLE radius_templates (
    name        text PRIMARY KEY CHECK (name ~ '^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$'),
    definition  jsonb NOT NULL
);
COMMENT ON TABLE radius_templates IS
    'Attribute templates that an operator has changed or added. Written by `lastmile radius template`; the ready ones '
    'come with Lastmile.';
COMMENT ON COLUMN radius_templates.definition IS 'As `lastmile radius template show NAME --json` prints it.';

CREATE TABLE radius_choices (
    tenant_id           text PRIMARY KEY REFERENCES tenants (id) ON DELETE CASCADE,
    templates           text[] NOT NULL CHECK (cardinality(templates) > 0),
    slow_download_kbps  bigint NOT NULL CHECK (slow_download_kbps > 0),
    slow_upload_kbps    bigint NOT NULL CHECK (slow_upload_kbps > 0)
);
COMMENT ON TABLE radius_choices IS
    'The attribute templates that the groups of a tenant hold. A tenant without a row has wispr.';
COMMENT ON COLUMN radius_choices.slow_download_kbps IS 'The rate of lines that are suspended in the mode slow.';
COMMENT ON COLUMN radius_choices.slow_upload_kbps IS 'As slow_download_kbps.';
