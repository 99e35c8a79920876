-- Tracking: triggers, grants, registering, policies, and what DDL changes of it.

SET LOCAL ROLE ferry_engine;

-- ---------------------------------------------------------------- triggers and grants

-- Runs as whoever owns the table. Statement triggers only fire for the table a statement
-- names, so every partition has its own.
CREATE FUNCTION ferry.attach(of_tbl int, tab regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $$
DECLARE
    t ferry.tracked;
    parted bool := EXISTS (SELECT FROM pg_class WHERE oid = tab AND (relkind = 'p' OR relispartition));
BEGIN
    SELECT * INTO t FROM ferry.tracked WHERE tbl = of_tbl;
    EXECUTE format('CREATE OR REPLACE TRIGGER ferry_insert AFTER INSERT ON %s REFERENCING NEW TABLE AS changed '
                   'FOR EACH STATEMENT EXECUTE FUNCTION ferry.note_%s()', tab, of_tbl);
    EXECUTE format('CREATE OR REPLACE TRIGGER ferry_update AFTER UPDATE ON %s REFERENCING NEW TABLE AS changed '
                   'FOR EACH STATEMENT EXECUTE FUNCTION ferry.note_%s()', tab, of_tbl);
    EXECUTE format('CREATE OR REPLACE TRIGGER ferry_delete AFTER DELETE ON %s REFERENCING OLD TABLE AS changed '
                   'FOR EACH STATEMENT EXECUTE FUNCTION ferry.note_%s()', tab, of_tbl);
    -- A changed key is the end of one row and the start of another. Row triggers don't see
    -- an update that moves a row to another partition; there all old keys are noted.
    IF parted THEN
        EXECUTE format('CREATE OR REPLACE TRIGGER ferry_key AFTER UPDATE ON %s REFERENCING OLD TABLE AS changed '
                       'FOR EACH STATEMENT EXECUTE FUNCTION ferry.note_%s()', tab, of_tbl);
    ELSE
        EXECUTE format('CREATE OR REPLACE TRIGGER ferry_key AFTER UPDATE ON %s FOR EACH ROW '
                       'WHEN (OLD.%I IS DISTINCT FROM NEW.%I OR OLD.%I IS DISTINCT FROM NEW.%I) '
                       'EXECUTE FUNCTION ferry.note_key_%s()',
                       tab, t.key_col, t.key_col, t.tenant_col, t.tenant_col, of_tbl);
    END IF;
    EXECUTE format('CREATE OR REPLACE TRIGGER ferry_truncate BEFORE TRUNCATE ON %s '
                   'FOR EACH STATEMENT EXECUTE FUNCTION ferry.refuse_truncate()', tab);
    -- In one statement: each makes the event trigger read the table's columns again.
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER ferry_insert, ENABLE ALWAYS TRIGGER ferry_update, '
                   'ENABLE ALWAYS TRIGGER ferry_delete, ENABLE ALWAYS TRIGGER ferry_key, ENABLE ALWAYS TRIGGER ferry_truncate', tab);
END $$;

CREATE FUNCTION ferry.detach(tab regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $$
DECLARE
    name text;
BEGIN
    FOREACH name IN ARRAY ARRAY['ferry_insert', 'ferry_update', 'ferry_delete', 'ferry_key', 'ferry_truncate'] LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS %I ON %s', name, tab);
    END LOOP;
    FOR name IN SELECT g.tgname FROM pg_trigger g WHERE g.tgrelid = tab AND g.tgparentid = 0 AND g.tgname ~ '^ferry_(number|given|redact)_' LOOP
        EXECUTE format('DROP TRIGGER %I ON %s', name, tab);
    END LOOP;
END $$;

-- What the engine and the hub need of the table; the hub sees no excluded column.
CREATE FUNCTION ferry.grant_table(of_tbl int) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked;
    cols text;
    writable text;
BEGIN
    SELECT * INTO t FROM ferry.tracked WHERE tbl = of_tbl;
    -- Redacted columns are written for devices that have them elsewhere.
    SELECT string_agg(quote_ident(c.name), ', ' ORDER BY c.num),
           string_agg(quote_ident(c.name), ', ' ORDER BY c.num) FILTER (WHERE c.writable)
    INTO cols, writable
    FROM (SELECT o.name, o.num, NOT o.generated AS writable FROM ferry.tracked_column o WHERE o.tbl = of_tbl
          UNION ALL SELECT x.name, x.num, x.writable FROM ferry.redacted x WHERE x.tbl = of_tbl) c;
    EXECUTE format('GRANT SELECT, UPDATE (%s) ON %s TO ferry_engine', concat_ws(', ', quote_ident(t.key_col), (
        SELECT string_agg(quote_ident(x.name), ', ') FROM ferry.redacted x WHERE x.tbl = of_tbl AND x.writable)), t.relid);
    EXECUTE format('REVOKE ALL ON %s FROM ferry_hub', t.relid);
    EXECUTE format('GRANT SELECT (%s) ON %s TO ferry_hub', cols, t.relid);
    IF t.relid = to_regclass('ferry.approval') THEN -- says of which table's row a request is, and so where it is
        EXECUTE format('GRANT SELECT (tbl) ON %s TO ferry_hub', t.relid);
    END IF;
    IF t.write THEN
        EXECUTE format('GRANT INSERT (%s), UPDATE (%s), DELETE ON %s TO ferry_hub', writable, writable, t.relid);
    END IF;
END $$;

CREATE FUNCTION ferry.partitions_of(tab regclass) RETURNS SETOF regclass
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$ SELECT tab UNION SELECT p.relid FROM pg_partition_tree(tab) p $$;

-- The catalogue's part of tracking a table.
CREATE FUNCTION ferry.register(tab regclass, scope text, write bool, replica_name text, exclude text[])
RETURNS int
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    k record;
    c pg_class;
    n int;
    missing text;
BEGIN
    SELECT * INTO k FROM ferry.read_key(tab);
    SELECT * INTO c FROM pg_class WHERE oid = tab;
    IF EXISTS (SELECT FROM ferry.tracked WHERE relid = tab) THEN
        RAISE EXCEPTION '% is tracked already', tab
            USING ERRCODE = 'duplicate_object', HINT = 'Call ferry.untrack first to change how.';
    ELSIF EXISTS (SELECT FROM ferry.tracked t WHERE t.replica_name = coalesce(register.replica_name, c.relname)) THEN
        RAISE EXCEPTION 'devices already have a table named %', coalesce(replica_name, c.relname)
            USING ERRCODE = 'duplicate_table', HINT = 'Give another with replica_name => ''...''.';
    ELSIF coalesce(replica_name, c.relname) ~* '^(ferry|sqlite)_' THEN
        RAISE EXCEPTION 'devices keep the names ferry_... and sqlite_... for themselves: %', coalesce(replica_name, c.relname)
            USING ERRCODE = 'reserved_name', HINT = 'Give another with replica_name => ''...''.';
    END IF;
    SELECT x INTO missing FROM unnest(exclude) x WHERE NOT EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = tab AND a.attname = x AND NOT a.attisdropped) LIMIT 1;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION '% has no column %', tab, missing USING ERRCODE = 'undefined_column';
    ELSIF k.key_col = ANY (exclude) OR k.tenant_col = ANY (exclude) THEN
        RAISE EXCEPTION '%: the key and the tenant can''t be excluded', tab USING ERRCODE = 'invalid_parameter_value';
    END IF;
    INSERT INTO ferry.tracked (tbl, relid, nsp, name, replica_name, key_col, tenant_col, scope, write, excluded, excluded_nums)
    VALUES (nextval('ferry.table_seq'), tab, c.relnamespace::regnamespace::text, c.relname,
            coalesce(replica_name, c.relname), k.key_col, k.tenant_col, scope, write, exclude,
            ARRAY(SELECT a.attnum FROM pg_attribute a WHERE a.attrelid = tab AND a.attname = ANY (exclude) AND NOT a.attisdropped))
    RETURNING tbl INTO n;
    INSERT INTO ferry.tracked_part (relid, tbl) SELECT p, n FROM ferry.partitions_of(tab) p;
    PERFORM ferry.read_columns(n);
    PERFORM ferry.read_scope(n);
    PERFORM ferry.generate(n);
    RETURN n;
END $$;

-- What an event trigger needs has to be open to whoever owns a tracked table. So it looks
-- whether the caller does, or whether the table is gone.
CREATE FUNCTION ferry.need_owner(tab oid) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (SELECT FROM pg_class c WHERE c.oid = tab AND NOT pg_has_role(session_user, c.relowner, 'MEMBER')) THEN
        RAISE EXCEPTION 'must be owner of %', tab::regclass USING ERRCODE = 'insufficient_privilege';
    END IF;
END $$;

-- Notes every row of a table: what differs from its version is captured at the commit.
CREATE FUNCTION ferry.note_all(of_tbl int) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
AS $$
DECLARE
    t ferry.tracked;
BEGIN
    SELECT * INTO t FROM ferry.tracked WHERE tbl = of_tbl;
    PERFORM ferry.need_owner(t.relid);
    EXECUTE format('SELECT count(ferry.note(%s, s.tenant, s.keys)) FROM ('
                   'SELECT %I AS tenant, array_agg(%I) AS keys FROM %s GROUP BY %I, uuid_hash(%I) & 15) s',
                   of_tbl, t.tenant_col, t.key_col, t.relid, t.tenant_col, t.key_col);
END $$;

CREATE FUNCTION ferry.track(tab regclass, scope text DEFAULT 'tenant', write bool DEFAULT true,
                            replica_name text DEFAULT NULL, exclude text[] DEFAULT '{}')
RETURNS int
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n int;
    part regclass;
    schema text := (SELECT c.relnamespace::regnamespace FROM pg_class c WHERE c.oid = tab);
BEGIN
    -- Nobody writes between the triggers and the backfill.
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', tab);
    n := ferry.register(tab, scope, write, replica_name, exclude);
    EXECUTE format('GRANT USAGE ON SCHEMA %s TO ferry_engine, ferry_hub', schema);
    PERFORM ferry.grant_table(n);
    FOR part IN SELECT p.relid FROM ferry.tracked_part p WHERE p.tbl = n LOOP
        PERFORM ferry.attach(n, part);
    END LOOP;
    PERFORM ferry.note_all(n);
    IF NOT (SELECT relrowsecurity AND relforcerowsecurity FROM pg_class WHERE oid = tab)
       OR NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = tab) THEN
        RAISE NOTICE '% has no row-level security: SELECT ferry.isolate(''%'') keeps tenants apart', tab, tab;
    END IF;
    RETURN n;
END $$;
COMMENT ON FUNCTION ferry.track(regclass, text, bool, text, text[]) IS
    'Tracks a table: devices that hold its scopes get its rows; its number';

CREATE FUNCTION ferry.unregister(of_tbl int) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
AS $$
DECLARE
    child text := (SELECT string_agg(DISTINCT t.relid::text, ', ') FROM ferry.scope_hop h JOIN ferry.tracked t ON t.tbl = h.tbl
                   WHERE h.to_tbl = of_tbl AND h.tbl <> of_tbl);
    bringer text := (SELECT string_agg(DISTINCT t.relid::text, ', ') FROM ferry.bring b JOIN ferry.tracked t ON t.tbl = b.tbl WHERE b.to_tbl = of_tbl);
    parents int[] := (SELECT array_agg(DISTINCT h.to_tbl) FROM ferry.scope_hop h WHERE h.tbl = of_tbl AND h.to_tbl <> of_tbl);
    other int;
    restricted text := (SELECT r.relid FROM ferry.redaction d JOIN ferry.tracked r ON r.tbl = d.restricted
                        JOIN ferry.tracked t ON t.tbl = d.tbl WHERE of_tbl IN (d.tbl, d.restricted)
                        AND EXISTS (SELECT FROM pg_class c WHERE c.oid = CASE of_tbl WHEN d.tbl THEN r.relid ELSE t.relid END) LIMIT 1);
BEGIN
    PERFORM ferry.need_owner((SELECT t.relid FROM ferry.tracked t WHERE t.tbl = of_tbl));
    IF restricted IS NOT NULL THEN
        RAISE EXCEPTION 'columns are redacted: devices have them in %', restricted
            USING ERRCODE = 'dependent_objects_still_exist', HINT = format('SELECT ferry.reveal(''%s'') first.', restricted);
    END IF;
    DELETE FROM ferry.redaction d WHERE of_tbl IN (d.tbl, d.restricted);
    IF child IS NOT NULL THEN
        RAISE EXCEPTION 'the scope of % leads over this table', child
            USING ERRCODE = 'dependent_objects_still_exist', HINT = 'Untrack that first.';
    ELSIF bringer IS NOT NULL THEN
        RAISE EXCEPTION 'rows of % bring rows of this table along', bringer
            USING ERRCODE = 'dependent_objects_still_exist', HINT = 'Untrack that first, or end it with ferry.bring(..., false).';
    END IF;
    PERFORM ferry.forget_references(of_tbl);
    PERFORM ferry.note_requests(of_tbl);
    DELETE FROM ferry.tracked WHERE tbl = of_tbl;
    DELETE FROM ferry.dirty WHERE tbl > 0 AND tbl & (ferry.counts() - 1) = of_tbl;
    DELETE FROM ferry.brought WHERE tbl = of_tbl;
    DELETE FROM ferry.version WHERE tbl = of_tbl;
    DELETE FROM ferry.left WHERE tbl = of_tbl;
    DELETE FROM ferry.change WHERE tbl = of_tbl;
    DELETE FROM ferry.sum WHERE tbl = of_tbl;
    UPDATE ferry.tracked_column SET ref_tbl = NULL WHERE ref_tbl = of_tbl;
    FOREACH other IN ARRAY coalesce(parents, '{}') LOOP
        PERFORM ferry.generate_finish(other);
    END LOOP;
    PERFORM ferry.generate_dispatch();
    EXECUTE format('DROP FUNCTION IF EXISTS ferry.note_%1$s(), ferry.note_key_%1$s(), '
                   'ferry.finish_few_%1$s(bigint, uuid, uuid[], bool), ferry.finish_many_%1$s(bigint, uuid, uuid[], int, bool), '
                   'ferry.count_%1$s(bigint, uuid, uuid[])', of_tbl);
END $$;

CREATE FUNCTION ferry.untrack(tab regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n int := (SELECT t.tbl FROM ferry.tracked t WHERE t.relid = tab);
    part regclass;
BEGIN
    IF n IS NULL THEN
        RAISE EXCEPTION '% is not tracked', tab USING ERRCODE = 'undefined_object';
    END IF;
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', tab);
    FOR part IN SELECT p.relid FROM ferry.tracked_part p WHERE p.tbl = n LOOP
        PERFORM ferry.detach(part);
    END LOOP;
    EXECUTE format('REVOKE ALL ON %s FROM ferry_hub, ferry_engine', tab);
    PERFORM ferry.unregister(n);
END $$;
COMMENT ON FUNCTION ferry.untrack(regclass) IS 'The reverse of ferry.track: devices lose the table, its rows stay';

CREATE FUNCTION ferry.policy(tab regclass, col text, policy text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n int := (SELECT t.tbl FROM ferry.tracked t WHERE t.relid = tab);
    c ferry.tracked_column;
BEGIN
    IF n IS NULL THEN
        RAISE EXCEPTION '% is not tracked', tab USING ERRCODE = 'undefined_object';
    END IF;
    SELECT * INTO c FROM ferry.tracked_column o WHERE o.tbl = n AND o.name = col;
    IF c.tbl IS NULL THEN
        RAISE EXCEPTION '% has no synced column %', tab, col USING ERRCODE = 'undefined_column';
    ELSIF policy NOT IN ('lww', 'hub') THEN
        RAISE EXCEPTION '"%" is no policy', policy
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Policies are: lww, hub.';
    ELSIF policy <> 'hub' AND (c.generated OR col = (SELECT t.tenant_col FROM ferry.tracked t WHERE t.tbl = n)) THEN
        RAISE EXCEPTION '%.% is set by the hub alone', tab, col USING ERRCODE = 'invalid_parameter_value';
    END IF;
    UPDATE ferry.tracked_column o SET policy = policy.policy WHERE o.tbl = n AND o.num = c.num;
END $$;
COMMENT ON FUNCTION ferry.policy(regclass, text, text) IS 'Sets how concurrent edits of a column merge';

-- ---------------------------------------------------------------- DDL

-- Does a column that has come give rows that were there values of their own?
CREATE FUNCTION ferry.makes_values(tab regclass, col int) RETURNS bool
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.atthasdef OR a.attidentity <> '' OR y.typtype = 'd'
    FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid WHERE a.attrelid = tab AND a.attnum = col
$$;

-- What PostgreSQL notes as the value of a column that came with a constant default; NULL: none.
CREATE FUNCTION ferry.missing_value(tab regclass, col int) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
AS $$
    SELECT (a.attmissingval::text::text[])[1] FROM pg_attribute a
    WHERE a.attrelid = tab AND a.attnum = col AND a.atthasmissing
$$;

-- A value, given as text of its type, as ferry.conflict keeps wire values.
CREATE FUNCTION ferry.wire_json(c ferry.tracked_column, value text) RETURNS jsonb
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
AS $$
DECLARE
    j jsonb;
BEGIN
    EXECUTE format(CASE
        WHEN c.kind = 'timestamptz' THEN 'SELECT CASE WHEN isfinite(w) THEN to_jsonb((extract(epoch FROM w) * 1000000)::bigint) ELSE to_jsonb(w::text) END'
        WHEN c.kind = 'date' THEN 'SELECT CASE WHEN isfinite(w) THEN to_jsonb(w - date ''epoch'') ELSE to_jsonb(w::text) END'
        WHEN c.kind = 'float' THEN 'SELECT CASE WHEN w::text = ''-0'' THEN to_jsonb(w::text) ELSE to_jsonb(w) END'
        WHEN c.kind = 'bytes' THEN 'SELECT to_jsonb(w::text)'
        ELSE 'SELECT to_jsonb(w)' END || ' FROM (SELECT %s AS w) x',
        ferry.fill(c.wire_expr, format('%L::%s', value, c.pg_type), '')) INTO j;
    RETURN j;
END $$;

-- Notes what rows got that were there before a column came: then neither the hub captures
-- each of them, nor does a device download them. A change of the type leaves a text a text;
-- another kind of value differs for every row, so that all of them are captured.
CREATE FUNCTION ferry.read_filled(of_tbl int, was ferry.tracked_column[]) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE ferry.tracked_column c SET filled = ferry.wire_json(c, ferry.missing_value(t.relid, c.num))
    FROM ferry.tracked t
    WHERE c.tbl = of_tbl AND t.tbl = of_tbl AND ferry.missing_value(t.relid, c.num) IS NOT NULL
      AND NOT EXISTS (SELECT FROM unnest(was) o WHERE o.num = c.num);
    UPDATE ferry.tracked_column c SET filled = NULL
    FROM unnest(was) o
    WHERE c.tbl = of_tbl AND c.filled IS NOT NULL AND o.num = c.num AND o.kind <> c.kind
      AND NOT (o.kind IN ('text', 'citext', 'enum', 'other') AND c.kind IN ('text', 'citext', 'enum', 'other'));
$$;

-- Moves stored hashes and sums to the places that the columns have now. A new column's are
-- those of the value that rows got which were there.
CREATE FUNCTION ferry.place_hashes(of_tbl int, was ferry.tracked_column[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
AS $$
DECLARE
    hashes text;
    sums text;
    added text;
BEGIN
    SELECT string_agg(CASE WHEN o.i IS NOT NULL THEN format('v.hashes[%s]', o.i)
                           WHEN c.filled IS NULL THEN '0'
                           ELSE format('coalesce(%s, 0)', ferry.fill(c.hash_expr,
                               format('%L::%s', ferry.missing_value(t.relid, c.num), c.pg_type),
                               format('pg_catalog.uuid_hash_extended(v.key, 0) # %s', c.num))) END, ', ' ORDER BY c.num),
           string_agg(coalesce('z.sums[' || o.i || ']', '0'), ', ' ORDER BY c.num),
           CASE WHEN bool_or(o.i IS NULL AND c.filled IS NOT NULL) THEN
               string_agg(CASE WHEN o.i IS NULL AND c.filled IS NOT NULL THEN format('bit_xor(v.hashes[%s])', c.i) ELSE '0' END,
                          ', ' ORDER BY c.num) END
    INTO hashes, sums, added
    FROM (SELECT x.*, row_number() OVER (ORDER BY x.num) AS i FROM ferry.tracked_column x WHERE x.tbl = of_tbl) c
    JOIN ferry.tracked t ON t.tbl = of_tbl
    LEFT JOIN (SELECT o.num, row_number() OVER (ORDER BY o.num) AS i FROM unnest(was) o) o ON o.num = c.num;
    EXECUTE format('UPDATE ferry.version v SET hashes = ARRAY[%s]::bigint[] WHERE v.tbl = %s AND v.hashes IS NOT NULL', hashes, of_tbl);
    EXECUTE format('UPDATE ferry.sum z SET sums = ARRAY[%s]::bigint[] WHERE z.tbl = %s', sums, of_tbl);
    IF added IS NOT NULL THEN
        EXECUTE format('INSERT INTO ferry.sum (tenant_id, tbl, scope, tx, sums, rows) '
                       'SELECT v.tenant_id, %s, x.scope, ferry.current_tx(), ARRAY[%s]::bigint[], 0 FROM ferry.version v, unnest(v.scope || v.also) AS x(scope) '
                       'WHERE v.tbl = %s AND v.hashes IS NOT NULL GROUP BY v.tenant_id, x.scope', of_tbl, added, of_tbl);
    END IF;
END $$;

-- Reads a tracked table's columns again. Hashes stand in the order of the columns, so they
-- are moved to their new places; where a type changed, values in their new form go to devices
-- without a change of their versions; then every row is noted if a column came whose values differ
-- by row, and what differs is captured as a change of the hub's.
CREATE FUNCTION ferry.refresh(of_tbl int) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
AS $$
DECLARE
    t ferry.tracked;
    to_come text[] := '{}';
    was ferry.tracked_column[];
    now ferry.tracked_column[];
BEGIN
    SELECT * INTO t FROM ferry.tracked WHERE tbl = of_tbl;
    PERFORM ferry.need_owner(t.relid);
    SELECT array_agg(c ORDER BY c.num) INTO was FROM ferry.tracked_column c WHERE c.tbl = of_tbl;
    -- Names that were excluded before there was such a column: it may have come, or is to come.
    IF cardinality(t.excluded) > cardinality(t.excluded_nums) THEN
        to_come := ARRAY(SELECT n FROM unnest(t.excluded) n WHERE NOT EXISTS (
            SELECT FROM pg_attribute a WHERE a.attrelid = t.relid AND a.attname = n AND NOT a.attisdropped));
        t.excluded_nums := t.excluded_nums || ARRAY(
            SELECT a.attnum::int FROM pg_attribute a WHERE a.attrelid = t.relid AND a.attnum > 0 AND NOT a.attisdropped
            AND a.attname = ANY (t.excluded) AND a.attnum <> ALL (t.excluded_nums));
        UPDATE ferry.tracked o SET excluded_nums = t.excluded_nums WHERE o.tbl = of_tbl;
    END IF;
    UPDATE ferry.tracked o SET nsp = c.relnamespace::regnamespace::text, name = c.relname,
        key_col = k.key_col, tenant_col = k.tenant_col, excluded = x.names
    FROM pg_class c, ferry.read_key(t.relid) k,
         (SELECT ARRAY(SELECT a.attname::text FROM pg_attribute a WHERE a.attrelid = t.relid AND a.attnum = ANY (t.excluded_nums)
                       AND NOT a.attisdropped ORDER BY a.attnum) || to_come AS names) x
    WHERE o.tbl = of_tbl AND c.oid = t.relid
      AND (o.nsp, o.name, o.key_col, o.tenant_col, o.excluded) IS DISTINCT FROM
          (c.relnamespace::regnamespace::text, c.relname::text, k.key_col, k.tenant_col, x.names);
    -- A renamed column stays on the scope's path under its new name.
    UPDATE ferry.scope_hop h SET col = a.attname
    FROM ferry.tracked_column c JOIN ferry.tracked p ON p.tbl = c.tbl
    JOIN pg_attribute a ON a.attrelid = p.relid AND a.attnum = c.num AND NOT a.attisdropped
    WHERE c.tbl = of_tbl AND h.from_tbl = of_tbl AND h.col = c.name AND c.name <> a.attname;
    UPDATE ferry.tracked o SET scope = s.written
    FROM (SELECT w.tbl, string_agg(split_part(split_part(x.scope, '|', w.way + 1), ':', 1) || ':' || w.path, '|' ORDER BY w.way) AS written
          FROM (SELECT h.tbl, h.hop / 100 AS way, string_agg(h.col, '.' ORDER BY h.hop) AS path FROM ferry.scope_hop h GROUP BY 1, 2) w
          JOIN ferry.tracked x ON x.tbl = w.tbl GROUP BY w.tbl) s
    WHERE o.tbl = s.tbl AND o.scope <> s.written;
    PERFORM ferry.read_columns(of_tbl);
    PERFORM ferry.read_filled(of_tbl, was);
    PERFORM ferry.note_past(of_tbl, was);
    SELECT array_agg(c ORDER BY c.num) INTO now FROM ferry.tracked_column c WHERE c.tbl = of_tbl;
    IF was IS NOT DISTINCT FROM now AND t IS NOT DISTINCT FROM (SELECT o FROM ferry.tracked o WHERE o.tbl = of_tbl) THEN
        RETURN;
    END IF;
    IF EXISTS (SELECT FROM ferry.scope_hop h WHERE h.from_tbl = of_tbl AND NOT EXISTS (
               SELECT FROM ferry.tracked_column c WHERE c.tbl = of_tbl AND c.name = h.col)) THEN
        RAISE EXCEPTION 'a dropped column of % is on the way to a scope', t.relid
            USING ERRCODE = 'dependent_objects_still_exist', HINT = 'Untrack the tables whose scope leads over it first.';
    ELSIF EXISTS (SELECT FROM ferry.bring b WHERE b.tbl = of_tbl AND NOT EXISTS (
                  SELECT FROM ferry.tracked_column c WHERE c.tbl = of_tbl AND c.num = b.num)) THEN
        RAISE EXCEPTION 'a dropped column of % brings parents along', t.relid
            USING ERRCODE = 'dependent_objects_still_exist', HINT = 'End that first with ferry.bring(..., false).';
    END IF;
    PERFORM ferry.generate(of_tbl);
    IF (SELECT array_agg(o.num) FROM unnest(was) o) IS DISTINCT FROM (SELECT array_agg(c.num) FROM unnest(now) c) THEN
        PERFORM ferry.place_hashes(of_tbl, was);
        -- An override of a dropped column would outlive it.
        UPDATE ferry.version v SET over = nullif(ARRAY(
            SELECT x FROM unnest(v.over) x WHERE x >> 48 IN (SELECT c.num FROM ferry.tracked_column c WHERE c.tbl = of_tbl)), '{}')
        WHERE v.tbl = of_tbl AND v.over IS NOT NULL AND EXISTS (
            SELECT FROM unnest(v.over) x WHERE x >> 48 NOT IN (SELECT c.num FROM ferry.tracked_column c WHERE c.tbl = of_tbl));
    END IF;
    PERFORM ferry.take_retyped(of_tbl, was);
    -- Rows that were there have nothing in a new column without a default, and what filled
    -- says in one with a constant.
    IF EXISTS (SELECT FROM unnest(now) c LEFT JOIN unnest(was) o ON o.num = c.num
               WHERE o.num IS NULL AND c.filled IS NULL AND ferry.makes_values(t.relid, c.num)) THEN
        PERFORM ferry.note_all(of_tbl);
    END IF;
END $$;

-- Takes in a partition that has come.
CREATE FUNCTION ferry.add_part(of_tbl int, part regclass) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ferry.need_owner(t.relid) FROM ferry.tracked t WHERE t.tbl = of_tbl;
    INSERT INTO ferry.tracked_part (relid, tbl) VALUES (part, of_tbl) ON CONFLICT DO NOTHING
$$;

CREATE FUNCTION ferry.drop_part(part oid) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ferry.need_owner(part);
    DELETE FROM ferry.tracked_part p WHERE p.relid = part
$$;

-- Notes what differs from its version, rows without one and versions without a row.
CREATE FUNCTION ferry.note_strays(of_tbl int) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
AS $$
BEGIN
    PERFORM ferry.note_all(of_tbl);
    PERFORM ferry.note(of_tbl, v.tenant_id, array_agg(v.key)) FROM ferry.version v
    WHERE v.tbl = of_tbl AND NOT v.deleted GROUP BY v.tenant_id;
END $$;

CREATE FUNCTION ferry.on_ddl() RETURNS event_trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
    part regclass;
BEGIN
    FOR r IN SELECT DISTINCT t.tbl, t.relid FROM pg_event_trigger_ddl_commands() c
             CROSS JOIN LATERAL (
                 SELECT c.objid AS id WHERE c.classid = 'pg_class'::regclass
                 UNION SELECT a.relid FROM pg_partition_ancestors(c.objid) a WHERE c.classid = 'pg_class'::regclass
                 UNION SELECT o.oid FROM pg_class o WHERE c.classid = 'pg_namespace'::regclass AND o.relnamespace = c.objid
                 UNION SELECT o.attrelid FROM pg_attribute o
                       WHERE c.classid = 'pg_type'::regclass AND o.atttypid = c.objid) x
             JOIN ferry.tracked t ON t.relid = x.id LOOP
        PERFORM ferry.follow_redactions(r.tbl);
        -- A restricted table goes with its last column.
        CONTINUE WHEN NOT EXISTS (SELECT FROM ferry.tracked t WHERE t.tbl = r.tbl);
        PERFORM ferry.refresh(r.tbl);
        PERFORM ferry.grant_table(r.tbl);
        FOR part IN SELECT p FROM ferry.partitions_of(r.relid) p
                    WHERE NOT EXISTS (SELECT FROM ferry.tracked_part o WHERE o.relid = p) LOOP
            PERFORM ferry.add_part(r.tbl, part);
            PERFORM ferry.attach(r.tbl, part);
            PERFORM ferry.attach_redactions(r.tbl, part);
            -- It may have come with rows.
            PERFORM ferry.note_all(r.tbl);
        END LOOP;
        FOR part IN SELECT o.relid FROM ferry.tracked_part o
                    WHERE o.tbl = r.tbl AND NOT EXISTS (SELECT FROM ferry.partitions_of(r.relid) p WHERE p = o.relid) LOOP
            PERFORM ferry.drop_part(part);
            PERFORM ferry.detach(part);
            PERFORM ferry.note_strays(r.tbl);
        END LOOP;
    END LOOP;
END $$;

CREATE FUNCTION ferry.on_drop() RETURNS event_trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
BEGIN
    FOR r IN SELECT p.tbl, o.objid, t.relid = o.objid AS whole FROM pg_event_trigger_dropped_objects() o
             JOIN ferry.tracked_part p ON p.relid = o.objid JOIN ferry.tracked t ON t.tbl = p.tbl
             WHERE o.classid = 'pg_class'::regclass AND o.objsubid = 0
             ORDER BY t.relid = o.objid LOOP
        PERFORM ferry.drop_part(r.objid);
        IF r.whole THEN
            PERFORM ferry.unregister(r.tbl);
        ELSIF EXISTS (SELECT FROM ferry.tracked t JOIN pg_class c ON c.oid = t.relid WHERE t.tbl = r.tbl) THEN
            PERFORM ferry.note_strays(r.tbl);
        END IF;
    END LOOP;
END $$;

RESET ROLE;
-- Only a superuser may create event triggers; the functions run as whoever alters a table.
CREATE EVENT TRIGGER ferry_ddl ON ddl_command_end
    WHEN TAG IN ('ALTER TABLE', 'CREATE TABLE', 'ALTER TYPE', 'ALTER SCHEMA')
    EXECUTE FUNCTION ferry.on_ddl();
CREATE EVENT TRIGGER ferry_drop ON sql_drop
    EXECUTE FUNCTION ferry.on_drop();
ALTER EVENT TRIGGER ferry_ddl ENABLE ALWAYS;
ALTER EVENT TRIGGER ferry_drop ENABLE ALWAYS;

SET LOCAL ROLE ferry_engine;
REVOKE EXECUTE ON FUNCTION ferry.register(regclass, text, bool, text, text[]),
    ferry.generate(int), ferry.generate_note(int), ferry.generate_finish(int), ferry.generate_dispatch(),
    ferry.read_columns(int), ferry.read_references(), ferry.read_scope(int), ferry.read_way(ferry.tracked, int, text[]),
    ferry.track(regclass, text, bool, text, text[]), ferry.untrack(regclass), ferry.policy(regclass, text, text)
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.register(regclass, text, bool, text, text[]),
    ferry.track(regclass, text, bool, text, text[]), ferry.untrack(regclass), ferry.policy(regclass, text, text)
    TO ferry_owner;
RESET ROLE;
