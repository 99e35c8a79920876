-- What concerns whole rows of a table: a check of its owner's, which judges what devices
-- write with a sentence of its own.

SET LOCAL ROLE ferry_engine;

ALTER TABLE ferry.tracked ADD COLUMN validator regproc;
COMMENT ON COLUMN ferry.tracked.validator IS 'The function that judges what devices write; NULL: none';

CREATE FUNCTION ferry.set_validator(of_tbl int, check_function regproc) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM ferry.need_owner((SELECT t.relid FROM ferry.tracked t WHERE t.tbl = of_tbl));
    UPDATE ferry.tracked t SET validator = check_function WHERE t.tbl = of_tbl AND t.validator IS DISTINCT FROM check_function;
END $$;

-- check_function(op text, old <row of the table>, new <row of the table>, device uuid) returns
-- text: why the change is refused; NULL: it is not. It may raise an exception instead. old is
-- NULL for an insert, new for a delete; excluded columns are NULL in old.
CREATE FUNCTION ferry.validate(tab regclass, check_function regproc) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked := ferry.need_tracked(tab);
    f pg_proc;
    row_type oid := (SELECT c.reltype FROM pg_class c WHERE c.oid = tab);
BEGIN
    IF check_function IS NOT NULL THEN
        SELECT * INTO f FROM pg_proc p WHERE p.oid = check_function;
        IF string_to_array(f.proargtypes::text, ' ')::oid[] IS DISTINCT FROM ARRAY['text'::regtype::oid, row_type, row_type, 'uuid'::regtype::oid]
           OR f.prorettype <> 'text'::regtype OR f.proretset THEN
            RAISE EXCEPTION '% cannot judge rows of %', check_function, tab USING ERRCODE = 'invalid_function_definition',
                HINT = format('It has to be a function (op text, old %1$s, new %1$s, device uuid) that returns text.', tab);
        ELSIF NOT f.prosecdef THEN
            -- The engine calls it, and the engine passes row-level security.
            RAISE EXCEPTION '% would judge with the rights of the engine', check_function
                USING ERRCODE = 'invalid_function_definition', HINT = 'Make it SECURITY DEFINER, with a fixed search_path.';
        END IF;
    END IF;
    PERFORM ferry.set_validator(t.tbl, check_function);
END $$;
COMMENT ON FUNCTION ferry.validate(regclass, regproc) IS
    'Names the function that judges what devices write to a table, and may refuse it with a sentence of its own; NULL: none';

-- Before a delete, after an insert or update, as ferry.check_policies, which asks this.
CREATE FUNCTION ferry.ask_validator(t ferry.tracked, tenant uuid, op text, keys uuid[], devices uuid[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
AS $$
DECLARE
    refusal text;
    state text;
BEGIN
    EXECUTE format('SELECT x.refusal FROM unnest($1::uuid[], $3::uuid[]) AS u(k, device) '
                   'LEFT JOIN %1$s r ON r.%2$I = $2 AND r.%3$I = u.k '
                   'LEFT JOIN ferry.before_image b ON b.xid = pg_current_xact_id() AND b.tbl = %4$s AND b.key = u.k '
                   'CROSS JOIN LATERAL (SELECT %5$s($4, '
                   'CASE $4 WHEN ''delete'' THEN r WHEN ''update'' THEN jsonb_populate_record(NULL::%1$s, b.row) END, '
                   'CASE WHEN $4 <> ''delete'' THEN r END, u.device) AS refusal OFFSET 0) x '
                   'WHERE x.refusal IS NOT NULL LIMIT 1', t.relid, t.tenant_col, t.key_col, t.tbl, t.validator)
        INTO refusal USING keys, tenant, devices, op;
    IF refusal IS NOT NULL THEN
        RAISE EXCEPTION '%', refusal USING ERRCODE = 'FE327';
    END IF;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS state = RETURNED_SQLSTATE;
    -- What passes by itself is tried again; all else is the check's word on this change-set,
    -- or its own fault, and then must not hold up the device's other work (P6).
    IF state ~ '^(FE|08|40|53|55|57|58)' THEN
        RAISE;
    ELSIF state = 'P0001' THEN
        RAISE EXCEPTION '%', SQLERRM USING ERRCODE = 'FE327';
    END IF;
    RAISE EXCEPTION 'the check % of % failed: %', t.validator, t.replica_name, SQLERRM USING ERRCODE = 'FE327';
END $$;

ALTER FUNCTION ferry.check_policies(uuid, int, text, uuid[], uuid[]) RENAME TO ask_authority;
REVOKE EXECUTE ON FUNCTION ferry.ask_authority(uuid, int, text, uuid[], uuid[]) FROM ferry_hub;
CREATE FUNCTION ferry.check_policies(tenant uuid, of_tbl int, op text, keys uuid[], devices uuid[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked;
BEGIN
    SELECT * INTO t FROM ferry.tracked o WHERE o.tbl = of_tbl;
    IF t.validator IS NOT NULL THEN
        PERFORM ferry.ask_validator(t, tenant, op, keys, devices);
    END IF;
    IF t.policed THEN
        PERFORM ferry.ask_authority(tenant, of_tbl, op, keys, devices);
    ELSE
        DELETE FROM ferry.before_image b WHERE b.xid = pg_current_xact_id() AND b.tbl = of_tbl AND b.key = ANY (keys);
    END IF;
END $$;
COMMENT ON FUNCTION ferry.check_policies(uuid, int, text, uuid[], uuid[]) IS
    'Refuses a write of the merge that the table''s own check (SQLSTATE FE327) or a policy of the tenant (FE315) forbids';
COMMENT ON FUNCTION ferry.ask_authority(uuid, int, text, uuid[], uuid[]) IS 'The tenant''s policies'' part of ferry.check_policies';

REVOKE EXECUTE ON FUNCTION ferry.set_validator(int, regproc), ferry.validate(regclass, regproc),
    ferry.ask_validator(ferry.tracked, uuid, text, uuid[], uuid[]),
    ferry.check_policies(uuid, int, text, uuid[], uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.set_validator(int, regproc), ferry.validate(regclass, regproc) TO ferry_owner;
GRANT EXECUTE ON FUNCTION ferry.check_policies(uuid, int, text, uuid[], uuid[]) TO ferry_hub;

RESET ROLE;
