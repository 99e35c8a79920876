-- How long rows are kept, and what becomes of them then.
--
-- A row says it itself (retention_policy), else a rule of its tenant for its table, else the
-- rule for all. Without any it stays. What is classified RESTRICTED is never archived: when
-- its time is over it goes. ferry-hub maintain runs this; nothing else deletes by age.

SET LOCAL ROLE ferry_owner;

CREATE TABLE governance.retention_rules (
    tenant_id uuid NOT NULL,
    tab       text NOT NULL,
    policy    governance.retention_policy NOT NULL,
    action    text NOT NULL DEFAULT 'purge' CHECK (action IN ('purge', 'archive')),
    PRIMARY KEY (tenant_id, tab)
);
COMMENT ON TABLE governance.retention_rules IS 'How long a table''s rows are kept that do not say it themselves';
COMMENT ON COLUMN governance.retention_rules.tenant_id IS 'The zero uuid: for all tenants without a rule of their own';
COMMENT ON COLUMN governance.retention_rules.tab IS 'schema.table, without the prefix of a tenant''s own set';
COMMENT ON COLUMN governance.retention_rules.action IS 'archive: kept in governance.archived_rows, unless RESTRICTED';

CREATE TABLE governance.archived_rows (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT identity.uuid7(),
    tab                 text NOT NULL,
    row_data            jsonb NOT NULL,
    data_classification text,
    made_at             timestamptz NOT NULL,
    archived_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX archived_rows_tab_ix ON governance.archived_rows (tenant_id, tab, made_at);
COMMENT ON TABLE governance.archived_rows IS 'Rows whose time was over and whose rule says archive';
SELECT ferry.isolate('governance.retention_rules', true);
SELECT ferry.isolate('governance.archived_rows');
CREATE POLICY owner ON governance.retention_rules TO ferry_owner USING (true) WITH CHECK (true);
GRANT SELECT, INSERT, UPDATE, DELETE ON governance.retention_rules TO ferry_app;
GRANT SELECT ON governance.archived_rows TO ferry_app;

-- Logs that say nothing of their own.
INSERT INTO governance.retention_rules (tenant_id, tab, policy) VALUES
    (ferry.nobody(), 'comms.messages_outbox', 'YEAR_1'),
    (ferry.nobody(), 'integration.webhook_deliveries', 'DAYS_90');

CREATE FUNCTION governance.retention_interval(policy governance.retention_policy) RETURNS interval
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE policy::text WHEN 'DAYS_30' THEN interval '30 days' WHEN 'DAYS_90' THEN interval '90 days'
        WHEN 'MONTHS_6' THEN interval '6 months' WHEN 'YEAR_1' THEN interval '1 year' WHEN 'YEARS_3' THEN interval '3 years'
        WHEN 'YEARS_7' THEN interval '7 years' WHEN 'YEARS_10' THEN interval '10 years' END
$$;
COMMENT ON FUNCTION governance.retention_interval(governance.retention_policy) IS 'NULL: for ever';

-- The tables of this set of schemas whose rows have a tenant and a time.
CREATE FUNCTION governance.retained_tables() RETURNS TABLE (rel regclass, made_at name, says bool, classified bool)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH own AS (SELECT left(n.nspname, length(n.nspname) - length('governance')) AS prefix
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = 'governance.retention_rules'::regclass)
    SELECT c.oid::regclass, made.col,
           EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'retention_policy' AND NOT a.attisdropped),
           EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'data_classification' AND NOT a.attisdropped)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    -- Some logs call the time at which a row was made otherwise.
    JOIN LATERAL (SELECT a.attname AS col FROM pg_attribute a JOIN unnest('{created_at,queued_at,occurred_at,recorded_at}'::name[])
                  WITH ORDINALITY w(col, place) ON w.col = a.attname
                  WHERE a.attrelid = c.oid AND NOT a.attisdropped ORDER BY w.place LIMIT 1) made ON true, own
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relowner = 'ferry_owner'::regrole
      AND coalesce((SELECT p.schema_prefix FROM ferry.placement p WHERE starts_with(n.nspname, p.schema_prefix)
                    ORDER BY length(p.schema_prefix) DESC LIMIT 1), '') = own.prefix
      AND c.oid NOT IN ('governance.audit_logs'::regclass, 'governance.archived_rows'::regclass, 'identity.tenants'::regclass)
      AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attname = 'tenant_id')
    ORDER BY 1
$$;
COMMENT ON FUNCTION governance.retained_tables() IS 'Tables that retention looks at, and what their rows say themselves';

-- Each table is a step of its own: where a row may not go (it is immutable, or others refer
-- to it) nothing of that table goes, and the answer says why.
CREATE FUNCTION governance.apply_retention(of_tenant uuid DEFAULT NULL, dry_run bool DEFAULT true)
RETURNS TABLE (tab text, action text, n bigint, problem text)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t record;
    name text;
    prefix int;
    policy text;
    restricted text;
    due text;
BEGIN
    prefix := length(split_part('governance.retention_rules'::regclass::text, '.', 1)) - length('governance');
    FOR t IN SELECT * FROM governance.retained_tables() LOOP
        name := substr(t.rel::text, prefix + 1);
        CONTINUE WHEN NOT t.says AND NOT EXISTS (SELECT FROM governance.retention_rules r WHERE substr(r.tab, length(r.tab) - length(name) + 1) = name);
        policy := format('coalesce(%s (SELECT r.policy FROM governance.retention_rules r WHERE r.tab IN (%L, %L) '
                         'AND r.tenant_id IN (x.tenant_id, ferry.nobody()) ORDER BY r.tenant_id = ferry.nobody() LIMIT 1))',
                         CASE WHEN t.says THEN 'x.retention_policy,' END, name, t.rel::text);
        due := format('x.%I < now() - governance.retention_interval(%s) AND x.tenant_id = coalesce(%L::uuid, x.tenant_id)',
                      t.made_at, policy, of_tenant);
        restricted := CASE WHEN t.classified THEN 'x.data_classification::text' ELSE 'NULL::text' END;
        tab := name;
        problem := NULL;
        BEGIN
            EXECUTE format('SELECT count(*) FROM %s x WHERE %s', t.rel, due) INTO n;
            CONTINUE WHEN n = 0;
            action := coalesce((SELECT min(r.action) FROM governance.retention_rules r WHERE r.tab IN (name, t.rel::text)), 'purge');
            IF NOT dry_run THEN
                EXECUTE format('WITH gone AS (DELETE FROM %s x WHERE %s RETURNING x.*), kept AS ('
                    'INSERT INTO governance.archived_rows (tenant_id, tab, row_data, data_classification, made_at) '
                    'SELECT x.tenant_id, %L, to_jsonb(x), %s, x.%I FROM gone x WHERE %s IS DISTINCT FROM ''RESTRICTED'' '
                    'AND (SELECT r.action FROM governance.retention_rules r WHERE r.tab IN (%L, %L) '
                    'AND r.tenant_id IN (x.tenant_id, ferry.nobody()) ORDER BY r.tenant_id = ferry.nobody() LIMIT 1) = ''archive'') '
                    'SELECT count(*) FROM gone', t.rel, due, name, restricted, t.made_at, restricted, name, t.rel::text) INTO n;
            END IF;
        EXCEPTION WHEN OTHERS THEN
            problem := SQLERRM;
        END;
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION governance.apply_retention(uuid, bool) IS
    'Purges or archives what its time is over; with dry_run only says what it would do';

-- The rows of tenants that were deleted so long ago. Their devices still learn it: that
-- stands in ferry.placement.
CREATE FUNCTION governance.purge_deleted_tenants(before timestamptz, of_tenant uuid DEFAULT NULL, dry_run bool DEFAULT true)
RETURNS TABLE (tab text, action text, n bigint, problem text)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t record;
BEGIN
    FOR t IN SELECT x.id, x.slug::text AS slug FROM identity.tenants x WHERE x.status = 'DELETED' AND x.deleted_at < before
             AND x.id = coalesce(of_tenant, x.id) ORDER BY x.slug LOOP
        tab := 'tenant ' || t.slug;
        action := 'purge';
        n := 1;
        problem := NULL;
        BEGIN
            IF NOT dry_run THEN
                DELETE FROM identity.tenants x WHERE x.id = t.id;
            END IF;
        EXCEPTION WHEN OTHERS THEN
            problem := SQLERRM;
        END;
        RETURN NEXT;
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION governance.apply_retention(uuid, bool), governance.purge_deleted_tenants(timestamptz, uuid, bool) FROM PUBLIC;

RESET ROLE;
