-- A device's deletion that a foreign key carries on to other rows: what others changed there, which the
-- device had not seen, is kept as conflicts, as it is of a row that the device deletes itself.

SET LOCAL ROLE ferry_engine;

ALTER TABLE ferry.conflict ADD COLUMN at_hub bool NOT NULL DEFAULT false;
COMMENT ON COLUMN ferry.conflict.at_hub IS 'Kept here alone: the row is none that the device holds';

CREATE FUNCTION ferry.cascades_to(of_tbl int) RETURNS TABLE (child int, joins text)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.tbl, (SELECT string_agg(format('c.%I = p.%I', ca.attname, pa.attname), ' AND ' ORDER BY u.n)
        FROM unnest(k.conkey, k.confkey) WITH ORDINALITY u(of_child, of_parent, n)
        JOIN pg_attribute ca ON ca.attrelid = k.conrelid AND ca.attnum = u.of_child
        JOIN pg_attribute pa ON pa.attrelid = k.confrelid AND pa.attnum = u.of_parent)
    FROM ferry.tracked t JOIN pg_constraint k ON k.confrelid = t.relid AND k.contype = 'f' AND k.confdeltype = 'c'
    JOIN ferry.tracked c ON c.relid = k.conrelid
    WHERE t.tbl = of_tbl
$$;
COMMENT ON FUNCTION ferry.cascades_to(int) IS 'Tracked tables whose rows go with those of a table (c and p in joins)';

CREATE FUNCTION ferry.is_unheld(tenant uuid, device uuid, of_tbl int, of_key uuid) RETURNS bool
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT NOT EXISTS (SELECT FROM ferry.version v JOIN ferry.held_scope h ON h.device_id = device AND h.scope = ANY (v.scope || v.also) AND h.reads
                       WHERE v.tenant_id = tenant AND v.tbl = of_tbl AND v.key = of_key)
$$;
COMMENT ON FUNCTION ferry.is_unheld(uuid, uuid, int, uuid) IS 'Is the row none that the device holds?';

-- Of rows of a table those that the device's change-set had not seen as they are: base is its bookmark, and
-- from lost_from on (0: not so) bookmarks are of a history that a restore has lost.
CREATE FUNCTION ferry.unseen_rows(tenant uuid, device uuid, of_number bigint, apart bigint, base bigint, lost_from bigint,
                                  of_tbl int, keys uuid[], most int) RETURNS TABLE (key uuid, other uuid)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH v AS MATERIALIZED (
        SELECT r.key, r.base_tx || (r.born || ARRAY(SELECT x & 281474976710655 FROM unnest(r.over) x)) AS ids
        FROM ferry.version r WHERE r.tenant_id = tenant AND r.tbl = of_tbl AND r.key = ANY (keys) AND NOT r.deleted),
    late AS MATERIALIZED (
        SELECT u.id, s.device_id FROM (SELECT DISTINCT unnest(v.ids) AS id FROM v) u LEFT JOIN ferry.stamp s ON s.id = u.id
        JOIN ferry.commit c ON c.tenant_id = tenant AND c.tx = coalesce(s.tx, u.id)
        WHERE c.position > CASE WHEN lost_from > 0 AND base >= lost_from THEN lost_from - 1 ELSE base END
            AND NOT coalesce(s.old_position > 0 AND s.old_position <= base, false)
            AND NOT coalesce(s.device_id = device AND s.number <= of_number AND s.number > apart, false))
    SELECT x.key, (array_agg(l.device_id ORDER BY l.id DESC))[1]
    FROM (SELECT v.key, unnest(v.ids) AS id FROM v) x JOIN late l USING (id) GROUP BY x.key LIMIT most
$$;
COMMENT ON FUNCTION ferry.unseen_rows(uuid, uuid, bigint, bigint, bigint, bigint, int, uuid[], int) IS
    'Rows that others changed unseen by a device''s change-set, and one of these others (NULL: the hub); so many at most';

CREATE FUNCTION ferry.lock_rows(of_tbl int, tenant uuid, keys uuid[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked := (SELECT o FROM ferry.tracked o WHERE o.tbl = of_tbl);
BEGIN
    EXECUTE format('SELECT count(*) FROM (SELECT FROM %1$s r WHERE r.%2$I = $1 AND r.%3$I = ANY ($2) ORDER BY r.%3$I FOR UPDATE) x',
                   t.relid, t.tenant_col, t.key_col) USING tenant, keys;
END $$;
COMMENT ON FUNCTION ferry.lock_rows(int, uuid, uuid[]) IS 'Locks rows as their deletion does, in the order of their keys';

CREATE FUNCTION ferry.keep_rows(tenant uuid, of_tx bigint, device uuid, of_number bigint, of_tbl int, keys uuid[], others uuid[], at_hub bool[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
AS $$
BEGIN
    EXECUTE (SELECT format('INSERT INTO ferry.conflict (tenant_id, tx, device_id, number, tbl, key, num, kind, winner, hub_value, other_device_id, at_hub) '
        'SELECT $1, $2, $3, $4, %s, u.key, x.num, ''delete_update'', ''device'', x.value, u.other, u.at_hub '
        'FROM unnest($5, $6, $7) u(key, other, at_hub) JOIN %s r ON r.%I = $1 AND r.%I = u.key '
        'CROSS JOIN LATERAL (SELECT c.num, ferry.wire_json(c, e.value) AS value FROM (VALUES %s) e(num, value) '
        'JOIN ferry.tracked_column c ON c.tbl = %s AND c.num = e.num WHERE e.value IS NOT NULL) x',
        t.tbl, t.relid, t.tenant_col, t.key_col, string_agg(format('(%s, r.%I::text)', c.num, c.name), ', '), t.tbl)
        FROM ferry.tracked t JOIN ferry.tracked_column c ON c.tbl = t.tbl AND c.name NOT IN (t.tenant_col, t.key_col)
        WHERE t.tbl = of_tbl GROUP BY t.tbl, t.relid, t.tenant_col, t.key_col)
        USING tenant, of_tx, device, of_number, keys, others, at_hub;
END $$;
COMMENT ON FUNCTION ferry.keep_rows(uuid, bigint, uuid, bigint, int, uuid[], uuid[], bool[]) IS
    'Keeps rows that a device''s deletion takes along as conflicts, a column each';

-- All rows that go with those of a table, a generation after the other, and by which row. They are locked first: what others write
-- there is committed and seen, or waits for the deletion.
CREATE FUNCTION ferry.walk_cascades(tenant uuid, of_tbl int, of_keys uuid[]) RETURNS TABLE (tbl int, key uuid, by_tbl int, by_key uuid)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tbls int[] := array_fill(of_tbl, ARRAY[cardinality(of_keys)]);
    keys uuid[] := of_keys;
    by_tbls int[] := '{}'; -- of those behind the first generation
    by_keys uuid[] := '{}';
    generation int := 1; -- where the last one begins
    next_one int;
    step record;
    found uuid[];
    found_by uuid[];
BEGIN
    IF EXISTS (SELECT FROM ferry.cascades_to(of_tbl)) THEN
        PERFORM ferry.lock_rows(of_tbl, tenant, of_keys);
    END IF;
    WHILE generation <= cardinality(keys) LOOP
        next_one := cardinality(keys) + 1;
        FOR step IN SELECT n.tbl, n.keys, c.child, c.joins, p.relid AS parent, p.tenant_col, p.key_col, t.relid, t.key_col AS child_key, t.tenant_col AS child_tenant
            FROM (SELECT x.tbl, array_agg(x.key) AS keys FROM unnest(tbls[generation:], keys[generation:]) x(tbl, key) GROUP BY x.tbl) n
            CROSS JOIN LATERAL ferry.cascades_to(n.tbl) c JOIN ferry.tracked p ON p.tbl = n.tbl JOIN ferry.tracked t ON t.tbl = c.child
        LOOP
            EXECUTE format('SELECT array_agg(x.key), array_agg(x.by_key) FROM (SELECT DISTINCT ON (c.%1$I) c.%1$I AS key, p.%2$I AS by_key '
                           'FROM %3$s p JOIN %4$s c ON %5$s WHERE p.%6$I = $1 AND p.%2$I = ANY ($2) AND c.%7$I = $1) x '
                           'LEFT JOIN unnest($3, $4) a(tbl, key) ON a.tbl = %8$s AND a.key = x.key WHERE a.key IS NULL',
                           step.child_key, step.key_col, step.parent, step.relid, step.joins, step.tenant_col, step.child_tenant, step.child)
                INTO found, found_by USING tenant, step.keys, tbls, keys;
            CONTINUE WHEN found IS NULL;
            PERFORM ferry.lock_rows(step.child, tenant, found);
            tbls := tbls || array_fill(step.child, ARRAY[cardinality(found)]);
            keys := keys || found;
            by_tbls := by_tbls || array_fill(step.tbl, ARRAY[cardinality(found)]);
            by_keys := by_keys || found_by;
        END LOOP;
        generation := next_one;
    END LOOP;
    RETURN QUERY SELECT * FROM unnest(tbls[cardinality(of_keys) + 1:], keys[cardinality(of_keys) + 1:], by_tbls, by_keys);
END $$;
COMMENT ON FUNCTION ferry.walk_cascades(uuid, int, uuid[]) IS 'Rows that a deletion takes along by foreign keys; locks them';

-- Just before a statement deletes rows for change-sets of devices. With a row that is kept those above it are, up to the deleted
-- one, so that all can be put back; but what the merge keeps itself is kept once. More rows than a person could look through
-- refuse the deletion. As the engine, since the hub may neither lock rows that devices do not write nor read columns that they do not have.
CREATE FUNCTION ferry.keep_cascades(tenant uuid, of_tx bigint, of_tbl int, of_keys uuid[], devices uuid[], numbers bigint[], apart bigint[],
                                    bases bigint[], lost_from bigint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most CONSTANT int := 1000;
    gone record;
    lowest bigint := (SELECT min(CASE WHEN u.lost > 0 AND u.base >= u.lost THEN u.lost - 1 ELSE u.base END) FROM unnest(bases, lost_from) u(base, lost));
    g record;
    mine record;
    kept record;
    r record;
BEGIN
    SELECT array_agg(w.tbl) AS tbls, array_agg(w.key) AS keys, array_agg(w.by_tbl) AS by_tbls, array_agg(w.by_key) AS by_keys INTO gone
        FROM ferry.walk_cascades(tenant, of_tbl, of_keys) w;
    -- Mostly there is nothing beneath, or nobody has changed it since.
    IF gone.keys IS NULL OR NOT EXISTS (
        SELECT FROM (SELECT x.tbl, array_agg(x.key) AS keys FROM unnest(gone.tbls, gone.keys) x(tbl, key) GROUP BY x.tbl) n
        CROSS JOIN LATERAL ferry.unseen_rows(tenant, NULL, 0, 0, lowest, 0, n.tbl, n.keys, 1)) THEN
        RETURN;
    END IF;
    FOR g IN SELECT u.device, u.number, u.apart, u.base, u.lost_from, array_agg(u.key) AS keys
        FROM unnest(of_keys, devices, numbers, apart, bases, lost_from) u(key, device, number, apart, base, lost_from) GROUP BY 1, 2, 3, 4, 5
    LOOP
        WITH RECURSIVE a AS (SELECT * FROM unnest(gone.tbls, gone.keys, gone.by_tbls, gone.by_keys) x(tbl, key, by_tbl, by_key)),
        m AS (SELECT a.* FROM a WHERE a.by_tbl = of_tbl AND a.by_key = ANY (g.keys)
              UNION SELECT a.* FROM m JOIN a ON a.by_tbl = m.tbl AND a.by_key = m.key)
        SELECT array_agg(m.tbl) AS tbls, array_agg(m.key) AS keys, array_agg(m.by_tbl) AS by_tbls, array_agg(m.by_key) AS by_keys INTO mine FROM m;
        CONTINUE WHEN mine.keys IS NULL;
        SELECT array_agg(n.tbl) AS tbls, array_agg(u.key) AS keys, array_agg(u.other) AS others INTO kept
            FROM (SELECT x.tbl, array_agg(x.key) AS keys FROM unnest(mine.tbls, mine.keys) x(tbl, key) GROUP BY x.tbl) n
            CROSS JOIN LATERAL ferry.unseen_rows(tenant, g.device, g.number, g.apart, g.base, g.lost_from, n.tbl, n.keys, most + 1) u;
        CONTINUE WHEN kept.keys IS NULL;
        IF cardinality(kept.keys) > most THEN
            RAISE EXCEPTION 'what it deletes takes more than % rows along that others have changed and this device has not seen: look at them first', most
                USING ERRCODE = 'FE315';
        END IF;
        FOR r IN
            WITH RECURSIVE a AS (SELECT * FROM unnest(mine.tbls, mine.keys, mine.by_tbls, mine.by_keys) x(tbl, key, by_tbl, by_key)),
            k AS (SELECT x.tbl, x.key, x.other, true AS itself FROM unnest(kept.tbls, kept.keys, kept.others) x(tbl, key, other)
                  UNION SELECT a.by_tbl, a.by_key, k.other, false FROM k JOIN a ON a.tbl = k.tbl AND a.key = k.key)
            SELECT o.tbl, array_agg(o.key) AS keys, array_agg(o.other) AS others,
                array_agg(ferry.is_unheld(tenant, g.device, o.tbl, o.key)) AS at_hub
            FROM (SELECT DISTINCT ON (k.tbl, k.key) k.tbl, k.key, k.other FROM k
                  WHERE NOT EXISTS (SELECT FROM ferry.conflict x WHERE x.tenant_id = tenant AND x.tx = of_tx AND x.device_id = g.device
                      AND x.number = g.number AND x.tbl = k.tbl AND x.key = k.key)
                  ORDER BY k.tbl, k.key, k.itself DESC, k.other) o
            GROUP BY o.tbl
        LOOP
            PERFORM ferry.keep_rows(tenant, of_tx, g.device, g.number, r.tbl, r.keys, r.others, r.at_hub);
        END LOOP;
    END LOOP;
END $$;
COMMENT ON FUNCTION ferry.keep_cascades(uuid, bigint, int, uuid[], uuid[], bigint[], bigint[], bigint[], bigint[]) IS
    'Keeps what deletions of devices are about to take along by foreign keys and they have not seen';

CREATE FUNCTION ferry.expect_rows(tenant uuid, of_tbl int, keys uuid[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked := (SELECT o FROM ferry.tracked o WHERE o.tbl = of_tbl);
    missing uuid;
BEGIN
    EXECUTE format('SELECT k FROM unnest($2) k WHERE NOT EXISTS (SELECT FROM %s r WHERE r.%I = $1 AND r.%I = k) LIMIT 1', t.relid, t.tenant_col, t.key_col)
        INTO missing USING tenant, keys;
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'a row of % goes with one that the change-set deletes', t.name USING ERRCODE = 'FE303';
    END IF;
END $$;
COMMENT ON FUNCTION ferry.expect_rows(uuid, int, uuid[]) IS 'Refuses what took rows along that it was to keep';

REVOKE EXECUTE ON FUNCTION ferry.cascades_to(int), ferry.is_unheld(uuid, uuid, int, uuid),
    ferry.unseen_rows(uuid, uuid, bigint, bigint, bigint, bigint, int, uuid[], int), ferry.lock_rows(int, uuid, uuid[]),
    ferry.keep_rows(uuid, bigint, uuid, bigint, int, uuid[], uuid[], bool[]),
    ferry.walk_cascades(uuid, int, uuid[]),
    ferry.keep_cascades(uuid, bigint, int, uuid[], uuid[], bigint[], bigint[], bigint[], bigint[]), ferry.expect_rows(uuid, int, uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.keep_cascades(uuid, bigint, int, uuid[], uuid[], bigint[], bigint[], bigint[], bigint[]),
    ferry.expect_rows(uuid, int, uuid[]) TO ferry_hub;

RESET ROLE;
