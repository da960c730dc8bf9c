-- The controllers of ONUs and CPEs.

CREATE TABLE device_controllers (
    name             text PRIMARY KEY CHECK (name ~ '^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$'),
    driver           text NOT NULL,
    kind             text NOT NULL CHECK (kind IN ('onu', 'cpe')),
    tenant_id        text REFERENCES tenants ON DELETE CASCADE,
    url              text NOT NULL,
    username         text NOT NULL,
    secret           bytea NOT NULL,
    key_name         text,
    ca_file          text,
    timeout_seconds  double precision NOT NULL CHECK (timeout_seconds > 0),
    in_flight        integer NOT NULL CHECK (in_flight > 0),
    olts             text[] NOT NULL,
    models           text[] NOT NULL,
    options          jsonb NOT NULL,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT device_controllers_olts CHECK (kind = 'onu' OR olts = '{}'),
    CONSTRAINT device_controllers_models CHECK (kind = 'cpe' OR models = '{}')
);
COMMENT ON TABLE device_controllers IS
    'The systems that switch ONUs and configure CPEs. Written by the command `lastmile controller`. Each worker opens '
    'a client of every row, and follows changes.';
COMMENT ON COLUMN device_controllers.driver IS 'The name of an entry point of the group lastmile.controllers.';
COMMENT ON COLUMN device_controllers.kind IS 'The devices that the driver controls.';
COMMENT ON COLUMN device_controllers.tenant_id IS 'The only tenant whose devices are controlled; NULL: every tenant.';
COMMENT ON COLUMN device_controllers.secret IS
    'The password or token, or its nonce and ciphertext (AES-256-GCM); empty: the controller asks for none.';
COMMENT ON COLUMN device_controllers.key_name IS
    'The key of LASTMILE_ENCRYPTION_KEYS that encrypts the secret; NULL: the secret is not encrypted.';
COMMENT ON COLUMN device_controllers.ca_file IS
    'The CA certificates that sign the controller''s, on the machine of each worker; NULL: those of the system.';
COMMENT ON COLUMN device_controllers.timeout_seconds IS 'How long one request may take.';
COMMENT ON COLUMN device_controllers.in_flight IS 'The most calls at once of each worker.';
COMMENT ON COLUMN device_controllers.olts IS 'The OLTs whose ONUs are controlled; empty: any OLT.';
COMMENT ON COLUMN device_controllers.models IS
    'The OUIs, as in 001A2B, or product classes of the CPEs that are controlled; empty: any CPE.';
COMMENT ON COLUMN device_controllers.options IS 'What the driver needs beside this. No secret.';

CREATE TABLE device_rounds (
    kind              text PRIMARY KEY CHECK (kind IN ('onu', 'cpe')),
    begun_at          timestamptz NOT NULL DEFAULT now(),
    after_tenant      text,
    after_subscriber  text
);
COMMENT ON TABLE device_rounds IS
    'How far the workers are in a round: they ask controllers that forget what they were told for the devices in service.';
COMMENT ON COLUMN device_rounds.begun_at IS 'When the present round began, or the last one.';
COMMENT ON COLUMN device_rounds.after_tenant IS
    'With after_subscriber, the last line that was taken in this round; NULL: the round has ended.';
INSERT INTO device_rounds (kind) VALUES ('onu');
