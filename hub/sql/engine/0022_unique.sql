-- Unique values: how those that change hands within a change-set are written, and who has one
-- that a change-set did not get.

SET LOCAL ROLE ferry_engine;

-- ---------------------------------------------------------------- swaps and chains

-- PostgreSQL looks at a unique index row by row, so a change-set in which two rows swap their
-- codes is refused although its end is fine. Such a one is written again in two steps: its
-- rows first hold a value that nobody has, then all get their own. A constraint that is
-- DEFERRABLE needs none of that: it is checked at the end of the statement, or of the
-- change-set. (Making constraints deferrable in ferry.track would rebuild their indexes, and
-- take from other SQL what it may need: ON CONFLICT cannot name such a constraint.)
--
-- One column of each unique index gets the value meanwhile: NULL where it may be, else a text
-- or a number made of the row's key. A table whose unique index has no such column is as
-- PostgreSQL has it.
CREATE VIEW ferry.placeholder AS
    SELECT DISTINCT ON (tbl, num) tbl, num, expr FROM (
        SELECT DISTINCT ON (i.indexrelid) c.tbl, c.num, x.expr, x.rank
        FROM ferry.tracked t
        JOIN pg_index i ON i.indrelid = t.relid AND i.indisunique AND NOT i.indisprimary
        CROSS JOIN LATERAL (
            SELECT k AS num, false AS inside FROM unnest(i.indkey[0:i.indnkeyatts - 1]) k WHERE k > 0
            UNION ALL -- of an expression, as lower(email); a predicate's column changes nothing
            SELECT d.refobjsubid, true FROM pg_depend d
            WHERE i.indexprs IS NOT NULL AND d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
              AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.relid AND d.refobjsubid > 0) k
        JOIN ferry.tracked_column c ON c.tbl = t.tbl AND c.num = k.num AND NOT c.generated AND c.policy <> 'hub'
            AND c.name NOT IN (t.key_col, t.tenant_col)
            AND NOT EXISTS (SELECT FROM ferry.scope_hop h WHERE h.tbl = t.tbl AND h.hop % 100 = 1 AND h.col = c.name)
        CROSS JOIN LATERAL (SELECT
            CASE WHEN NOT k.inside AND NOT c.not_null AND NOT i.indnullsnotdistinct THEN 'NULL'
                 WHEN c.ref_tbl IS NOT NULL OR c.labels IS NOT NULL THEN NULL
                 WHEN c.pg_type IN ('text', 'citext', 'character varying') THEN '(''~'' || (%s)::text)'
                 WHEN c.pg_type ~ '^character varying\((9|[1-9][0-9]+)\)$' THEN
                     format('(''~'' || left(md5((%%s)::text), %s))', substring(c.pg_type FROM '\d+')::int - 1)
                 WHEN c.pg_type IN ('integer', 'bigint') AND NOT k.inside THEN '(-1 - (uuid_hash_extended(%s, 0) & 1073741823))'
            END AS expr,
            CASE WHEN c.ref_tbl IS NOT NULL THEN 3 WHEN c.kind IN ('text', 'citext') THEN 1 ELSE 2 END AS rank) x
        WHERE x.expr IS NOT NULL
        ORDER BY i.indexrelid, x.rank, c.num) one
    ORDER BY tbl, num, expr = 'NULL' DESC;
COMMENT ON VIEW ferry.placeholder IS
    'Columns of unique indexes that can hold a value which no other row has (of the key, %s) until the change-set is written';

CREATE UNLOGGED TABLE ferry.postponed (
    tenant_id uuid NOT NULL,
    tx        bigint NOT NULL,
    tbl       int NOT NULL,
    num       int NOT NULL,
    key       uuid NOT NULL,
    value     text,
    PRIMARY KEY (tenant_id, tx, tbl, num, key)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
COMMENT ON TABLE ferry.postponed IS 'Values of unique columns that the change-set under way writes at its end; empty between transactions';
COMMENT ON COLUMN ferry.postponed.value IS 'As its type''s output function prints it';
SELECT ferry.isolate('ferry.postponed');

CREATE FUNCTION ferry.write_postponed(tenant uuid, of_tx bigint) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    x record;
BEGIN
    FOR x IN SELECT DISTINCT t.relid, t.key_col, t.tenant_col, p.tbl, p.num, c.name, c.pg_type
             FROM ferry.postponed p JOIN ferry.tracked t ON t.tbl = p.tbl JOIN ferry.tracked_column c ON c.tbl = p.tbl AND c.num = p.num
             WHERE p.tenant_id = tenant AND p.tx = of_tx ORDER BY p.tbl, p.num LOOP
        EXECUTE format('UPDATE %s AS t SET %I = p.value::%s FROM ferry.postponed p WHERE p.tenant_id = $1 AND p.tx = $2 '
                       'AND p.tbl = $3 AND p.num = $4 AND t.%I = $1 AND t.%I = p.key', x.relid, x.name, x.pg_type, x.tenant_col, x.key_col)
            USING tenant, of_tx, x.tbl, x.num;
    END LOOP;
    DELETE FROM ferry.postponed p WHERE p.tenant_id = tenant AND p.tx = of_tx;
END $$;
COMMENT ON FUNCTION ferry.write_postponed(uuid, bigint) IS 'The second step of a change-set in which unique values change hands';

-- ---------------------------------------------------------------- who has it

ALTER TABLE ferry.authority ADD COLUMN user_name regproc;
COMMENT ON COLUMN ferry.authority.user_name IS 'A function (tenant uuid, user_id uuid) returning text: what people call a user';

CREATE FUNCTION ferry.answer_names(user_name regproc) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE ferry.authority a SET user_name = answer_names.user_name
    WHERE a.tenant_id = coalesce(nullif(current_setting('ferry.placing', true), '')::uuid, ferry.nobody())
$$;
COMMENT ON FUNCTION ferry.answer_names(regproc) IS 'Names the function of the tenant model that says what people call a user; after ferry.answer_rights';

-- Anna Berg's tablet 7
CREATE FUNCTION ferry.device_label(tenant uuid, device uuid) RETURNS text
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    d ferry.device := (SELECT o FROM ferry.device o WHERE o.tenant_id = tenant AND o.id = device);
    asks regproc := (ferry.authority_of(tenant)).user_name;
    who text;
BEGIN
    IF asks IS NOT NULL AND d.user_id IS NOT NULL THEN
        EXECUTE format('SELECT %s($1, $2)', asks) INTO who USING tenant, d.user_id;
    END IF;
    RETURN left(coalesce(who || '''s ' || d.name, d.name, 'device ' || device::text), 80);
END $$;
COMMENT ON FUNCTION ferry.device_label(uuid, uuid) IS 'A device as people speak of it: its user''s name and its own';

-- ---------------------------------------------------------------- which row has the value

ALTER TABLE ferry.tracked ADD COLUMN label_cols text[], ADD COLUMN merges bool NOT NULL DEFAULT false;
COMMENT ON COLUMN ferry.tracked.merges IS 'A row that is refused for a unique value may be merged into the one that has it';
COMMENT ON COLUMN ferry.tracked.label_cols IS 'What people call a row by, as ferry.label was told; NULL: its name, title, code or number';

CREATE FUNCTION ferry.label(tab regclass, VARIADIC columns text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    missing text;
BEGIN
    SELECT n INTO missing FROM unnest(columns) n WHERE NOT EXISTS (
        SELECT FROM ferry.tracked t JOIN ferry.tracked_column c ON c.tbl = t.tbl AND c.name = n WHERE t.relid = tab);
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION '% has no synced column %', tab, missing USING ERRCODE = 'undefined_column';
    END IF;
    UPDATE ferry.tracked t SET label_cols = columns WHERE t.relid = tab;
END $$;
COMMENT ON FUNCTION ferry.label(regclass, text[]) IS 'By which columns refusals name a row of the table';

CREATE FUNCTION ferry.allow_merge(tab regclass, allowed bool DEFAULT true) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE ferry.tracked t SET merges = allowed WHERE t.relid = tab;
    IF NOT FOUND THEN
        RAISE EXCEPTION '% is not tracked', tab USING ERRCODE = 'undefined_object';
    END IF;
END $$;
COMMENT ON FUNCTION ferry.allow_merge(regclass, bool) IS
    'Whether devices are offered to merge a row that is refused for a unique value into the row that has it';

CREATE FUNCTION ferry.row_label(of_tbl int, tenant uuid, of_key uuid) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked := (SELECT o FROM ferry.tracked o WHERE o.tbl = of_tbl);
    columns text[] := t.label_cols;
    label text;
BEGIN
    IF columns IS NULL THEN
        SELECT array_agg(c.name) INTO columns FROM (
            SELECT c.name FROM ferry.tracked_column c
            JOIN unnest('{name,full_name,title,code,number,label,subject,email}'::text[]) WITH ORDINALITY u(name, n) ON u.name = c.name
            WHERE c.tbl = of_tbl ORDER BY u.n LIMIT 1) c;
    END IF;
    EXECUTE format('SELECT concat_ws('' '', %s) FROM %s r WHERE r.%I = $1 AND r.%I = $2',
                   coalesce((SELECT string_agg(format('r.%I', n), ', ') FROM unnest(columns) n), 'NULL'), t.relid, t.tenant_col, t.key_col)
        INTO label USING tenant, of_key;
    RETURN left(nullif(label, ''), 60);
END $$;

-- The values of a unique index that a row would have: its columns now, and over them `cells`
-- ({"<num>": wire value}).
CREATE FUNCTION ferry.index_values(t ferry.tracked, rule oid, tenant uuid, of_key uuid, cells jsonb) RETURNS text[]
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n int := (SELECT i.indnkeyatts FROM pg_index i WHERE i.indexrelid = rule);
    now_there jsonb;
    written jsonb;
    found text[];
BEGIN
    EXECUTE format('SELECT jsonb_object_agg(x.k, x.v) FROM (SELECT %s) r, LATERAL jsonb_each(to_jsonb(r)) x(k, v)', string_agg(
        format('%s::%s AS %I', ferry.kept_value(c.kind, c.in_expr, e.value), c.pg_type, c.name), ', '))
        FROM jsonb_each(cells) e JOIN ferry.tracked_column c ON c.tbl = t.tbl AND c.num = e.key::int INTO written;
    EXECUTE format('SELECT to_jsonb(r) FROM (SELECT %s FROM %s) r WHERE r.%I = $1 AND r.%I = $2',
                   (SELECT string_agg(format('%I', c.name), ', ') FROM ferry.tracked_column c WHERE c.tbl = t.tbl), t.relid, t.tenant_col, t.key_col)
        INTO now_there USING tenant, of_key;
    EXECUTE format('SELECT ARRAY[%s] FROM jsonb_populate_record(NULL::%s, $1)',
                   (SELECT string_agg(format('(%s)::text', pg_get_indexdef(rule, k, true)), ', ' ORDER BY k) FROM generate_series(1, n) k), t.relid)
        INTO found USING coalesce(now_there, '{}') || written || jsonb_build_object(t.tenant_col, tenant, t.key_col, of_key);
    RETURN found;
END $$;

-- Whose value it is that a change-set wanted, too: the other row, unless the device cannot
-- see it, and which of the change-set's rows met it. rows: [{"t": table, "k": key, "c": cells}], without cells a deleted one.
-- A question that fails is answered with nothing: the refusal stands without a name.
CREATE FUNCTION ferry.clash(tenant uuid, device uuid, rule text, rows jsonb, OUT tbl int, OUT mine uuid, OUT other uuid, OUT said text, OUT merges bool)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, public, pg_temp -- where citext and its operators are
AS $$
DECLARE
    t ferry.tracked;
    i pg_index;
    x jsonb;
    given text[];
    written uuid[] := (SELECT array_agg((e ->> 'k')::uuid) FROM jsonb_array_elements(rows) e); -- their values change hands
BEGIN
    SELECT o.* INTO t FROM ferry.tracked o JOIN pg_index n ON n.indrelid = o.relid AND n.indisunique JOIN pg_class c ON c.oid = n.indexrelid
    WHERE c.relname = rule AND o.tbl IN (SELECT (e ->> 't')::int FROM jsonb_array_elements(rows) e);
    SELECT n.* INTO i FROM pg_index n JOIN pg_class c ON c.oid = n.indexrelid WHERE n.indrelid = t.relid AND c.relname = rule;
    FOR x IN SELECT e FROM jsonb_array_elements(rows) e WHERE (e ->> 't')::int = t.tbl AND e ? 'c' LOOP
        given := ferry.index_values(t, i.indexrelid, tenant, (x ->> 'k')::uuid, x -> 'c');
        CONTINUE WHEN array_position(given, NULL) IS NOT NULL AND NOT i.indnullsnotdistinct;
        EXECUTE format('SELECT o.%I FROM %s o WHERE o.%I = $1 AND o.%I <> ALL ($2) AND %s AND %s LIMIT 1', t.key_col, t.relid, t.tenant_col, t.key_col,
                       coalesce('(' || pg_get_expr(i.indpred, i.indrelid) || ')', 'true'),
                       (SELECT string_agg(CASE WHEN given[a.attnum] IS NULL THEN format('%s IS NULL', pg_get_indexdef(i.indexrelid, a.attnum, true))
                            ELSE format('%s = %L::%s', pg_get_indexdef(i.indexrelid, a.attnum, true), given[a.attnum],
                                        format_type(a.atttypid, a.atttypmod)) END, ' AND ')
                        FROM pg_attribute a WHERE a.attrelid = i.indexrelid AND a.attnum BETWEEN 1 AND i.indnkeyatts))
            INTO other USING tenant, written;
        EXIT WHEN other IS NOT NULL;
    END LOOP;
    IF other IS NULL THEN
        RETURN;
    END IF;
    IF NOT EXISTS (SELECT FROM ferry.version v JOIN ferry.held_scope s ON s.device_id = device AND s.scope = ANY (v.scope || v.also) AND s.reads
                   WHERE v.tenant_id = tenant AND v.tbl = t.tbl AND v.key = other) THEN
        other := NULL;
        said := 'a row that this device does not hold';
        RETURN;
    END IF;
    tbl := t.tbl;
    mine := (x ->> 'k')::uuid;
    merges := t.merges;
    said := coalesce('"' || ferry.row_label(t.tbl, tenant, other) || '", ', '') || other::text;
EXCEPTION WHEN OTHERS THEN
    tbl := NULL;
    merges := false;
    mine := NULL;
    other := NULL;
    said := NULL;
END $$;
COMMENT ON FUNCTION ferry.clash(uuid, uuid, text, jsonb) IS 'Which row has the unique value that a device''s row was refused for';

REVOKE EXECUTE ON FUNCTION ferry.allow_merge(regclass, bool), ferry.label(regclass, text[]), ferry.row_label(int, uuid, uuid),
    ferry.index_values(ferry.tracked, oid, uuid, uuid, jsonb), ferry.clash(uuid, uuid, text, jsonb),
    ferry.write_postponed(uuid, bigint), ferry.answer_names(regproc), ferry.device_label(uuid, uuid) FROM PUBLIC;
GRANT SELECT ON ferry.placeholder TO ferry_hub;
GRANT SELECT, INSERT, UPDATE, DELETE ON ferry.postponed TO ferry_hub;
GRANT EXECUTE ON FUNCTION ferry.row_label(int, uuid, uuid), ferry.index_values(ferry.tracked, oid, uuid, uuid, jsonb),
    ferry.clash(uuid, uuid, text, jsonb), ferry.kept_value(text, text, jsonb), ferry.fill(text, text, text) TO ferry_hub;
GRANT EXECUTE ON FUNCTION ferry.label(regclass, text[]), ferry.allow_merge(regclass, bool) TO ferry_owner;
GRANT EXECUTE ON FUNCTION ferry.write_postponed(uuid, bigint), ferry.device_label(uuid, uuid) TO ferry_hub;
GRANT EXECUTE ON FUNCTION ferry.answer_names(regproc), ferry.device_label(uuid, uuid) TO ferry_owner;

RESET ROLE;
