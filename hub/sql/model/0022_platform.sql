-- Secrets and policies, assistant, automations, integrations, the edge fleet.
--
-- "Org" of this source is the tenant. Where a row of it had no org (waitlist, resource types,
-- integration templates, schema definitions), it belongs to the reserved tenant, and a tenant
-- may have its own beside it. fleet.deployments are environments at the edge; the promotions
-- of software are delivery.deployments.

CREATE SCHEMA growth AUTHORIZATION ferry_owner;
CREATE SCHEMA assistant AUTHORIZATION ferry_owner;
CREATE SCHEMA automation AUTHORIZATION ferry_owner;
SET LOCAL ROLE ferry_owner;
COMMENT ON SCHEMA growth IS 'Who wants to become a tenant';
COMMENT ON SCHEMA assistant IS 'Conversations with the assistant and what it ran';
COMMENT ON SCHEMA automation IS 'What happens by itself';
COMMENT ON SCHEMA fleet IS 'Devices of users; agents, things and deployments at the edge; their synchronisation';
COMMENT ON SCHEMA integration IS 'Other services: connectors, webhooks out and in, the forms of payloads';

CREATE TABLE growth.waitlist_entries (
    tenant_id   uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    id          uuid NOT NULL DEFAULT identity.uuid7(),
    email       citext NOT NULL,
    name        text,
    source      text,
    ref_code    text,
    cohort      text,
    status      text NOT NULL DEFAULT 'applied' CHECK (status IN ('applied', 'invited', 'joined', 'declined')),
    invite_code text,
    applied_at  timestamptz NOT NULL DEFAULT now(),
    invited_at  timestamptz,
    joined_at   timestamptz,
    metadata    jsonb,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, email),
    CHECK (status <> 'invited' OR invited_at IS NOT NULL),
    CHECK (status <> 'joined' OR joined_at IS NOT NULL)
);
CREATE UNIQUE INDEX waitlist_entries_invite_uq ON growth.waitlist_entries (tenant_id, invite_code) WHERE invite_code IS NOT NULL;
CREATE INDEX waitlist_entries_status_ix ON growth.waitlist_entries (tenant_id, status, applied_at);
COMMENT ON TABLE growth.waitlist_entries IS 'Who waits for an account: with the service itself (reserved tenant), or with a tenant';

-- ---------------------------------------------------------------- governance

CREATE TABLE governance.kms_keys (
    tenant_id  uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id         uuid NOT NULL DEFAULT identity.uuid7(),
    alias      text NOT NULL,
    provider   text NOT NULL,
    metadata   jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, alias)
);
COMMENT ON TABLE governance.kms_keys IS 'Names of keys that stand elsewhere; never a key itself';

CREATE TABLE governance.secrets (
    tenant_id     uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id            uuid NOT NULL DEFAULT identity.uuid7(),
    name          text,
    kms_key_id    uuid,
    kms_key_alias text,
    ciphertext    bytea NOT NULL CHECK (octet_length(ciphertext) >= 28),
    created_at    timestamptz NOT NULL DEFAULT now(),
    rotated_at    timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, kms_key_id) REFERENCES governance.kms_keys
);
CREATE UNIQUE INDEX secrets_name_uq ON governance.secrets (tenant_id, name) WHERE name IS NOT NULL;
CREATE INDEX secrets_key_ix ON governance.secrets (tenant_id, kms_key_id);
COMMENT ON TABLE governance.secrets IS 'Encrypted secrets; they never leave the hub';
COMMENT ON COLUMN governance.secrets.ciphertext IS 'At least a nonce of 12 bytes and a tag of 16; the back office may not read it';
COMMENT ON COLUMN governance.secrets.kms_key_alias IS 'The key''s alias when this was encrypted';

-- As the superuser: row-level security would hide from the check what it has to check.
RESET ROLE;
ALTER TABLE identity.users ADD FOREIGN KEY (tenant_id, mfa_secret_id) REFERENCES governance.secrets ON DELETE SET NULL (mfa_secret_id);
SET LOCAL ROLE ferry_owner;
CREATE INDEX users_mfa_secret_ix ON identity.users (tenant_id, mfa_secret_id) WHERE mfa_secret_id IS NOT NULL;

CREATE TABLE governance.policies (
    tenant_id  uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id         uuid NOT NULL DEFAULT identity.uuid7(),
    code       text NOT NULL,
    rule       jsonb NOT NULL CHECK (jsonb_typeof(rule) = 'object'),
    version    int NOT NULL DEFAULT 1 CHECK (version > 0),
    enabled    boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code, version)
);
COMMENT ON TABLE governance.policies IS 'Attribute-based policies, by code and version';

CREATE TABLE governance.resource_types (
    tenant_id uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    id        uuid NOT NULL DEFAULT identity.uuid7(),
    code      text NOT NULL,
    actions   jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(actions) = 'array'),
    metadata  jsonb,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code)
);
COMMENT ON TABLE governance.resource_types IS 'Kinds of things that policies speak of, and what can be done to them';

-- ---------------------------------------------------------------- assistant

CREATE TABLE assistant.conversations (
    tenant_id  uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id         uuid NOT NULL DEFAULT identity.uuid7(),
    user_id    uuid,
    title      text,
    metadata   jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users ON DELETE SET NULL (user_id)
);
CREATE INDEX conversations_user_time_ix ON assistant.conversations (tenant_id, user_id, updated_at DESC);
COMMENT ON TABLE assistant.conversations IS 'Talks of a user with the assistant';

CREATE TABLE assistant.messages (
    tenant_id       uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id              uuid NOT NULL DEFAULT identity.uuid7(),
    conversation_id uuid NOT NULL,
    role            text NOT NULL CHECK (role IN ('system', 'user', 'assistant', 'tool')),
    content         text,
    tool_calls      jsonb,
    attachments     jsonb,
    model           text,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES assistant.conversations ON DELETE CASCADE
);
CREATE INDEX messages_conversation_time_ix ON assistant.messages (tenant_id, conversation_id, created_at);
COMMENT ON TABLE assistant.messages IS 'What was said in a conversation';

CREATE TABLE assistant.runs (
    tenant_id       uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id              uuid NOT NULL DEFAULT identity.uuid7(),
    conversation_id uuid,
    skill_code      text NOT NULL,
    status          text NOT NULL DEFAULT 'running' CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    latency_ms      double precision CHECK (latency_ms >= 0),
    started_at      timestamptz NOT NULL DEFAULT now(),
    finished_at     timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES assistant.conversations ON DELETE SET NULL (conversation_id)
);
CREATE INDEX runs_status_time_ix ON assistant.runs (tenant_id, status, started_at DESC);
CREATE INDEX runs_conversation_ix ON assistant.runs (tenant_id, conversation_id);
COMMENT ON TABLE assistant.runs IS 'Skills that the assistant ran';

CREATE TABLE assistant.run_logs (
    tenant_id  uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id         uuid NOT NULL DEFAULT identity.uuid7(),
    run_id     uuid NOT NULL,
    logs       jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, run_id) REFERENCES assistant.runs ON DELETE CASCADE
);
CREATE INDEX run_logs_run_time_ix ON assistant.run_logs (tenant_id, run_id, created_at);
COMMENT ON TABLE assistant.run_logs IS 'What a run said while it ran';

-- ---------------------------------------------------------------- automation, integration

CREATE TABLE automation.automations (
    tenant_id     uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id            uuid NOT NULL DEFAULT identity.uuid7(),
    owner_user_id uuid,
    name          text NOT NULL,
    trigger       jsonb NOT NULL,
    filter        jsonb,
    action        jsonb NOT NULL,
    enabled       boolean NOT NULL DEFAULT true,
    next_run_at   timestamptz,
    last_run_at   timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, owner_user_id) REFERENCES identity.users ON DELETE SET NULL (owner_user_id)
);
CREATE INDEX automations_due_ix ON automation.automations (tenant_id, next_run_at) WHERE enabled;
COMMENT ON TABLE automation.automations IS 'When this happens and that holds, do so';

CREATE TABLE integration.integration_templates (
    tenant_id    uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    id           uuid NOT NULL DEFAULT identity.uuid7(),
    code         text NOT NULL,
    name         text NOT NULL,
    capabilities jsonb,
    oauth_config jsonb,
    metadata     jsonb,
    is_archived  boolean NOT NULL DEFAULT false,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code)
);
COMMENT ON TABLE integration.integration_templates IS 'Services that can be connected: global ones, and those of a tenant';
COMMENT ON COLUMN integration.integration_templates.oauth_config IS 'Addresses and scopes; client secrets stand in governance.secrets';

CREATE TABLE integration.schema_definitions (
    tenant_id               uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    id                      uuid NOT NULL DEFAULT identity.uuid7(),
    integration_template_id uuid,
    subject                 text NOT NULL,
    version                 int NOT NULL DEFAULT 1 CHECK (version > 0),
    json_schema             jsonb NOT NULL CHECK (jsonb_typeof(json_schema) IN ('object', 'boolean')),
    created_at              timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, subject, version),
    FOREIGN KEY (tenant_id, integration_template_id) REFERENCES integration.integration_templates
        ON DELETE SET NULL (integration_template_id)
);
COMMENT ON TABLE integration.schema_definitions IS 'JSON schemas of payloads, by subject and version: global ones, and those of a tenant';
COMMENT ON COLUMN integration.schema_definitions.subject IS 'What the payload is, such as an event''s name: invoice.paid';

CREATE TABLE integration.connector_secrets (
    tenant_id    uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id           uuid NOT NULL DEFAULT identity.uuid7(),
    connector_id uuid NOT NULL,
    secret_id    uuid NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, connector_id, secret_id),
    FOREIGN KEY (tenant_id, connector_id) REFERENCES integration.connectors ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, secret_id) REFERENCES governance.secrets
);
CREATE INDEX connector_secrets_secret_ix ON integration.connector_secrets (tenant_id, secret_id);
COMMENT ON TABLE integration.connector_secrets IS 'Which secrets a connector uses';

CREATE TABLE integration.webhook_subscriptions (
    tenant_id      uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id             uuid NOT NULL DEFAULT identity.uuid7(),
    event          text NOT NULL,
    target_url     text NOT NULL CHECK (target_url ~ '^https?://[^/?#[:space:]]+' AND octet_length(target_url) <= 2000),
    headers        jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(headers) = 'object'),
    enabled        boolean NOT NULL DEFAULT true,
    signing_key    bytea NOT NULL DEFAULT decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex')
                   CHECK (octet_length(signing_key) BETWEEN 16 AND 64),
    schema_version int,
    max_attempts   int NOT NULL DEFAULT 8 CHECK (max_attempts BETWEEN 1 AND 20),
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX webhook_subscriptions_event_ix ON integration.webhook_subscriptions (tenant_id, event) WHERE enabled;
COMMENT ON TABLE integration.webhook_subscriptions IS 'Who is told of which event, by HTTP';
COMMENT ON COLUMN integration.webhook_subscriptions.event IS 'The event''s name, or * for all';
COMMENT ON COLUMN integration.webhook_subscriptions.signing_key IS
    'Key of the HMAC-SHA256 of each delivery; shown to the subscriber once';
COMMENT ON COLUMN integration.webhook_subscriptions.schema_version IS
    'The payload must match this version of schema_definitions (subject: the event); NULL: the newest there is, if any';

CREATE TABLE integration.webhook_deliveries (
    tenant_id       uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id              uuid NOT NULL DEFAULT identity.uuid7(),
    subscription_id uuid NOT NULL,
    event           text NOT NULL,
    payload         jsonb NOT NULL,
    status          text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'sending', 'delivered', 'failed', 'cancelled')),
    attempt         int NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    response_code   int,
    error_message   text,
    idempotency_key text NOT NULL,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    last_attempt_at timestamptz,
    delivered_at    timestamptz,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, idempotency_key),
    FOREIGN KEY (tenant_id, subscription_id) REFERENCES integration.webhook_subscriptions ON DELETE CASCADE
);
CREATE INDEX webhook_deliveries_due_ix ON integration.webhook_deliveries (next_attempt_at) WHERE status IN ('pending', 'sending');
CREATE INDEX webhook_deliveries_subscription_ix ON integration.webhook_deliveries (tenant_id, subscription_id, created_at DESC);
CREATE INDEX webhook_deliveries_created_brin ON integration.webhook_deliveries USING brin (created_at);
COMMENT ON TABLE integration.webhook_deliveries IS 'Events on their way to a subscriber, and how that went';
COMMENT ON COLUMN integration.webhook_deliveries.attempt IS 'How often it was tried';
COMMENT ON COLUMN integration.webhook_deliveries.response_code IS 'HTTP status of the last answer; NULL: none came';
COMMENT ON COLUMN integration.webhook_deliveries.idempotency_key IS 'Sent with each attempt, so that the target can tell a repetition';
COMMENT ON COLUMN integration.webhook_deliveries.next_attempt_at IS 'When it is due; while it is sent, when its sender counts as dead';

-- ---------------------------------------------------------------- fleet

CREATE TABLE fleet.agents (
    tenant_id    uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id           uuid NOT NULL DEFAULT identity.uuid7(),
    kind         text NOT NULL,
    version      text,
    capabilities jsonb NOT NULL DEFAULT '{}',
    status       text NOT NULL DEFAULT 'offline' CHECK (status IN ('online', 'offline', 'degraded', 'retired')),
    last_seen_at timestamptz,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX agents_status_ix ON fleet.agents (tenant_id, status, last_seen_at);
COMMENT ON TABLE fleet.agents IS 'Programs that run for a tenant at the edge';

CREATE TABLE fleet.devices (
    tenant_id    uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id           uuid NOT NULL DEFAULT identity.uuid7(),
    agent_id     uuid,
    name         text NOT NULL,
    protocol     text NOT NULL,
    twin_state   jsonb NOT NULL DEFAULT '{}',
    last_seen_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, agent_id) REFERENCES fleet.agents ON DELETE SET NULL (agent_id)
);
CREATE INDEX devices_name_ix ON fleet.devices (tenant_id, name);
COMMENT ON TABLE fleet.devices IS 'Things (sensors, gateways) behind an agent; the devices that sync with the hub are ferry.device';
COMMENT ON COLUMN fleet.devices.protocol IS 'How the thing is spoken to: mqtt, ble, modbus';
COMMENT ON COLUMN fleet.devices.twin_state IS '{"desired": ..., "reported": ...}';

CREATE TABLE fleet.deployments (
    tenant_id   uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id          uuid NOT NULL DEFAULT identity.uuid7(),
    environment text NOT NULL,
    region      text,
    config      jsonb NOT NULL DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX deployments_environment_ix ON fleet.deployments (tenant_id, environment, region);
COMMENT ON TABLE fleet.deployments IS 'Environments at the edge and how they are configured';

CREATE TABLE fleet.sync_jobs (
    tenant_id     uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id            uuid NOT NULL DEFAULT identity.uuid7(),
    connector_id  uuid,
    device_id     uuid,
    kind          text NOT NULL CHECK (kind IN ('full', 'incremental', 'repair', 'export', 'import')),
    direction     text NOT NULL DEFAULT 'both' CHECK (direction IN ('pull', 'push', 'both')),
    entity        text,
    status        text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    cursor        text,
    rows_read     bigint NOT NULL DEFAULT 0 CHECK (rows_read >= 0),
    rows_written  bigint NOT NULL DEFAULT 0 CHECK (rows_written >= 0),
    rows_failed   bigint NOT NULL DEFAULT 0 CHECK (rows_failed >= 0),
    attempt       int NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    error_code    text,
    error_message text,
    scheduled_at  timestamptz NOT NULL DEFAULT now(),
    started_at    timestamptz,
    finished_at   timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, connector_id) REFERENCES integration.connectors ON DELETE CASCADE,
    CHECK (finished_at >= started_at)
);
CREATE INDEX sync_jobs_queue_ix ON fleet.sync_jobs (tenant_id, status, scheduled_at);
CREATE INDEX sync_jobs_connector_ix ON fleet.sync_jobs (tenant_id, connector_id);
COMMENT ON TABLE fleet.sync_jobs IS 'Exchanges of data with a connected service or a device';
COMMENT ON COLUMN fleet.sync_jobs.device_id IS 'A device of ferry.device; no reference: the job outlives the device';
COMMENT ON COLUMN fleet.sync_jobs.cursor IS 'Where the next incremental job goes on';

CREATE TABLE fleet.sync_logs (
    tenant_id   uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id          uuid NOT NULL DEFAULT identity.uuid7(),
    sync_job_id uuid NOT NULL,
    level       text NOT NULL DEFAULT 'info' CHECK (level IN ('debug', 'info', 'warning', 'error')),
    message     text NOT NULL,
    entity      text,
    entity_id   uuid,
    detail      jsonb,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, sync_job_id) REFERENCES fleet.sync_jobs ON DELETE CASCADE
);
CREATE INDEX sync_logs_job_time_ix ON fleet.sync_logs (tenant_id, sync_job_id, created_at);
CREATE INDEX sync_logs_created_brin ON fleet.sync_logs USING brin (created_at);
COMMENT ON TABLE fleet.sync_logs IS 'What a sync job said';

-- ---------------------------------------------------------------- who may

-- Its entries hold e-mail addresses: no tenant reads those of the service.
SELECT identity.open_schema('growth');
CREATE POLICY owner ON growth.waitlist_entries TO ferry_owner USING (true) WITH CHECK (true);
SELECT ferry.isolate('governance.resource_types', true);
SELECT identity.open_tables('governance.kms_keys', 'governance.secrets', 'governance.policies', 'governance.resource_types');
SELECT identity.open_schema('assistant');
SELECT identity.open_schema('automation');
SELECT ferry.isolate('integration.integration_templates', true);
SELECT ferry.isolate('integration.schema_definitions', true);
SELECT identity.open_tables('integration.integration_templates', 'integration.schema_definitions', 'integration.connector_secrets',
                            'integration.webhook_subscriptions', 'integration.webhook_deliveries', 'fleet.agents', 'fleet.devices',
                            'fleet.deployments', 'fleet.sync_jobs', 'fleet.sync_logs');

-- The back office sees that a secret is there, and never what it is, not even encrypted.
REVOKE ALL ON governance.secrets FROM ferry_app;
GRANT SELECT (tenant_id, id, name, kms_key_id, kms_key_alias, created_at, rotated_at), DELETE ON governance.secrets TO ferry_app;
REVOKE SELECT, UPDATE ON integration.webhook_subscriptions FROM ferry_app;
GRANT SELECT (tenant_id, id, event, target_url, headers, enabled, schema_version, max_attempts, created_at),
      UPDATE (event, target_url, headers, enabled, schema_version, max_attempts) ON integration.webhook_subscriptions TO ferry_app;

SELECT identity.keep_updated_at('assistant.conversations', 'integration.integration_templates', 'fleet.sync_jobs');

RESET ROLE;
