-- Where a tenant's rows live, whether it may sync, and what it may use.
--
-- The home database (the one in the hub's configuration) has a row here for every tenant;
-- the hub looks a tenant up here and assumes nothing. A database of tenants elsewhere has
-- rows too, for its own ones: there they serve the quotas alone.

SET LOCAL ROLE ferry_engine;

CREATE TABLE ferry.placement (
    tenant_id         uuid PRIMARY KEY CHECK (tenant_id <> '00000000-0000-0000-0000-000000000000'),
    slug              text NOT NULL UNIQUE,
    name              text NOT NULL,
    status            text NOT NULL DEFAULT 'ACTIVE'
                      CHECK (status IN ('ACTIVE', 'INACTIVE', 'SUSPENDED', 'PENDING_ACTIVATION', 'MIGRATING',
                                        'ARCHIVED', 'DELETED')),
    status_at         timestamptz NOT NULL DEFAULT now(),
    isolation         text NOT NULL DEFAULT 'SHARED_DATABASE'
                      CHECK (isolation IN ('SHARED_DATABASE', 'DEDICATED_SCHEMA', 'DEDICATED_DATABASE', 'DEDICATED_INSTANCE')),
    schema_prefix     text CHECK (schema_prefix ~ '^[a-z][a-z0-9_]{0,30}_$'),
    conninfo          text CHECK (conninfo !~* '(^|\s)(password|user)\s*='),
    max_users         bigint CHECK (max_users >= 0),
    max_storage_bytes bigint CHECK (max_storage_bytes >= 0),
    max_api_calls     bigint CHECK (max_api_calls >= 0),
    storage_bytes     bigint NOT NULL DEFAULT 0,
    storage_at        timestamptz,
    CHECK ((isolation = 'DEDICATED_SCHEMA') = (schema_prefix IS NOT NULL)),
    CHECK ((isolation IN ('DEDICATED_DATABASE', 'DEDICATED_INSTANCE')) = (conninfo IS NOT NULL))
);
CREATE UNIQUE INDEX placement_prefix_uq ON ferry.placement (schema_prefix);
COMMENT ON TABLE ferry.placement IS 'Where each tenant''s rows live, whether it may sync, and what it may use';
COMMENT ON COLUMN ferry.placement.schema_prefix IS 'DEDICATED_SCHEMA: stands before the names of the model''s schemas';
COMMENT ON COLUMN ferry.placement.conninfo IS
    'Where that database differs from the home one (host, port, dbname ...); no user, and a password stands in a passfile or service';
COMMENT ON COLUMN ferry.placement.max_storage_bytes IS 'NULL: no limit; as the other limits';
COMMENT ON COLUMN ferry.placement.storage_bytes IS 'As ferry.measure_storage() counted it last';

CREATE TABLE ferry.usage (
    tenant_id uuid NOT NULL,
    month     date NOT NULL CHECK (extract(day FROM month) = 1),
    api_calls bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, month)
);
COMMENT ON TABLE ferry.usage IS 'Sessions of devices and calls by key that a tenant had in a month (UTC)';

-- Only what stands in both is taken over; where the tenant lives is not its own to say.
CREATE FUNCTION ferry.note_tenant(id uuid, slug text, name text, status text, max_users bigint, max_storage_bytes bigint,
                                  max_api_calls bigint) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO ferry.placement AS p (tenant_id, slug, name, status, max_users, max_storage_bytes, max_api_calls)
    VALUES (id, slug, name, status, max_users, max_storage_bytes, max_api_calls)
    ON CONFLICT (tenant_id) DO UPDATE SET slug = excluded.slug, name = excluded.name, status = excluded.status,
        status_at = CASE WHEN p.status = excluded.status THEN p.status_at ELSE now() END,
        max_users = excluded.max_users, max_storage_bytes = excluded.max_storage_bytes,
        max_api_calls = excluded.max_api_calls
$$;
COMMENT ON FUNCTION ferry.note_tenant(uuid, text, text, text, bigint, bigint, bigint) IS
    'The model tells the engine of a tenant: makes or updates its placement';

-- What the hub asks at every look. held: why nothing is taken from its devices; shut: why
-- they are not even let in. NULL: neither.
CREATE VIEW ferry.tenancy AS
SELECT p.tenant_id, p.isolation, coalesce(p.conninfo, '') AS conninfo, p.schema_prefix IS NOT NULL AS own_schema,
       CASE WHEN p.status NOT IN ('ACTIVE', 'ARCHIVED') THEN p.status
            WHEN coalesce(u.api_calls, 0) >= p.max_api_calls THEN 'CALLS' END AS shut,
       CASE WHEN p.status = 'ARCHIVED' THEN 'ARCHIVED'
            WHEN p.storage_bytes >= p.max_storage_bytes THEN 'STORAGE' END AS held
FROM ferry.placement p
LEFT JOIN ferry.usage u ON u.tenant_id = p.tenant_id AND u.month = date_trunc('month', now() AT TIME ZONE 'UTC')::date;
COMMENT ON VIEW ferry.tenancy IS 'Tenants as the hub works by them';
GRANT SELECT ON ferry.placement, ferry.usage, ferry.tenancy TO ferry_hub, ferry_owner;
GRANT INSERT, UPDATE, DELETE ON ferry.placement, ferry.usage TO ferry_owner;

CREATE FUNCTION ferry.count_calls(tenants uuid[], calls bigint[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO ferry.usage AS u (tenant_id, month, api_calls)
    SELECT c.tenant, date_trunc('month', now() AT TIME ZONE 'UTC')::date, c.n
    FROM (SELECT x.tenant, sum(x.n)::bigint AS n FROM unnest(tenants, calls) AS x(tenant, n)
          GROUP BY x.tenant ORDER BY x.tenant) c
    ON CONFLICT (tenant_id, month) DO UPDATE SET api_calls = u.api_calls + excluded.api_calls
$$;
COMMENT ON FUNCTION ferry.count_calls(uuid[], bigint[]) IS 'Adds to this month''s calls of tenants';

-- Bytes of all rows of tenants, in every table that names one; what is kept about rows
-- (versions, indexes) is the hub's own matter and costs nobody his quota.
CREATE FUNCTION ferry.measure_storage() RETURNS TABLE (tenant_id uuid, bytes bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
AS $$
#variable_conflict use_column
DECLARE
    tab record;
    sums jsonb := '{}';
    one record;
BEGIN
    FOR tab IN SELECT c.oid::regclass AS rel FROM pg_class c
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
                                      AND a.atttypid = 'uuid'::regtype
               JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind = 'r' AND n.nspname NOT IN ('ferry', 'pg_catalog', 'information_schema')
                 AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') LOOP
        FOR one IN EXECUTE format('SELECT t.tenant_id AS id, sum(pg_column_size(t.*))::bigint AS n FROM %s t '
                                  'WHERE t.tenant_id IS NOT NULL GROUP BY 1', tab.rel) LOOP
            sums := jsonb_set(sums, ARRAY[one.id::text], to_jsonb(coalesce((sums ->> one.id::text)::bigint, 0) + one.n));
        END LOOP;
    END LOOP;
    UPDATE ferry.placement p SET storage_bytes = coalesce((sums ->> p.tenant_id::text)::bigint, 0), storage_at = now()
    WHERE p.isolation IN ('SHARED_DATABASE', 'DEDICATED_SCHEMA');
    RETURN QUERY SELECT s.key::uuid, s.value::bigint FROM jsonb_each_text(sums) s;
END $$;
COMMENT ON FUNCTION ferry.measure_storage() IS 'Counts what each tenant stores here, for its quota';

-- The engine counts what it may read, which without this is the tracked tables alone. Run
-- by somebody who may grant that.
CREATE FUNCTION ferry.open_to_engine() RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    nsp name;
BEGIN
    FOR nsp IN SELECT DISTINCT n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relowner = 'ferry_owner'::regrole AND c.relkind IN ('r', 'p') LOOP
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO ferry_engine', nsp);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO ferry_engine', nsp);
    END LOOP;
END $$;
COMMENT ON FUNCTION ferry.open_to_engine() IS 'Lets ferry.measure_storage() count the model''s tables that are not tracked';

REVOKE EXECUTE ON FUNCTION ferry.note_tenant(uuid, text, text, text, bigint, bigint, bigint),
    ferry.count_calls(uuid[], bigint[]), ferry.measure_storage() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.note_tenant(uuid, text, text, text, bigint, bigint, bigint) TO ferry_owner;
GRANT EXECUTE ON FUNCTION ferry.count_calls(uuid[], bigint[]) TO ferry_hub;

-- ---------------------------------------------------------------- devices of other databases

-- A device is enrolled in the home database, where it is found by its certificate. Its
-- settled numbers stand in the database of its tenant, in the transaction of its rows: so
-- each first contact takes its row over to there.
CREATE FUNCTION ferry.device_card(print bytea) RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object('id', d.id, 'tenant_id', d.tenant_id, 'name', d.name, 'user_id', d.user_id, 'class', d.class,
                              'status', d.status, 'fingerprint', encode(d.fingerprint, 'hex'), 'not_after', d.not_after,
                              'scopes', (SELECT coalesce(jsonb_agg(s.scope), '[]') FROM ferry.device_scope s WHERE s.device_id = d.id))
    FROM ferry.device d WHERE d.fingerprint = print
$$;
COMMENT ON FUNCTION ferry.device_card(bytea) IS 'What another database has to know of a device';

CREATE FUNCTION ferry.adopt_device(card jsonb) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    device uuid := (card ->> 'id')::uuid;
BEGIN
    INSERT INTO ferry.device AS d (id, tenant_id, name, user_id, class, status, fingerprint, not_after)
    VALUES (device, (card ->> 'tenant_id')::uuid, card ->> 'name', (card ->> 'user_id')::uuid, card ->> 'class',
            card ->> 'status', decode(card ->> 'fingerprint', 'hex'), (card ->> 'not_after')::timestamptz)
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, user_id = excluded.user_id, class = excluded.class,
        status = excluded.status, fingerprint = excluded.fingerprint, not_after = excluded.not_after
    WHERE d.tenant_id = excluded.tenant_id
      AND (d.name, d.user_id, d.class, d.status, d.fingerprint, d.not_after) IS DISTINCT FROM
          (excluded.name, excluded.user_id, excluded.class, excluded.status, excluded.fingerprint, excluded.not_after);
    DELETE FROM ferry.device_scope s WHERE s.device_id = device AND NOT card -> 'scopes' ? s.scope;
    INSERT INTO ferry.device_scope (device_id, scope)
    SELECT device, x FROM jsonb_array_elements_text(card -> 'scopes') x ON CONFLICT DO NOTHING;
END $$;
COMMENT ON FUNCTION ferry.adopt_device(jsonb) IS 'Takes over what another database says of a device';
REVOKE EXECUTE ON FUNCTION ferry.device_card(bytea), ferry.adopt_device(jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.device_card(bytea), ferry.adopt_device(jsonb) TO ferry_hub;

-- ---------------------------------------------------------------- sets of schemas

-- A table of a tenant's own set of schemas is tracked for that tenant alone. The runner of
-- migrations says whose set it fills.
ALTER TABLE ferry.tracked ADD COLUMN tenant_id uuid;
ALTER TABLE ferry.tracked ALTER COLUMN tenant_id SET DEFAULT nullif(current_setting('ferry.placing', true), '')::uuid;
ALTER TABLE ferry.tracked DROP CONSTRAINT tracked_replica_name_key;
CREATE UNIQUE INDEX tracked_replica_name_uq ON ferry.tracked
    (replica_name, coalesce(tenant_id, '00000000-0000-0000-0000-000000000000'));
COMMENT ON COLUMN ferry.tracked.tenant_id IS 'The tenant whose own set of schemas this table stands in; NULL: the shared set';

DO $$
DECLARE
    was text := pg_get_functiondef('ferry.register(regclass, text, bool, text, text[])'::regprocedure);
    now text := replace(was, 'WHERE t.replica_name = coalesce(register.replica_name, c.relname)',
        'WHERE t.replica_name = coalesce(register.replica_name, c.relname)'
        ' AND t.tenant_id IS NOT DISTINCT FROM nullif(current_setting(''ferry.placing'', true), '''')::uuid');
BEGIN
    -- Two sets of schemas have tables of the same names; a device gets one set.
    IF now = was THEN
        RAISE EXCEPTION 'ferry.register is not as this migration expects it';
    END IF;
    EXECUTE now;
    was := pg_get_functiondef('ferry.schema_hash(uuid)'::regprocedure);
    now := regexp_replace(was, 'FROM ferry\.tracked t\M',
        'FROM (SELECT o.* FROM ferry.tracked o WHERE o.tenant_id IS NOT DISTINCT FROM '
        '(SELECT p.tenant_id FROM ferry.placement p WHERE p.tenant_id = schema_hash.tenant AND p.schema_prefix IS NOT NULL)) t');
    IF now = was THEN
        RAISE EXCEPTION 'ferry.schema_hash is not as this migration expects it';
    END IF;
    EXECUTE now;
END $$;

RESET ROLE;
