-- Parents that come along: where a row is visible, so are the rows that its foreign keys
-- name, to be read only. Declared for each foreign key; how they are counted stands in 0004.

SET LOCAL ROLE ferry_engine;

ALTER TABLE ferry.bring ADD COLUMN open bool NOT NULL DEFAULT false;
COMMENT ON COLUMN ferry.bring.open IS 'The parent also comes to devices whose users lack the permission to read its table';
GRANT SELECT ON ferry.brought TO ferry_hub;

-- The scopes of a row by itself; of those that are brought along also where rows refer to
-- them. Its own come first, and "own" says how many of "also" they are.
CREATE FUNCTION ferry.scope_sql(of_tbl int, OUT joins text, OUT expr text, OUT also text, OUT own text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked;
    mine text;
BEGIN
    SELECT * INTO t FROM ferry.tracked o WHERE o.tbl = of_tbl;
    SELECT s.joins, s.expr, s.also INTO joins, expr, also FROM ferry.own_sql(of_tbl) s;
    IF t.brought THEN
        mine := coalesce('coalesce(' || also || ', ''{}'')', '''{}''::text[]');
        joins := joins || format(' CROSS JOIN LATERAL (SELECT array_agg(b.scope ORDER BY b.scope COLLATE "C") AS s FROM ferry.brought b '
                                 'WHERE b.tenant_id = $2 AND b.tbl = %s AND b.key = r.%I AND b.refs > 0 AND b.scope <> ALL ((%s) || %s)) came',
                                 of_tbl, t.key_col, expr, mine);
        own := format('CASE WHEN came.s IS NOT NULL THEN cardinality(%s) END', mine);
        also := format('nullif(%s || coalesce(came.s, ''{}''), ''{}'')', mine);
    END IF;
END $$;

-- ---------------------------------------------------------------- declaring

-- Whoever sees the row sees its parent: where that is more than the parent's read permission
-- lets them, it has to be said.
CREATE FUNCTION ferry.need_open(of_tbl int, of_num int) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
BEGIN
    SELECT t.relid AS child, p.relid AS parent, p.read_permission AS needs INTO r
    FROM ferry.bring b JOIN ferry.tracked t ON t.tbl = b.tbl JOIN ferry.tracked p ON p.tbl = b.to_tbl
    WHERE b.tbl = of_tbl AND b.num = of_num AND NOT b.open AND p.read_permission IS NOT NULL
      AND p.read_permission IS DISTINCT FROM t.read_permission;
    IF FOUND THEN
        RAISE EXCEPTION 'rows of % need the permission % to be read, and those of % would show them without', r.parent, r.needs, r.child
            USING ERRCODE = 'insufficient_privilege', HINT = 'If that is meant: ferry.bring(..., open => true).';
    END IF;
END $$;

-- Notes all rows of a table whose parents come along, to be counted anew.
CREATE FUNCTION ferry.note_references(of_tbl int) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked;
BEGIN
    SELECT * INTO t FROM ferry.tracked o WHERE o.tbl = of_tbl;
    IF EXISTS (SELECT FROM ferry.bring b WHERE b.tbl = of_tbl) THEN
        EXECUTE format('SELECT count(ferry.note(%s, s.tenant, s.keys)) FROM ('
                       'SELECT %I AS tenant, array_agg(%I) AS keys FROM %s GROUP BY %I) s',
                       of_tbl | ferry.counts(), t.tenant_col, t.key_col, t.relid, t.tenant_col);
    END IF;
END $$;

-- A table's rows, or a column of them, refer to nothing any more: what they brought leaves.
CREATE FUNCTION ferry.forget_references(of_tbl int, of_num int DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
    notes record;
BEGIN
    FOR r IN SELECT DISTINCT x.tenant_id FROM ferry.reference x WHERE x.tbl = of_tbl ORDER BY 1 LOOP
        PERFORM ferry.lock_brought(r.tenant_id);
        FOR notes IN
            WITH gone AS (
                DELETE FROM ferry.reference x
                WHERE x.tenant_id = r.tenant_id AND x.tbl = of_tbl AND x.num = coalesce(of_num, x.num) RETURNING x.*),
            less AS (
                SELECT g.to_tbl, g.parent, s.scope, count(*) AS n FROM gone g, unnest(g.scopes) AS s(scope) GROUP BY 1, 2, 3),
            counted AS (
                UPDATE ferry.brought b SET refs = b.refs - l.n FROM less l
                WHERE b.tenant_id = r.tenant_id AND b.tbl = l.to_tbl AND b.key = l.parent AND b.scope = l.scope
                RETURNING b.tbl, b.key, b.refs)
            SELECT c.tbl, array_agg(DISTINCT c.key) AS keys FROM counted c WHERE c.refs = 0 GROUP BY c.tbl
        LOOP
            PERFORM ferry.note(notes.tbl, r.tenant_id, notes.keys);
        END LOOP;
    END LOOP;
END $$;

CREATE FUNCTION ferry.set_bring(of_tbl int, of_num int, turn_on bool, open bool) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
AS $$
DECLARE
    c ferry.tracked_column;
BEGIN
    SELECT * INTO c FROM ferry.tracked_column o WHERE o.tbl = of_tbl AND o.num = of_num;
    PERFORM ferry.need_owner(t.relid) FROM ferry.tracked t WHERE t.tbl IN (of_tbl, c.ref_tbl);
    IF NOT turn_on THEN
        PERFORM ferry.forget_references(of_tbl, of_num);
        DELETE FROM ferry.bring b WHERE b.tbl = of_tbl AND b.num = of_num;
    ELSE
        INSERT INTO ferry.bring AS b (tbl, num, to_tbl, open) VALUES (of_tbl, of_num, c.ref_tbl, set_bring.open)
        ON CONFLICT (tbl, num) DO UPDATE SET open = excluded.open;
        PERFORM ferry.need_open(of_tbl, of_num);
        UPDATE ferry.tracked t SET brought = true WHERE t.tbl = c.ref_tbl AND NOT t.brought;
        PERFORM ferry.generate(c.ref_tbl);
    END IF;
    PERFORM ferry.generate(of_tbl);
    PERFORM ferry.note_references(of_tbl);
END $$;

-- A circle of rows could hold each other in a scope that none of them is in by itself.
CREATE FUNCTION ferry.need_no_circle(of_tbl int, to_tbl int) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF EXISTS (WITH RECURSIVE up(tbl) AS (SELECT need_no_circle.to_tbl UNION SELECT b.to_tbl FROM up u JOIN ferry.bring b ON b.tbl = u.tbl)
               SELECT FROM up u WHERE u.tbl = of_tbl) THEN
        RAISE EXCEPTION 'rows of % would bring rows along that bring rows of the same table',
            (SELECT t.relid FROM ferry.tracked t WHERE t.tbl = of_tbl)
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Give the parents a scope that devices hold, as a path: ''project:parent_id.project_id''.';
    END IF;
END $$;

CREATE FUNCTION ferry.bring(tab regclass, col text, turn_on bool DEFAULT true, open bool DEFAULT false) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked := ferry.need_tracked(tab);
    c ferry.tracked_column;
    p ferry.tracked;
BEGIN
    SELECT * INTO c FROM ferry.tracked_column o WHERE o.tbl = t.tbl AND o.name = col;
    SELECT * INTO p FROM ferry.tracked o WHERE o.tbl = c.ref_tbl;
    IF c.tbl IS NULL THEN
        RAISE EXCEPTION '% has no synced column %', tab, col USING ERRCODE = 'undefined_column';
    ELSIF NOT turn_on AND NOT EXISTS (SELECT FROM ferry.bring b WHERE b.tbl = t.tbl AND b.num = c.num) THEN
        RETURN;
    ELSIF turn_on AND p.tbl IS NULL THEN
        RAISE EXCEPTION '%.% has no foreign key to the key of a tracked table', tab, col
            USING ERRCODE = 'invalid_foreign_key', HINT = 'Track the parent table first.';
    ELSIF turn_on AND 'global' IN (t.scope, p.scope) THEN
        RAISE EXCEPTION '%.%: rows of the scope global are at every device', tab, col USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF turn_on THEN
        PERFORM ferry.need_no_circle(t.tbl, p.tbl);
        EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', p.relid);
    END IF;
    -- Nobody writes between the old way and the new one.
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', tab);
    PERFORM ferry.set_bring(t.tbl, c.num, turn_on, open);
END $$;
COMMENT ON FUNCTION ferry.bring(regclass, text, bool, bool) IS
    'The parents that a column names come along, to be read, to whoever sees a row of the table; open: also where they need a permission to be read that the row does not';

-- ---------------------------------------------------------------- looking after it

-- What is not as the rows say: a reference that was not counted, or counted otherwise, and
-- parents whose counts are not the sum of these. With repair both are put right by this
-- transaction.
CREATE FUNCTION ferry.verify_brought(of_tbl int, of_tenant uuid, repair bool)
RETURNS TABLE (tab regclass, tenant_id uuid, key uuid, what text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
AS $$
#variable_conflict use_column
DECLARE
    t ferry.tracked;
    r record;
    wrong uuid[];
BEGIN
    SELECT * INTO STRICT t FROM ferry.tracked o WHERE o.tbl = of_tbl;
    IF NOT t.brought AND NOT EXISTS (SELECT FROM ferry.bring b WHERE b.tbl = of_tbl) THEN
        RETURN;
    END IF;
    FOR r IN SELECT DISTINCT v.tenant_id AS tenant FROM ferry.version v WHERE v.tbl = of_tbl AND (of_tenant IS NULL OR v.tenant_id = of_tenant)
             UNION SELECT x.tenant_id FROM ferry.reference x WHERE of_tbl IN (x.tbl, x.to_tbl) AND (of_tenant IS NULL OR x.tenant_id = of_tenant) LOOP
        wrong := ferry.wrong_references(of_tbl, r.tenant);
        RETURN QUERY SELECT t.relid, r.tenant, k, 'reference' FROM unnest(wrong) k;
        IF repair AND cardinality(wrong) > 0 THEN
            PERFORM ferry.note(of_tbl | ferry.counts(), r.tenant, wrong);
        END IF;
        wrong := ferry.wrong_counts(of_tbl, r.tenant);
        RETURN QUERY SELECT t.relid, r.tenant, k, 'brought' FROM unnest(wrong) k;
        IF repair AND cardinality(wrong) > 0 THEN
            PERFORM ferry.lock_brought(r.tenant);
            DELETE FROM ferry.brought b WHERE b.tenant_id = r.tenant AND b.tbl = of_tbl AND b.key = ANY (wrong);
            INSERT INTO ferry.brought (tenant_id, tbl, key, scope, refs)
            SELECT r.tenant, of_tbl, x.parent, s.scope, count(*) FROM ferry.reference x, unnest(x.scopes) AS s(scope)
            WHERE x.tenant_id = r.tenant AND x.to_tbl = of_tbl AND x.parent = ANY (wrong) GROUP BY x.parent, s.scope;
            PERFORM ferry.note(of_tbl, r.tenant, wrong);
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION ferry.wrong_references(of_tbl int, tenant uuid) RETURNS uuid[]
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wrong uuid[];
BEGIN
    EXECUTE format('SELECT array_agg(DISTINCT coalesce(n.key, x.key)) FROM (%s) n '
                   'FULL JOIN (SELECT * FROM ferry.reference o WHERE o.tenant_id = $2 AND o.tbl = $1) x ON x.key = n.key AND x.num = n.num '
                   'WHERE (n.to_tbl, n.parent, n.scopes) IS DISTINCT FROM (x.to_tbl, x.parent, x.scopes)',
                   coalesce(ferry.reference_sql(of_tbl, ''), 'SELECT NULL::uuid AS key, NULL::int AS num, NULL::int AS to_tbl, '
                                                             'NULL::uuid AS parent, NULL::text[] AS scopes WHERE false'))
        INTO wrong USING of_tbl, tenant;
    RETURN coalesce(wrong, '{}');
END $$;

CREATE FUNCTION ferry.wrong_counts(of_tbl int, tenant uuid) RETURNS uuid[]
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(array_agg(DISTINCT coalesce(n.parent, b.key)), '{}')
    FROM (SELECT x.parent, s.scope, count(*) AS refs FROM ferry.reference x, unnest(x.scopes) AS s(scope)
          WHERE x.tenant_id = tenant AND x.to_tbl = of_tbl GROUP BY x.parent, s.scope) n
    FULL JOIN (SELECT * FROM ferry.brought o WHERE o.tenant_id = tenant AND o.tbl = of_tbl AND o.refs <> 0) b
        ON b.key = n.parent AND b.scope = n.scope
    WHERE b.refs IS DISTINCT FROM n.refs
$$;

REVOKE EXECUTE ON FUNCTION ferry.need_open(int, int), ferry.note_references(int), ferry.forget_references(int, int), ferry.set_bring(int, int, bool, bool),
    ferry.need_no_circle(int, int), ferry.bring(regclass, text, bool, bool), ferry.verify_brought(int, uuid, bool),
    ferry.wrong_references(int, uuid), ferry.wrong_counts(int, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.set_bring(int, int, bool, bool), ferry.bring(regclass, text, bool, bool) TO ferry_owner;

RESET ROLE;
