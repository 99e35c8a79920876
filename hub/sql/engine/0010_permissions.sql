-- Permissions: what the user of a device may read and write.
--
--   read    A table may name a read permission, and may archive rows that are deleted
--           softly. Then its rows live in a scope of their own: tenant/leads.view,
--           project:<uuid>/inventory.view+archived. A device holds such a scope if it was
--           granted the scope before the slash and its user has the permission there. So
--           a permission that is gained or lost is a scope that is gained or lost.
--   write   A table's insert, update and delete, and single columns, may need permissions.
--           The hub asks for them beside each write of the merge (ferry.check_rights).
--
-- Who has which permission is the tenant model's to say (ferry.authority). What follows
-- from it for each device is kept in ferry.held_scope and ferry.held_right, brought up by
-- triggers in the transaction of the change, so that a merge only looks it up.

SET LOCAL ROLE ferry_engine;

ALTER TABLE ferry.tracked
    ADD COLUMN read_permission text DEFAULT nullif(current_setting('ferry.plan_read', true), ''),
    ADD COLUMN archives bool NOT NULL DEFAULT coalesce(current_setting('ferry.plan_archive', true) = 'true', false),
    ADD COLUMN guarded bool NOT NULL DEFAULT false,
    ADD COLUMN policed bool NOT NULL DEFAULT false;
COMMENT ON COLUMN ferry.tracked.read_permission IS 'What a device''s user needs to see the rows; NULL: nothing beyond the scope';
COMMENT ON COLUMN ferry.tracked.archives IS 'Rows whose deleted_at is set live in the archived scope';
COMMENT ON COLUMN ferry.tracked.guarded IS 'Writes need permissions: ferry.permission_rule has rows';
COMMENT ON COLUMN ferry.tracked.policed IS 'Writes are judged by the policies of the tenant model';

CREATE TABLE ferry.permission_rule (
    tbl        int NOT NULL REFERENCES ferry.tracked ON DELETE CASCADE,
    operation  text NOT NULL CHECK (operation IN ('insert', 'update', 'delete')),
    num        int NOT NULL DEFAULT 0,
    permission text NOT NULL,
    PRIMARY KEY (tbl, operation, num)
);
COMMENT ON TABLE ferry.permission_rule IS 'The permission that an operation on a table, or on one of its columns, needs';
COMMENT ON COLUMN ferry.permission_rule.num IS 'The column; 0: the operation itself, for columns without a rule of their own';

-- No references to ferry.device in these: a merge holds its devices' rows, and should not
-- have to wait for somebody who is changing roles.
CREATE TABLE ferry.held_scope (
    device_id uuid NOT NULL,
    scope     text NOT NULL,
    reads     bool NOT NULL,
    PRIMARY KEY (device_id, scope)
);
COMMENT ON TABLE ferry.held_scope IS 'The scopes that a device holds: those of ferry.device_scope, as far as its user has the permissions';
COMMENT ON COLUMN ferry.held_scope.reads IS
    'False: it gets no rows of it but may write them, as those that it archived itself';

CREATE TABLE ferry.held_right (
    device_id  uuid NOT NULL,
    permission text NOT NULL,
    scope      text NOT NULL,
    PRIMARY KEY (device_id, permission, scope)
);
COMMENT ON TABLE ferry.held_right IS 'The permissions that a device''s user has, of those that tables name';
COMMENT ON COLUMN ferry.held_right.scope IS '*: everywhere; else one scope, as project:<uuid>';

CREATE TABLE ferry.rights_version (
    tenant_id uuid PRIMARY KEY,
    n         bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE ferry.rights_version IS
    'Counts changes of a tenant''s rights; whoever brings them up holds its row, so that nobody works on an older state';

CREATE TABLE ferry.rescoped (
    tenant_id uuid NOT NULL,
    device_id uuid NOT NULL,
    n         bigint NOT NULL,
    PRIMARY KEY (tenant_id, device_id)
);
COMMENT ON TABLE ferry.rescoped IS 'At which count of ferry.rights_version a device''s scopes changed last: hubs end its session then';

CREATE TABLE ferry.rights_due (
    tenant_id uuid NOT NULL,
    device_id uuid NOT NULL,
    at        timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, device_id)
);
COMMENT ON TABLE ferry.rights_due IS 'When the rights of a device change next though nobody writes: a role begins or expires';

-- A row as it was before an update, for policies that compare; emptied by the check itself.
CREATE UNLOGGED TABLE ferry.before_image (
    xid xid8 NOT NULL,
    tbl int NOT NULL,
    key uuid NOT NULL,
    row jsonb NOT NULL
);
CREATE INDEX before_image_ix ON ferry.before_image (xid, tbl, key);
COMMENT ON TABLE ferry.before_image IS 'Rows as they were before the update under way, without excluded columns';

GRANT SELECT ON ferry.permission_rule, ferry.held_scope, ferry.held_right, ferry.rights_version, ferry.rescoped TO ferry_hub;

-- ---------------------------------------------------------------- scopes of rows

-- A scope without its permission and its archive: what was granted at enrolment.
CREATE FUNCTION ferry.root_of(scope text) RETURNS text
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN split_part(split_part(scope, '/', 1), '+archived', 1);

-- The scopes that rows of tracked tables can be in, by the word that a granted one begins
-- with. A row whose scope column is NULL belongs to "tenant", so that word is always one.
CREATE VIEW ferry.scope_kind AS
    SELECT DISTINCT w.word, t.read_permission AS permission, a.archived,
           coalesce('/' || t.read_permission, '') || CASE WHEN a.archived THEN '+archived' ELSE '' END AS suffix
    FROM ferry.tracked t
    CROSS JOIN LATERAL (SELECT 'tenant' UNION SELECT split_part(x, ':', 1) FROM string_to_table(t.scope, '|') x) AS w(word)
    JOIN (VALUES (false), (true)) AS a(archived) ON t.archives OR NOT a.archived;

CREATE VIEW ferry.known_permission AS
    SELECT t.read_permission AS permission FROM ferry.tracked t WHERE t.read_permission IS NOT NULL
    UNION SELECT r.permission FROM ferry.permission_rule r;
GRANT SELECT ON ferry.known_permission TO PUBLIC;

-- The scope of 0004 with permission and archive. The path to it is the same.
CREATE FUNCTION ferry.own_sql(of_tbl int, OUT joins text, OUT expr text, OUT also text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked;
    behind text;
BEGIN
    SELECT * INTO t FROM ferry.tracked o WHERE o.tbl = of_tbl;
    SELECT r.joins, r.expr, r.also INTO joins, expr, also FROM ferry.root_sql(of_tbl) r;
    behind := concat_ws(' || ', quote_literal('/' || t.read_permission),
                        CASE WHEN t.archives THEN 'CASE WHEN r.deleted_at IS NULL THEN '''' ELSE ''+archived'' END' END);
    IF behind <> '' THEN
        expr := format('(%s) || %s', expr, behind);
    END IF;
    IF behind <> '' AND also IS NOT NULL THEN
        also := format('(SELECT array_agg(x || %s ORDER BY n) FROM unnest(%s) WITH ORDINALITY AS u(x, n))', behind, also);
    END IF;
END $$;

-- Gives a table's rows their scopes anew after its permission or archive changed; the caller
-- has locked the table. Versions
-- and sums keep all but the name of the scope; rows that are archived already move.
CREATE FUNCTION ferry.qualify(of_tbl int, read_permission text, archives bool) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
AS $$
#variable_conflict use_column
DECLARE
    t ferry.tracked;
    tail int;
    renames text;
    tab text;
BEGIN
    SELECT * INTO t FROM ferry.tracked o WHERE o.tbl = of_tbl;
    PERFORM ferry.need_owner(t.relid);
    IF (t.read_permission, t.archives) IS NOT DISTINCT FROM (qualify.read_permission, qualify.archives) THEN
        RETURN;
    ELSIF qualify.archives AND NOT EXISTS (SELECT FROM ferry.tracked_column c WHERE c.tbl = of_tbl AND c.name = 'deleted_at') THEN
        RAISE EXCEPTION '% has no synced column deleted_at and can''t archive rows', t.relid USING ERRCODE = 'undefined_column';
    END IF;
    IF t.archives <> qualify.archives AND EXISTS (SELECT FROM ferry.redaction d WHERE of_tbl IN (d.tbl, d.restricted)) THEN
        RAISE EXCEPTION '%: columns are redacted, and the restricted table has to follow where rows are', t.relid
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'ferry.reveal them, change this, and ferry.redact them again.';
    END IF;
    UPDATE ferry.tracked o SET read_permission = qualify.read_permission, archives = qualify.archives WHERE o.tbl = of_tbl;
    PERFORM ferry.need_open(b.tbl, b.num) FROM ferry.bring b WHERE of_tbl IN (b.tbl, b.to_tbl);
    IF t.read_permission IS DISTINCT FROM qualify.read_permission AND NOT t.brought THEN
        tail := length(coalesce('/' || t.read_permission, ''));
        renames := format('CASE WHEN %L AND x.scope LIKE ''%%+archived'' THEN left(x.scope, %s) || %L ELSE left(x.scope, %s) || %L END',
                          t.archives, - tail - 9, coalesce('/' || qualify.read_permission, '') || '+archived',
                          CASE tail WHEN 0 THEN 2147483647 ELSE - tail END, coalesce('/' || qualify.read_permission, ''));
        FOREACH tab IN ARRAY ARRAY['version', 'sum', 'change', 'left'] LOOP
            EXECUTE format('UPDATE ferry.%I x SET scope = %s WHERE x.tbl = %s', tab, renames, of_tbl);
        END LOOP;
        EXECUTE format('UPDATE ferry.version v SET also = ARRAY(SELECT %s FROM unnest(v.also) WITH ORDINALITY AS x(scope, n) ORDER BY x.n) '
                       'WHERE v.tbl = %s AND v.also IS NOT NULL', renames, of_tbl);
    END IF;
    PERFORM ferry.generate(of_tbl);
    -- Of rows that are brought along, only some scopes get another name: they move.
    IF t.archives <> qualify.archives OR t.brought THEN
        PERFORM ferry.note_all(of_tbl);
    END IF;
    PERFORM ferry.note_references(of_tbl), ferry.note_requests(of_tbl);
END $$;

-- ---------------------------------------------------------------- rules

CREATE FUNCTION ferry.need_tracked(tab regclass) RETURNS ferry.tracked
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked;
BEGIN
    SELECT * INTO t FROM ferry.tracked o WHERE o.relid = tab;
    IF t.tbl IS NULL THEN
        RAISE EXCEPTION '% is not tracked', tab USING ERRCODE = 'undefined_object';
    END IF;
    PERFORM ferry.need_owner(tab);
    RETURN t;
END $$;

CREATE FUNCTION ferry.permit(tab regclass, operation text, permission text, columns text[] DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    t ferry.tracked := ferry.need_tracked(tab);
    unknown text;
BEGIN
    IF permission !~ '^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$' THEN
        RAISE EXCEPTION '"%" is no permission', permission
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Write <domain>.<action>, as leads.view.';
    ELSIF operation = 'read' AND columns IS NULL THEN
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', tab);
        PERFORM ferry.qualify(t.tbl, permission, t.archives);
        RETURN;
    ELSIF operation NOT IN ('insert', 'update') AND (operation <> 'delete' OR columns IS NOT NULL) THEN
        RAISE EXCEPTION '"%" is no operation%', operation, CASE WHEN columns IS NOT NULL THEN ' on columns' ELSE '' END
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Operations are: read, insert, update, delete; with columns: insert, update.';
    END IF;
    SELECT x INTO unknown FROM unnest(columns) x WHERE NOT EXISTS (
        SELECT FROM ferry.tracked_column c WHERE c.tbl = t.tbl AND c.name = x) LIMIT 1;
    IF unknown IS NOT NULL THEN
        RAISE EXCEPTION '% has no synced column %', tab, unknown USING ERRCODE = 'undefined_column';
    END IF;
    DELETE FROM ferry.permission_rule r WHERE r.tbl = t.tbl AND r.operation = operation AND (columns IS NULL AND r.num = 0
        OR r.num IN (SELECT c.num FROM ferry.tracked_column c WHERE c.tbl = t.tbl AND c.name = ANY (columns)));
    INSERT INTO ferry.permission_rule (tbl, operation, num, permission)
    SELECT t.tbl, operation, 0, permission WHERE columns IS NULL AND permission IS NOT NULL
    UNION ALL SELECT t.tbl, operation, c.num, permission FROM ferry.tracked_column c
    WHERE c.tbl = t.tbl AND c.name = ANY (columns) AND permission IS NOT NULL;
    UPDATE ferry.tracked o SET guarded = g.has
    FROM (SELECT EXISTS (SELECT FROM ferry.permission_rule r WHERE r.tbl = t.tbl) AS has) g
    WHERE o.tbl = t.tbl AND o.guarded <> g.has;
END $$;
COMMENT ON FUNCTION ferry.permit(regclass, text, text, text[]) IS
    'Names the permission that devices need to read, insert, update or delete rows of a table, or to write columns of it; NULL: none';

CREATE FUNCTION ferry.archive(tab regclass, turn_on bool DEFAULT true) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked := ferry.need_tracked(tab);
BEGIN
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', tab);
    PERFORM ferry.qualify(t.tbl, t.read_permission, turn_on);
END $$;
COMMENT ON FUNCTION ferry.archive(regclass, bool) IS
    'Rows with deleted_at set live in the scope <scope>+archived, which devices hold only if it was granted';

-- One line of a sync plan: tracks the table if that was not done yet, and states all that
-- concerns permissions. "rights" is short for four of them: 'leads' means leads.view to
-- read, leads.create, leads.edit and leads.delete; what is left out needs none.
CREATE FUNCTION ferry.plan(tab regclass, scope text DEFAULT 'tenant', rights text DEFAULT NULL, write bool DEFAULT true,
                           archive bool DEFAULT false, read text DEFAULT NULL, "insert" text DEFAULT NULL,
                           "update" text DEFAULT NULL, "delete" text DEFAULT NULL, exclude text[] DEFAULT '{}',
                           replica_name text DEFAULT NULL)
RETURNS int
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked;
BEGIN
    read := coalesce(read, rights || '.view');
    IF write THEN
        "insert" := coalesce("insert", rights || '.create');
        "update" := coalesce("update", rights || '.edit');
        "delete" := coalesce("delete", rights || '.delete');
    END IF;
    IF NOT EXISTS (SELECT FROM ferry.tracked o WHERE o.relid = tab) THEN
        -- The row of a new table takes them as its defaults, so that its code is generated once.
        PERFORM set_config('ferry.plan_read', coalesce(read, ''), true), set_config('ferry.plan_archive', archive::text, true);
        PERFORM ferry.track(tab, scope, write, replica_name, exclude);
        PERFORM set_config('ferry.plan_read', '', true), set_config('ferry.plan_archive', '', true);
        IF archive AND NOT EXISTS (SELECT FROM ferry.tracked_column c JOIN ferry.tracked o ON o.tbl = c.tbl
                                   WHERE o.relid = tab AND c.name = 'deleted_at') THEN
            RAISE EXCEPTION '% has no synced column deleted_at and can''t archive rows', tab USING ERRCODE = 'undefined_column';
        END IF;
    END IF;
    SELECT * INTO t FROM ferry.tracked o WHERE o.relid = tab;
    IF (t.scope, t.write) IS DISTINCT FROM (scope, write) THEN
        RAISE EXCEPTION '% is tracked already, with scope % and write %', tab, t.scope, t.write
            USING ERRCODE = 'duplicate_object', HINT = 'Call ferry.untrack first to change how.';
    END IF;
    IF (t.read_permission, t.archives) IS DISTINCT FROM (read, archive) THEN
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', tab);
        PERFORM ferry.qualify(t.tbl, read, archive);
    END IF;
    PERFORM ferry.permit(tab, 'insert', "insert");
    PERFORM ferry.permit(tab, 'update', "update");
    PERFORM ferry.permit(tab, 'delete', "delete");
    IF archive AND "delete" IS NOT NULL THEN
        PERFORM ferry.permit(tab, 'update', "delete", ARRAY(
            SELECT c.name FROM ferry.tracked_column c
            WHERE c.tbl = t.tbl AND c.name IN ('deleted_at', 'deleted_by', 'delete_reason')));
    END IF;
    RETURN t.tbl;
END $$;
COMMENT ON FUNCTION ferry.plan(regclass, text, text, bool, bool, text, text, text, text, text[], text) IS
    'One line of a sync plan: a table''s scope and the permissions to read and write it';

CREATE FUNCTION ferry.police(tab regclass, turn_on bool) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$ UPDATE ferry.tracked t SET policed = turn_on WHERE t.relid = tab AND t.policed <> turn_on $$;
COMMENT ON FUNCTION ferry.police(regclass, bool) IS 'Whether policies are asked about devices'' writes of a table';

-- ---------------------------------------------------------------- what devices hold

-- Whom to ask: functions of the tenant model, and of a tenant's own set of schemas.
--
--   rights(devices uuid[]) -> (device_id uuid, permission text, scope text)
--       what the users of devices may do: a permission or a pattern (leads.*, *), and the
--       scope where it holds (*: everywhere, or project:<uuid>)
--   next(devices uuid[]) -> (device_id uuid, at timestamptz)
--       when that answer changes by time alone
--   refusal(tenant uuid, tab regclass, op text, device uuid, old jsonb, new jsonb) -> text
--       why a policy forbids a device to change a row from old to new; NULL: none does
--   scopes(devices uuid[]) -> (device_id uuid, scope text)
--       the scopes of what the users of devices belong to (team:<uuid>, role:<uuid>): held
--       as if they were granted, for as long as this names them. Optional
CREATE TABLE ferry.authority (
    tenant_id uuid PRIMARY KEY,
    rights    regproc NOT NULL,
    next      regproc NOT NULL,
    refusal   regproc NOT NULL,
    scopes    regproc
);
COMMENT ON TABLE ferry.authority IS
    'The functions of the tenant model that say who may what; the reserved tenant''s hold for all that have none of their own';

CREATE FUNCTION ferry.answer_rights(rights regproc, next regproc, refusal regproc) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO ferry.authority (tenant_id, rights, next, refusal)
    VALUES (coalesce(nullif(current_setting('ferry.placing', true), '')::uuid, ferry.nobody()), rights, next, refusal)
    ON CONFLICT (tenant_id) DO UPDATE SET rights = excluded.rights, next = excluded.next, refusal = excluded.refusal
$$;
COMMENT ON FUNCTION ferry.answer_rights(regproc, regproc, regproc) IS
    'Names the functions of the tenant model that say who may what; without them nobody may what needs a permission';

CREATE FUNCTION ferry.answer_scopes(scopes regproc) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE ferry.authority a SET scopes = answer_scopes.scopes
    WHERE a.tenant_id = coalesce(nullif(current_setting('ferry.placing', true), '')::uuid, ferry.nobody())
$$;
COMMENT ON FUNCTION ferry.answer_scopes(regproc) IS
    'Names the function of the tenant model that says which scopes users belong to; after ferry.answer_rights';

CREATE FUNCTION ferry.authority_of(tenant uuid) RETURNS ferry.authority
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a FROM ferry.authority a WHERE a.tenant_id IN (tenant, ferry.nobody()) ORDER BY a.tenant_id = ferry.nobody() LIMIT 1
$$;

CREATE FUNCTION ferry.rights_of(tenant uuid, devices uuid[]) RETURNS TABLE (device_id uuid, permission text, scope text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    a ferry.authority := ferry.authority_of(tenant);
BEGIN
    IF a.rights IS NOT NULL THEN
        RETURN QUERY EXECUTE format('SELECT r.device_id, r.permission, r.scope FROM %s($1) r', a.rights) USING devices;
    END IF;
END $$;

CREATE FUNCTION ferry.rights_next(tenant uuid, devices uuid[]) RETURNS TABLE (device_id uuid, at timestamptz)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    a ferry.authority := ferry.authority_of(tenant);
BEGIN
    IF a.next IS NOT NULL THEN
        RETURN QUERY EXECUTE format('SELECT r.device_id, r.at FROM %s($1) r', a.next) USING devices;
    END IF;
END $$;

CREATE FUNCTION ferry.permission_fits(permission text, pattern text) RETURNS bool
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN pattern = permission OR pattern = '*'
           OR right(pattern, 2) = '.*' AND starts_with(permission, left(pattern, -1));

CREATE FUNCTION ferry.renew_rights(tenant uuid, devices uuid[]) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH want AS MATERIALIZED (
        SELECT DISTINCT g.device_id, k.permission, g.scope
        FROM ferry.rights_of(tenant, devices) g JOIN ferry.known_permission k ON ferry.permission_fits(k.permission, g.permission)),
    gone AS (
        DELETE FROM ferry.held_right h WHERE h.device_id = ANY (devices) AND NOT EXISTS (
            SELECT FROM want w WHERE w.device_id = h.device_id AND w.permission = h.permission AND w.scope = h.scope)),
    next AS MATERIALIZED (
        SELECT n.device_id, min(n.at) AS at FROM ferry.rights_next(tenant, devices) n GROUP BY 1),
    over AS (
        DELETE FROM ferry.rights_due r WHERE r.device_id = ANY (devices) AND NOT EXISTS (
            SELECT FROM next n WHERE n.device_id = r.device_id)),
    due AS (
        INSERT INTO ferry.rights_due (tenant_id, device_id, at) SELECT tenant, n.device_id, n.at FROM next n
        ON CONFLICT (tenant_id, device_id) DO UPDATE SET at = excluded.at)
    INSERT INTO ferry.held_right (device_id, permission, scope)
    SELECT w.device_id, w.permission, w.scope FROM want w
    ON CONFLICT DO NOTHING
$$;

-- The scopes that devices have beside those that were granted: what their users belong to.
CREATE FUNCTION ferry.member_scopes(devices uuid[]) RETURNS TABLE (device_id uuid, scope text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    a record;
BEGIN
    FOR a IN SELECT (ferry.authority_of(d.tenant_id)).scopes AS asks, array_agg(d.id) AS ids
             FROM ferry.device d WHERE d.id = ANY (devices) GROUP BY d.tenant_id LOOP
        CONTINUE WHEN a.asks IS NULL;
        RETURN QUERY EXECUTE format('SELECT m.device_id, m.scope FROM %s($1) m', a.asks) USING a.ids;
    END LOOP;
END $$;

-- The scopes that follow from the rights; which devices' changed.
CREATE FUNCTION ferry.renew_scopes(devices uuid[]) RETURNS SETOF uuid
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH granted AS MATERIALIZED (
        SELECT s.device_id, s.scope FROM ferry.device_scope s WHERE s.device_id = ANY (devices)
        UNION
        -- Of words that some table speaks of: a new role would end sessions for nothing else.
        SELECT m.device_id, m.scope FROM ferry.member_scopes(devices) m
        WHERE split_part(m.scope, ':', 1) IN (SELECT k.word FROM ferry.scope_kind k)),
    root AS MATERIALIZED (
        SELECT s.device_id, ferry.root_of(s.scope) AS root, bool_or(s.scope NOT LIKE '%+archived') AS live,
               bool_or(s.scope LIKE '%+archived') AS old
        FROM granted s GROUP BY 1, 2),
    want AS MATERIALIZED (
        SELECT u.device_id, u.scope, bool_or(u.reads) AS reads FROM (
            SELECT s.device_id, s.scope, true AS reads FROM granted s
            UNION ALL
            SELECT r.device_id, r.root || k.suffix, r.old OR NOT k.archived
            FROM root r JOIN ferry.scope_kind k ON k.word = split_part(r.root, ':', 1)
                OR k.word = 'row' AND k.suffix <> '' -- whose rows may say any
            WHERE (r.live OR k.archived)
              AND (k.permission IS NULL OR EXISTS (
                   SELECT FROM ferry.held_right h
                   WHERE h.device_id = r.device_id AND h.permission = k.permission AND h.scope IN ('*', r.root)))) u
        GROUP BY u.device_id, u.scope),
    gone AS (
        DELETE FROM ferry.held_scope h WHERE h.device_id = ANY (devices) AND NOT EXISTS (
            SELECT FROM want w WHERE w.device_id = h.device_id AND w.scope = h.scope)
        RETURNING h.device_id),
    come AS (
        INSERT INTO ferry.held_scope AS h (device_id, scope, reads)
        SELECT w.device_id, w.scope, w.reads FROM want w
        ON CONFLICT (device_id, scope) DO UPDATE SET reads = excluded.reads WHERE h.reads <> excluded.reads
        RETURNING h.device_id)
    SELECT g.device_id FROM gone g UNION SELECT c.device_id FROM come c
$$;

-- Takes the tenant's count, for itself or, for devices that nobody else can see yet, beside
-- others. What is read after this is the newest state.
CREATE FUNCTION ferry.lock_rights(tenant uuid, beside bool DEFAULT false) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v bigint;
BEGIN
    INSERT INTO ferry.rights_version AS r (tenant_id) VALUES (tenant) ON CONFLICT DO NOTHING;
    IF beside THEN
        SELECT r.n INTO v FROM ferry.rights_version r WHERE r.tenant_id = tenant FOR SHARE;
    ELSE
        UPDATE ferry.rights_version r SET n = r.n + 1 WHERE r.tenant_id = tenant RETURNING r.n INTO v;
    END IF;
    RETURN v;
END $$;

-- Brings up what the devices of some users hold; users NULL: of the whole tenant, those
-- without a user too.
CREATE FUNCTION ferry.rights_changed(tenant uuid, users uuid[] DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v bigint := ferry.lock_rights(tenant);
    devices uuid[] := ARRAY(SELECT d.id FROM ferry.device d WHERE d.tenant_id = tenant AND d.status = 'active'
                            AND (users IS NULL OR d.user_id = ANY (users)) ORDER BY d.id);
BEGIN
    IF cardinality(devices) > 0 THEN
        PERFORM ferry.renew_rights(tenant, devices);
        INSERT INTO ferry.rescoped AS o (tenant_id, device_id, n) SELECT tenant, d, v FROM ferry.renew_scopes(devices) d
        ON CONFLICT (tenant_id, device_id) DO UPDATE SET n = excluded.n;
    END IF;
END $$;
COMMENT ON FUNCTION ferry.rights_changed(uuid, uuid[]) IS
    'Brings up what devices hold after roles, assignments or users changed; users NULL: all of the tenant';

-- Roles that began or expired meanwhile. Hubs call this before they look.
CREATE FUNCTION ferry.renew_due(tenant uuid) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM ferry.rights_due r WHERE r.tenant_id = tenant AND r.at <= statement_timestamp()) THEN
        PERFORM ferry.rights_changed(tenant);
    END IF;
END $$;
COMMENT ON FUNCTION ferry.renew_due(uuid) IS 'Brings up what devices hold where a role has begun or expired by time';

-- What was granted to devices has changed.
CREATE FUNCTION ferry.on_device_scope() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    g record;
    v bigint;
    renewed uuid[];
BEGIN
    FOR g IN SELECT d.tenant_id, array_agg(DISTINCT d.id) AS devices, bool_and(d.fingerprint IS NULL) AS enrolling
             FROM changed c JOIN ferry.device d ON d.id = c.device_id GROUP BY d.tenant_id ORDER BY d.tenant_id LOOP
        v := ferry.lock_rights(g.tenant_id, g.enrolling);
        PERFORM ferry.renew_rights(g.tenant_id, g.devices);
        renewed := ARRAY(SELECT d FROM ferry.renew_scopes(g.devices) d);
        IF NOT g.enrolling THEN
            INSERT INTO ferry.rescoped AS o (tenant_id, device_id, n) SELECT g.tenant_id, d, v FROM unnest(renewed) d
            ON CONFLICT (tenant_id, device_id) DO UPDATE SET n = excluded.n;
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER rights_insert AFTER INSERT ON ferry.device_scope REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION ferry.on_device_scope();
CREATE TRIGGER rights_update AFTER UPDATE ON ferry.device_scope REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION ferry.on_device_scope();
CREATE TRIGGER rights_delete AFTER DELETE ON ferry.device_scope REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION ferry.on_device_scope();

CREATE FUNCTION ferry.on_device_user() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    v bigint := ferry.lock_rights(NEW.tenant_id);
BEGIN
    PERFORM ferry.renew_rights(NEW.tenant_id, ARRAY[NEW.id]);
    INSERT INTO ferry.rescoped AS o (tenant_id, device_id, n)
    SELECT NEW.tenant_id, d, v FROM ferry.renew_scopes(ARRAY[NEW.id]) d
    ON CONFLICT (tenant_id, device_id) DO UPDATE SET n = excluded.n;
    RETURN NULL;
END $$;
CREATE TRIGGER rights_user AFTER UPDATE OF user_id, status ON ferry.device FOR EACH ROW
    WHEN (OLD.user_id IS DISTINCT FROM NEW.user_id OR OLD.status <> NEW.status)
    EXECUTE FUNCTION ferry.on_device_user();

CREATE FUNCTION ferry.on_device_gone() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM ferry.held_scope h USING gone g WHERE h.device_id = g.id;
    DELETE FROM ferry.held_right h USING gone g WHERE h.device_id = g.id;
    DELETE FROM ferry.rescoped h USING gone g WHERE h.tenant_id = g.tenant_id AND h.device_id = g.id;
    DELETE FROM ferry.rights_due h USING gone g WHERE h.tenant_id = g.tenant_id AND h.device_id = g.id;
    RETURN NULL;
END $$;
CREATE TRIGGER rights_gone AFTER DELETE ON ferry.device REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION ferry.on_device_gone();

-- Changed rules concern everybody. Once at the end of the transaction, whatever the number
-- of lines in a plan: the setting tells that it was done.
CREATE FUNCTION ferry.on_rules() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    me text := pg_current_xact_id()::text;
    t uuid;
BEGIN
    IF current_setting('ferry.rules_done', true) IS DISTINCT FROM me THEN
        PERFORM set_config('ferry.rules_done', me, true);
        FOR t IN SELECT DISTINCT d.tenant_id FROM ferry.device d ORDER BY 1 LOOP
            PERFORM ferry.rights_changed(t);
        END LOOP;
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER rights_rule AFTER INSERT OR UPDATE OR DELETE ON ferry.permission_rule
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ferry.on_rules();
CREATE CONSTRAINT TRIGGER rights_tracked AFTER INSERT OR UPDATE OF scope, read_permission, archives OR DELETE ON ferry.tracked
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION ferry.on_rules();

-- Devices that were enrolled before this keep what they were granted.
INSERT INTO ferry.held_scope (device_id, scope, reads) SELECT s.device_id, s.scope, true FROM ferry.device_scope s;

-- As in 0008, with the scopes that the device really holds.
CREATE OR REPLACE FUNCTION ferry.device_by_fingerprint(print bytea)
RETURNS TABLE (device ferry.device, scopes text[])
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT d, coalesce((SELECT array_agg(s.scope ORDER BY s.scope) FROM ferry.held_scope s
                        WHERE s.device_id = d.id AND s.reads), '{}')
    FROM ferry.device d WHERE d.fingerprint = print
$$;

-- ---------------------------------------------------------------- a write

-- The permissions that a write needs, each with a column that asks for it (0: the
-- operation). A column with a rule of its own does not need the operation's.
CREATE FUNCTION ferry.needed(of_tbl int, op text, nums int[]) RETURNS TABLE (permission text, num int)
    LANGUAGE plpgsql STABLE -- planned once, not at each merge
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RETURN QUERY SELECT r.permission, min(r.num)::int FROM ferry.permission_rule r
    WHERE r.tbl = of_tbl AND r.operation = op
      AND (r.num = ANY (nums)
           OR r.num = 0 AND (op <> 'update' OR EXISTS (
              SELECT FROM unnest(nums) n WHERE NOT EXISTS (
                  SELECT FROM ferry.permission_rule o WHERE o.tbl = of_tbl AND o.operation = op AND o.num = n))))
    GROUP BY r.permission;
END $$;

-- Refuses rows whose device lacks a permission. Before an update or a delete it finds the
-- rows where they were, after an insert or a move where they are now.
CREATE FUNCTION ferry.check_rights(tenant uuid, of_tbl int, op text, nums int[], keys uuid[], devices uuid[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked;
    s record;
    r record;
    refused bool;
BEGIN
    FOR r IN SELECT n.permission, n.num, array_agg(d.id) AS lacking
             FROM ferry.needed(of_tbl, op, nums) n CROSS JOIN (SELECT DISTINCT x FROM unnest(devices) x) AS d(id)
             WHERE NOT EXISTS (SELECT FROM ferry.held_right h
                               WHERE h.device_id = d.id AND h.permission = n.permission AND h.scope = '*')
             GROUP BY n.permission, n.num LOOP
        SELECT * INTO t FROM ferry.tracked o WHERE o.tbl = of_tbl;
        SELECT * INTO s FROM ferry.root_sql(of_tbl);
        EXECUTE format('SELECT EXISTS (SELECT FROM unnest($1::uuid[], $3::uuid[]) AS u(k, device) '
                       'CROSS JOIN LATERAL (SELECT %s AS scopes FROM %s r%s WHERE r.%I = $2 AND r.%I = u.k OFFSET 0) x '
                       'WHERE u.device = ANY ($4) AND NOT EXISTS (SELECT FROM ferry.held_right h '
                       'WHERE h.device_id = u.device AND h.permission = $5 AND h.scope = ANY (x.scopes)))',
                       concat_ws(' || ', s.expr, s.also, CASE WHEN s.also IS NULL THEN '''{}''::text[]' END), t.relid, s.joins, t.tenant_col, t.key_col)
            INTO refused USING keys, tenant, devices, r.lacking, r.permission;
        IF refused THEN
            RAISE EXCEPTION 'the permission % is missing for % on %', r.permission, op, t.replica_name || coalesce((
                SELECT '.' || c.name FROM ferry.tracked_column c WHERE c.tbl = of_tbl AND c.num = r.num), '')
                USING ERRCODE = 'FE314', HINT = 'A role with this permission can be assigned to the device''s user.';
        END IF;
    END LOOP;
    IF op = 'insert' AND EXISTS (SELECT FROM ferry.redaction d WHERE d.restricted = of_tbl) THEN
        PERFORM ferry.check_redacted_rights(tenant, of_tbl, keys, devices);
    END IF;
END $$;
COMMENT ON FUNCTION ferry.check_rights(uuid, int, text, int[], uuid[], uuid[]) IS
    'Refuses a write of the merge (SQLSTATE FE314) where a device''s user lacks a permission';

-- Keeps rows as they are before an update.
CREATE FUNCTION ferry.keep_images(tenant uuid, of_tbl int, keys uuid[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    t ferry.tracked;
BEGIN
    SELECT * INTO t FROM ferry.tracked o WHERE o.tbl = of_tbl;
    EXECUTE format('INSERT INTO ferry.before_image (xid, tbl, key, row) SELECT pg_current_xact_id(), %s, r.%I, to_jsonb(r) - $3 '
                   'FROM %s r WHERE r.%I = $2 AND r.%I = ANY ($1)', of_tbl, t.key_col, t.relid, t.tenant_col, t.key_col)
        USING keys, tenant, t.excluded;
END $$;

-- Asks the policies about rows: before a delete, after an insert or update.
CREATE FUNCTION ferry.check_policies(tenant uuid, of_tbl int, op text, keys uuid[], devices uuid[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    t ferry.tracked;
    refusal text;
BEGIN
    SELECT * INTO t FROM ferry.tracked o WHERE o.tbl = of_tbl;
    EXECUTE format('SELECT x.refusal FROM unnest($1::uuid[], $3::uuid[]) AS u(k, device) '
                   'LEFT JOIN %s r ON r.%I = $2 AND r.%I = u.k '
                   'LEFT JOIN ferry.before_image b ON b.xid = pg_current_xact_id() AND b.tbl = %s AND b.key = u.k '
                   'CROSS JOIN LATERAL (SELECT %s($2, $4, $5, u.device, '
                   'CASE $5 WHEN ''delete'' THEN to_jsonb(r) - $6 ELSE b.row END, '
                   'CASE $5 WHEN ''delete'' THEN NULL ELSE to_jsonb(r) - $6 END) AS refusal OFFSET 0) x '
                   'WHERE x.refusal IS NOT NULL LIMIT 1', t.relid, t.tenant_col, t.key_col, of_tbl, (ferry.authority_of(tenant)).refusal)
        INTO refusal USING keys, tenant, devices, t.relid, op, t.excluded;
    DELETE FROM ferry.before_image b WHERE b.xid = pg_current_xact_id() AND b.tbl = of_tbl AND b.key = ANY (keys);
    IF refusal IS NOT NULL THEN
        RAISE EXCEPTION '%', refusal USING ERRCODE = 'FE315';
    END IF;
END $$;
COMMENT ON FUNCTION ferry.check_policies(uuid, int, text, uuid[], uuid[]) IS
    'Refuses a write of the merge (SQLSTATE FE315) that a policy of the tenant forbids';

REVOKE EXECUTE ON FUNCTION ferry.qualify(int, text, bool), ferry.permit(regclass, text, text, text[]), ferry.archive(regclass, bool),
    ferry.plan(regclass, text, text, bool, bool, text, text, text, text, text[], text), ferry.police(regclass, bool),
    ferry.answer_rights(regproc, regproc, regproc), ferry.rights_of(uuid, uuid[]), ferry.rights_next(uuid, uuid[]), ferry.renew_due(uuid),
    ferry.renew_rights(uuid, uuid[]), ferry.member_scopes(uuid[]), ferry.renew_scopes(uuid[]), ferry.answer_scopes(regproc), ferry.lock_rights(uuid, bool),
    ferry.rights_changed(uuid, uuid[]), ferry.check_rights(uuid, int, text, int[], uuid[], uuid[]),
    ferry.keep_images(uuid, int, uuid[]),
    ferry.check_policies(uuid, int, text, uuid[], uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.permit(regclass, text, text, text[]), ferry.archive(regclass, bool),
    ferry.plan(regclass, text, text, bool, bool, text, text, text, text, text[], text), ferry.police(regclass, bool),
    ferry.rights_changed(uuid, uuid[]), ferry.answer_rights(regproc, regproc, regproc), ferry.answer_scopes(regproc) TO ferry_owner;
GRANT EXECUTE ON FUNCTION ferry.check_rights(uuid, int, text, int[], uuid[], uuid[]), ferry.keep_images(uuid, int, uuid[]),
    ferry.check_policies(uuid, int, text, uuid[], uuid[]), ferry.renew_due(uuid) TO ferry_hub;

RESET ROLE;
