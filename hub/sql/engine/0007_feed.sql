-- The feed's questions, checksums, pruning, and looking after it all.

SET LOCAL ROLE ferry_engine;

-- ---------------------------------------------------------------- positions

CREATE FUNCTION ferry.position_of(tenant uuid, surrogate bigint) RETURNS bigint
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT c.position FROM ferry.commit c
    WHERE c.tenant_id = tenant
      AND c.tx = coalesce((SELECT s.tx FROM ferry.stamp s WHERE s.id = surrogate), surrogate)
$$;
COMMENT ON FUNCTION ferry.position_of(uuid, bigint) IS 'The position of a surrogate or stamp';

-- What surrogates and stamps stand for. One that is not here belongs to the running
-- transaction or to nobody: it has no position.
CREATE FUNCTION ferry.resolve(tenant uuid, surrogates bigint[])
RETURNS TABLE (surrogate bigint, "position" bigint, device_id uuid, number bigint, at bigint)
    LANGUAGE sql STABLE
AS $$
    SELECT u.s, c.position, s.device_id, s.number, s.at
    FROM (SELECT DISTINCT unnest(surrogates)) u(s)
    LEFT JOIN ferry.stamp s ON s.id = u.s
    JOIN ferry.commit c ON c.tenant_id = tenant AND c.tx = coalesce(s.tx, u.s)
$$;
COMMENT ON FUNCTION ferry.resolve(uuid, bigint[]) IS
    'Position and author of surrogates and stamps; no device: the hub';

-- Surrogates and stamps of a tenant with a position above from_pos: what a scan of versions
-- is joined with, so that each version need not be resolved by itself.
CREATE FUNCTION ferry.surrogates_since(tenant uuid, from_pos bigint)
RETURNS TABLE (surrogate bigint, "position" bigint)
    LANGUAGE sql STABLE ROWS 10000
AS $$
    SELECT c.tx, c.position FROM ferry.commit c WHERE c.tenant_id = tenant AND c.position > from_pos
    UNION ALL
    SELECT s.id, c.position FROM ferry.commit c JOIN ferry.stamp s ON s.tx = c.tx AND s.tenant_id = tenant
    WHERE c.tenant_id = tenant AND c.position > from_pos
$$;
CREATE INDEX stamp_tx_ix ON ferry.stamp (tx);

CREATE FUNCTION ferry.head(tenant uuid, OUT "position" bigint, OUT mark bigint)
    LANGUAGE sql STABLE
AS $$
    SELECT c.position, c.mark FROM ferry.commit c WHERE c.tenant_id = tenant ORDER BY c.position DESC LIMIT 1
$$;
COMMENT ON FUNCTION ferry.head(uuid) IS 'The newest position of a tenant that this snapshot sees, with its mark';

-- ---------------------------------------------------------------- what changed

-- The keys that changed in (from_pos, to_pos], by table and scope, each once. Where
-- ferry.change no longer reaches back to from_pos the versions are scanned instead: then
-- to_pos has to be the head of the caller's snapshot, as a version only knows its last change.
CREATE FUNCTION ferry.changed(tenant uuid, from_pos bigint, to_pos bigint)
RETURNS TABLE (tbl int, scope text, keys uuid[])
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF from_pos >= coalesce((SELECT h.changes FROM ferry.horizon h WHERE h.tenant_id = tenant), 0) THEN
        RETURN QUERY
        SELECT c.tbl, c.scope, array_agg(DISTINCT k) FROM ferry.commit p
        JOIN ferry.change c ON c.tenant_id = tenant AND c.tx = p.tx
        CROSS JOIN LATERAL unnest(c.keys) k
        WHERE p.tenant_id = tenant AND p.position > from_pos AND p.position <= to_pos
        GROUP BY c.tbl, c.scope;
    ELSE
        RETURN QUERY
        SELECT v.tbl, x.scope, array_agg(v.key) FROM ferry.version v
        JOIN ferry.surrogates_since(tenant, from_pos) s ON s.surrogate = v.tx
        CROSS JOIN LATERAL unnest(v.scope || v.also) AS x(scope)
        WHERE v.tenant_id = tenant
        GROUP BY v.tbl, x.scope
        UNION ALL
        SELECT l.tbl, l.scope, array_agg(l.key) FROM ferry.left l
        JOIN ferry.surrogates_since(tenant, from_pos) s ON s.surrogate = l.tx
        WHERE l.tenant_id = tenant
        GROUP BY l.tbl, l.scope;
    END IF;
END $$;
COMMENT ON FUNCTION ferry.changed(uuid, bigint, bigint) IS 'Keys changed in (from, to], by table and scope';

CREATE FUNCTION ferry.left_since(tenant uuid, from_pos bigint, to_pos bigint)
RETURNS TABLE (tbl int, scope text, keys uuid[])
    LANGUAGE sql STABLE
AS $$
    SELECT l.tbl, l.scope, array_agg(l.key) FROM ferry.left l
    JOIN ferry.surrogates_since(tenant, from_pos) s ON s.surrogate = l.tx
    WHERE l.tenant_id = tenant AND s.position <= to_pos
    GROUP BY l.tbl, l.scope
$$;
COMMENT ON FUNCTION ferry.left_since(uuid, bigint, bigint) IS 'Keys of rows that left a scope in (from, to]';

-- ---------------------------------------------------------------- checksums

-- The running sums of a tenant as this snapshot sees them.
CREATE FUNCTION ferry.sums(tenant uuid)
RETURNS TABLE (tbl int, scope text, sums bigint[], rows bigint)
    LANGUAGE sql STABLE
AS $$
    WITH part AS (SELECT * FROM ferry.sum z WHERE z.tenant_id = tenant),
    cell AS (SELECT p.tbl, p.scope, u.i, bit_xor(u.x) AS x FROM part p, unnest(p.sums) WITH ORDINALITY AS u(x, i)
             GROUP BY p.tbl, p.scope, u.i),
    col AS (SELECT c.tbl, c.scope, array_agg(c.x ORDER BY c.i) AS sums FROM cell c GROUP BY c.tbl, c.scope)
    SELECT col.tbl, col.scope, col.sums, sum(p.rows)::bigint
    FROM col JOIN part p ON p.tbl = col.tbl AND p.scope = col.scope
    GROUP BY col.tbl, col.scope, col.sums
$$;
COMMENT ON FUNCTION ferry.sums(uuid) IS 'The running checksums by table and scope';

-- Folds the sums of committed transactions into one row each table and scope; how many
-- went. One at a time: a second one finds the first at work and leaves it to that.
CREATE FUNCTION ferry.fold_sums() RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(4021958316) THEN
        RETURN 0;
    END IF;
    WITH many AS (
        SELECT z.tenant_id, z.tbl, z.scope FROM ferry.sum z GROUP BY 1, 2, 3 HAVING count(*) > 1),
    gone AS (
        DELETE FROM ferry.sum z USING many m
        WHERE z.tenant_id = m.tenant_id AND z.tbl = m.tbl AND z.scope = m.scope AND z.tx <> 0
        RETURNING z.*),
    cell AS (
        SELECT g.tenant_id, g.tbl, g.scope, u.i, bit_xor(u.x) AS x
        FROM gone g, unnest(g.sums) WITH ORDINALITY AS u(x, i) GROUP BY 1, 2, 3, 4),
    col AS (
        SELECT c.tenant_id, c.tbl, c.scope, array_agg(c.x ORDER BY c.i) AS sums FROM cell c GROUP BY 1, 2, 3),
    folded AS (
        INSERT INTO ferry.sum AS z (tenant_id, tbl, scope, tx, sums, rows, position)
        SELECT c.tenant_id, c.tbl, c.scope, 0, c.sums, r.rows, (SELECT h.position FROM ferry.head(c.tenant_id) h)
        FROM col c JOIN (SELECT g.tenant_id, g.tbl, g.scope, sum(g.rows) AS rows FROM gone g GROUP BY 1, 2, 3) r
             ON (r.tenant_id, r.tbl, r.scope) = (c.tenant_id, c.tbl, c.scope)
        ON CONFLICT (tenant_id, tbl, scope) WHERE tx = 0 DO UPDATE SET
            sums = ferry.xor(z.sums, excluded.sums), rows = z.rows + excluded.rows, position = excluded.position)
    SELECT count(*) INTO n FROM gone;
    RETURN n;
END $$;
COMMENT ON FUNCTION ferry.fold_sums() IS 'Folds the checksum changes of committed transactions; how many rows went';

-- The sums computed from the rows themselves: the proof that the running ones lack.
CREATE FUNCTION ferry.sums_full(tenant uuid)
RETURNS TABLE (tbl int, scope text, sums bigint[], rows bigint)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
    SET row_security = off
AS $$
DECLARE
    t int;
BEGIN
    FOR t IN SELECT o.tbl FROM ferry.tracked o ORDER BY o.tbl LOOP
        RETURN QUERY EXECUTE ferry.row_sql(t, format(
            'SELECT %s, x.scope, ARRAY[%s], count(*) FROM (%%s) s, unnest(s.scope || s.also) x(scope) GROUP BY x.scope', t,
            (SELECT string_agg(format('bit_xor(s.h[%s])', i), ', ' ORDER BY i)
             FROM generate_series(1, (SELECT count(*)::int FROM ferry.tracked_column c WHERE c.tbl = t)) i)))
            USING NULL::bigint, tenant;
    END LOOP;
END $$;
COMMENT ON FUNCTION ferry.sums_full(uuid) IS 'The checksums by table and scope, computed from the rows';

-- Puts "key, scope, further scopes and how many of them are its own, cell hashes of each row of tenant $2" into a statement.
CREATE FUNCTION ferry.row_sql(of_tbl int, outer_sql text) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked;
    s record;
    hashes text;
BEGIN
    SELECT * INTO t FROM ferry.tracked WHERE tbl = of_tbl;
    SELECT * INTO s FROM ferry.scope_sql(of_tbl);
    SELECT string_agg(format('coalesce(%s, 0)', ferry.fill(c.hash_expr, format('r.%I', c.name),
               format('pg_catalog.uuid_hash_extended(r.%I, 0) # %s', t.key_col, c.num))), ', ' ORDER BY c.num)
    INTO hashes FROM ferry.tracked_column c WHERE c.tbl = of_tbl;
    RETURN replace(outer_sql, '%s', format('SELECT r.%I AS key, %s AS scope, %s AS also, %s AS own, ARRAY[%s] AS h FROM %s r%s WHERE r.%I = $2',
                                           t.key_col, s.expr, coalesce(s.also, 'NULL::text[]'), coalesce(s.own, 'NULL::int'), hashes, t.relid, s.joins, t.tenant_col));
END $$;

-- ---------------------------------------------------------------- pruning

-- Forgets ferry.change up to a position of the tenant: older bookmarks are answered from
-- the versions.
CREATE FUNCTION ferry.prune_changes(tenant uuid, up_to bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n bigint;
BEGIN
    INSERT INTO ferry.horizon AS h (tenant_id, changes) VALUES (tenant, up_to)
    ON CONFLICT (tenant_id) DO UPDATE SET changes = greatest(h.changes, excluded.changes);
    DELETE FROM ferry.change c USING ferry.commit p
    WHERE c.tenant_id = tenant AND p.tenant_id = tenant AND p.tx = c.tx AND p.position <= up_to;
    GET DIAGNOSTICS n = ROW_COUNT;
    RETURN n;
END $$;
COMMENT ON FUNCTION ferry.prune_changes(uuid, bigint) IS 'Forgets changes up to a position; bookmarks below it scan versions';

-- Forgets deletions and leavings up to a position: a bookmark below it has to be checked
-- in full, and a row unknown to both sides counts as deleted.
CREATE FUNCTION ferry.prune_tombstones(tenant uuid, up_to bigint) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n bigint;
    m bigint;
BEGIN
    INSERT INTO ferry.horizon AS h (tenant_id, tombstones) VALUES (tenant, up_to)
    ON CONFLICT (tenant_id) DO UPDATE SET tombstones = greatest(h.tombstones, excluded.tombstones);
    DELETE FROM ferry.version v WHERE v.tenant_id = tenant AND v.deleted
        AND NOT EXISTS (SELECT FROM ferry.surrogates_since(tenant, up_to) s WHERE s.surrogate = v.tx);
    GET DIAGNOSTICS n = ROW_COUNT;
    DELETE FROM ferry.left l WHERE l.tenant_id = tenant
        AND NOT EXISTS (SELECT FROM ferry.surrogates_since(tenant, up_to) s WHERE s.surrogate = l.tx);
    GET DIAGNOSTICS m = ROW_COUNT;
    RETURN n + m;
END $$;
COMMENT ON FUNCTION ferry.prune_tombstones(uuid, bigint) IS 'Forgets deletions and leavings up to a position';

-- ---------------------------------------------------------------- schema hash

CREATE FUNCTION ferry.schema_hash(tenant uuid) RETURNS bytea
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT substr(sha256(convert_to(coalesce(string_agg(
        (t.tbl, t.replica_name, t.key_col, t.tenant_col, t.scope, t.write, t.rank, c.cols)::text || CASE WHEN t.brought THEN ' brought' ELSE '' END, E'\n' ORDER BY t.tbl), ''), 'UTF8')), 1, 8)
    FROM ferry.tracked t
    LEFT JOIN LATERAL (
        SELECT array_agg((o.num, o.name, o.pg_type, o.kind, o.not_null, o.has_default, o.policy, o.labels, o.ref_tbl, o.generated, o.policy_options ->> 'lease')::text
                         ORDER BY o.num) AS cols
        FROM ferry.tracked_column o WHERE o.tbl = t.tbl) c ON true
$$;
COMMENT ON FUNCTION ferry.schema_hash(uuid) IS 'Changes when what devices must know about tables changes';

-- ---------------------------------------------------------------- looking after it

-- Rows that differ from their version, rows without one, and versions without a row:
-- written past the triggers (a superuser disabled them, a restore of single tables). With
-- repair they are captured by this transaction as the hub's changes. columns: whose values
-- are not the ones that were captured; NULL where the row itself is the difference.
CREATE FUNCTION ferry.verify_table(of_tbl int, of_tenant uuid DEFAULT NULL, repair bool DEFAULT false)
RETURNS TABLE (tab regclass, tenant_id uuid, key uuid, what text, columns text[])
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
    SET row_security = off
AS $$
DECLARE
    t ferry.tracked;
    r record;
    found_keys uuid[];
BEGIN
    SELECT * INTO STRICT t FROM ferry.tracked o WHERE o.tbl = of_tbl;
    FOR r IN EXECUTE format('SELECT DISTINCT %1$I AS tenant FROM %2$s WHERE $1 IS NULL OR %1$I = $1 UNION SELECT v.tenant_id FROM ferry.version v '
                            'WHERE v.tbl = %3$s AND NOT v.deleted AND ($1 IS NULL OR v.tenant_id = $1)', t.tenant_col, t.relid, t.tbl)
             USING of_tenant LOOP
        found_keys := '{}';
        FOR key, what, columns IN EXECUTE ferry.row_sql(t.tbl, format(
            'SELECT coalesce(s.key, v.key), CASE WHEN s.key IS NULL THEN ''gone'' WHEN v.key IS NULL THEN ''new'' '
            'WHEN s.h <> v.hashes THEN ''changed'' ELSE ''moved'' END, '
            '(SELECT array_agg(c.name ORDER BY c.n) FROM (SELECT o.name, row_number() OVER (ORDER BY o.num) AS n '
            'FROM ferry.tracked_column o WHERE o.tbl = %1$s) c WHERE s.h[c.n] <> v.hashes[c.n]) FROM (%%s) s '
            'FULL JOIN (SELECT * FROM ferry.version v WHERE v.tenant_id = $2 AND v.tbl = %1$s AND NOT v.deleted) v ON v.key = s.key '
            'WHERE s.key IS NULL OR v.key IS NULL OR s.h <> v.hashes OR s.scope <> v.scope OR (s.also, s.own) IS DISTINCT FROM (v.also, v.own)', t.tbl))
            USING NULL::bigint, r.tenant LOOP
            tab := t.relid;
            tenant_id := r.tenant;
            found_keys := found_keys || key;
            RETURN NEXT;
        END LOOP;
        IF repair AND cardinality(found_keys) > 0 THEN
            PERFORM ferry.note(t.tbl, r.tenant, found_keys);
        END IF;
    END LOOP;
    RETURN QUERY SELECT x.tab, x.tenant_id, x.key, x.what, NULL::text[] FROM ferry.verify_brought(of_tbl, of_tenant, repair) x;
END $$;
COMMENT ON FUNCTION ferry.verify_table(int, uuid, bool) IS 'Finds (and captures) what was written past the triggers of a table';

CREATE FUNCTION ferry.verify(repair bool DEFAULT false)
RETURNS TABLE (tab regclass, tenant_id uuid, key uuid, what text)
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT v.tab, v.tenant_id, v.key, v.what FROM (SELECT o.tbl FROM ferry.tracked o ORDER BY o.tbl) t
    CROSS JOIN LATERAL ferry.verify_table(t.tbl, NULL, repair) v
$$;
COMMENT ON FUNCTION ferry.verify(bool) IS 'Finds (and captures) what was written past the triggers';

-- Open transactions, but for the hub's own, that hold tracked tables for more than reading, and
-- so maybe rows that a merge wants (R12). One that is prepared has no process.
CREATE FUNCTION ferry.lock_holders()
RETURNS TABLE (pid int, role text, application text, client text, since timestamptz, state text, tables text[])
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.pid, coalesce(a.usename, x.owner)::text, nullif(a.application_name, ''), coalesce(a.client_hostname, host(a.client_addr)),
        coalesce(a.xact_start, x.prepared), coalesce(a.state, 'prepared as ' || x.gid), array_agg(DISTINCT t.relid::text ORDER BY t.relid::text)
    FROM pg_locks l JOIN ferry.tracked_part p ON p.relid = l.relation JOIN ferry.tracked t ON t.tbl = p.tbl
    LEFT JOIN pg_stat_activity a ON a.pid = l.pid
    LEFT JOIN pg_locks own ON l.pid IS NULL AND own.locktype = 'transactionid' AND own.virtualtransaction = l.virtualtransaction
        AND own.pid IS NULL
    LEFT JOIN pg_prepared_xacts x ON x.transaction = own.transactionid
    WHERE l.locktype = 'relation' AND l.granted AND l.mode <> 'AccessShareLock'
      AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database())
      AND l.pid IS DISTINCT FROM pg_backend_pid() AND coalesce(a.application_name, '') <> 'ferry-hub'
      AND coalesce(a.backend_type, 'client backend') = 'client backend'
    GROUP BY a.pid, a.usename, x.owner, a.application_name, a.client_hostname, a.client_addr, a.xact_start, x.prepared, a.state, x.gid
    ORDER BY coalesce(a.xact_start, x.prepared)
$$;
COMMENT ON FUNCTION ferry.lock_holders() IS 'Who holds rows of tracked tables in an open transaction';

-- What an operator should know, each with what to do about it.
CREATE FUNCTION ferry.doctor()
RETURNS TABLE (severity text, subject text, sentence text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
AS $$
BEGIN
    RETURN QUERY
    SELECT 'error', t.relid::text, 'No forced row-level security with a policy: SELECT ferry.isolate(''' || t.relid || ''').'
    FROM ferry.tracked t JOIN pg_class c ON c.oid = t.relid
    WHERE NOT (c.relrowsecurity AND c.relforcerowsecurity) OR NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = t.relid);
    RETURN QUERY
    SELECT 'error', p.relid::text, 'A capture trigger is missing or does not always fire: untrack and track the table again.'
    FROM ferry.tracked_part p
    WHERE (SELECT count(*) FROM pg_trigger g WHERE g.tgrelid = p.relid AND g.tgenabled = 'A'
           AND g.tgname IN ('ferry_insert', 'ferry_update', 'ferry_delete', 'ferry_key', 'ferry_truncate')) <> 5;
    RETURN QUERY
    SELECT 'error', r.rolname::text, 'The hub''s role must not be superuser, bypass row-level security or own tracked tables.'
    FROM pg_roles r WHERE r.rolname = 'ferry_hub'
      AND (r.rolsuper OR r.rolbypassrls
           OR EXISTS (SELECT FROM ferry.tracked t JOIN pg_class c ON c.oid = t.relid WHERE pg_has_role(r.oid, c.relowner, 'MEMBER')));
    RETURN QUERY
    SELECT 'error', 'event triggers', 'The event triggers ferry_ddl and ferry_drop must be enabled: ALTER EVENT TRIGGER ... ENABLE ALWAYS.'
    WHERE (SELECT count(*) FROM pg_event_trigger e WHERE e.evtname IN ('ferry_ddl', 'ferry_drop') AND e.evtenabled = 'A') <> 2;
    RETURN QUERY
    SELECT 'error', t.relid::text, 'A unique key without ' || t.tenant_col || ' lets one tenant learn of another''s rows: ' || i.indexrelid::regclass || '.'
    FROM ferry.tracked t JOIN pg_index i ON i.indrelid = t.relid AND i.indisunique
    JOIN pg_attribute a ON a.attrelid = t.relid AND a.attname = t.tenant_col
    WHERE NOT a.attnum = ANY (i.indkey) AND t.tenant_col <> t.key_col
      AND NOT (i.indisprimary AND i.indnkeyatts = 1);
    RETURN QUERY
    SELECT 'warning', x.gid, 'Prepared since ' || x.prepared || ': its tenant waits for COMMIT PREPARED or ROLLBACK PREPARED.'
    FROM pg_prepared_xacts x WHERE x.database = current_database();
    RETURN QUERY
    SELECT 'warning', 'pid ' || h.pid, 'A transaction of ' || h.role || coalesce(' (' || h.application || ')', '') || ' is open since '
        || h.since || ': rows that it holds of ' || array_to_string(h.tables, ', ') || ' wait for it.'
    FROM ferry.lock_holders() h WHERE h.pid IS NOT NULL AND h.since < now() - interval '5 minutes';
    RETURN QUERY
    SELECT 'warning', 'ferry.dirty', count(*) || ' keys were left behind by a transaction: SELECT * FROM ferry.verify(true).'
    FROM ferry.dirty d HAVING count(*) > 0;
END $$;
COMMENT ON FUNCTION ferry.doctor() IS 'What is wrong or risky, and what to do about it';

REVOKE EXECUTE ON FUNCTION ferry.fold_sums(), ferry.sums_full(uuid), ferry.prune_changes(uuid, bigint),
    ferry.prune_tombstones(uuid, bigint), ferry.verify(bool), ferry.verify_table(int, uuid, bool), ferry.lock_holders(), ferry.doctor()
    FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.fold_sums(), ferry.sums_full(uuid), ferry.prune_changes(uuid, bigint),
    ferry.prune_tombstones(uuid, bigint), ferry.verify(bool), ferry.verify_table(int, uuid, bool), ferry.lock_holders(),
    ferry.doctor() TO ferry_hub, ferry_owner;

RESET ROLE;
