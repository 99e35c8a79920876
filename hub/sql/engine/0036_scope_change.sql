-- A tracked table's rows get other scopes: devices gain and lose them as by any move.

SET LOCAL ROLE ferry_engine;

CREATE FUNCTION ferry.set_scope(of_tbl int, scope text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    parent int;
    before int[];
BEGIN
    PERFORM ferry.need_owner((SELECT t.relid FROM ferry.tracked t WHERE t.tbl = of_tbl));
    before := ARRAY(SELECT DISTINCT h.to_tbl FROM ferry.scope_hop h WHERE h.tbl = of_tbl AND h.to_tbl <> of_tbl);
    UPDATE ferry.tracked t SET scope = set_scope.scope WHERE t.tbl = of_tbl;
    PERFORM ferry.read_scope(of_tbl);
    PERFORM ferry.generate(of_tbl);
    -- Tables that were on the way look after these rows no more.
    FOREACH parent IN ARRAY before LOOP
        PERFORM ferry.generate_finish(parent);
    END LOOP;
END $$;

CREATE FUNCTION ferry.rescope(tab regclass, scope text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked;
    listed bool;
BEGIN
    SELECT * INTO t FROM ferry.tracked o WHERE o.relid = tab;
    IF t.tbl IS NULL THEN
        RAISE EXCEPTION '% is not tracked', tab USING ERRCODE = 'undefined_object';
    ELSIF (t.scope = 'global') <> (rescope.scope = 'global') THEN
        RAISE EXCEPTION '%: rows of the scope global belong to no tenant', tab USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Untrack the table and track it again.';
    END IF;
    -- Nobody writes between the old way and the new one.
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', tab);
    listed := ferry.is_listed(t.tbl);
    PERFORM ferry.set_scope(t.tbl, rescope.scope);
    -- The code of tables with one scope does not look at further ones, and would leave them.
    IF listed AND NOT t.brought AND NOT ferry.is_listed(t.tbl) THEN
        RAISE EXCEPTION '%: its rows have several scopes, and with "%" they have one', tab, rescope.scope
            USING ERRCODE = 'feature_not_supported', HINT = 'Untrack the table and track it again.';
    END IF;
    PERFORM ferry.note_all(t.tbl);
    -- Restricted tables stay where their rows are.
    PERFORM ferry.rescope(r.relid, ferry.scope_behind(o)) FROM ferry.redaction d
    JOIN ferry.tracked r ON r.tbl = d.restricted JOIN ferry.tracked o ON o.tbl = d.tbl WHERE d.tbl = t.tbl;
END $$;
COMMENT ON FUNCTION ferry.rescope(regclass, text) IS
    'Gives a tracked table another scope, as ferry.track takes it: devices lose and gain its rows, unsent edits stay';

REVOKE EXECUTE ON FUNCTION ferry.set_scope(int, text), ferry.rescope(regclass, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.set_scope(int, text), ferry.rescope(regclass, text) TO ferry_owner;

RESET ROLE;
