-- Columns that only some of the devices with a row may read.
--
-- Frames and checksums are shared by all devices that hold a scope, so a cell is never hidden
-- within a row. Instead the columns stand, for devices, in a table of their own beside the
-- table, with the same key, in the scope of the row behind a read permission. At the hub they
-- stay where they are: triggers keep both in step, within the transaction of the change.
--
--   SQL on the table   -> ferry.redact_out_<n>()    into the restricted table
--   a device's edit of the restricted table
--                      -> ferry.redact_in_<n>()     into the table
--
-- Each writes only what differs, so the other finds nothing to do and the round ends. The
-- table's row is locked first, whoever writes: the merge locks it before the restricted one.
-- n is the number of the restricted table.

SET LOCAL ROLE ferry_engine;

CREATE TABLE ferry.redaction (
    restricted int PRIMARY KEY REFERENCES ferry.tracked ON DELETE CASCADE,
    tbl        int NOT NULL REFERENCES ferry.tracked
);
COMMENT ON TABLE ferry.redaction IS 'Tables that hold, for devices, columns of another table that only some may read';
COMMENT ON COLUMN ferry.redaction.tbl IS 'The table whose columns they are';

CREATE TABLE ferry.redacted_column (
    restricted     int NOT NULL REFERENCES ferry.redaction ON DELETE CASCADE,
    num            int NOT NULL,
    restricted_num int NOT NULL,
    PRIMARY KEY (restricted, num)
);
COMMENT ON TABLE ferry.redacted_column IS 'Which column of the table stands where in the restricted one';
GRANT SELECT ON ferry.redaction, ferry.redacted_column TO PUBLIC;

CREATE TRIGGER generation AFTER INSERT OR UPDATE OR DELETE ON ferry.redaction
    FOR EACH STATEMENT EXECUTE FUNCTION ferry.next_generation();

-- Redacted columns as the table has them now.
CREATE VIEW ferry.redacted AS
    SELECT d.restricted, d.tbl, c.num, c.restricted_num, a.attname AS name,
           a.attgenerated = '' AS writable, a.attnotnull AND a.attgenerated = '' AS not_null
    FROM ferry.redacted_column c
    JOIN ferry.redaction d ON d.restricted = c.restricted
    JOIN ferry.tracked t ON t.tbl = d.tbl
    JOIN pg_attribute a ON a.attrelid = t.relid AND a.attnum = c.num AND NOT a.attisdropped;
COMMENT ON VIEW ferry.redacted IS 'Redacted columns as their table has them now, and where they stand in the restricted one';
GRANT SELECT ON ferry.redacted TO PUBLIC;

-- ---------------------------------------------------------------- keeping both in step

-- A merge names the author of a row before it writes it. What follows from an edit of the
-- restricted row in the table's is that author's doing too, for those who ask (the audit log).
CREATE FUNCTION ferry.redact_declare(of_tbl int, made int, keys uuid[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO ferry.declared (tx, tbl, key, stamp, nums, hashes)
    SELECT d.tx, of_tbl, d.key, min(d.stamp), '{}', '{}' FROM ferry.declared d
    WHERE d.tx = nullif(current_setting('ferry.tx', true), '')::bigint AND d.tbl = made AND d.key = ANY (keys)
      AND NOT EXISTS (SELECT FROM ferry.declared o WHERE o.tx = d.tx AND o.tbl = of_tbl AND o.key = d.key)
    GROUP BY d.tx, d.key
$$;

-- Does the merge write this row for a device?
CREATE FUNCTION ferry.redact_declared(made int, of_key uuid) RETURNS bool
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT EXISTS (SELECT FROM ferry.declared d WHERE d.tx = nullif(current_setting('ferry.tx', true), '')::bigint
                   AND d.tbl = made AND d.key = of_key)
$$;

-- The functions behind the triggers. Records are compared by their images: also values that
-- are equal and print differently (1.0, 1.00), and types without an equality.
CREATE FUNCTION ferry.generate_redaction(made int) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $outer$
DECLARE
    r ferry.tracked := (SELECT o FROM ferry.tracked o WHERE o.tbl = made);
    t ferry.tracked := (SELECT o FROM ferry.tracked o JOIN ferry.redaction d ON d.tbl = o.tbl WHERE d.restricted = made);
    same text;
    says text;
    names text;
    values_c text;
    values_r text;
    sets text;
    back_c text;
    back_m text;
    back text;
    blank text;
    holds text;
BEGIN
    IF r.archives THEN -- where the row is: nothing that a device writes here
        names := 'deleted_at';
        values_c := 'c.deleted_at';
        values_r := 'r.deleted_at';
        sets := 'deleted_at = c.deleted_at';
    END IF;
    SELECT concat_ws(', ', names, string_agg(format('%I', x.name), ', ' ORDER BY x.num)),
           concat_ws(', ', values_c, string_agg(format('c.%I', x.name), ', ' ORDER BY x.num)),
           concat_ws(', ', values_r, string_agg(format('r.%I', x.name), ', ' ORDER BY x.num)),
           concat_ws(', ', sets, string_agg(format('%1$I = c.%1$I', x.name), ', ' ORDER BY x.num)),
           string_agg(format('c.%I IS NOT NULL', x.name), ' OR ' ORDER BY x.num),
           string_agg(format('c.%I', x.name), ', ' ORDER BY x.num) FILTER (WHERE x.writable),
           string_agg(format('m.%I', x.name), ', ' ORDER BY x.num) FILTER (WHERE x.writable),
           string_agg(format('%1$I = c.%1$I', x.name), ', ' ORDER BY x.num) FILTER (WHERE x.writable),
           string_agg(format('%I = NULL', x.name), ', ' ORDER BY x.num) FILTER (WHERE x.writable),
           string_agg(format('m.%I IS NOT NULL', x.name), ' OR ' ORDER BY x.num) FILTER (WHERE x.writable)
    INTO names, values_c, values_r, sets, says, back_c, back_m, back, blank, holds
    FROM ferry.redacted x WHERE x.restricted = made;
    same := format('r.%I = c.%I AND r.%I = c.%I', r.tenant_col, t.tenant_col, r.key_col, t.key_col);

    -- The hub's side: as the engine, for whoever may write the table need not know the other.
    EXECUTE format($f$
CREATE OR REPLACE FUNCTION ferry.redact_out_%1$s() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM changed c LEFT JOIN %2$s r ON %3$s
               WHERE CASE WHEN r.%4$I IS NULL THEN %5$s ELSE ROW(%6$s)::record *<> ROW(%7$s)::record END) THEN
        UPDATE %2$s r SET %8$s FROM changed c WHERE %3$s AND ROW(%6$s)::record *<> ROW(%7$s)::record;
        INSERT INTO %2$s (%9$I, %4$I, %10$s) SELECT c.%11$I, c.%12$I, %6$s FROM changed c
        WHERE (%5$s) AND NOT EXISTS (SELECT FROM %2$s r WHERE %3$s);
    END IF;
    RETURN NULL;
END $$;
$f$, made, r.relid, same, r.key_col, says, values_c, values_r, sets, r.tenant_col, names, t.tenant_col, t.key_col);

    -- The device's side, as the hub: other triggers of the table meet the writer they know.
    same := format('m.%I = c.%I AND m.%I = c.%I', t.tenant_col, r.tenant_col, t.key_col, r.key_col);
    EXECUTE format($f$
CREATE OR REPLACE FUNCTION ferry.redact_in_%1$s() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM changed c JOIN %2$s m ON %3$s WHERE ROW(%4$s)::record *<> ROW(%5$s)::record) THEN
        PERFORM ferry.redact_declare(%6$s, %1$s, (SELECT array_agg(c.%7$I) FROM changed c));
        UPDATE %2$s m SET %8$s FROM changed c WHERE %3$s AND ROW(%4$s)::record *<> ROW(%5$s)::record;
    END IF;
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION ferry.redact_blank_%1$s() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM changed c JOIN %2$s m ON %3$s WHERE %9$s) THEN
        PERFORM ferry.redact_declare(%6$s, %1$s, (SELECT array_agg(c.%7$I) FROM changed c));
        UPDATE %2$s m SET %10$s FROM changed c WHERE %3$s AND (%9$s);
    END IF;
    RETURN NULL;
END $$;
$f$, made, t.relid, same, coalesce(back_c, '1'), coalesce(back_m, '1'), t.tbl, r.key_col,
        coalesce(back, format('%1$I = m.%1$I', t.key_col)), coalesce(holds, 'false'), coalesce(blank, format('%1$I = m.%1$I', t.key_col)));

    -- Defaults of a new row of the table may have made the row that the device brings: its own counts.
    EXECUTE format($f$
CREATE OR REPLACE FUNCTION ferry.redact_meet_%1$s() RETURNS trigger
    LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF ferry.redact_declared(%1$s, NEW.%4$I) THEN
        UPDATE %2$s r SET %6$s FROM (SELECT (NEW).*) c WHERE r.%3$I = c.%3$I AND r.%4$I = c.%4$I;
        IF FOUND THEN
            RETURN NULL;
        END IF;
    END IF;
    RETURN NEW;
END $$;
CREATE OR REPLACE FUNCTION ferry.redact_stay_%1$s() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
    IF EXISTS (SELECT FROM %5$s m WHERE m.%7$I = OLD.%3$I AND m.%8$I = OLD.%4$I)
       AND NOT EXISTS (SELECT FROM %2$s r WHERE r.%3$I = OLD.%3$I AND r.%4$I = OLD.%4$I) THEN
        RAISE EXCEPTION 'a row of %% goes only with its row of %%', %9$L, %10$L
            USING ERRCODE = 'FE327', HINT = 'It holds columns that are never empty.';
    END IF;
    RETURN NULL;
END $$;
$f$, made, r.relid, r.tenant_col, r.key_col, t.relid, sets, t.tenant_col, t.key_col, r.replica_name, t.replica_name);
END $outer$;

-- On the table, or one of its partitions; as whoever owns it.
CREATE FUNCTION ferry.attach_redactions(of_tbl int, part regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $$
DECLARE
    made int;
BEGIN
    FOR made IN SELECT d.restricted FROM ferry.redaction d WHERE d.tbl = of_tbl LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER ferry_redact_insert_%1$s AFTER INSERT ON %2$s REFERENCING NEW TABLE AS changed '
                       'FOR EACH STATEMENT EXECUTE FUNCTION ferry.redact_out_%1$s()', made, part);
        EXECUTE format('CREATE OR REPLACE TRIGGER ferry_redact_update_%1$s AFTER UPDATE ON %2$s REFERENCING NEW TABLE AS changed '
                       'FOR EACH STATEMENT EXECUTE FUNCTION ferry.redact_out_%1$s()', made, part);
        EXECUTE format('ALTER TABLE %2$s ENABLE ALWAYS TRIGGER ferry_redact_insert_%1$s, ENABLE ALWAYS TRIGGER ferry_redact_update_%1$s',
                       made, part);
    END LOOP;
END $$;

-- On the restricted table. A deletion there says that nothing is known of the columns; where
-- one of them is never NULL, there is no such thing to say.
CREATE FUNCTION ferry.attach_restricted(made int) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $$
DECLARE
    tab regclass := (SELECT t.relid FROM ferry.tracked t WHERE t.tbl = made);
    full_always bool := EXISTS (SELECT FROM ferry.redacted x WHERE x.restricted = made AND x.not_null);
BEGIN
    EXECUTE format('DROP TRIGGER IF EXISTS ferry_redact_delete ON %s', tab);
    EXECUTE format('CREATE OR REPLACE TRIGGER ferry_redact_meet BEFORE INSERT ON %s FOR EACH ROW EXECUTE FUNCTION ferry.redact_meet_%s()', tab, made);
    EXECUTE format('CREATE OR REPLACE TRIGGER ferry_redact_insert AFTER INSERT ON %s REFERENCING NEW TABLE AS changed '
                   'FOR EACH STATEMENT EXECUTE FUNCTION ferry.redact_in_%s()', tab, made);
    EXECUTE format('CREATE OR REPLACE TRIGGER ferry_redact_update AFTER UPDATE ON %s REFERENCING NEW TABLE AS changed '
                   'FOR EACH STATEMENT EXECUTE FUNCTION ferry.redact_in_%s()', tab, made);
    IF full_always THEN
        EXECUTE format('CREATE CONSTRAINT TRIGGER ferry_redact_delete AFTER DELETE ON %s DEFERRABLE INITIALLY DEFERRED '
                       'FOR EACH ROW EXECUTE FUNCTION ferry.redact_stay_%s()', tab, made);
    ELSE
        EXECUTE format('CREATE TRIGGER ferry_redact_delete AFTER DELETE ON %s REFERENCING OLD TABLE AS changed '
                       'FOR EACH STATEMENT EXECUTE FUNCTION ferry.redact_blank_%s()', tab, made);
    END IF;
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER ferry_redact_meet, ENABLE ALWAYS TRIGGER ferry_redact_insert, '
                   'ENABLE ALWAYS TRIGGER ferry_redact_update, ENABLE ALWAYS TRIGGER ferry_redact_delete', tab);
END $$;

-- A new restricted row edits the table's row. Where an edit of a column needs a permission of its
-- own, so does the first value in it; nothing is said by a column that is empty.
CREATE FUNCTION ferry.check_redacted_rights(tenant uuid, made int, keys uuid[], devices uuid[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked := (SELECT o FROM ferry.tracked o WHERE o.tbl = made);
    s record;
    r record;
    refused bool;
BEGIN
    SELECT * INTO s FROM ferry.root_sql(made);
    FOR r IN SELECT p.permission, c.name FROM ferry.permission_rule p
             JOIN ferry.redacted_column x ON x.restricted = p.tbl AND x.restricted_num = p.num
             JOIN ferry.tracked_column c ON c.tbl = p.tbl AND c.num = p.num WHERE p.tbl = made AND p.operation = 'update' LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM unnest($1::uuid[], $3::uuid[]) AS u(k, device) '
                       'CROSS JOIN LATERAL (SELECT %s AS scopes FROM %s r%s WHERE r.%I = $2 AND r.%I = u.k AND r.%I IS NOT NULL OFFSET 0) x '
                       'WHERE NOT EXISTS (SELECT FROM ferry.held_right h WHERE h.device_id = u.device AND h.permission = $4 '
                       'AND (h.scope = ''*'' OR h.scope = ANY (x.scopes))))',
                       concat_ws(' || ', s.expr, s.also, CASE WHEN s.also IS NULL THEN 'ARRAY[]::text[]' END), t.relid, s.joins, t.tenant_col,
                       t.key_col, r.name)
            INTO refused USING keys, tenant, devices, r.permission;
        IF refused THEN
            RAISE EXCEPTION 'the permission % is missing for update on %.%', r.permission, t.replica_name, r.name
                USING ERRCODE = 'FE314', HINT = 'A role with this permission can be assigned to the device''s user.';
        END IF;
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION ferry.check_redacted_rights(uuid, int, uuid[], uuid[]) FROM PUBLIC;

-- ---------------------------------------------------------------- making the restricted table

CREATE FUNCTION ferry.no_redaction(tab regclass, col text, why text, hint text, code text DEFAULT 'object_not_in_prerequisite_state') RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    RAISE EXCEPTION '%.% can''t be redacted: %', tab, col, why USING ERRCODE = code, HINT = hint;
END $$;

-- What stands against it, in a sentence.
CREATE FUNCTION ferry.check_redaction(t ferry.tracked, columns text[], permission text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    col text;
    c ferry.tracked_column;
    a pg_attribute;
    told text;
BEGIN
    IF permission IS NULL OR permission !~ '^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$' THEN
        RAISE EXCEPTION '"%" is no permission', permission
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Write <domain>.<action>, as inventory.view_prices.';
    ELSIF coalesce(cardinality(columns), 0) = 0 THEN
        RAISE EXCEPTION '%: no column is named', t.relid USING ERRCODE = 'invalid_parameter_value';
    ELSIF t.tenant_col = t.key_col OR EXISTS (SELECT FROM ferry.redaction d WHERE d.restricted = t.tbl) THEN
        RAISE EXCEPTION '%: columns of this table can''t be redacted', t.relid USING ERRCODE = 'feature_not_supported',
            HINT = 'It is the table of the tenants, or holds redacted columns itself.';
    END IF;
    FOREACH col IN ARRAY columns LOOP
        SELECT * INTO c FROM ferry.tracked_column o WHERE o.tbl = t.tbl AND o.name = col;
        IF c.tbl IS NULL THEN
            RAISE EXCEPTION '% has no synced column %', t.relid, col USING ERRCODE = 'undefined_column';
        END IF;
        SELECT * INTO a FROM pg_attribute o WHERE o.attrelid = t.relid AND o.attnum = c.num;
        IF col IN (t.key_col, t.tenant_col) OR (t.archives AND col = 'deleted_at')
           OR EXISTS (SELECT FROM ferry.scope_hop h WHERE h.from_tbl = t.tbl AND h.col = c.name) THEN
            PERFORM ferry.no_redaction(t.relid, col, 'it says where rows are', 'Devices need it to have the row at all.');
        ELSIF c.not_null AND NOT c.has_default AND NOT c.generated THEN
            PERFORM ferry.no_redaction(t.relid, col, 'it is NOT NULL without a default, so that no device could make a row',
                                       format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT ..., or DROP NOT NULL.', t.relid, col));
        ELSIF a.attidentity <> '' THEN
            PERFORM ferry.no_redaction(t.relid, col, 'the database counts it', 'Give it a DEFAULT instead: ALTER COLUMN ... DROP IDENTITY.');
        ELSIF c.policy = 'sequence' THEN
            PERFORM ferry.no_redaction(t.relid, col, 'its numbers are leased to devices', 'Give it another policy with ferry.policy.');
        ELSIF EXISTS (SELECT FROM pg_index i WHERE i.indrelid = t.relid AND i.indisunique AND c.num = ANY (i.indkey)) THEN
            PERFORM ferry.no_redaction(t.relid, col, 'it is unique, and a refused value tells that somebody has it', 'Drop the unique index first.');
        ELSIF EXISTS (SELECT FROM ferry.bring b WHERE b.tbl = t.tbl AND b.num = c.num) THEN
            PERFORM ferry.no_redaction(t.relid, col, 'it brings rows along, which would tell it', format('SELECT ferry.bring(''%s'', %L, false) first.', t.relid, col));
        ELSIF col = ANY (t.label_cols) THEN
            PERFORM ferry.no_redaction(t.relid, col, 'sentences call rows by it', 'Name other columns with ferry.label.');
        ELSIF EXISTS (SELECT FROM ferry.approval r WHERE r.tbl = t.tbl AND r.num = c.num) THEN
            PERFORM ferry.no_redaction(t.relid, col, 'requests for an approval tell its values', 'Decide about them, and delete them from ferry.approval.');
        END IF;
        SELECT o.attname INTO told FROM pg_depend d JOIN pg_attrdef e ON e.oid = d.objid
        JOIN pg_attribute o ON o.attrelid = e.adrelid AND o.attnum = e.adnum
        WHERE d.classid = 'pg_attrdef'::regclass AND e.adrelid = t.relid AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.relid
          AND d.refobjsubid = c.num AND o.attnum <> c.num AND o.attname <> ALL (columns) AND o.attname <> ALL (t.excluded);
        IF told IS NOT NULL THEN
            PERFORM ferry.no_redaction(t.relid, col, format('%I is generated from it and would tell it', told), 'Redact both.');
        END IF;
    END LOOP;
END $$;

-- The way from a row of the restricted table to the scope of its row.
CREATE FUNCTION ferry.scope_behind(t ferry.tracked) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN t.scope IN ('tenant', 'global') THEN t.scope ELSE (
        SELECT string_agg(split_part(w, ':', 1) || ':' || t.key_col || '.' || split_part(w, ':', 2), '|' ORDER BY n)
        FROM string_to_table(t.scope, '|') WITH ORDINALITY AS u(w, n)) END
$$;

-- A column as the restricted table has it: what the database makes by itself is only shown there.
CREATE FUNCTION ferry.column_like(tab regclass, col text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                     (SELECT format('COLLATE %s', a.attcollation::regcollation) FROM pg_type y
                      WHERE y.oid = a.atttypid AND a.attcollation NOT IN (0, y.typcollation)),
                     CASE WHEN a.attgenerated = '' THEN concat_ws(' ',
                         'DEFAULT ' || (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d WHERE d.adrelid = tab AND d.adnum = a.attnum),
                         CASE WHEN a.attnotnull THEN 'NOT NULL' END) END)
    FROM pg_attribute a WHERE a.attrelid = tab AND a.attname = col AND NOT a.attisdropped
$$;

CREATE FUNCTION ferry.make_restricted(t ferry.tracked, columns text[], name text) RETURNS regclass
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key text := (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY u.n) FROM pg_constraint k
                 CROSS JOIN LATERAL unnest(k.conkey) WITH ORDINALITY AS u(num, n)
                 JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num
                 WHERE k.conrelid = t.relid AND k.contype = 'p');
    own text[] := columns || t.tenant_col || t.key_col;
    made regclass;
    k record;
BEGIN
    EXECUTE format('CREATE TABLE %1$I.%2$I (%3$s, PRIMARY KEY (%4$s), FOREIGN KEY (%4$s) REFERENCES %5$s (%4$s) ON UPDATE CASCADE ON DELETE CASCADE)',
        t.nsp, name, (SELECT string_agg(ferry.column_like(t.relid, x), ', ' ORDER BY n) FROM unnest(
            ARRAY[t.tenant_col, t.key_col] || CASE WHEN t.archives THEN ARRAY['deleted_at'] END || columns) WITH ORDINALITY AS u(x, n)),
        key, t.relid);
    made := format('%I.%I', t.nsp, name)::regclass;
    -- What a value has to fulfil by itself holds here too, and says what devices may choose from.
    FOR k IN SELECT pg_get_constraintdef(c.oid) AS def, c.contype, names.list FROM pg_constraint c
             CROSS JOIN LATERAL (SELECT array_agg(a.attname::text ORDER BY u.n) AS list FROM unnest(c.conkey) WITH ORDINALITY AS u(num, n)
                                 JOIN pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = u.num) names
             WHERE c.conrelid = t.relid AND c.contype IN ('c', 'f') AND names.list <@ own AND names.list && columns ORDER BY c.conname LOOP
        EXECUTE format('ALTER TABLE %s ADD %s', made, k.def);
        IF k.contype = 'f' THEN
            EXECUTE format('CREATE INDEX ON %s (%s)', made, (SELECT string_agg(quote_ident(x), ', ' ORDER BY n) FROM unnest(k.list) WITH ORDINALITY AS u(x, n)));
        END IF;
    END LOOP;
    EXECUTE format('ALTER TABLE %s OWNER TO %s', made, (SELECT c.relowner::regrole FROM pg_class c WHERE c.oid = t.relid));
    EXECUTE format('COMMENT ON TABLE %s IS %L', made, format('Columns of %s that only some devices may read; kept in step by the engine: write them there', t.relid));
    PERFORM ferry.isolate(made, EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = t.relid AND p.polname = 'ferry_global'), t.tenant_col);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO ferry_engine', t.nsp);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %s TO ferry_engine', made);
    RETURN made;
END $$;

-- Rows that say something.
CREATE FUNCTION ferry.fill_restricted(t ferry.tracked, made regclass, columns text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
AS $$
DECLARE
    names text := (SELECT string_agg(quote_ident(x), ', ') FROM unnest(
        ARRAY[t.tenant_col, t.key_col] || CASE WHEN t.archives THEN ARRAY['deleted_at'] END || columns) x);
BEGIN
    PERFORM ferry.need_owner(t.relid), ferry.need_owner(made);
    EXECUTE format('INSERT INTO %s (%s) SELECT %s FROM %s WHERE %s', made, names, names, t.relid,
                   (SELECT string_agg(format('%I IS NOT NULL', x), ' OR ') FROM unnest(columns) x));
END $$;

-- What was said of columns of one table holds for those of another: policies, permissions to
-- write, and the conflicts about them.
CREATE FUNCTION ferry.carry_over(from_tbl int, from_nums int[], to_tbl int, to_nums int[]) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE ferry.tracked_column c SET policy = o.policy, policy_options = o.policy_options
    FROM unnest(from_nums, to_nums) AS u(was, now), ferry.tracked_column o
    WHERE c.tbl = to_tbl AND c.num = u.now AND o.tbl = from_tbl AND o.num = u.was
      AND (c.policy, c.policy_options) IS DISTINCT FROM (o.policy, o.policy_options);
    WITH gone AS (DELETE FROM ferry.permission_rule r WHERE r.tbl = from_tbl AND r.num = ANY (from_nums) RETURNING *)
    INSERT INTO ferry.permission_rule (tbl, operation, num, permission)
    SELECT to_tbl, g.operation, u.now, g.permission FROM gone g JOIN unnest(from_nums, to_nums) AS u(was, now) ON u.was = g.num
    ON CONFLICT DO NOTHING;
    UPDATE ferry.tracked t SET guarded = g.has
    FROM (SELECT x AS tbl, EXISTS (SELECT FROM ferry.permission_rule r WHERE r.tbl = x) AS has FROM unnest(ARRAY[from_tbl, to_tbl]) x) g
    WHERE t.tbl = g.tbl AND t.guarded <> g.has;
    UPDATE ferry.conflict k SET tbl = to_tbl, num = u.now FROM unnest(from_nums, to_nums) AS u(was, now)
    WHERE k.tbl = from_tbl AND k.num = u.was;
    SELECT ferry.generate(to_tbl) WHERE ferry.is_asked(to_tbl);
$$;

-- From here on the columns are the restricted table's.
CREATE FUNCTION ferry.begin_redaction(of_tbl int, made int, columns text[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
AS $$
DECLARE
    nums int[];
    made_nums int[];
BEGIN
    PERFORM ferry.need_owner(t.relid) FROM ferry.tracked t WHERE t.tbl IN (of_tbl, made);
    SELECT array_agg(c.num ORDER BY c.num), array_agg(r.num ORDER BY c.num) INTO nums, made_nums
    FROM ferry.tracked_column c JOIN ferry.tracked_column r ON r.tbl = made AND r.name = c.name
    WHERE c.tbl = of_tbl AND c.name = ANY (columns);
    INSERT INTO ferry.redaction (restricted, tbl) VALUES (made, of_tbl);
    INSERT INTO ferry.redacted_column (restricted, num, restricted_num) SELECT made, u.n, u.m FROM unnest(nums, made_nums) AS u(n, m);
    PERFORM ferry.take_redacted(of_tbl, made, nums, made_nums);
    PERFORM ferry.carry_over(of_tbl, nums, made, made_nums);
    UPDATE ferry.tracked_column c SET policy = 'hub' WHERE c.tbl = made AND (c.name = 'deleted_at' AND NOT c.num = ANY (made_nums)
        OR c.num IN (SELECT x.restricted_num FROM ferry.redacted x WHERE x.restricted = made AND NOT x.writable));
    UPDATE ferry.tracked r SET policed = t.policed FROM ferry.tracked t WHERE r.tbl = made AND t.tbl = of_tbl AND r.policed <> t.policed;
    UPDATE ferry.tracked t SET excluded_nums = t.excluded_nums || nums, excluded = t.excluded || columns WHERE t.tbl = of_tbl;
    PERFORM ferry.refresh(of_tbl);
    PERFORM ferry.generate_redaction(made);
END $$;

CREATE FUNCTION ferry.redact(tab regclass, columns text[], permission text, name text DEFAULT NULL) RETURNS int
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked := ferry.need_tracked(tab);
    set_of text := current_setting('ferry.placing', true);
    edits text := (SELECT r.permission FROM ferry.permission_rule r WHERE r.tbl = t.tbl AND r.operation = 'update' AND r.num = 0);
    made regclass;
    n int;
BEGIN
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', tab);
    PERFORM ferry.check_redaction(t, columns, permission);
    made := ferry.make_restricted(t, columns, coalesce(name, t.name || '_restricted'));
    PERFORM ferry.fill_restricted(t, made, columns);
    -- It belongs to the set of schemas that its table stands in.
    PERFORM set_config('ferry.placing', coalesce(t.tenant_id::text, ''), true);
    n := ferry.plan(made, ferry.scope_behind(t), write => t.write, archive => t.archives, read => permission,
                    "insert" => CASE WHEN t.write THEN edits END, "update" => CASE WHEN t.write THEN edits END,
                    "delete" => CASE WHEN t.write THEN edits END, replica_name => coalesce(name, t.replica_name || '_restricted'));
    PERFORM set_config('ferry.placing', coalesce(set_of, ''), true);
    PERFORM ferry.begin_redaction(t.tbl, n, columns);
    PERFORM ferry.grant_table(t.tbl);
    PERFORM ferry.attach_restricted(n);
    PERFORM ferry.attach_redactions(t.tbl, p.relid) FROM ferry.tracked_part p WHERE p.tbl = t.tbl;
    RETURN n;
END $$;
COMMENT ON FUNCTION ferry.redact(regclass, text[], text, text) IS
    'Columns of a tracked table go only to devices whose user has a permission: in a table of their own there; its number';

-- ---------------------------------------------------------------- and back

-- From here on the columns are the table's again. Their values never left it.
CREATE FUNCTION ferry.end_redaction(made int) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
AS $$
DECLARE
    of_tbl int := (SELECT d.tbl FROM ferry.redaction d WHERE d.restricted = made);
    nums int[];
    made_nums int[];
    written uuid[] := ARRAY(SELECT unnest(d.keys) FROM ferry.dirty d WHERE d.tx = nullif(current_setting('ferry.tx', true), '')::bigint
                            AND d.tbl IN (of_tbl, made));
BEGIN
    PERFORM ferry.need_owner(t.relid) FROM ferry.tracked t WHERE t.tbl IN (of_tbl, made);
    SELECT array_agg(x.num ORDER BY x.num), array_agg(x.restricted_num ORDER BY x.num) INTO nums, made_nums
    FROM ferry.redacted x WHERE x.restricted = made;
    UPDATE ferry.tracked t SET excluded_nums = ARRAY(SELECT x FROM unnest(t.excluded_nums) x WHERE x <> ALL (coalesce(nums, '{}'))),
        excluded = ARRAY(SELECT n FROM unnest(t.excluded) n WHERE n NOT IN (SELECT v.name FROM ferry.redacted v WHERE v.restricted = made))
    WHERE t.tbl = of_tbl;
    PERFORM ferry.refresh(of_tbl);
    PERFORM ferry.take_revealed(of_tbl, made, nums, made_nums, written);
    PERFORM ferry.carry_over(made, made_nums, of_tbl, nums);
    PERFORM ferry.note_revealed(of_tbl, made);
    DELETE FROM ferry.redaction d WHERE d.restricted = made;
END $$;

CREATE FUNCTION ferry.drop_redaction_functions(made int) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM ferry.redaction d WHERE d.restricted = made) THEN
        EXECUTE format('DROP FUNCTION IF EXISTS ferry.redact_out_%1$s(), ferry.redact_in_%1$s(), ferry.redact_blank_%1$s(), '
                       'ferry.redact_meet_%1$s(), ferry.redact_stay_%1$s()', made);
    END IF;
END $$;

CREATE FUNCTION ferry.reveal(tab regclass) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $$
DECLARE
    r ferry.tracked := ferry.need_tracked(tab);
    t ferry.tracked := (SELECT o FROM ferry.redaction d JOIN ferry.tracked o ON o.tbl = d.tbl WHERE d.restricted = r.tbl);
    part regclass;
BEGIN
    IF t.tbl IS NULL THEN
        RAISE EXCEPTION '% holds no redacted columns', tab USING ERRCODE = 'undefined_object',
            HINT = 'Name the table that ferry.redact made, mostly <table>_restricted.';
    END IF;
    EXECUTE format('LOCK TABLE %s, %s IN SHARE ROW EXCLUSIVE MODE', t.relid, tab);
    FOR part IN SELECT p.relid FROM ferry.tracked_part p WHERE p.tbl = t.tbl LOOP
        EXECUTE format('DROP TRIGGER IF EXISTS ferry_redact_insert_%s ON %s', r.tbl, part);
        EXECUTE format('DROP TRIGGER IF EXISTS ferry_redact_update_%s ON %s', r.tbl, part);
    END LOOP;
    PERFORM ferry.end_redaction(r.tbl);
    PERFORM ferry.grant_table(t.tbl);
    PERFORM ferry.untrack(tab);
    EXECUTE format('DROP TABLE %s', tab);
    PERFORM ferry.drop_redaction_functions(r.tbl);
END $$;
COMMENT ON FUNCTION ferry.reveal(regclass) IS
    'The reverse of ferry.redact: the columns go to all devices with the row again, and the restricted table goes';

-- ---------------------------------------------------------------- DDL

-- Columns of the table that were dropped.
CREATE FUNCTION ferry.forget_redacted(made int) RETURNS SETOF text
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH gone AS (
        DELETE FROM ferry.redacted_column c USING ferry.redaction d, ferry.tracked t
        WHERE c.restricted = made AND d.restricted = made AND t.tbl = d.tbl AND NOT EXISTS (
            SELECT FROM pg_attribute a WHERE a.attrelid = t.relid AND a.attnum = c.num AND NOT a.attisdropped)
        RETURNING c.restricted_num)
    SELECT a.attname FROM gone g JOIN ferry.tracked r ON r.tbl = made
    JOIN pg_attribute a ON a.attrelid = r.relid AND a.attnum = g.restricted_num AND NOT a.attisdropped
$$;

-- Renames, types, defaults and NOT NULL of redacted columns follow; a column that was dropped
-- goes from the restricted table too, and the last one takes it along.
CREATE FUNCTION ferry.follow_redaction(made int) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tab regclass := (SELECT r.relid FROM ferry.tracked r WHERE r.tbl = made);
    whose regclass := (SELECT t.relid FROM ferry.redaction d JOIN ferry.tracked t ON t.tbl = d.tbl WHERE d.restricted = made);
    col text;
    x record;
BEGIN
    PERFORM set_config('ferry.following', made::text, true);
    FOR col IN SELECT ferry.forget_redacted(made) LOOP
        IF NOT EXISTS (SELECT FROM ferry.redacted_column c WHERE c.restricted = made) THEN
            PERFORM set_config('ferry.following', '', true), ferry.reveal(tab);
            RETURN;
        END IF;
        EXECUTE format('ALTER TABLE %s DROP COLUMN %I', tab, col);
    END LOOP;
    FOR x IN SELECT v.name, v.writable, o.attname AS was, a.atttypid = o.atttypid AND a.atttypmod = o.atttypmod AS same_type,
                    format_type(a.atttypid, a.atttypmod) || coalesce((SELECT format(' COLLATE %s', a.attcollation::regcollation) FROM pg_type y
                        WHERE y.oid = a.atttypid AND a.attcollation NOT IN (0, y.typcollation)), '') AS type, r.tenant_col, r.key_col,
                    a.attnotnull, o.attnotnull AS was_not_null,
                    (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d WHERE d.adrelid = whose AND d.adnum = a.attnum) AS def,
                    (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d WHERE d.adrelid = tab AND d.adnum = o.attnum) AS was_def
             FROM ferry.redacted v JOIN pg_attribute a ON a.attrelid = whose AND a.attnum = v.num
             JOIN pg_attribute o ON o.attrelid = tab AND o.attnum = v.restricted_num
             JOIN ferry.tracked r ON r.tbl = made WHERE v.restricted = made LOOP
        IF x.writable AND x.attnotnull AND x.def IS NULL THEN
            RAISE EXCEPTION '%.% is redacted: NOT NULL without a default, so that no device could make a row', whose, x.name
                USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT ... first.', whose, x.name);
        END IF;
        IF x.was <> x.name THEN
            EXECUTE format('ALTER TABLE %s RENAME COLUMN %I TO %I', tab, x.was, x.name);
        END IF;
        IF NOT x.same_type THEN
            PERFORM ferry.make_redacted_value(made, x.name);
            EXECUTE format('ALTER TABLE %1$s ALTER COLUMN %2$I DROP DEFAULT, ALTER COLUMN %2$I TYPE %3$s USING ferry.redacted_value_%4$s(%5$I, %6$I)',
                           tab, x.name, x.type, made, x.tenant_col, x.key_col);
            PERFORM ferry.drop_redacted_value(made);
            x.was_def := NULL;
        END IF;
        IF x.writable AND x.def IS DISTINCT FROM x.was_def THEN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I %s', tab, x.name, coalesce('SET DEFAULT ' || x.def, 'DROP DEFAULT'));
        END IF;
        IF x.writable AND x.attnotnull <> x.was_not_null THEN
            EXECUTE format('ALTER TABLE %s ALTER COLUMN %I %s NOT NULL', tab, x.name, CASE WHEN x.attnotnull THEN 'SET' ELSE 'DROP' END);
        END IF;
    END LOOP;
    PERFORM set_config('ferry.following', '', true);
    PERFORM ferry.regenerate_redaction(made);
    PERFORM ferry.attach_restricted(made);
END $$;

-- For a moment: what stands in the table's column for a row. A type that has changed there takes
-- these values along, whatever expression made them.
CREATE FUNCTION ferry.make_redacted_value(made int, col text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked := (SELECT o FROM ferry.tracked o JOIN ferry.redaction d ON d.tbl = o.tbl WHERE d.restricted = made);
BEGIN
    PERFORM ferry.need_owner(t.relid);
    EXECUTE format('CREATE FUNCTION ferry.redacted_value_%s(tenant uuid, key uuid) RETURNS %s LANGUAGE sql STABLE SECURITY DEFINER '
                   'SET search_path = pg_catalog, pg_temp RETURN (SELECT m.%I FROM %s m WHERE m.%I = tenant AND m.%I = key)', made,
                   (SELECT a.atttypid::regtype FROM pg_attribute a WHERE a.attrelid = t.relid AND a.attname = col AND NOT a.attisdropped),
                   col, t.relid, t.tenant_col, t.key_col);
END $$;

CREATE FUNCTION ferry.drop_redacted_value(made int) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$ BEGIN EXECUTE format('DROP FUNCTION ferry.redacted_value_%s(uuid, uuid)', made); END $$;

CREATE FUNCTION ferry.regenerate_redaction(made int) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM ferry.need_owner((SELECT t.relid FROM ferry.tracked t WHERE t.tbl = made));
    PERFORM ferry.generate_redaction(made);
END $$;

-- A restricted table has the columns of its table and no others.
CREATE FUNCTION ferry.check_restricted(made int) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    whose regclass := (SELECT t.relid FROM ferry.redaction d JOIN ferry.tracked t ON t.tbl = d.tbl WHERE d.restricted = made);
    tab regclass := (SELECT r.relid FROM ferry.tracked r WHERE r.tbl = made);
BEGIN
    -- Not between the steps in which it is made to.
    IF current_setting('ferry.following', true) IS DISTINCT FROM made::text
       AND EXISTS (SELECT FROM ferry.redacted v JOIN pg_attribute a ON a.attrelid = whose AND a.attnum = v.num
               LEFT JOIN pg_attribute o ON o.attrelid = tab AND o.attnum = v.restricted_num AND NOT o.attisdropped
               WHERE v.restricted = made AND (o.attname, o.atttypid, o.atttypmod) IS DISTINCT FROM (a.attname, a.atttypid, a.atttypmod)) THEN
        RAISE EXCEPTION 'the columns of % follow those of %', tab, whose USING ERRCODE = 'object_not_in_prerequisite_state',
            HINT = format('ALTER TABLE %s instead.', whose);
    END IF;
END $$;

-- After any DDL on a tracked table, before its columns are read again.
CREATE FUNCTION ferry.follow_redactions(of_tbl int) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ferry.follow_redaction(d.restricted) FROM ferry.redaction d WHERE d.tbl = of_tbl;
    SELECT ferry.check_restricted(d.restricted) FROM ferry.redaction d WHERE d.restricted = of_tbl
$$;

REVOKE EXECUTE ON FUNCTION ferry.redact(regclass, text[], text, text), ferry.reveal(regclass), ferry.generate_redaction(int),
    ferry.check_redaction(ferry.tracked, text[], text), ferry.fill_restricted(ferry.tracked, regclass, text[]),
    ferry.carry_over(int, int[], int, int[]), ferry.begin_redaction(int, int, text[]), ferry.end_redaction(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.redact(regclass, text[], text, text), ferry.reveal(regclass),
    ferry.check_redaction(ferry.tracked, text[], text), ferry.fill_restricted(ferry.tracked, regclass, text[]),
    ferry.begin_redaction(int, int, text[]), ferry.end_redaction(int) TO ferry_owner;

RESET ROLE;
