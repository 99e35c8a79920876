-- Tenants with their status, placement and limits; their settings.
--
-- The organisation of other sources is the same thing. A tenant's time zone and locale stand
-- here alone, though a source names them among the settings too: two could differ. The same
-- for who deleted it (deleted_by_actor_id). Limits of tenants that were there before are
-- NULL, which means none: nobody is refused by an upgrade.

SET LOCAL ROLE ferry_owner;

-- Devices need to know who and how their tenant is, not what it pays or where it lives.
UPDATE ferry.tracked SET excluded = ARRAY[
    'version', 'deleted_by_actor_id', 'created_by_actor_id', 'updated_by_actor_id',
    'audit_correlation_id', 'data_classification', 'retention_policy', 'description', 'industry',
    'website', 'deployment_type', 'isolation_level', 'tier', 'region', 'migration_status', 'max_users',
    'max_storage', 'max_api_calls', 'billing_email', 'subscription_id', 'trial_ends_at',
    'subscription_ends_at', 'compliance_level', 'encryption_enabled', 'backup_enabled', 'delete_reason',
    'metadata']
WHERE relid = 'identity.tenants'::regclass;
ALTER TABLE identity.tenants
    ADD COLUMN status               identity.tenant_status NOT NULL DEFAULT 'ACTIVE',
    ADD COLUMN version              int NOT NULL DEFAULT 1,
    ADD COLUMN updated_at           timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN deleted_at           timestamptz,
    ADD COLUMN deleted_by_actor_id  uuid,
    ADD COLUMN created_by_actor_id  uuid,
    ADD COLUMN updated_by_actor_id  uuid,
    ADD COLUMN audit_correlation_id uuid,
    ADD COLUMN data_classification  text NOT NULL DEFAULT 'INTERNAL',
    ADD COLUMN retention_policy     governance.retention_policy,
    ADD COLUMN display_name         varchar(255),
    ADD COLUMN description          text,
    ADD COLUMN industry             varchar(100),
    ADD COLUMN website              varchar(500),
    ADD COLUMN deployment_type      identity.tenant_deployment_type NOT NULL DEFAULT 'SHARED',
    ADD COLUMN isolation_level      identity.data_isolation_level NOT NULL DEFAULT 'SHARED_DATABASE',
    ADD COLUMN tier                 identity.tenant_tier NOT NULL DEFAULT 'STARTER',
    ADD COLUMN region               identity.tenant_region NOT NULL DEFAULT 'US_EAST_1',
    ADD COLUMN migration_status     identity.migration_status NOT NULL DEFAULT 'NOT_STARTED',
    ADD COLUMN max_users            int,
    ADD COLUMN max_storage          int,
    ADD COLUMN max_api_calls        int,
    ADD COLUMN billing_email        citext,
    ADD COLUMN subscription_id      uuid,
    ADD COLUMN trial_ends_at        timestamptz,
    ADD COLUMN subscription_ends_at timestamptz,
    ADD COLUMN compliance_level     text DEFAULT 'STANDARD',
    ADD COLUMN encryption_enabled   boolean NOT NULL DEFAULT true,
    ADD COLUMN backup_enabled       boolean NOT NULL DEFAULT true,
    ADD COLUMN delete_reason        text,
    ADD COLUMN metadata             jsonb,
    ADD CHECK (max_users >= 0 AND max_storage >= 0 AND max_api_calls >= 0),
    ALTER COLUMN slug TYPE citext;
ALTER TABLE identity.tenants
    ALTER COLUMN max_users SET DEFAULT 10,
    ALTER COLUMN max_storage SET DEFAULT 1024,
    ALTER COLUMN max_api_calls SET DEFAULT 10000;
CREATE INDEX tenants_audit_correlation_id_ix ON identity.tenants (audit_correlation_id);
CREATE INDEX tenants_created_at_brin ON identity.tenants USING brin (created_at);
CREATE INDEX tenants_data_classification_ix ON identity.tenants (data_classification);
CREATE INDEX tenants_deleted_at_ix ON identity.tenants (deleted_at);
CREATE INDEX tenants_deployment_type_ix ON identity.tenants (deployment_type);
CREATE INDEX tenants_migration_status_ix ON identity.tenants (migration_status);
CREATE INDEX tenants_region_ix ON identity.tenants (region);
CREATE INDEX tenants_status_ix ON identity.tenants (status);
CREATE INDEX tenants_subscription_ends_at_ix ON identity.tenants (subscription_ends_at);
CREATE INDEX tenants_tier_ix ON identity.tenants (tier);
CREATE INDEX tenants_trial_ends_at_ix ON identity.tenants (trial_ends_at);
COMMENT ON COLUMN identity.tenants.status IS 'SUSPENDED stops sync, ARCHIVED may only be read, DELETED wipes its devices';
COMMENT ON COLUMN identity.tenants.isolation_level IS 'Where the rows live: shared, or a schema, database or server of their own';
COMMENT ON COLUMN identity.tenants.max_users IS 'NULL: no limit';
COMMENT ON COLUMN identity.tenants.max_storage IS 'In MiB; NULL: no limit';
COMMENT ON COLUMN identity.tenants.max_api_calls IS 'A calendar month; NULL: no limit';
COMMENT ON COLUMN identity.tenants.timezone IS 'IANA name; days, weeks and months of number sequences end by it';
COMMENT ON COLUMN identity.tenants.subscription_id IS 'The subscription in force (billing.subscriptions)';
SELECT governance.keep_versions('identity.tenants');
SELECT governance.describe_common('identity.tenants');

-- A name that the server does not know would fail much later, in somebody's transaction.
CREATE FUNCTION identity.check_timezone() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    PERFORM now() AT TIME ZONE NEW.timezone;
    RETURN NEW;
EXCEPTION WHEN invalid_parameter_value THEN
    RAISE EXCEPTION 'there is no time zone %', NEW.timezone
        USING ERRCODE = 'invalid_parameter_value', HINT = 'Use a name such as Africa/Cairo: SELECT name FROM pg_timezone_names.';
END $$;
CREATE TRIGGER timezone BEFORE INSERT OR UPDATE OF timezone ON identity.tenants
    FOR EACH ROW WHEN (NEW.timezone IS NOT NULL) EXECUTE FUNCTION identity.check_timezone();

-- The same as before, with a key of version 7.
CREATE OR REPLACE FUNCTION identity.create_tenant(name text, slug text, id uuid DEFAULT identity.uuid7()) RETURNS uuid
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    outside text := coalesce(current_setting('app.tenant_id', true), '');
BEGIN
    INSERT INTO identity.tenants (id, name, slug) VALUES (create_tenant.id, create_tenant.name, create_tenant.slug);
    PERFORM set_config('app.tenant_id', create_tenant.id::text, true);
    INSERT INTO identity.roles (tenant_id, code, name) VALUES
        (create_tenant.id, 'admin', 'Administrator'),
        (create_tenant.id, 'sales_exec', 'Sales Executive'),
        (create_tenant.id, 'inventory_mgr', 'Inventory Manager');
    INSERT INTO identity.role_permissions (tenant_id, role_id, permission)
    SELECT r.tenant_id, r.id, p.perm
    FROM identity.roles r
    CROSS JOIN (VALUES ('leads.view'), ('leads.create'), ('deals.view'), ('inventory.view'), ('reports.view')) AS p(perm)
    WHERE r.tenant_id = create_tenant.id AND r.code IN ('admin', 'sales_exec', 'inventory_mgr');
    PERFORM set_config('app.tenant_id', outside, true);
    RETURN create_tenant.id;
END $$;

CREATE TABLE identity.tenant_settings (
    tenant_id                     uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                            uuid NOT NULL DEFAULT identity.uuid7(),
    status                        governance.tenant_child_status NOT NULL DEFAULT 'ACTIVE',
    version                       int NOT NULL DEFAULT 1,
    created_at                    timestamptz NOT NULL DEFAULT now(),
    updated_at                    timestamptz NOT NULL DEFAULT now(),
    deleted_at                    timestamptz,
    deleted_by_actor_id           uuid,
    created_by_actor_id           uuid,
    updated_by_actor_id           uuid,
    audit_correlation_id          uuid,
    data_classification           text NOT NULL DEFAULT 'INTERNAL',
    retention_policy              governance.retention_policy,
    logo_url                      varchar(500),
    favicon_url                   varchar(500),
    primary_color                 varchar(7),
    secondary_color               varchar(7),
    accent_color                  varchar(7),
    display_name                  varchar(255),
    tagline                       varchar(500),
    custom_css                    text,
    custom_js                     text,
    support_email                 citext,
    support_phone                 varchar(50),
    support_url                   varchar(500),
    sales_email                   citext,
    sales_phone                   varchar(50),
    currency                      varchar(3) NOT NULL DEFAULT 'USD',
    date_format                   varchar(20) NOT NULL DEFAULT 'MM/DD/YYYY',
    time_format                   varchar(5) NOT NULL DEFAULT '12h',
    email_notifications           boolean NOT NULL DEFAULT true,
    sms_notifications             boolean NOT NULL DEFAULT false,
    push_notifications            boolean NOT NULL DEFAULT true,
    marketing_emails              boolean NOT NULL DEFAULT false,
    maintenance_mode              boolean NOT NULL DEFAULT false,
    public_signup                 boolean NOT NULL DEFAULT true,
    sso_enabled                   boolean NOT NULL DEFAULT false,
    mfa_required                  boolean NOT NULL DEFAULT false,
    api_access_enabled            boolean NOT NULL DEFAULT true,
    pm_can_delete_estimate        boolean NOT NULL DEFAULT false,
    pm_can_approve_estimate       boolean NOT NULL DEFAULT false,
    pm_can_convert_estimate       boolean NOT NULL DEFAULT false,
    pm_can_delete_project         boolean NOT NULL DEFAULT false,
    pm_can_delete_task            boolean NOT NULL DEFAULT false,
    pm_can_approve_change_order   boolean NOT NULL DEFAULT false,
    pm_can_approve_invoice        boolean NOT NULL DEFAULT false,
    pm_can_reject_invoice         boolean NOT NULL DEFAULT false,
    pm_can_approve_timesheet      boolean NOT NULL DEFAULT false,
    pm_can_approve_expense        boolean NOT NULL DEFAULT false,
    pm_can_reject_expense         boolean NOT NULL DEFAULT false,
    pm_can_manage_members         boolean NOT NULL DEFAULT false,
    pm_can_assign_roles           boolean NOT NULL DEFAULT false,
    pm_can_terminate_members      boolean NOT NULL DEFAULT false,
    pm_can_close_punch_list_item  boolean NOT NULL DEFAULT false,
    pm_can_approve_inspection     boolean NOT NULL DEFAULT false,
    pm_can_publish_daily_log      boolean NOT NULL DEFAULT false,
    pm_can_publish_report         boolean NOT NULL DEFAULT false,
    pm_can_authorize_inventory    boolean NOT NULL DEFAULT false,
    pm_can_manage_external_access boolean NOT NULL DEFAULT false,
    contract_template_url         varchar(500),
    terms_template_url            varchar(500),
    custom_settings               jsonb,
    pm_can_access_financials      boolean DEFAULT false,
    branding                      jsonb,
    security                      jsonb,
    defaults                      jsonb,
    billing_prefs                 jsonb,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id)
);
CREATE INDEX tenant_settings_created_at_brin ON identity.tenant_settings USING brin (created_at);
CREATE INDEX tenant_settings_audit_correlation_id_ix ON identity.tenant_settings (tenant_id, audit_correlation_id);
CREATE INDEX tenant_settings_contract_template_url_ix ON identity.tenant_settings (tenant_id, contract_template_url);
CREATE INDEX tenant_settings_data_classification_ix ON identity.tenant_settings (tenant_id, data_classification);
CREATE INDEX tenant_settings_deleted_at_ix ON identity.tenant_settings (tenant_id, deleted_at);
CREATE INDEX tenant_settings_status_ix ON identity.tenant_settings (tenant_id, status);
CREATE INDEX tenant_settings_terms_template_url_ix ON identity.tenant_settings (tenant_id, terms_template_url);
COMMENT ON TABLE identity.tenant_settings IS 'How a tenant looks and what it allows; at most one row each';
COMMENT ON COLUMN identity.tenant_settings.custom_js IS 'Runs in the tenant''s own pages only';
COMMENT ON COLUMN identity.tenant_settings.custom_settings IS 'Whatever a tenant''s own programs keep';
COMMENT ON COLUMN identity.tenant_settings.pm_can_access_financials IS 'The pm_ columns: what project managers may do besides their roles';
COMMENT ON COLUMN identity.tenant_settings.security IS 'Rules for passwords, sessions and addresses';
COMMENT ON COLUMN identity.tenant_settings.defaults IS 'What new rows start with';
SELECT identity.open_schema('identity');
SELECT governance.keep_versions('identity.tenant_settings');
SELECT governance.describe_common('identity.tenant_settings');
REVOKE INSERT, UPDATE, DELETE ON identity.tenants FROM ferry_app;

RESET ROLE;
