-- Columns that change their type: the rows' new form is no edit of theirs, and values that
-- devices wrote under the type before go through a declared function.

SET LOCAL ROLE ferry_engine;

CREATE TABLE ferry.retyped (
    tbl int NOT NULL REFERENCES ferry.tracked ON DELETE CASCADE,
    num int NOT NULL,
    tx  bigint NOT NULL,
    PRIMARY KEY (tbl, num, tx)
);
COMMENT ON TABLE ferry.retyped IS 'With which transactions all values of a column took another form: feeds bring them, versions stay';
GRANT SELECT ON ferry.retyped TO ferry_hub;

-- The values of columns whose type has just changed have another form, and nobody edited
-- them: hashes and sums follow, and the rows go to devices, but each cell's version stays who
-- set it last. A late edit so meets other edits and not the change of the type. Rows that the
-- same transaction wrote besides, or that differ in other columns, are left to the capture.
CREATE FUNCTION ferry.take_retyped(of_tbl int, was ferry.tracked_column[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
    SET row_security = off
AS $$
DECLARE
    nums int[];
    places bigint[];
    sums text;
    t bigint;
    tenant uuid;
    taken bigint;
    others uuid[];
BEGIN
    SELECT array_agg(c.num) FILTER (WHERE o.pg_type <> c.pg_type), array_agg(c.i) FILTER (WHERE o.pg_type <> c.pg_type),
           string_agg(CASE WHEN o.pg_type <> c.pg_type THEN format('bit_xor(c.o[%1$s] # c.h[%1$s])', c.i) ELSE '0' END, ', ' ORDER BY c.num)
    INTO nums, places, sums
    FROM (SELECT x.*, row_number() OVER (ORDER BY x.num) AS i FROM ferry.tracked_column x WHERE x.tbl = of_tbl) c
    LEFT JOIN unnest(was) o ON o.num = c.num;
    IF nums IS NULL THEN
        RETURN;
    END IF;
    t := ferry.current_tx();
    INSERT INTO ferry.retyped (tbl, num, tx) SELECT of_tbl, x, t FROM unnest(nums) x ON CONFLICT DO NOTHING;
    FOR tenant IN SELECT DISTINCT v.tenant_id FROM ferry.version v WHERE v.tbl = of_tbl AND NOT v.deleted LOOP
        EXECUTE ferry.row_sql(of_tbl, replace(replace($q$
WITH noted AS MATERIALIZED (
    SELECT unnest(d.keys) AS key FROM ferry.dirty d WHERE d.tx = $1 AND d.tbl = {tbl} AND d.tenant_id = $2
), differs AS MATERIALIZED (
    SELECT s.key, s.h, v.ctid AS vid, v.scope || v.also AS scopes, v.hashes AS o,
           v.scope = s.scope AND v.also IS NOT DISTINCT FROM s.also AND NOT EXISTS (SELECT FROM unnest(v.hashes, s.h) WITH ORDINALITY AS x(o, h, i)
                                             WHERE x.o <> x.h AND NOT x.i = ANY ($3)) AS only_form
    FROM (%s) s JOIN ferry.version v ON v.tenant_id = $2 AND v.tbl = {tbl} AND v.key = s.key
    WHERE NOT v.deleted AND v.hashes <> s.h AND s.key NOT IN (SELECT n.key FROM noted n)
), cur AS MATERIALIZED (
    SELECT * FROM differs d WHERE d.only_form
), upd AS (
    UPDATE ferry.version v SET hashes = c.h, tx = $1 FROM cur c WHERE v.tenant_id = $2 AND v.ctid = c.vid
), chg AS (
    INSERT INTO ferry.change (tenant_id, tx, tbl, scope, keys)
    SELECT $2, $1, {tbl}, x, array_agg(c.key) FROM cur c, unnest(c.scopes) x GROUP BY x, uuid_hash(c.key) & 15
), sums AS (
    INSERT INTO ferry.sum (tenant_id, tbl, scope, tx, sums, rows)
    SELECT $2, {tbl}, x, $1, ARRAY[{sums}]::bigint[], 0 FROM cur c, unnest(c.scopes) x GROUP BY x
)
SELECT count(*) FILTER (WHERE d.only_form), array_agg(d.key) FILTER (WHERE NOT d.only_form) FROM differs d$q$, '{tbl}', of_tbl::text), '{sums}', sums)) INTO taken, others USING t, tenant, places;
        IF taken > 0 THEN
            PERFORM ferry.note(0, tenant, '{}');
        END IF;
        IF others IS NOT NULL THEN
            PERFORM ferry.note(of_tbl, tenant, others);
        END IF;
    END LOOP;
END $$;

-- ---------------------------------------------------------------- declared conversions

ALTER TABLE ferry.past_column ADD COLUMN pg_type text, ADD COLUMN in_expr text, ADD COLUMN converter regproc;
COMMENT ON COLUMN ferry.past_column.pg_type IS 'The type before, where a conversion was declared';
COMMENT ON COLUMN ferry.past_column.in_expr IS 'How its wire form became a value';
COMMENT ON COLUMN ferry.past_column.converter IS 'The function that makes values of that type ones of the next; NULL: a cast, where that is certain';

CREATE FUNCTION ferry.declare_conversion(tab regclass, was ferry.tracked_column, since bigint, converter regproc) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked := ferry.need_tracked(tab);
    step bigint := (SELECT g.n FROM ferry.generation g);
BEGIN
    IF NOT EXISTS (SELECT FROM ferry.tracked_column c WHERE c.tbl = t.tbl AND c.num = was.num AND c.pg_type <> was.pg_type) THEN
        RAISE EXCEPTION 'the type of %.% stays %', tab, was.name, was.pg_type USING ERRCODE = 'invalid_parameter_value',
            HINT = 'An UPDATE changes values of the same type; devices then take it for an edit.';
    END IF;
    UPDATE ferry.past_column p SET pg_type = was.pg_type, in_expr = was.in_expr, converter = declare_conversion.converter
    WHERE p.tbl = t.tbl AND p.num = was.num AND p.n > since AND p.kind IS NOT NULL;
    IF NOT FOUND THEN -- the same kind of value on the wire
        INSERT INTO ferry.past_column (tbl, num, n, name, kind, pg_type, in_expr, converter)
        VALUES (t.tbl, was.num, step, was.name, was.kind, was.pg_type, was.in_expr, converter);
    END IF;
END $$;

-- ALTER TABLE and the declaration in one: what stands there and what comes late go through
-- the same function.
CREATE FUNCTION ferry.change_type(tab regclass, col text, new_type text, converter regproc) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    was ferry.tracked_column;
    since bigint;
BEGIN
    SELECT c.* INTO was FROM ferry.tracked_column c JOIN ferry.tracked t ON t.tbl = c.tbl WHERE t.relid = tab AND c.name = col;
    IF was.tbl IS NULL THEN -- devices may have it in a restricted table
        SELECT c.* INTO was FROM ferry.redacted x JOIN ferry.tracked t ON t.tbl = x.tbl
        JOIN ferry.tracked_column c ON c.tbl = x.restricted AND c.num = x.restricted_num WHERE t.relid = tab AND x.name = col;
    END IF;
    IF was.tbl IS NULL THEN
        RAISE EXCEPTION '% has no synced column %', tab, col USING ERRCODE = 'undefined_column';
    ELSIF EXISTS (SELECT FROM pg_proc p WHERE p.oid = converter AND p.provolatile = 'v') THEN
        RAISE EXCEPTION '% is volatile', converter USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Late values are converted whenever they come: declare the function IMMUTABLE or STABLE.';
    ELSIF NOT EXISTS (SELECT FROM pg_proc p WHERE p.oid = converter AND has_function_privilege('ferry_hub', p.oid, 'EXECUTE')
                      AND has_schema_privilege('ferry_hub', p.pronamespace, 'USAGE')) THEN
        RAISE EXCEPTION 'the hub may not call %', converter USING ERRCODE = 'insufficient_privilege',
            HINT = 'GRANT USAGE ON its SCHEMA and EXECUTE ON the FUNCTION TO ferry_hub.';
    END IF;
    since := (SELECT g.n FROM ferry.generation g);
    EXECUTE format('ALTER TABLE %s ALTER COLUMN %I TYPE %s USING %s(%I)', tab, col, new_type, converter, col);
    PERFORM ferry.declare_conversion((SELECT t.relid FROM ferry.tracked t WHERE t.tbl = was.tbl), was, since, converter);
END $$;
COMMENT ON FUNCTION ferry.change_type(regclass, text, text, regproc) IS
    'Changes a column''s type by a function, also for values that devices wrote before and bring late';

-- A wire value as JSON, in SQL of the form that in_expr takes.
CREATE FUNCTION ferry.wire_literal(kind text, value text) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN value !~ '^-?[0-9]+$' THEN quote_literal(value)
                WHEN kind = 'timestamptz' THEN format('(timestamptz ''epoch'' + interval %L)', value || ' microseconds')
                WHEN kind = 'date' THEN format('(date ''epoch'' + (%s))', value)
                ELSE quote_literal(value) END
$$;

-- One value through all changes of type above a step, as text of the last type.
CREATE FUNCTION ferry.through_types(of_tbl int, of_num int, since bigint, value text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
AS $$
DECLARE
    p ferry.past_column;
    expr text;
BEGIN
    FOR p IN SELECT * FROM ferry.past_column o
             WHERE o.tbl = of_tbl AND o.num = of_num AND o.n > since AND o.kind IS NOT NULL ORDER BY o.n LOOP
        expr := CASE WHEN expr IS NULL AND p.in_expr IS NOT NULL THEN ferry.fill(p.in_expr, ferry.wire_literal(p.kind, value))
                     WHEN p.pg_type IS NOT NULL THEN format('%L::%s', value, p.pg_type)
                     ELSE quote_literal(value) END;
        IF p.converter IS NOT NULL THEN
            EXECUTE format('SELECT ferry.text_of(%s(%s))', p.converter, expr) INTO value;
        ELSIF p.kind IN ('timestamptz', 'date') AND value ~ '^-?[0-9]+$' THEN
            EXECUTE format('SELECT ferry.text_of(%s)', ferry.wire_literal(p.kind, value)) INTO value;
        END IF;
        expr := '';
    END LOOP;
    RETURN value;
END $$;

-- For the hub: what late values of columns with declared conversions come to, in the form of
-- ferry.conflict, or why a function refused one. As the hub's role: the functions are anybody's.
CREATE FUNCTION ferry.convert_late(tbls bigint[], nums bigint[], target_tbls bigint[], targets bigint[], steps bigint[], vals text[])
RETURNS TABLE (i bigint, value text, refusal text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c ferry.tracked_column;
BEGIN
    FOR i IN 1 .. cardinality(vals) LOOP
        value := NULL;
        refusal := NULL;
        BEGIN
            SELECT * INTO c FROM ferry.tracked_column o WHERE o.tbl = target_tbls[i] AND o.num = targets[i];
            value := ferry.wire_json(c, ferry.through_types(tbls[i]::int, nums[i]::int, steps[i], vals[i])) #>> '{}';
        EXCEPTION
            WHEN serialization_failure OR deadlock_detected OR lock_not_available OR insufficient_resources THEN
                RAISE;
            WHEN OTHERS THEN
                refusal := SQLERRM;
        END;
        convert_late.i := i;
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION ferry.convert_late(bigint[], bigint[], bigint[], bigint[], bigint[], text[]) IS
    'What values of earlier types come to by declared conversions, or why not';

REVOKE EXECUTE ON FUNCTION ferry.take_retyped(int, ferry.tracked_column[]),
    ferry.declare_conversion(regclass, ferry.tracked_column, bigint, regproc), ferry.change_type(regclass, text, text, regproc),
    ferry.through_types(int, int, bigint, text),
    ferry.convert_late(bigint[], bigint[], bigint[], bigint[], bigint[], text[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.declare_conversion(regclass, ferry.tracked_column, bigint, regproc),
    ferry.change_type(regclass, text, text, regproc) TO ferry_owner;
GRANT EXECUTE ON FUNCTION ferry.through_types(int, int, bigint, text),
    ferry.convert_late(bigint[], bigint[], bigint[], bigint[], bigint[], text[]) TO ferry_hub;

RESET ROLE;
