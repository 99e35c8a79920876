-- Reading the catalogue: columns, references, scopes and keys of a tracked table.

SET LOCAL ROLE ferry_engine;

-- Columns, labels, references and ranks as they are now.
CREATE FUNCTION ferry.read_columns(of_tbl int) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked;
    n int;
BEGIN
    SELECT * INTO t FROM ferry.tracked WHERE tbl = of_tbl;
    INSERT INTO ferry.tracked_column AS o (tbl, num, name, pg_type, kind, not_null, has_default, policy, labels,
                                           hash_expr, wire_expr, in_expr, generated)
    SELECT of_tbl, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod), ferry.kind_of(a.atttypid), a.attnotnull,
           a.atthasdef AND a.attgenerated = '' OR a.attidentity <> '',
           CASE WHEN a.attname = t.tenant_col OR a.attgenerated <> '' OR a.attidentity = 'a' THEN 'hub' ELSE 'lww' END,
           CASE WHEN b.typtype = 'e' THEN (SELECT array_agg(e.enumlabel::text ORDER BY e.enumsortorder) FROM pg_enum e WHERE e.enumtypid = b.oid)
                ELSE ferry.check_labels(t.relid, a.attnum) END,
           ferry.hash_template(a.atttypid), ferry.wire_template(a.atttypid), ferry.in_template(a.atttypid), a.attgenerated <> ''
    FROM pg_attribute a JOIN pg_type b ON b.oid = ferry.base_type(a.atttypid)
    WHERE a.attrelid = t.relid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname <> ALL (t.excluded)
    ON CONFLICT (tbl, num) DO UPDATE SET
        name = excluded.name, pg_type = excluded.pg_type, kind = excluded.kind, not_null = excluded.not_null,
        has_default = excluded.has_default, labels = excluded.labels, hash_expr = excluded.hash_expr,
        wire_expr = excluded.wire_expr, in_expr = excluded.in_expr, generated = excluded.generated;
    DELETE FROM ferry.tracked_column c WHERE c.tbl = of_tbl AND NOT EXISTS (
        SELECT FROM pg_attribute a WHERE a.attrelid = t.relid AND a.attnum = c.num AND NOT a.attisdropped
        AND a.attname <> ALL (t.excluded));
    SELECT count(*) INTO n FROM ferry.tracked_column WHERE tbl = of_tbl;
    IF n > 62 THEN
        RAISE EXCEPTION '%: % synced columns, and 62 is the most a change mask holds', t.relid, n
            USING ERRCODE = 'program_limit_exceeded', HINT = 'Leave columns out with exclude => array[...].';
    END IF;
    UPDATE ferry.tracked SET hash_plain = NOT EXISTS (
        SELECT FROM ferry.tracked_column c WHERE c.tbl = of_tbl AND c.kind = 'other') WHERE tbl = of_tbl;
    PERFORM ferry.read_references();
END $$;

-- Which tracked table each column points to, and ranks with parents before children. A
-- cycle of references ends the count at the number of tables.
CREATE FUNCTION ferry.read_references() RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE ferry.tracked_column c SET ref_tbl = f.to_tbl
    FROM (SELECT o.tbl, o.num, min(p.tbl) AS to_tbl
          FROM ferry.tracked_column o
          JOIN ferry.tracked t ON t.tbl = o.tbl
          LEFT JOIN pg_constraint k ON k.contype = 'f' AND k.conrelid = t.relid AND o.num = ANY (k.conkey)
                                   AND o.name <> t.tenant_col
          LEFT JOIN ferry.tracked p ON p.relid = k.confrelid
               AND p.key_col = (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = k.confrelid
                                AND a.attnum = k.confkey[array_position(k.conkey, o.num::int2)])
          GROUP BY o.tbl, o.num) f
    WHERE c.tbl = f.tbl AND c.num = f.num AND c.ref_tbl IS DISTINCT FROM f.to_tbl;
    -- Only ranks that change are written: a transaction that tracks many tables would
    -- otherwise scan its own dead rows again and again.
    WITH RECURSIVE edge AS MATERIALIZED (
        SELECT DISTINCT c.tbl, c.ref_tbl FROM ferry.tracked_column c WHERE c.ref_tbl <> c.tbl),
    way (tbl, rank) AS (
        SELECT t.tbl, 0 FROM ferry.tracked t
        UNION
        SELECT e.tbl, w.rank + 1 FROM way w JOIN edge e ON e.ref_tbl = w.tbl
        WHERE w.rank < (SELECT count(*) FROM ferry.tracked))
    UPDATE ferry.tracked t SET rank = r.rank
    FROM (SELECT w.tbl, max(w.rank) AS rank FROM way w GROUP BY w.tbl) r
    WHERE t.tbl = r.tbl AND t.rank <> r.rank;
END $$;

CREATE FUNCTION ferry.read_scope(of_tbl int) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked;
    ways text[];
BEGIN
    SELECT * INTO t FROM ferry.tracked WHERE tbl = of_tbl;
    DELETE FROM ferry.scope_hop WHERE tbl = of_tbl;
    IF t.scope IN ('tenant', 'global') THEN
        RETURN;
    END IF;
    ways := string_to_array(t.scope, '|');
    IF EXISTS (SELECT FROM unnest(ways) w WHERE w !~ '^[a-z][a-z0-9_]*:[^.:]+(\.[^.:]+)*$' OR split_part(w, ':', 1) IN ('tenant', 'global')
               OR split_part(w, ':', 1) = 'row' AND cardinality(ways) > 1) THEN
        RAISE EXCEPTION '%: "%" is no scope', t.relid, t.scope
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Write ''tenant'', ''global'', ''user:<column>'' or ''project:<column>.<column of the parent>''; several with | between them.';
    END IF;
    FOR way IN 1 .. cardinality(ways) LOOP
        PERFORM ferry.read_way(t, way - 1, string_to_array(split_part(ways[way], ':', 2), '.'));
    END LOOP;
END $$;

-- One of the ways to a table's scopes: its columns one after the other.
CREATE FUNCTION ferry.read_way(t ferry.tracked, way int, steps text[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    at ferry.tracked := t;
    next_tbl int;
BEGIN
    FOR i IN 1 .. cardinality(steps) LOOP
        IF NOT EXISTS (SELECT FROM ferry.tracked_column c WHERE c.tbl = at.tbl AND c.name = steps[i]) THEN
            RAISE EXCEPTION '%: its scope "%" needs the synced column %.%', t.relid, t.scope, at.relid, steps[i]
                USING ERRCODE = 'undefined_column';
        END IF;
        next_tbl := NULL;
        IF i < cardinality(steps) THEN
            SELECT p.tbl INTO next_tbl
            FROM pg_constraint k
            JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attname = steps[i] AND a.attnum = ANY (k.conkey)
            JOIN ferry.tracked p ON p.relid = k.confrelid
            JOIN pg_attribute b ON b.attrelid = p.relid AND b.attname = p.key_col
                               AND b.attnum = k.confkey[array_position(k.conkey, a.attnum)]
            WHERE k.contype = 'f' AND k.conrelid = at.relid;
            IF next_tbl IS NULL THEN
                RAISE EXCEPTION '%: its scope "%" needs a foreign key from %.% to the key of a tracked table',
                    t.relid, t.scope, at.relid, steps[i]
                    USING ERRCODE = 'invalid_foreign_key', HINT = 'Track the parent table first.';
            END IF;
        END IF;
        INSERT INTO ferry.scope_hop (tbl, hop, from_tbl, col, to_tbl) VALUES (t.tbl, way * 100 + i, at.tbl, steps[i], next_tbl);
        SELECT * INTO at FROM ferry.tracked WHERE tbl = next_tbl;
    END LOOP;
END $$;

-- The key and tenant columns of a table, or why it can't be tracked.
CREATE FUNCTION ferry.read_key(tab regclass, OUT key_col text, OUT tenant_col text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c pg_class;
    names text[];
BEGIN
    SELECT * INTO c FROM pg_class WHERE oid = tab;
    IF c.relkind NOT IN ('r', 'p') THEN
        RAISE EXCEPTION '% is % and can''t be tracked', tab,
            CASE c.relkind WHEN 'v' THEN 'a view' WHEN 'm' THEN 'a materialized view' WHEN 'f' THEN 'a foreign table'
                           ELSE 'not a table' END
            USING ERRCODE = 'wrong_object_type', HINT = 'Track the tables it reads.';
    ELSIF c.relpersistence = 't' THEN
        RAISE EXCEPTION '% is a temporary table and can''t be tracked', tab USING ERRCODE = 'wrong_object_type';
    ELSIF c.relpersistence = 'u' THEN
        RAISE EXCEPTION '% is unlogged and can''t be tracked: a crash empties it without a trace', tab
            USING ERRCODE = 'wrong_object_type', HINT = format('ALTER TABLE %s SET LOGGED', tab);
    ELSIF c.relispartition THEN
        RAISE EXCEPTION '% is a partition and can''t be tracked by itself', tab
            USING ERRCODE = 'wrong_object_type', HINT = 'Track the partitioned table; that includes every partition.';
    ELSIF c.relnamespace IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'ferry'::regnamespace)
          AND tab IS DISTINCT FROM to_regclass('ferry.approval') THEN
        RAISE EXCEPTION '% belongs to the system and can''t be tracked', tab USING ERRCODE = 'wrong_object_type';
    ELSIF EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = tab) AND c.relkind = 'r'
       OR EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = tab) THEN
        RAISE EXCEPTION '% takes part in table inheritance and can''t be tracked', tab
            USING ERRCODE = 'wrong_object_type', HINT = 'Use declarative partitioning.';
    END IF;
    SELECT array_agg(a.attname::text ORDER BY u.n) INTO names
    FROM pg_constraint k CROSS JOIN LATERAL unnest(k.conkey) WITH ORDINALITY AS u(num, n)
    JOIN pg_attribute a ON a.attrelid = tab AND a.attnum = u.num
    WHERE k.conrelid = tab AND k.contype = 'p';
    IF names IS NULL THEN
        RAISE EXCEPTION '% has no primary key and can''t be tracked', tab
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = format('ALTER TABLE %s ADD PRIMARY KEY (tenant_id, id)', tab);
    END IF;
    IF EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = tab AND a.attname = 'tenant_id' AND NOT a.attisdropped) THEN
        tenant_col := 'tenant_id';
    ELSIF names = '{id}' AND EXISTS (
        SELECT FROM pg_constraint k JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)
        WHERE k.contype = 'f' AND k.confrelid = tab AND a.attname = 'tenant_id') THEN
        -- The table of the tenants itself: others' tenant_id points to its id.
        tenant_col := 'id';
    ELSE
        RAISE EXCEPTION '% has no column tenant_id and can''t be tracked', tab
            USING ERRCODE = 'undefined_column', HINT = format('ALTER TABLE %s ADD COLUMN tenant_id uuid NOT NULL', tab);
    END IF;
    IF tenant_col = 'id' THEN
        key_col := 'id';
    ELSIF cardinality(names) = 1 THEN
        key_col := names[1];
    ELSIF cardinality(names) = 2 AND tenant_col = ANY (names) THEN
        key_col := (array_remove(names, tenant_col))[1];
    ELSE
        RAISE EXCEPTION '%: the primary key (%) has more than one column besides the tenant', tab, array_to_string(names, ', ')
            USING ERRCODE = 'object_not_in_prerequisite_state',
                  HINT = 'A tracked row is named by one uuid: PRIMARY KEY (tenant_id, id), with a UNIQUE for the rest.';
    END IF;
    IF EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = tab AND a.attname IN (key_col, tenant_col)
               AND (a.atttypid <> 'uuid'::regtype OR NOT a.attnotnull)) THEN
        RAISE EXCEPTION '%: its key % and its tenant column % must both be of type uuid and NOT NULL', tab, key_col, tenant_col
            USING ERRCODE = 'datatype_mismatch', HINT = 'Rows of no tenant belong to 00000000-0000-0000-0000-000000000000.';
    END IF;
    IF EXISTS (SELECT FROM pg_rewrite w WHERE w.ev_class = tab) THEN
        RAISE EXCEPTION '% has rewrite rules and can''t be tracked', tab
            USING ERRCODE = 'wrong_object_type', HINT = 'Use triggers instead of rules.';
    END IF;
END $$;

RESET ROLE;
