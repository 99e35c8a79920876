-- Approvals, and the logs of what other services sent.
--
-- Differences from the source: approval_history had no tenant. billing_webhook_logs has
-- none until the event has been matched to one: tenant_id may be NULL there, and such rows
-- are seen by the owner alone.

CREATE SCHEMA approvals AUTHORIZATION ferry_owner;
CREATE SCHEMA integration AUTHORIZATION ferry_owner;
SET LOCAL ROLE ferry_owner;
COMMENT ON SCHEMA approvals IS 'What needs somebody''s yes';
COMMENT ON SCHEMA integration IS 'What other services sent';

CREATE TABLE approvals.approvals (
    tenant_id       uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id              uuid NOT NULL DEFAULT gen_random_uuid(),
    domain          text NOT NULL,
    subject_entity  text NOT NULL CHECK (subject_entity IN ('deal', 'unit', 'campaign')),
    subject_id      uuid NOT NULL,
    payload         jsonb,
    state           text NOT NULL DEFAULT 'pending'
                    CHECK (state IN ('pending', 'approved', 'rejected', 'cancelled', 'applied')),
    level           int NOT NULL DEFAULT 1,
    required_levels int NOT NULL DEFAULT 1,
    requested_by    uuid NOT NULL,
    sla_due_at      timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, requested_by) REFERENCES identity.users
);
CREATE INDEX approvals_inbox_ix ON approvals.approvals (tenant_id, state, level, sla_due_at);
COMMENT ON TABLE approvals.approvals IS 'Changes that wait for a decision';
COMMENT ON COLUMN approvals.approvals.domain IS 'What is to be done, such as deal.stage.move';
COMMENT ON COLUMN approvals.approvals.payload IS 'The change itself, applied once approved';

CREATE TABLE approvals.approval_history (
    tenant_id     uuid NOT NULL,
    id            uuid NOT NULL DEFAULT gen_random_uuid(),
    approval_id   uuid NOT NULL,
    actor_user_id uuid,
    action        text NOT NULL
                  CHECK (action IN ('submitted', 'approved', 'rejected', 'escalated', 'cancelled', 'applied')),
    note          text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, approval_id) REFERENCES approvals.approvals ON DELETE CASCADE
);
COMMENT ON TABLE approvals.approval_history IS 'Who decided what';

CREATE TABLE integration.integration_webhook_logs (
    tenant_id   uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id          uuid NOT NULL DEFAULT gen_random_uuid(),
    provider    text NOT NULL CHECK (provider IN ('brevo', 'infobip', 'oauth')),
    event_type  text,
    raw         jsonb NOT NULL,
    received_at timestamptz NOT NULL DEFAULT now(),
    processed   boolean NOT NULL DEFAULT false,
    PRIMARY KEY (tenant_id, id)
);
COMMENT ON TABLE integration.integration_webhook_logs IS 'Events of messaging and login providers, as they came';

CREATE TABLE integration.billing_webhook_logs (
    id            uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id     uuid REFERENCES identity.tenants ON DELETE CASCADE,
    provider      text NOT NULL CHECK (provider IN ('stripe')),
    event_type    text,
    raw           jsonb NOT NULL,
    received_at   timestamptz NOT NULL DEFAULT now(),
    processed     boolean NOT NULL DEFAULT false,
    error_message text
);
COMMENT ON TABLE integration.billing_webhook_logs IS 'Events of the payment provider, as they came';
COMMENT ON COLUMN integration.billing_webhook_logs.tenant_id IS 'NULL until the event has been matched to a tenant';

SELECT identity.open_schema('approvals');
SELECT identity.open_schema('integration');
CREATE POLICY owner ON integration.billing_webhook_logs TO ferry_owner USING (true) WITH CHECK (true);
SELECT identity.keep_updated_at('approvals.approvals');

RESET ROLE;
