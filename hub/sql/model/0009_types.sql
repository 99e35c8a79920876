-- What the rest of the model stands on: a maker of keys, the values that columns may take,
-- the schemas of further domains.
--
-- Keys are uuids of version 7 from here on, also in the tables that were there before: they
-- sort by the time they were made, so that an index grows at its end and BRIN can serve.

SET LOCAL ROLE ferry_owner;

-- RFC 9562, 5.7 with method 3 of 6.2: 48 bits of milliseconds, the version, 12 bits of the
-- fraction of the millisecond, 62 random bits.
CREATE FUNCTION identity.uuid7(at timestamptz DEFAULT clock_timestamp()) RETURNS uuid
    LANGUAGE sql VOLATILE PARALLEL SAFE
AS $$
    SELECT encode(int8send(((t.us / 1000) << 16) | (7 << 12) | ((t.us % 1000) * 4096 / 1000))
                  || substring(uuid_send(gen_random_uuid()) FROM 9), 'hex')::uuid
    FROM (SELECT (extract(epoch FROM at) * 1000000)::bigint AS us) t
$$;
COMMENT ON FUNCTION identity.uuid7(timestamptz) IS 'A new key: a uuid of version 7, sorted by time';

-- The lowest uuid of version 7 that can be made at a time: where a range by time begins.
CREATE FUNCTION identity.uuid7_floor(at timestamptz) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$
    SELECT (rpad(substring(encode(int8send(floor(extract(epoch FROM at) * 1000)::bigint << 16), 'hex') FROM 1 FOR 12), 32, '0'))::uuid
$$;
COMMENT ON FUNCTION identity.uuid7_floor(timestamptz) IS 'The lowest key of a time, for ranges of keys by time';

DO $$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT d.adrelid::regclass AS tab, a.attname FROM pg_attrdef d
             JOIN pg_class c ON c.oid = d.adrelid
             JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspowner = 'ferry_owner'::regrole
             JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
             WHERE pg_get_expr(d.adbin, d.adrelid) = 'gen_random_uuid()' ORDER BY 1, 2 LOOP
        EXECUTE format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT identity.uuid7()', r.tab, r.attname);
    END LOOP;
END $$;

RESET ROLE;
CREATE SCHEMA governance AUTHORIZATION ferry_owner;
CREATE SCHEMA documents AUTHORIZATION ferry_owner;
CREATE SCHEMA events AUTHORIZATION ferry_owner;
CREATE SCHEMA fleet AUTHORIZATION ferry_owner;
SET LOCAL ROLE ferry_owner;
COMMENT ON SCHEMA governance IS 'Audit, flags, number sequences, policies: how a tenant is run';
COMMENT ON SCHEMA documents IS 'Groups, labels and templates of documents';
COMMENT ON SCHEMA events IS 'What happened to a tenant''s aggregates, in order';
COMMENT ON SCHEMA fleet IS 'Devices as their users and administrators see them';

-- ---------------------------------------------------------------- values

CREATE TYPE billing.billing_account_status AS ENUM ('ACTIVE', 'INACTIVE', 'SUSPENDED', 'PENDING_VERIFICATION',
    'VERIFICATION_FAILED', 'CLOSED');
CREATE TYPE billing.payment_provider AS ENUM ('STRIPE', 'PAYPAL', 'SQUARE', 'BRAINTREE', 'AUTHORIZE_NET',
    'ADYEN', 'RAZORPAY', 'INTERNAL');
CREATE TYPE billing.subscription_interval AS ENUM ('MONTHLY', 'QUARTERLY', 'YEARLY', 'WEEKLY', 'DAILY');
CREATE TYPE billing.subscription_status AS ENUM ('ACTIVE', 'INACTIVE', 'TRIALING', 'PAST_DUE', 'CANCELED',
    'UNPAID', 'PAUSED', 'PENDING_CANCELLATION');
CREATE TYPE billing.usage_metric AS ENUM ('API_CALLS', 'STORAGE_GB', 'PROJECTS', 'USERS', 'DOCUMENTS',
    'BANDWIDTH_GB', 'COMPUTE_HOURS', 'TRANSACTIONS', 'REPORTS_GENERATED', 'INTEGRATIONS');
CREATE TYPE events.event_type AS ENUM ('TENANT_PROVISIONED', 'TENANT_SUSPENDED', 'TENANT_ACTIVATED',
    'SUBSCRIPTION_CREATED', 'SUBSCRIPTION_UPDATED', 'SUBSCRIPTION_CANCELED', 'USAGE_RECORDED',
    'FEATURE_FLAG_TOGGLED', 'BILLING_CYCLE_COMPLETED', 'AUDIT_LOG_CREATED', 'USER_INVITED', 'USER_ACTIVATED',
    'PROJECT_CREATED', 'PROJECT_COMPLETED', 'ESTIMATE_APPROVED', 'INVOICE_GENERATED');
CREATE TYPE governance.audit_action AS ENUM ('CREATE', 'READ', 'UPDATE', 'DELETE', 'LOGIN', 'LOGOUT',
    'APPROVE', 'REJECT', 'ASSIGN', 'TRANSFER', 'EXPORT', 'IMPORT', 'BACKUP', 'RESTORE');
CREATE TYPE governance.feature_data_type AS ENUM ('INTEGER', 'DECIMAL', 'STRING', 'BOOLEAN', 'DATE',
    'DATETIME', 'JSON', 'ARRAY');
CREATE TYPE governance.feature_flag_scope AS ENUM ('GLOBAL', 'TENANT', 'USER', 'ROLE');
CREATE TYPE governance.feature_type AS ENUM ('NUMERICAL', 'CATEGORICAL', 'TEMPORAL', 'TEXTUAL', 'BOOLEAN',
    'COMPOSITE', 'DERIVED', 'AGGREGATED');
CREATE TYPE governance.impact_level AS ENUM ('LOW', 'MEDIUM', 'HIGH', 'CRITICAL');
CREATE TYPE governance.number_sequence_reset_mode AS ENUM ('NEVER', 'DAILY', 'WEEKLY', 'MONTHLY', 'YEARLY');
CREATE TYPE governance.retention_policy AS ENUM ('DAYS_30', 'DAYS_90', 'MONTHS_6', 'YEAR_1', 'YEARS_3',
    'YEARS_7', 'YEARS_10', 'PERMANENT');
CREATE TYPE governance.tenant_child_status AS ENUM ('ACTIVE', 'INACTIVE', 'ARCHIVED');
CREATE TYPE identity.actor_status AS ENUM ('ACTIVE', 'INACTIVE', 'SUSPENDED', 'LOCKED', 'EXPIRED',
    'ARCHIVED');
CREATE TYPE identity.actor_type AS ENUM ('USER', 'SERVICE_ACCOUNT', 'API_KEY', 'SYSTEM', 'INTEGRATION',
    'WEBHOOK', 'AUTOMATION', 'MONITORING');
CREATE TYPE identity.data_isolation_level AS ENUM ('SHARED_DATABASE', 'DEDICATED_SCHEMA',
    'DEDICATED_DATABASE', 'DEDICATED_INSTANCE');
CREATE TYPE identity.migration_status AS ENUM ('NOT_STARTED', 'IN_PROGRESS', 'COMPLETED', 'FAILED',
    'ROLLBACK_IN_PROGRESS', 'ROLLBACK_COMPLETED');
CREATE TYPE identity.tenant_deployment_type AS ENUM ('SHARED', 'DEDICATED', 'HYBRID', 'ON_PREMISE');
CREATE TYPE identity.tenant_region AS ENUM ('US_EAST_1', 'US_WEST_1', 'US_WEST_2', 'EU_WEST_1',
    'EU_CENTRAL_1', 'AP_SOUTHEAST_1', 'AP_NORTHEAST_1', 'CA_CENTRAL_1');
CREATE TYPE identity.tenant_status AS ENUM ('ACTIVE', 'INACTIVE', 'SUSPENDED', 'PENDING_ACTIVATION',
    'MIGRATING', 'ARCHIVED', 'DELETED');
CREATE TYPE identity.tenant_tier AS ENUM ('STARTER', 'PROFESSIONAL', 'ENTERPRISE', 'CUSTOM');
COMMENT ON TYPE governance.tenant_child_status IS 'Status of most rows that belong to a tenant';
COMMENT ON TYPE governance.retention_policy IS 'How long a row is kept after it was made; NULL: as its table says';
COMMENT ON TYPE governance.feature_type IS 'Kinds of features of a prediction; named by the source, used by no column yet';
COMMENT ON TYPE governance.feature_data_type IS 'Types of features of a prediction; named by the source, used by no column yet';

-- ---------------------------------------------------------------- helpers of the tables

CREATE FUNCTION governance.set_version() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    NEW.version := OLD.version + 1;
    RETURN NEW;
END $$;

-- Gives tables the trigger that counts a row's changes in its column version, and
-- updated_at with it. A writer that sets version keeps its value.
CREATE FUNCTION governance.keep_versions(VARIADIC tabs regclass[]) RETURNS void
    LANGUAGE plpgsql
AS $$
DECLARE
    tab regclass;
BEGIN
    FOREACH tab IN ARRAY tabs LOOP
        EXECUTE format('CREATE TRIGGER row_version BEFORE UPDATE ON %s FOR EACH ROW '
                       'WHEN (OLD.* IS DISTINCT FROM NEW.* AND OLD.version = NEW.version) '
                       'EXECUTE FUNCTION governance.set_version()', tab);
    END LOOP;
    PERFORM identity.keep_updated_at(VARIADIC tabs);
END $$;
REVOKE EXECUTE ON FUNCTION governance.keep_versions(regclass[]) FROM PUBLIC;
COMMENT ON FUNCTION governance.keep_versions(regclass[]) IS 'Keeps version and updated_at of tables';

CREATE FUNCTION governance.sha256_hex(text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
AS $$
    SELECT encode(sha256(convert_to($1, 'UTF8')), 'hex')
$$;
COMMENT ON FUNCTION governance.sha256_hex(text) IS 'SHA-256 of a text in UTF-8, in hex';

-- What the tables of this source have in common, said once for psql's \d+.
CREATE FUNCTION governance.describe_common(VARIADIC tabs regclass[]) RETURNS void
    LANGUAGE plpgsql
AS $$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT a.attrelid::regclass AS tab, a.attname, w.sentence
             FROM pg_attribute a
             JOIN (VALUES ('version', 'Counts the changes of the row'),
                          ('deleted_at', 'Set: the row is deleted, though kept'),
                          ('deleted_by_actor_id', 'Who deleted it (identity.actors or a user); no reference, since actors span tenants'),
                          ('created_by_actor_id', 'Who made it (identity.actors or a user)'),
                          ('updated_by_actor_id', 'Who changed it last (identity.actors or a user)'),
                          ('audit_correlation_id', 'Ties rows and audit entries of one piece of work together'),
                          ('data_classification', 'How confidential: PUBLIC, INTERNAL, CONFIDENTIAL, RESTRICTED'),
                          ('retention_policy', 'How long the row is kept; NULL: as its table says')) AS w(col, sentence) ON w.col = a.attname
             WHERE a.attrelid = ANY (tabs) AND NOT a.attisdropped AND col_description(a.attrelid, a.attnum) IS NULL LOOP
        EXECUTE format('COMMENT ON COLUMN %s.%I IS %L', r.tab, r.attname, r.sentence);
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION governance.describe_common(regclass[]) FROM PUBLIC;

RESET ROLE;
