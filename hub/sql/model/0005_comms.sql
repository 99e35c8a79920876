-- Campaigns, calls, messages and notifications.
--
-- Where the source lists channels at one table (campaigns.type, message_templates.channel),
-- the same list holds at the others.

CREATE SCHEMA comms AUTHORIZATION ferry_owner;
SET LOCAL ROLE ferry_owner;
COMMENT ON SCHEMA comms IS 'What a tenant sends and hears';

CREATE TABLE comms.campaigns (
    tenant_id          uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                 uuid NOT NULL DEFAULT gen_random_uuid(),
    name               text NOT NULL,
    type               text NOT NULL CHECK (type IN ('email', 'sms', 'whatsapp', 'inapp')),
    status             text NOT NULL DEFAULT 'draft',
    scheduled_at       timestamptz,
    sent_at            timestamptz,
    completed_at       timestamptz,
    created_by_user_id uuid,
    created_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, created_by_user_id) REFERENCES identity.users
);
COMMENT ON TABLE comms.campaigns IS 'Messages to many';

CREATE TABLE comms.campaign_sends (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT gen_random_uuid(),
    campaign_id         uuid NOT NULL,
    recipient_id        uuid,
    recipient_type      text CHECK (recipient_type IN ('contact', 'lead', 'user')),
    channel             text NOT NULL CHECK (channel IN ('email', 'sms', 'whatsapp', 'inapp')),
    status              text NOT NULL DEFAULT 'pending',
    provider            text,
    provider_message_id text,
    queued_at           timestamptz,
    sent_at             timestamptz,
    delivered_at        timestamptz,
    opened_at           timestamptz,
    clicked_at          timestamptz,
    error_message       text,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, campaign_id) REFERENCES comms.campaigns ON DELETE CASCADE
);
CREATE INDEX campaign_sends_lookup_ix ON comms.campaign_sends (tenant_id, campaign_id, status, queued_at);
COMMENT ON TABLE comms.campaign_sends IS 'One recipient of a campaign';
COMMENT ON COLUMN comms.campaign_sends.recipient_id IS 'A contact, lead or user, as recipient_type says';

CREATE TABLE comms.telemarketing_calls (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT gen_random_uuid(),
    campaign_id         uuid,
    agent_user_id       uuid,
    contact_id          uuid,
    lead_id             uuid,
    phone_number        text NOT NULL,
    scheduled_at        timestamptz,
    started_at          timestamptz,
    ended_at            timestamptz,
    outcome_code        text,
    notes               text,
    recording_url       text,
    talk_time_sec       int,
    provider_session_id text,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, campaign_id) REFERENCES comms.campaigns ON DELETE SET NULL (campaign_id),
    FOREIGN KEY (tenant_id, agent_user_id) REFERENCES identity.users ON DELETE SET NULL (agent_user_id),
    FOREIGN KEY (tenant_id, contact_id) REFERENCES crm.contacts ON DELETE SET NULL (contact_id),
    FOREIGN KEY (tenant_id, lead_id) REFERENCES crm.leads ON DELETE SET NULL (lead_id)
);
CREATE INDEX tm_calls_agent_time_ix ON comms.telemarketing_calls (tenant_id, agent_user_id, scheduled_at);
COMMENT ON TABLE comms.telemarketing_calls IS 'Calls made or to be made';

CREATE TABLE comms.message_templates (
    tenant_id        uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id               uuid NOT NULL DEFAULT gen_random_uuid(),
    code             text NOT NULL,
    channel          text NOT NULL CHECK (channel IN ('email', 'sms', 'whatsapp', 'inapp')),
    locale           text DEFAULT 'en',
    version_status   text NOT NULL DEFAULT 'approved' CHECK (version_status IN ('draft', 'approved', 'retired')),
    subject          text,
    html_body        text,
    text_body        text,
    variables_schema jsonb,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code, locale)
);
COMMENT ON TABLE comms.message_templates IS 'Texts with variables, one for each code and locale';

CREATE TABLE comms.messages_outbox (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT gen_random_uuid(),
    channel             text NOT NULL CHECK (channel IN ('email', 'sms', 'whatsapp', 'inapp')),
    to_email            text,
    to_phone_e164       text,
    template_code       text,
    payload             jsonb,
    status              text NOT NULL DEFAULT 'pending',
    provider            text,
    provider_message_id text,
    idempotency_key     text,
    queued_at           timestamptz NOT NULL DEFAULT now(),
    sent_at             timestamptz,
    delivered_at        timestamptz,
    error_code          text,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX outbox_idem_uq ON comms.messages_outbox (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX outbox_status_time_ix ON comms.messages_outbox (tenant_id, status, queued_at DESC);
COMMENT ON TABLE comms.messages_outbox IS 'Single messages to be sent through a provider';
COMMENT ON COLUMN comms.messages_outbox.idempotency_key IS 'A second message with the same key is refused';

CREATE TABLE comms.notifications_inbox (
    tenant_id  uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id    uuid NOT NULL,
    category   text NOT NULL CHECK (category IN ('approvals', 'tasks', 'system', 'marketing')),
    title      text NOT NULL,
    body       text,
    meta       jsonb,
    is_read    boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users ON DELETE CASCADE
);
CREATE INDEX inbox_user_time_ix ON comms.notifications_inbox (tenant_id, user_id, is_read, created_at DESC);
COMMENT ON TABLE comms.notifications_inbox IS 'What a user should know; only that user''s devices get it';

CREATE TABLE comms.suppression_list (
    tenant_id        uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id               uuid NOT NULL DEFAULT gen_random_uuid(),
    channel          text NOT NULL CHECK (channel IN ('email', 'sms', 'whatsapp', 'inapp')),
    normalized_value text NOT NULL,
    reason           text,
    occurred_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX suppression_lookup_ix ON comms.suppression_list (tenant_id, channel, normalized_value);
COMMENT ON TABLE comms.suppression_list IS 'Addresses that must not be written to';

SELECT identity.open_schema('comms');
SELECT identity.keep_updated_at('comms.message_templates');

RESET ROLE;
