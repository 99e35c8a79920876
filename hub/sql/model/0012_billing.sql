-- Billing accounts, subscriptions, usage.
--
-- billing.tenant_subscription held one row for each tenant; a tenant has a history of
-- subscriptions now, and the old name is a view of the newest. plan_id is the plan's code
-- at the provider; the plan of our own catalogue is catalog_plan_id.

SET LOCAL ROLE ferry_owner;

CREATE TABLE billing.billing_accounts (
    tenant_id                 uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                        uuid NOT NULL DEFAULT identity.uuid7(),
    status                    billing.billing_account_status NOT NULL DEFAULT 'ACTIVE',
    version                   int NOT NULL DEFAULT 1,
    created_at                timestamptz NOT NULL DEFAULT now(),
    updated_at                timestamptz NOT NULL DEFAULT now(),
    deleted_at                timestamptz,
    deleted_by_actor_id       uuid,
    created_by_actor_id       uuid,
    updated_by_actor_id       uuid,
    audit_correlation_id      uuid,
    data_classification       text NOT NULL DEFAULT 'INTERNAL',
    retention_policy          governance.retention_policy,
    payment_provider          billing.payment_provider NOT NULL DEFAULT 'STRIPE',
    provider_customer_id      varchar(255),
    provider_account_id       varchar(255),
    default_payment_method_id varchar(255),
    payment_method_type       varchar(50),
    billing_contact_name      varchar(255),
    billing_contact_email     citext,
    billing_contact_phone     varchar(50),
    billing_address_line1     varchar(255),
    billing_address_line2     varchar(255),
    billing_city              varchar(100),
    billing_state             varchar(100),
    billing_postal_code       varchar(20),
    billing_country           varchar(2),
    tax_id                    varchar(50),
    tax_exempt                boolean NOT NULL DEFAULT false,
    tax_exempt_reason         varchar(255),
    currency                  varchar(3) NOT NULL DEFAULT 'USD',
    invoice_delivery_method   varchar(20) NOT NULL DEFAULT 'email',
    payment_terms             int DEFAULT 30,
    provider_settings         jsonb,
    webhook_endpoints         varchar(500)[] NOT NULL DEFAULT '{}',
    verification_status       varchar(20) NOT NULL DEFAULT 'pending',
    verified_at               timestamptz,
    last_verification_check   timestamptz,
    billing_contacts          jsonb,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, provider_customer_id)
);
CREATE INDEX billing_accounts_created_at_brin ON billing.billing_accounts USING brin (created_at);
CREATE INDEX billing_accounts_audit_correlation_id_ix ON billing.billing_accounts (tenant_id, audit_correlation_id);
CREATE INDEX billing_accounts_data_classification_ix ON billing.billing_accounts (tenant_id, data_classification);
CREATE INDEX billing_accounts_deleted_at_ix ON billing.billing_accounts (tenant_id, deleted_at);
CREATE INDEX billing_accounts_payment_provider_ix ON billing.billing_accounts (tenant_id, payment_provider);
CREATE INDEX billing_accounts_status_ix ON billing.billing_accounts (tenant_id, status);
CREATE INDEX billing_accounts_verification_status_ix ON billing.billing_accounts (tenant_id, verification_status);
COMMENT ON TABLE billing.billing_accounts IS 'How a tenant pays, and where its bills go';
COMMENT ON COLUMN billing.billing_accounts.payment_terms IS 'Days until a bill is due';
COMMENT ON COLUMN billing.billing_accounts.provider_settings IS 'What the provider needs to know; no secrets';

CREATE TABLE billing.subscriptions (
    tenant_id                uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                       uuid NOT NULL DEFAULT identity.uuid7(),
    status                   billing.subscription_status NOT NULL DEFAULT 'ACTIVE',
    version                  int NOT NULL DEFAULT 1,
    created_at               timestamptz NOT NULL DEFAULT now(),
    updated_at               timestamptz NOT NULL DEFAULT now(),
    deleted_at               timestamptz,
    deleted_by_actor_id      uuid,
    created_by_actor_id      uuid,
    updated_by_actor_id      uuid,
    audit_correlation_id     uuid,
    data_classification      text NOT NULL DEFAULT 'INTERNAL',
    retention_policy         governance.retention_policy,
    plan_id                  varchar(100) NOT NULL,
    plan_name                varchar(255) NOT NULL,
    plan_description         text,
    interval                 billing.subscription_interval NOT NULL DEFAULT 'MONTHLY',
    interval_count           int NOT NULL DEFAULT 1,
    currency                 varchar(3) NOT NULL DEFAULT 'USD',
    unit_amount              numeric(15,2) NOT NULL,
    quantity                 int NOT NULL DEFAULT 1,
    total_amount             numeric(15,2) NOT NULL,
    current_period_start     timestamptz NOT NULL,
    current_period_end       timestamptz NOT NULL,
    next_billing_date        timestamptz,
    is_trialing              boolean NOT NULL DEFAULT false,
    trial_start              timestamptz,
    trial_end                timestamptz,
    trial_days               int DEFAULT 0,
    started_at               timestamptz NOT NULL DEFAULT now(),
    activated_at             timestamptz,
    paused_at                timestamptz,
    resumed_at               timestamptz,
    cancel_at_period_end     boolean NOT NULL DEFAULT false,
    canceled_at              timestamptz,
    cancellation_reason      varchar(255),
    canceled_by              uuid,
    provider_subscription_id varchar(255),
    provider_customer_id     varchar(255),
    provider_plan_id         varchar(255),
    usage_based_billing      boolean NOT NULL DEFAULT false,
    metering_enabled         boolean NOT NULL DEFAULT false,
    usage_limits             jsonb,
    discount_percent         numeric(5,2),
    discount_amount          numeric(15,2),
    promo_code               varchar(50),
    discount_ends_at         timestamptz,
    metadata                 jsonb,
    tags                     varchar(50)[] NOT NULL DEFAULT '{}',
    catalog_plan_id          uuid REFERENCES billing.plans,
    provider                 text,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, provider_subscription_id),
    CHECK (current_period_end >= current_period_start)
);
CREATE INDEX subscriptions_created_at_brin ON billing.subscriptions USING brin (created_at);
CREATE INDEX subscriptions_audit_correlation_id_ix ON billing.subscriptions (tenant_id, audit_correlation_id);
CREATE INDEX subscriptions_cancel_at_period_end_ix ON billing.subscriptions (tenant_id, cancel_at_period_end);
CREATE INDEX subscriptions_current_period_end_ix ON billing.subscriptions (tenant_id, current_period_end);
CREATE INDEX subscriptions_data_classification_ix ON billing.subscriptions (tenant_id, data_classification);
CREATE INDEX subscriptions_deleted_at_ix ON billing.subscriptions (tenant_id, deleted_at);
CREATE INDEX subscriptions_is_trialing_ix ON billing.subscriptions (tenant_id, is_trialing);
CREATE INDEX subscriptions_next_billing_date_ix ON billing.subscriptions (tenant_id, next_billing_date);
CREATE INDEX subscriptions_plan_id_ix ON billing.subscriptions (tenant_id, plan_id);
CREATE INDEX subscriptions_status_ix ON billing.subscriptions (tenant_id, status);
COMMENT ON TABLE billing.subscriptions IS 'What a tenant has subscribed to, now and before';
COMMENT ON COLUMN billing.subscriptions.plan_id IS 'Code of the plan';
COMMENT ON COLUMN billing.subscriptions.catalog_plan_id IS 'The plan in our catalogue, if it is in it';
COMMENT ON COLUMN billing.subscriptions.canceled_by IS 'A user; no reference: outlives that one';
COMMENT ON COLUMN billing.subscriptions.usage_limits IS '{"<metric>": <limit>, ...}';

-- As the superuser, who alone sees the rows of all tenants.
RESET ROLE;
INSERT INTO billing.subscriptions (tenant_id, status, plan_id, plan_name, catalog_plan_id, unit_amount, total_amount,
    current_period_start, current_period_end, next_billing_date, is_trialing, started_at, provider, provider_customer_id,
    provider_subscription_id)
SELECT s.tenant_id,
       coalesce((SELECT e FROM unnest(enum_range(NULL::billing.subscription_status)) e WHERE e::text = upper(s.status)),
                CASE lower(s.status) WHEN 'trial' THEN 'TRIALING' WHEN 'cancelled' THEN 'CANCELED' ELSE 'INACTIVE' END::billing.subscription_status),
       coalesce(p.code, 'unknown'), coalesce(p.name, 'unknown'), s.plan_id, 0, 0, s.started_at,
       coalesce(s.renews_at, s.started_at + interval '1 month'), s.renews_at, lower(s.status) = 'trial', s.started_at,
       s.provider, s.provider_customer_id, s.provider_sub_id
FROM billing.tenant_subscription s LEFT JOIN billing.plans p ON p.id = s.plan_id;
SET LOCAL ROLE ferry_owner;
DROP TABLE billing.tenant_subscription;
CREATE VIEW billing.tenant_subscription WITH (security_invoker) AS
    SELECT DISTINCT ON (s.tenant_id) s.tenant_id, s.catalog_plan_id AS plan_id, lower(s.status::text) AS status, s.started_at,
           s.next_billing_date AS renews_at, s.provider, s.provider_customer_id, s.provider_subscription_id AS provider_sub_id
    FROM billing.subscriptions s WHERE s.deleted_at IS NULL ORDER BY s.tenant_id, s.started_at DESC, s.id DESC;
COMMENT ON VIEW billing.tenant_subscription IS 'The newest subscription of each tenant, as older programs know it';

-- As the superuser: row-level security would hide from the check what it has to check.
RESET ROLE;
ALTER TABLE identity.tenants ADD FOREIGN KEY (id, subscription_id)
    REFERENCES billing.subscriptions (tenant_id, id) ON DELETE SET NULL (subscription_id);
SET LOCAL ROLE ferry_owner;

CREATE TABLE billing.usage_records (
    tenant_id            uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                   uuid NOT NULL DEFAULT identity.uuid7(),
    status               governance.tenant_child_status NOT NULL DEFAULT 'ACTIVE',
    version              int NOT NULL DEFAULT 1,
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    deleted_at           timestamptz,
    deleted_by_actor_id  uuid,
    created_by_actor_id  uuid,
    updated_by_actor_id  uuid,
    audit_correlation_id uuid,
    data_classification  text NOT NULL DEFAULT 'INTERNAL',
    retention_policy     governance.retention_policy,
    metric               billing.usage_metric NOT NULL DEFAULT 'API_CALLS',
    quantity             numeric(15,4) NOT NULL,
    unit                 varchar(50) NOT NULL,
    recorded_at          timestamptz NOT NULL,
    subscription_id      uuid,
    billing_period_start timestamptz,
    billing_period_end   timestamptz,
    resource_id          uuid,
    resource_type        varchar(100),
    user_id              uuid,
    unit_price           numeric(15,4),
    total_amount         numeric(15,2),
    currency             varchar(3) NOT NULL DEFAULT 'USD',
    is_aggregated        boolean NOT NULL DEFAULT false,
    aggregation_period   varchar(20),
    source_record_ids    uuid[] NOT NULL DEFAULT '{}',
    metadata             jsonb,
    tags                 varchar(50)[] NOT NULL DEFAULT '{}',
    processed            boolean NOT NULL DEFAULT false,
    processed_at         timestamptz,
    invoice_id           uuid,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, subscription_id) REFERENCES billing.subscriptions ON DELETE SET NULL (subscription_id)
);
CREATE INDEX usage_records_recorded_at_brin ON billing.usage_records USING brin (recorded_at);
CREATE INDEX usage_records_audit_correlation_id_ix ON billing.usage_records (tenant_id, audit_correlation_id);
CREATE INDEX usage_records_billing_period_start_billing_period_end_ix ON billing.usage_records (tenant_id, billing_period_start, billing_period_end);
CREATE INDEX usage_records_data_classification_ix ON billing.usage_records (tenant_id, data_classification);
CREATE INDEX usage_records_deleted_at_ix ON billing.usage_records (tenant_id, deleted_at);
CREATE INDEX usage_records_metric_ix ON billing.usage_records (tenant_id, metric);
CREATE INDEX usage_records_processed_ix ON billing.usage_records (tenant_id, processed);
CREATE INDEX usage_records_recorded_at_tenant_brin ON billing.usage_records USING brin (tenant_id, recorded_at);
CREATE INDEX usage_records_resource_type_resource_id_ix ON billing.usage_records (tenant_id, resource_type, resource_id);
CREATE INDEX usage_records_status_ix ON billing.usage_records (tenant_id, status);
CREATE INDEX usage_records_subscription_id_ix ON billing.usage_records (tenant_id, subscription_id);
COMMENT ON TABLE billing.usage_records IS 'Single uses that are billed';
COMMENT ON COLUMN billing.usage_records.source_record_ids IS 'What an aggregated record was made of';
COMMENT ON COLUMN billing.usage_records.user_id IS 'A user; no reference: outlives that one';

CREATE TABLE billing.tenant_metrics (
    tenant_id                   uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                          uuid NOT NULL DEFAULT identity.uuid7(),
    status                      governance.tenant_child_status NOT NULL DEFAULT 'ACTIVE',
    version                     int NOT NULL DEFAULT 1,
    created_at                  timestamptz NOT NULL DEFAULT now(),
    updated_at                  timestamptz NOT NULL DEFAULT now(),
    deleted_at                  timestamptz,
    deleted_by_actor_id         uuid,
    created_by_actor_id         uuid,
    updated_by_actor_id         uuid,
    audit_correlation_id        uuid,
    data_classification         text NOT NULL DEFAULT 'INTERNAL',
    retention_policy            governance.retention_policy,
    metric_date                 date NOT NULL,
    metric_hour                 int DEFAULT 0,
    active_users_count          int NOT NULL DEFAULT 0,
    total_users_count           int NOT NULL DEFAULT 0,
    new_users_count             int NOT NULL DEFAULT 0,
    login_count                 int NOT NULL DEFAULT 0,
    session_duration            int,
    storage_used_mb             int NOT NULL DEFAULT 0,
    storage_quota_mb            int,
    files_count                 int NOT NULL DEFAULT 0,
    documents_count             int NOT NULL DEFAULT 0,
    api_calls_count             int NOT NULL DEFAULT 0,
    api_errors_count            int NOT NULL DEFAULT 0,
    avg_response_time_ms        int,
    bandwidth_used_mb           int NOT NULL DEFAULT 0,
    projects_count              int NOT NULL DEFAULT 0,
    active_projects_count       int NOT NULL DEFAULT 0,
    tasks_count                 int NOT NULL DEFAULT 0,
    completed_tasks_count       int NOT NULL DEFAULT 0,
    revenue_amount              numeric(15,2),
    billing_amount              numeric(15,2),
    last_billing_cycle_usage    numeric(15,2),
    features_used_count         int NOT NULL DEFAULT 0,
    integrations_count          int NOT NULL DEFAULT 0,
    reports_generated           int NOT NULL DEFAULT 0,
    support_tickets_count       int NOT NULL DEFAULT 0,
    avg_resolution_time_hours   int,
    customer_satisfaction_score numeric(3,2),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, metric_date, metric_hour),
    CHECK (metric_hour BETWEEN 0 AND 23)
);
CREATE INDEX tenant_metrics_metric_date_brin ON billing.tenant_metrics USING brin (metric_date);
CREATE INDEX tenant_metrics_audit_correlation_id_ix ON billing.tenant_metrics (tenant_id, audit_correlation_id);
CREATE INDEX tenant_metrics_data_classification_ix ON billing.tenant_metrics (tenant_id, data_classification);
CREATE INDEX tenant_metrics_deleted_at_ix ON billing.tenant_metrics (tenant_id, deleted_at);
CREATE INDEX tenant_metrics_metric_date_tenant_brin ON billing.tenant_metrics USING brin (tenant_id, metric_date);
CREATE INDEX tenant_metrics_metric_date_metric_hour_ix ON billing.tenant_metrics (tenant_id, metric_date, metric_hour);
CREATE INDEX tenant_metrics_status_ix ON billing.tenant_metrics (tenant_id, status);
COMMENT ON TABLE billing.tenant_metrics IS 'How much a tenant did in an hour of a day';
COMMENT ON COLUMN billing.tenant_metrics.session_duration IS 'Mean, in seconds';

CREATE TABLE billing.usage_meters (
    tenant_id       uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id              uuid NOT NULL DEFAULT identity.uuid7(),
    metric_code     text NOT NULL,
    quantity        bigint NOT NULL DEFAULT 0,
    for_date        date NOT NULL,
    dimensions      jsonb NOT NULL DEFAULT '{}',
    dimensions_hash text NOT NULL GENERATED ALWAYS AS (governance.sha256_hex(dimensions::text)) STORED,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, metric_code, for_date, dimensions_hash)
);
COMMENT ON TABLE billing.usage_meters IS 'What was used on a day, by metric and dimensions';
COMMENT ON COLUMN billing.usage_meters.dimensions IS 'What the use is told apart by: {"region": ..., "model": ...}';
COMMENT ON COLUMN billing.usage_meters.dimensions_hash IS 'SHA-256 of the dimensions in the order jsonb keeps them';

-- A trigger's condition on whole rows can't be had on a table with a generated column.
CREATE TRIGGER updated_at BEFORE UPDATE ON billing.usage_meters FOR EACH ROW
    WHEN (OLD.quantity <> NEW.quantity AND OLD.updated_at = NEW.updated_at) EXECUTE FUNCTION identity.set_updated_at();

-- Adds to a meter, which is made at its first use; the new reading.
CREATE FUNCTION billing.add_usage(tenant uuid, metric text, amount bigint, by_dimensions jsonb DEFAULT '{}',
                                  on_date date DEFAULT (now() AT TIME ZONE 'UTC')::date) RETURNS bigint
    LANGUAGE sql
AS $$
    INSERT INTO billing.usage_meters AS m (tenant_id, metric_code, quantity, for_date, dimensions)
    VALUES (tenant, metric, amount, on_date, by_dimensions)
    ON CONFLICT (tenant_id, metric_code, for_date, dimensions_hash)
    DO UPDATE SET quantity = m.quantity + excluded.quantity
    RETURNING m.quantity
$$;
COMMENT ON FUNCTION billing.add_usage(uuid, text, bigint, jsonb, date) IS 'Adds to the meter of a day';

SELECT identity.open_schema('billing');
REVOKE INSERT, UPDATE, DELETE ON billing.plans, billing.plan_features FROM ferry_app;
SELECT governance.keep_versions('billing.billing_accounts', 'billing.subscriptions', 'billing.usage_records', 'billing.tenant_metrics');
SELECT governance.describe_common('billing.billing_accounts', 'billing.subscriptions', 'billing.usage_records', 'billing.tenant_metrics');

RESET ROLE;
