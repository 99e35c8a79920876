-- Software delivery, commerce and the token ledger's tables; connectors to other services.
--
-- The source gives these entities their relations and purposes, not their columns; the
-- columns here are what those need. "Project" there is a code base: software_projects, since
-- a property development (inventory.projects) and an engagement are something else. A
-- connector is the same thing in both sources that have one, hence one table.

CREATE SCHEMA delivery AUTHORIZATION ferry_owner;
CREATE SCHEMA commerce AUTHORIZATION ferry_owner;
SET LOCAL ROLE ferry_owner;
COMMENT ON SCHEMA delivery IS 'Software a tenant has built: requests, plans, jobs, promotions';
COMMENT ON SCHEMA commerce IS 'Customers and orders, across channels';

-- As identity.open_schema, for single tables: what was taken from the back office elsewhere
-- in their schema stays taken.
CREATE FUNCTION identity.open_tables(VARIADIC tabs regclass[]) RETURNS void
    LANGUAGE plpgsql
AS $$
DECLARE
    tab record;
BEGIN
    FOR tab IN SELECT c.oid::regclass AS name, c.relnamespace::regnamespace AS nsp, c.relrowsecurity FROM pg_class c WHERE c.oid = ANY (tabs) LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %s TO ferry_app', tab.nsp);
        EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO ferry_app', tab.name);
        IF NOT tab.relrowsecurity THEN
            PERFORM ferry.isolate(tab.name);
        END IF;
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION identity.open_tables(regclass[]) FROM PUBLIC;

-- ---------------------------------------------------------------- token ledger

CREATE TABLE billing.token_accounts (
    tenant_id             uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                    uuid NOT NULL DEFAULT identity.uuid7(),
    plan_tier             identity.tenant_tier NOT NULL DEFAULT 'STARTER',
    name                  text NOT NULL DEFAULT 'default',
    balance               bigint NOT NULL DEFAULT 0,
    entries               bigint NOT NULL DEFAULT 0,
    overdraft_limit       bigint NOT NULL DEFAULT 0 CHECK (overdraft_limit >= 0),
    low_balance_threshold bigint CHECK (low_balance_threshold >= 0),
    low_balance_since     timestamptz,
    alert_user_id         uuid,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name),
    FOREIGN KEY (tenant_id, alert_user_id) REFERENCES identity.users ON DELETE SET NULL (alert_user_id)
);
COMMENT ON TABLE billing.token_accounts IS 'Token balances; always the sum of their transactions';
COMMENT ON COLUMN billing.token_accounts.balance IS 'Kept by the ledger; nobody sets it';
COMMENT ON COLUMN billing.token_accounts.entries IS 'Number of transactions; kept by the ledger';
COMMENT ON COLUMN billing.token_accounts.overdraft_limit IS 'How far below zero the balance may go';
COMMENT ON COLUMN billing.token_accounts.low_balance_threshold IS 'An alert is raised when the balance falls below; NULL: never';
COMMENT ON COLUMN billing.token_accounts.low_balance_since IS 'When the balance fell below the threshold; NULL: it is not';
COMMENT ON COLUMN billing.token_accounts.alert_user_id IS 'Who gets a notification of a low balance';

CREATE TABLE billing.token_transactions (
    tenant_id       uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id              uuid NOT NULL DEFAULT identity.uuid7(),
    account_id      uuid NOT NULL,
    direction       text NOT NULL CHECK (direction IN ('credit', 'debit')),
    amount          bigint NOT NULL CHECK (amount > 0),
    signed_amount   bigint GENERATED ALWAYS AS (CASE direction WHEN 'credit' THEN amount ELSE -amount END) STORED,
    reason          text NOT NULL,
    reference_type  text,
    reference_id    uuid,
    idempotency_key text,
    metadata        jsonb,
    created_by      uuid,
    created_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, account_id) REFERENCES billing.token_accounts
);
CREATE UNIQUE INDEX token_transactions_idem_uq ON billing.token_transactions (tenant_id, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE INDEX token_transactions_account_time_ix ON billing.token_transactions (tenant_id, account_id, created_at DESC);
COMMENT ON TABLE billing.token_transactions IS 'Credits and debits of tokens; never changed, a mistake is balanced by another entry';
COMMENT ON COLUMN billing.token_transactions.created_by IS 'The user; no reference: the entry outlives the user';
COMMENT ON COLUMN billing.token_transactions.reference_id IS 'What it was for, such as a deployment plan; reference_type says which';

-- ---------------------------------------------------------------- delivery

CREATE TABLE delivery.software_projects (
    tenant_id      uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id             uuid NOT NULL DEFAULT identity.uuid7(),
    name           text NOT NULL,
    slug           citext NOT NULL,
    surface        text NOT NULL DEFAULT 'web' CHECK (surface IN ('web', 'mobile', 'backend', 'storefront', 'other')),
    repository_url text,
    default_branch text NOT NULL DEFAULT 'main',
    staging_url    text,
    production_url text,
    is_archived    boolean NOT NULL DEFAULT false,
    metadata       jsonb,
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, slug)
);
COMMENT ON TABLE delivery.software_projects IS 'Code bases, tied to repositories and where they are deployed';

CREATE TABLE integration.connectors (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT identity.uuid7(),
    software_project_id uuid,
    code                text NOT NULL,
    name                text,
    config              jsonb NOT NULL DEFAULT '{}',
    status              text NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'active', 'error', 'disabled')),
    last_error          text,
    last_sync_at        timestamptz,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, software_project_id) REFERENCES delivery.software_projects ON DELETE SET NULL (software_project_id)
);
CREATE INDEX connectors_code_ix ON integration.connectors (tenant_id, code, status);
CREATE INDEX connectors_project_ix ON integration.connectors (tenant_id, software_project_id);
COMMENT ON TABLE integration.connectors IS 'Other services that a tenant has connected';
COMMENT ON COLUMN integration.connectors.code IS 'Which service: shopify, github; the code of an integration template where there is one';
COMMENT ON COLUMN integration.connectors.config IS 'Without secrets: those stand in governance.secrets, by connector_secrets';

CREATE TABLE delivery.prompt_requests (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT identity.uuid7(),
    software_project_id uuid,
    user_id             uuid,
    title               text,
    prompt              text NOT NULL,
    status              text NOT NULL DEFAULT 'submitted'
                        CHECK (status IN ('draft', 'submitted', 'planning', 'planned', 'in_progress', 'completed', 'failed', 'cancelled')),
    status_note         text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, software_project_id) REFERENCES delivery.software_projects ON DELETE SET NULL (software_project_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users ON DELETE SET NULL (user_id)
);
CREATE INDEX prompt_requests_status_ix ON delivery.prompt_requests (tenant_id, status, created_at DESC);
CREATE INDEX prompt_requests_project_ix ON delivery.prompt_requests (tenant_id, software_project_id);
COMMENT ON TABLE delivery.prompt_requests IS 'Changes asked for in natural language';

CREATE TABLE delivery.deployment_plans (
    tenant_id         uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                uuid NOT NULL DEFAULT identity.uuid7(),
    prompt_request_id uuid NOT NULL,
    risk              text NOT NULL DEFAULT 'low' CHECK (risk IN ('low', 'medium', 'high', 'critical')),
    token_estimate    bigint CHECK (token_estimate >= 0),
    diff_summary      text,
    steps             jsonb,
    approval_status   text NOT NULL DEFAULT 'pending' CHECK (approval_status IN ('pending', 'approved', 'rejected')),
    approval_id       uuid,
    decided_by        uuid,
    decided_at        timestamptz,
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, prompt_request_id) REFERENCES delivery.prompt_requests ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, approval_id) REFERENCES approvals.approvals ON DELETE SET NULL (approval_id),
    FOREIGN KEY (tenant_id, decided_by) REFERENCES identity.users ON DELETE SET NULL (decided_by)
);
CREATE INDEX deployment_plans_request_ix ON delivery.deployment_plans (tenant_id, prompt_request_id);
COMMENT ON TABLE delivery.deployment_plans IS 'How a request would be carried out, what it risks and costs';

CREATE TABLE delivery.deployments (
    tenant_id          uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                 uuid NOT NULL DEFAULT identity.uuid7(),
    deployment_plan_id uuid NOT NULL,
    rollback_of_id     uuid,
    environment        text NOT NULL CHECK (environment IN ('staging', 'production')),
    status             text NOT NULL DEFAULT 'queued'
                       CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'rolled_back', 'cancelled')),
    revision           text,
    diff_url           text,
    log_url            text,
    started_at         timestamptz,
    finished_at        timestamptz,
    created_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, deployment_plan_id) REFERENCES delivery.deployment_plans ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, rollback_of_id) REFERENCES delivery.deployments ON DELETE SET NULL (rollback_of_id),
    CHECK (rollback_of_id <> id)
);
CREATE INDEX deployments_plan_ix ON delivery.deployments (tenant_id, deployment_plan_id);
CREATE INDEX deployments_environment_ix ON delivery.deployments (tenant_id, environment, created_at DESC);
COMMENT ON TABLE delivery.deployments IS 'Promotions of a plan to staging or production';
COMMENT ON COLUMN delivery.deployments.rollback_of_id IS 'The deployment that this one takes back';

CREATE TABLE delivery.change_jobs (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT identity.uuid7(),
    software_project_id uuid,
    prompt_request_id   uuid,
    deployment_plan_id  uuid,
    kind                text NOT NULL CHECK (kind IN ('ai_change', 'validation', 'deploy')),
    status              text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    attempt             int NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    payload             jsonb,
    result              jsonb,
    error_message       text,
    queued_at           timestamptz NOT NULL DEFAULT now(),
    started_at          timestamptz,
    finished_at         timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, software_project_id) REFERENCES delivery.software_projects ON DELETE SET NULL (software_project_id),
    FOREIGN KEY (tenant_id, prompt_request_id) REFERENCES delivery.prompt_requests ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, deployment_plan_id) REFERENCES delivery.deployment_plans ON DELETE CASCADE
);
CREATE INDEX change_jobs_queue_ix ON delivery.change_jobs (tenant_id, status, queued_at);
CREATE INDEX change_jobs_request_ix ON delivery.change_jobs (tenant_id, prompt_request_id);
CREATE INDEX change_jobs_plan_ix ON delivery.change_jobs (tenant_id, deployment_plan_id);
COMMENT ON TABLE delivery.change_jobs IS 'Queued units of work: a change by a model, a validation, a deployment';

CREATE TABLE delivery.module_executions (
    tenant_id     uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id            uuid NOT NULL DEFAULT identity.uuid7(),
    module_code   text NOT NULL,
    action        text NOT NULL,
    status        text NOT NULL DEFAULT 'running' CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    input         jsonb,
    output        jsonb,
    error_message text,
    started_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz,
    PRIMARY KEY (tenant_id, id),
    CHECK (finished_at >= started_at)
);
CREATE INDEX module_executions_module_time_ix ON delivery.module_executions (tenant_id, module_code, started_at DESC);
COMMENT ON TABLE delivery.module_executions IS 'Runs of modules, such as an order sync or a report';

-- ---------------------------------------------------------------- commerce

CREATE TABLE commerce.customers (
    tenant_id        uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id               uuid NOT NULL DEFAULT identity.uuid7(),
    user_id          uuid,
    contact_id       uuid,
    name             text,
    email            citext,
    phone_e164       text,
    provider         text,
    external_id      text,
    billing_contacts jsonb,
    metadata         jsonb,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users ON DELETE SET NULL (user_id),
    FOREIGN KEY (tenant_id, contact_id) REFERENCES crm.contacts ON DELETE SET NULL (contact_id)
);
CREATE UNIQUE INDEX customers_external_uq ON commerce.customers (tenant_id, provider, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX customers_email_ix ON commerce.customers (tenant_id, email);
COMMENT ON TABLE commerce.customers IS 'Who buys or is billed';
COMMENT ON COLUMN commerce.customers.external_id IS 'The key that provider (a shop, a payment provider) has for this customer';
COMMENT ON COLUMN commerce.customers.contact_id IS 'The same person in the CRM, where known';

CREATE TABLE commerce.orders (
    tenant_id    uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id           uuid NOT NULL DEFAULT identity.uuid7(),
    customer_id  uuid,
    connector_id uuid,
    channel      text NOT NULL,
    source       text NOT NULL,
    external_id  text,
    status       text NOT NULL DEFAULT 'pending'
                 CHECK (status IN ('pending', 'paid', 'fulfilled', 'cancelled', 'refunded', 'failed')),
    total_minor  bigint NOT NULL DEFAULT 0,
    currency     char(3) NOT NULL,
    lines        jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(lines) = 'array'),
    placed_at    timestamptz NOT NULL DEFAULT now(),
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES commerce.customers ON DELETE SET NULL (customer_id),
    FOREIGN KEY (tenant_id, connector_id) REFERENCES integration.connectors ON DELETE SET NULL (connector_id)
);
CREATE UNIQUE INDEX orders_external_uq ON commerce.orders (tenant_id, source, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX orders_customer_ix ON commerce.orders (tenant_id, customer_id, placed_at DESC);
CREATE INDEX orders_status_ix ON commerce.orders (tenant_id, status, placed_at DESC);
COMMENT ON TABLE commerce.orders IS 'Orders of all channels in one form';
COMMENT ON COLUMN commerce.orders.channel IS 'Where it was placed: online, store, phone';
COMMENT ON COLUMN commerce.orders.source IS 'The system it came from; external_id is its key there';
COMMENT ON COLUMN commerce.orders.total_minor IS 'In the minor unit of the currency';

SELECT identity.open_schema('delivery');
SELECT identity.open_schema('commerce');
SELECT identity.open_tables('billing.token_accounts', 'billing.token_transactions', 'integration.connectors');
SELECT identity.keep_updated_at('billing.token_accounts', 'delivery.software_projects', 'integration.connectors',
                                'delivery.prompt_requests', 'delivery.deployment_plans', 'commerce.customers', 'commerce.orders');

RESET ROLE;
