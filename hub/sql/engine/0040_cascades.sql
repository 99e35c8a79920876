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

-- Before the deletion. With a row that is kept those above it are, up to the deleted one, so that all can be put back; but what
-- the merge keeps itself is kept once. More rows than a person could look through refuse it: then nothing is deleted. All rows
-- that go are locked first: what others write there is committed and seen, or waits for the deletion. As the engine, since the hub
-- may neither lock rows that devices do not write nor read columns that they do not have.
CREATE FUNCTION ferry.keep_cascaded(tenant uuid, of_tx bigint, device uuid, of_number bigint, apart bigint, base bigint, lost_from bigint,
                                    of_tbl int, of_keys uuid[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most CONSTANT int := 1000;
    -- All rows that go, a generation after the other, and by which row.
    tbls int[] := array_fill(of_tbl, ARRAY[cardinality(of_keys)]);
    keys uuid[] := of_keys;
    by_tbls int[] := array_fill(0, ARRAY[cardinality(of_keys)]);
    by_keys uuid[] := array_fill(NULL::uuid, ARRAY[cardinality(of_keys)]);
    generation int := 1; -- where the last one begins
    next_one int;
    step record;
    found uuid[];
    found_by uuid[];
    u record;
    -- Those that are kept.
    kept_tbls int[] := '{}';
    kept_keys uuid[] := '{}';
    others uuid[] := '{}';
BEGIN
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
            tbls := tbls || array_fill(step.child, ARRAY[cardinality(found)]);
            keys := keys || found;
            by_tbls := by_tbls || array_fill(step.tbl, ARRAY[cardinality(found)]);
            by_keys := by_keys || found_by;
            PERFORM ferry.lock_rows(step.child, tenant, found);
            SELECT array_agg(step.child) AS tbls, array_agg(r.key) AS keys, array_agg(r.other) AS others INTO u
                FROM ferry.unseen_rows(tenant, device, of_number, apart, base, lost_from, step.child, found, most + 1) r;
            kept_tbls := kept_tbls || u.tbls;
            kept_keys := kept_keys || u.keys;
            others := others || u.others;
            IF cardinality(kept_keys) > most THEN
                RAISE EXCEPTION 'what it deletes takes more than % rows along that others have changed and this device has not seen: look at them first', most
                    USING ERRCODE = 'FE315';
            END IF;
        END LOOP;
        generation := next_one;
    END LOOP;
    FOR u IN
        WITH RECURSIVE gone AS (SELECT * FROM unnest(tbls, keys, by_tbls, by_keys) x(tbl, key, by_tbl, by_key)),
        kept AS (
            SELECT x.tbl, x.key, x.other, true AS itself FROM unnest(kept_tbls, kept_keys, others) x(tbl, key, other)
            UNION
            SELECT g.by_tbl, g.by_key, k.other, false FROM kept k JOIN gone g ON g.tbl = k.tbl AND g.key = k.key WHERE g.by_key IS NOT NULL)
        SELECT o.tbl, array_agg(o.key) AS keys, array_agg(o.other) AS others,
            array_agg(ferry.is_unheld(tenant, device, o.tbl, o.key)) AS at_hub FROM (
            SELECT DISTINCT ON (k.tbl, k.key) k.tbl, k.key, k.other
            FROM kept k WHERE NOT EXISTS (SELECT FROM ferry.conflict x WHERE x.tenant_id = tenant AND x.tx = of_tx AND x.device_id = device
                AND x.number = of_number AND x.tbl = k.tbl AND x.key = k.key)
            ORDER BY k.tbl, k.key, k.itself DESC, k.other) o
        GROUP BY o.tbl
    LOOP
        PERFORM ferry.keep_rows(tenant, of_tx, device, of_number, u.tbl, u.keys, u.others, u.at_hub);
    END LOOP;
END $$;
COMMENT ON FUNCTION ferry.keep_cascaded(uuid, bigint, uuid, bigint, bigint, bigint, bigint, int, uuid[]) IS
    'Keeps what a device''s deletion is about to take along by foreign keys and the device has not seen';

-- For rows of several devices, as one statement is about to delete them. Mostly there is nothing beneath.
CREATE FUNCTION ferry.keep_cascades(tenant uuid, of_tx bigint, of_tbl int, of_keys uuid[], devices uuid[], numbers bigint[], apart bigint[],
                                    bases bigint[], lost_from bigint[]) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked := (SELECT o FROM ferry.tracked o WHERE o.tbl = of_tbl);
    step record;
    found bool := false;
    g record;
BEGIN
    IF NOT EXISTS (SELECT FROM ferry.cascades_to(of_tbl)) THEN
        RETURN;
    END IF;
    PERFORM ferry.lock_rows(of_tbl, tenant, of_keys);
    FOR step IN SELECT c.joins, k.relid FROM ferry.cascades_to(of_tbl) c JOIN ferry.tracked k ON k.tbl = c.child LOOP
        EXECUTE format('SELECT EXISTS (SELECT FROM %s p JOIN %s c ON %s WHERE p.%I = $1 AND p.%I = ANY ($2))', t.relid, step.relid, step.joins,
                       t.tenant_col, t.key_col) INTO found USING tenant, of_keys;
        EXIT WHEN found;
    END LOOP;
    IF NOT found THEN
        RETURN;
    END IF;
    FOR g IN SELECT u.device, u.number, u.apart, u.base, u.lost_from, array_agg(u.key) AS keys
        FROM unnest(of_keys, devices, numbers, apart, bases, lost_from) u(key, device, number, apart, base, lost_from) GROUP BY 1, 2, 3, 4, 5
    LOOP
        PERFORM ferry.keep_cascaded(tenant, of_tx, g.device, g.number, g.apart, g.base, g.lost_from, of_tbl, g.keys);
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
    ferry.keep_cascaded(uuid, bigint, uuid, bigint, bigint, bigint, bigint, int, uuid[]),
    ferry.keep_cascades(uuid, bigint, int, uuid[], uuid[], bigint[], bigint[], bigint[], bigint[]), ferry.expect_rows(uuid, int, uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.keep_cascades(uuid, bigint, int, uuid[], uuid[], bigint[], bigint[], bigint[], bigint[]),
    ferry.expect_rows(uuid, int, uuid[]) TO ferry_hub;

RESET ROLE;
