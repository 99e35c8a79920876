-- Plans, subscriptions, usage, invoices.
--
-- Differences from the source: invoice_lines had no tenant. Plans belong to the provider of
-- the service, not to a tenant: everybody may read them, the owner writes them.

CREATE SCHEMA billing AUTHORIZATION ferry_owner;
SET LOCAL ROLE ferry_owner;
COMMENT ON SCHEMA billing IS 'What a tenant pays for';

CREATE TABLE billing.plans (
    id        uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    code      text UNIQUE NOT NULL,
    name      text NOT NULL,
    tier      int NOT NULL,
    is_active boolean NOT NULL DEFAULT true
);
COMMENT ON TABLE billing.plans IS 'What can be subscribed to';

CREATE TABLE billing.plan_features (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    plan_id      uuid NOT NULL REFERENCES billing.plans ON DELETE CASCADE,
    feature_code text NOT NULL,
    limit_value  numeric,
    UNIQUE (plan_id, feature_code)
);
COMMENT ON TABLE billing.plan_features IS 'What a plan includes';
COMMENT ON COLUMN billing.plan_features.limit_value IS 'NULL: no limit';

CREATE TABLE billing.tenant_subscription (
    tenant_id            uuid PRIMARY KEY REFERENCES identity.tenants ON DELETE CASCADE,
    plan_id              uuid REFERENCES billing.plans,
    status               text NOT NULL DEFAULT 'trial',
    started_at           timestamptz NOT NULL DEFAULT now(),
    renews_at            timestamptz,
    provider             text,
    provider_customer_id text,
    provider_sub_id      text
);
COMMENT ON TABLE billing.tenant_subscription IS 'The plan a tenant has';

CREATE TABLE billing.usage_counters (
    tenant_id         uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                uuid NOT NULL DEFAULT gen_random_uuid(),
    metric_code       text NOT NULL,
    value             numeric NOT NULL DEFAULT 0,
    period_start      date NOT NULL,
    period_end        date NOT NULL,
    last_increment_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, metric_code, period_start)
);
COMMENT ON TABLE billing.usage_counters IS 'What a tenant has used in a period';

CREATE TABLE billing.invoices (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT gen_random_uuid(),
    period_start        date NOT NULL,
    period_end          date NOT NULL,
    total_amount        bigint NOT NULL DEFAULT 0,
    currency            char(3) NOT NULL DEFAULT 'USD',
    status              text NOT NULL DEFAULT 'draft',
    provider_invoice_id text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
COMMENT ON TABLE billing.invoices IS 'Bills; amounts in the minor unit of the currency';

CREATE TABLE billing.invoice_lines (
    tenant_id    uuid NOT NULL,
    id           uuid NOT NULL DEFAULT gen_random_uuid(),
    invoice_id   uuid NOT NULL,
    product_code text NOT NULL,
    description  text,
    quantity     numeric NOT NULL DEFAULT 1,
    unit_amount  bigint NOT NULL,
    amount       bigint NOT NULL,
    metadata     jsonb,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES billing.invoices ON DELETE CASCADE
);
COMMENT ON TABLE billing.invoice_lines IS 'What a bill is made of';

SELECT identity.open_schema('billing');
REVOKE INSERT, UPDATE, DELETE ON billing.plans, billing.plan_features FROM ferry_app;

RESET ROLE;
