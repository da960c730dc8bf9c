-- The audit: how many violations of each invariant there are, and which of them operators have acknowledged.

CREATE TABLE audit_findings (
    invariant     text PRIMARY KEY,
    violations    bigint NOT NULL,
    acknowledged  bigint NOT NULL DEFAULT 0,
    repaired      bigint NOT NULL,
    checked_at    timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE audit_findings IS
    'The last result of each invariant''s check, for the metrics. Written by the hourly audit. The oldest checked_at '
    'is the age of the audit as a whole.';
COMMENT ON COLUMN audit_findings.violations IS 'Violations that are neither repaired nor acknowledged.';
COMMENT ON COLUMN audit_findings.acknowledged IS 'Violations that operators have acknowledged: no alert.';
COMMENT ON COLUMN audit_findings.repaired IS 'Violations that the check repaired.';

CREATE TABLE acknowledgements (
    finding          text PRIMARY KEY,
    invariant        text NOT NULL,
    tenant_id        text REFERENCES tenants ON DELETE CASCADE,
    subject          text NOT NULL,
    key              text NOT NULL,
    subscriber_ref   text,
    acknowledged_by  text NOT NULL,
    why              text NOT NULL,
    at               timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE acknowledgements IS
    'Findings of the audit that operators have acknowledged. Written by `lastmile acknowledge`.';
COMMENT ON COLUMN acknowledgements.finding IS 'The identity of the finding: Violation.finding.';
COMMENT ON COLUMN acknowledgements.subject IS 'What a person looks for: an order id, a prefix, a subscriber.';
COMMENT ON COLUMN acknowledgements.key IS 'What a repair of the finding needs.';
COMMENT ON COLUMN acknowledgements.subscriber_ref IS
    'The subscriber whose history shows the acknowledgement; NULL: none.';

CREATE INDEX acknowledgements_by_key ON acknowledgements (tenant_id, key);
COMMENT ON INDEX acknowledgements_by_key IS 'The metrics leave out delegations that operators know of.';
