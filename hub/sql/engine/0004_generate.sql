-- Generated code: the note, finish and dispatch functions of the tracked tables, as static
-- SQL made from the catalogue.

SET LOCAL ROLE ferry_engine;

-- A scope over foreign keys, hop by hop: column col of from_tbl points to a row of to_tbl.
-- The last hop (to_tbl NULL) is the column that holds the scope's id. Where rows have several
-- scopes, the ways to the second, the third ... are numbered from 101, 201 ...
CREATE TABLE ferry.scope_hop (
    tbl      int NOT NULL REFERENCES ferry.tracked ON DELETE CASCADE,
    hop      int NOT NULL,
    from_tbl int NOT NULL,
    col      text NOT NULL,
    to_tbl   int,
    PRIMARY KEY (tbl, hop)
);
CREATE INDEX scope_hop_from_ix ON ferry.scope_hop (from_tbl);
COMMENT ON TABLE ferry.scope_hop IS 'The way from a row to its scope';

-- The tables that carry capture triggers: the tracked one and each of its partitions.
CREATE TABLE ferry.tracked_part (
    relid regclass PRIMARY KEY,
    tbl   int NOT NULL REFERENCES ferry.tracked ON DELETE CASCADE
);
GRANT SELECT ON ferry.scope_hop, ferry.tracked_part TO PUBLIC;
GRANT SELECT ON ferry.scope_hop, ferry.tracked_part TO ferry_hub;

-- ---------------------------------------------------------------- parents that come along
--
-- A row of ferry.bring says that a table's rows bring along the parents that a column names.
-- Each such row is counted for its parent in each of its scopes: ferry.reference says for
-- what, ferry.brought how many there are. A parent whose first row in a scope comes, or whose
-- last one goes, gets or loses that scope by its own finish function, like any move.
--
-- Two transactions could each leave the other's row as the last one. So the counts, and the
-- versions of tables that are brought, are only written under one lock of the tenant, which
-- comes after all other work on rows: these notes are put off to the end, under numbers of
-- their own. The position's lock still comes after that.

CREATE FUNCTION ferry.counts() RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN 1 << 28;
CREATE FUNCTION ferry.comes_last() RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE RETURN 1 << 29;

CREATE FUNCTION ferry.lock_brought(tenant uuid) RETURNS void
    LANGUAGE plpgsql
AS $$
BEGIN
    IF pg_advisory_xact_lock(uuid_hash_extended(tenant, 4021958317)) IS NOT NULL THEN
        RETURN;
    END IF;
END $$;

-- Notes rows of a table that is brought once more, for the end. 3: nothing is done yet.
CREATE FUNCTION ferry.put_off(of_tbl int, t bigint, tenant uuid, keys uuid[]) RETURNS int
    LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO ferry.dirty (tx, xid, tbl, arms, tenant_id, keys)
    VALUES (t, pg_current_xact_id(), of_tbl | ferry.comes_last(), 0, tenant, keys);
    RETURN 3;
END $$;
REVOKE EXECUTE ON FUNCTION ferry.lock_brought(uuid), ferry.put_off(int, bigint, uuid, uuid[]) FROM PUBLIC;

-- The places of the columns that bring parents along; NULL: the table brings none.
CREATE FUNCTION ferry.brings_by(of_tbl int) RETURNS int[]
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT array_agg(c.i::int ORDER BY c.i)
    FROM (SELECT o.num, row_number() OVER (ORDER BY o.num) AS i FROM ferry.tracked_column o WHERE o.tbl = of_tbl) c
    JOIN ferry.bring b ON b.tbl = of_tbl AND b.num = c.num
$$;

-- Rows r of tenant $2 with what they have to be counted for: each column with its parent, and
-- the scopes of the row. "which" goes on after WHERE.
CREATE FUNCTION ferry.reference_sql(of_tbl int, which text) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('SELECT v.key, x.num, x.to_tbl, x.parent, v.scope || v.also AS scopes FROM %s r '
                  'JOIN ferry.version v ON v.tenant_id = $2 AND v.tbl = %s AND v.key = r.%I AND NOT v.deleted '
                  'CROSS JOIN LATERAL (VALUES %s) x(num, to_tbl, parent) WHERE r.%I = $2 AND x.parent IS NOT NULL%s',
                  t.relid, t.tbl, t.key_col, string_agg(format('(%s, %s, r.%I)', b.num, b.to_tbl, c.name), ', ' ORDER BY b.num), t.tenant_col, which)
    FROM ferry.tracked t JOIN ferry.bring b ON b.tbl = t.tbl JOIN ferry.tracked_column c ON c.tbl = b.tbl AND c.num = b.num
    WHERE t.tbl = of_tbl GROUP BY t.tbl
$$;

-- ferry.count_<tbl>: takes what the rows are counted for as they are now, and notes the
-- parents that come into a scope or leave one.
CREATE FUNCTION ferry.generate_count(of_tbl int) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $outer$
DECLARE
    t ferry.tracked;
BEGIN
    IF ferry.brings_by(of_tbl) IS NULL THEN
        RETURN;
    END IF;
    SELECT * INTO t FROM ferry.tracked WHERE tbl = of_tbl;
    EXECUTE format($f$
CREATE OR REPLACE FUNCTION ferry.count_%1$s(t bigint, tenant uuid, keys uuid[]) RETURNS int
    LANGUAGE plpgsql
AS $fn$
BEGIN
    PERFORM ferry.lock_brought(tenant);
    WITH old AS MATERIALIZED (
        SELECT x.key, x.num, x.to_tbl, x.parent, x.scopes FROM ferry.reference x WHERE x.tenant_id = $2 AND x.tbl = %1$s AND x.key = ANY ($3)
    ), now AS MATERIALIZED (
        %2$s
    ), diff AS MATERIALIZED (
        SELECT coalesce(o.key, n.key) AS key, coalesce(o.num, n.num) AS num, o.to_tbl AS old_tbl, o.parent AS old_parent, o.scopes AS old_scopes,
               n.to_tbl, n.parent, n.scopes
        FROM old o FULL JOIN now n ON n.key = o.key AND n.num = o.num
        WHERE (n.parent, n.scopes) IS DISTINCT FROM (o.parent, o.scopes)
    ), gone AS (
        DELETE FROM ferry.reference x USING diff d
        WHERE x.tenant_id = $2 AND x.tbl = %1$s AND x.key = d.key AND x.num = d.num AND d.parent IS NULL
    ), put AS (
        INSERT INTO ferry.reference AS x (tenant_id, tbl, key, num, to_tbl, parent, scopes)
        SELECT $2, %1$s, d.key, d.num, d.to_tbl, d.parent, d.scopes FROM diff d WHERE d.parent IS NOT NULL
        ON CONFLICT (tenant_id, tbl, key, num) DO UPDATE SET parent = excluded.parent, scopes = excluded.scopes
    ), delta AS MATERIALIZED (
        SELECT u.tbl, u.key, u.scope, sum(u.n) AS n FROM (
            SELECT d.to_tbl, d.parent, unnest(d.scopes), 1 FROM diff d WHERE d.parent IS NOT NULL
            UNION ALL SELECT d.old_tbl, d.old_parent, unnest(d.old_scopes), -1 FROM diff d WHERE d.old_parent IS NOT NULL) u(tbl, key, scope, n)
        GROUP BY u.tbl, u.key, u.scope HAVING sum(u.n) <> 0
    ), counted AS (
        INSERT INTO ferry.brought AS b (tenant_id, tbl, key, scope, refs) SELECT $2, d.tbl, d.key, d.scope, d.n FROM delta d
        ON CONFLICT (tenant_id, tbl, key, scope) DO UPDATE SET refs = b.refs + excluded.refs
        RETURNING b.tbl, b.key, b.scope, b.refs
    )
    INSERT INTO ferry.dirty (tx, xid, tbl, arms, tenant_id, keys)
    SELECT $1, pg_current_xact_id(), c.tbl | ferry.comes_last(), 0, $2, array_agg(DISTINCT c.key)
    FROM counted c JOIN delta d ON d.tbl = c.tbl AND d.key = c.key AND d.scope = c.scope
    WHERE c.refs = 0 OR c.refs = d.n
    GROUP BY c.tbl;
    RETURN CASE WHEN FOUND THEN 3 ELSE 0 END;
END $fn$ $f$, of_tbl, ferry.reference_sql(of_tbl, format(' AND r.%I = ANY ($3)', t.key_col)));
    EXECUTE format('REVOKE EXECUTE ON FUNCTION ferry.count_%s(bigint, uuid, uuid[]) FROM PUBLIC', of_tbl);
END $outer$;

-- ---------------------------------------------------------------- notes

-- The note functions of a table. A column may be named like a variable: columns are always
-- written with their table, and anything else is the variable. Transition tables are all named "changed", so one
-- function serves insert, update and delete.
CREATE FUNCTION ferry.generate_note(of_tbl int) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $outer$
DECLARE
    t ferry.tracked;
BEGIN
    SELECT * INTO t FROM ferry.tracked WHERE tbl = of_tbl;
    EXECUTE format($f$
CREATE OR REPLACE FUNCTION ferry.note_%1$s() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
    hint text := current_setting('ferry.tx', true);
    me xid8;
    t bigint;
    arm int := 0;
BEGIN
    IF hint IS NULL OR hint = '' THEN
        -- The first rows of the transaction. The setting is made if there is a row at all.
        INSERT INTO ferry.dirty (tx, xid, tbl, arms, tenant_id, keys)
        SELECT (SELECT set_config('ferry.tx', nextval('ferry.surrogate_seq'::regclass)::text, true)::bigint),
               pg_current_xact_id(), %1$s, 1, c.%2$I, array_agg(c.%3$I) FROM changed c GROUP BY c.%2$I;
        RETURN NULL;
    END IF;
    IF NOT EXISTS (SELECT FROM changed) THEN
        RETURN NULL;
    END IF;
    me := pg_current_xact_id();
    t := ferry.running_tx(me);
    IF t IS NULL THEN
        t := nextval('ferry.surrogate_seq'::regclass);
        hint := set_config('ferry.tx', t::text, true);
        arm := 1;
    ELSIF t < 0 THEN
        t := -t;
        arm := 2;
    END IF;
    INSERT INTO ferry.dirty (tx, xid, tbl, arms, tenant_id, keys)
    SELECT t, me, %1$s, arm, c.%2$I, array_agg(c.%3$I) FROM changed c GROUP BY c.%2$I;
    RETURN NULL;
END $$;
CREATE OR REPLACE FUNCTION ferry.note_key_%1$s() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM ferry.note(%1$s, OLD.%2$I, ARRAY[OLD.%3$I]);
    RETURN NULL;
END $$;
$f$, t.tbl, t.tenant_col, t.key_col);
END $outer$;

-- May rows of the table have several scopes? Alternatives do that, and a column that is an array;
-- and a request for an approval is wherever its row is.
CREATE FUNCTION ferry.is_listed(of_tbl int) RETURNS bool
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT t.scope LIKE '%|%' OR t.relid IS NOT DISTINCT FROM to_regclass('ferry.approval') OR EXISTS (
        SELECT FROM ferry.scope_hop h JOIN ferry.tracked_column c ON c.tbl = h.from_tbl AND c.name = h.col
        WHERE h.tbl = of_tbl AND h.to_tbl IS NULL AND c.kind = 'array')
    FROM ferry.tracked t WHERE t.tbl = of_tbl
$$;

-- LEFT JOINs from alias r of the table to the parents on its scope's path, and the scope's
-- expression. A row whose scope column is NULL belongs to the scope "tenant". Of a table whose
-- rows may have several scopes they come as a set in own.s, without NULL: the first in order is
-- the row's scope, and "also" the expression of the others; else that is NULL. Two more layers
-- make the row's whole scopes: own_sql (0010) adds permission and archive, scope_sql (0037),
-- which all else asks, those that are brought along.
CREATE FUNCTION ferry.root_sql(of_tbl int, OUT joins text, OUT expr text, OUT also text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked;
    h record;
    prev text := 'r';
    word text;
    sets text;
BEGIN
    SELECT * INTO t FROM ferry.tracked WHERE tbl = of_tbl;
    joins := '';
    IF t.scope = 'tenant' THEN
        expr := '''tenant''::text';
    ELSIF t.scope = 'global' THEN
        expr := 'CASE WHEN $2 = ferry.nobody() THEN ''global'' ELSE ''tenant'' END';
    ELSIF t.relid IS NOT DISTINCT FROM to_regclass('ferry.approval') THEN -- 0021
        joins := ' LEFT JOIN ferry.version about ON about.tenant_id = $2 AND about.tbl = r.tbl AND about.key = r.subject_id';
        expr := 'coalesce(about.scope, r.scope)';
        also := 'about.also';
    ELSE
        FOR h IN SELECT s.*, p.relid, p.key_col, p.tenant_col, c.kind = 'array' AS many FROM ferry.scope_hop s
                 LEFT JOIN ferry.tracked p ON p.tbl = s.to_tbl
                 LEFT JOIN ferry.tracked_column c ON c.tbl = s.from_tbl AND c.name = s.col
                 WHERE s.tbl = of_tbl ORDER BY s.hop LOOP
            IF h.hop % 100 = 1 THEN
                prev := 'r';
            END IF;
            word := split_part(split_part(t.scope, '|', h.hop / 100 + 1), ':', 1) || ':';
            IF t.scope LIKE 'row:%' AND h.to_tbl IS NULL THEN
                expr := format('%s.%I', prev, h.col); -- the row says its scope itself, whole, or one above it does
            ELSIF h.to_tbl IS NULL AND ferry.is_listed(of_tbl) THEN
                sets := concat_ws(' UNION ', sets, CASE WHEN h.many THEN format('SELECT %L || x::text FROM unnest(%s.%I) x', word, prev, h.col)
                                                        ELSE format('SELECT %L || %s.%I::text', word, prev, h.col) END);
            ELSIF h.to_tbl IS NULL THEN
                expr := format('coalesce(%L || %s.%I::text, ''tenant'')', word, prev, h.col);
            ELSE
                joins := joins || format(' LEFT JOIN %s p%s ON p%s.%I = $2 AND p%s.%I = %s.%I',
                    h.relid, h.hop, h.hop, h.tenant_col, h.hop, h.key_col, prev, h.col);
                prev := 'p' || h.hop;
            END IF;
        END LOOP;
        IF sets IS NOT NULL THEN
            joins := joins || format(' CROSS JOIN LATERAL (SELECT array_agg(y.x ORDER BY y.x COLLATE "C") AS s FROM (%s) y(x) '
                                     'WHERE y.x IS NOT NULL) own', sets);
            expr := 'coalesce(own.s[1], ''tenant'')';
            also := 'nullif(own.s[2:], ''{}'')';
        END IF;
    END IF;
END $$;

-- The overrides of a row, whose columns in c.f changed now. Most updates change one column,
-- or repeat the last one's: neither needs a function's call.
CREATE FUNCTION ferry.over_sql() RETURNS text
    LANGUAGE sql IMMUTABLE
AS $$
    SELECT 'CASE WHEN NOT c.alive OR c.whole THEN NULL
                 WHEN NOT c.was OR c.over IS NULL THEN nullif(c.f, ''{}'')
                 WHEN cardinality(c.f) = 0 THEN c.over
                 WHEN cardinality(c.f) = 1
                 THEN c.over[:c.lower] || c.f
                      || c.over[c.lower + 1 + coalesce((c.over[c.lower + 1] >> 48 = c.f[1] >> 48)::int, 0):]
                 WHEN cardinality(c.over) = cardinality(c.f) AND cardinality(c.f) <= 4
                      AND c.over[1] >> 48 = c.f[1] >> 48
                      AND c.over[2] >> 48 = c.f[2] >> 48
                      AND (c.over[3] >> 48 = c.f[3] >> 48) IS NOT FALSE
                      AND (c.over[4] >> 48 = c.f[4] >> 48) IS NOT FALSE THEN c.f
                 ELSE ferry.over_merge(c.over, c.f) END'
$$;

-- The statement that brings versions, changes and sums of some keys up to the final rows.
-- $1 surrogate, $2 tenant, $3 keys, $4 a mask that splits the keys of ferry.change into
-- chunks, and with declarations $5 the places of the columns in their lists if all are
-- alike. It returns one row: how many rows changed, the keys and old scopes of those that
-- changed scope, for each column in watch the keys of rows whose value there changed, and
-- with refs those of rows that came, went, changed scope or one of these columns.
CREATE FUNCTION ferry.finish_sql(of_tbl int, declares bool, watch int[], refs int[]) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $outer$
DECLARE
    t ferry.tracked;
    s record;
    hashes text;
    sums text;
    cells text;      -- overrides of an update
    births text;     -- overrides of a new life that a device began
    mutable int;     -- columns that can change within a life
    watched text := '';
    author text;
    place text;
    c record;
    listed bool;     -- rows may have several scopes
    lends bool;      -- some of them because rows refer to them
BEGIN
    SELECT * INTO t FROM ferry.tracked WHERE tbl = of_tbl;
    SELECT * INTO s FROM ferry.scope_sql(of_tbl);
    listed := s.also IS NOT NULL;
    lends := s.own IS NOT NULL;
    FOR c IN SELECT *, row_number() OVER (ORDER BY num) AS i FROM ferry.tracked_column WHERE tbl = of_tbl ORDER BY num LOOP
        hashes := concat_ws(E',\n            ', hashes, format('coalesce(%s, 0)',
            ferry.fill(c.hash_expr, format('r.%I', c.name),
                       format('pg_catalog.uuid_hash_extended(r.%I, 0) # %s', t.key_col, c.num))));
        sums := concat_ws(E',\n            ', sums, format('bit_xor(coalesce(s.h[%1$s], 0) # coalesce(s.o[%1$s], 0))', c.i));
        IF c.name IN (t.key_col, t.tenant_col) THEN
            CONTINUE;
        END IF;
        mutable := coalesce(mutable, 0) + 1;
        -- $5 is a constant to the planner: what it says costs nothing for a row.
        place := format('CASE WHEN $5 IS NULL THEN array_position(c.nums, %s) ELSE $5[%s] END', c.num, c.i);
        author := CASE WHEN declares THEN
            format('CASE WHEN c.dh[%1$s] = c.h[%2$s] THEN coalesce(c.stamps[%1$s], c.stamp) ELSE $1 END', place, c.i)
            ELSE '$1' END;
        cells := concat_ws(E',\n            ', cells, format('CASE WHEN c.h[%1$s] <> c.o[%1$s] THEN %2$s | (%3$s) END',
            c.i, c.num::bigint << 48, author));
        births := concat_ws(E',\n            ', births,
            format('CASE WHEN (c.h[%1$s] <> 0 OR %4$s IS NOT NULL) AND (%3$s) <> c.stamp THEN %2$s | (%3$s) END',
            c.i, c.num::bigint << 48, author, place));
    END LOOP;
    FOR i IN 1 .. cardinality(watch) LOOP
        watched := watched || format(', array_agg(c.key) FILTER (WHERE c.alive AND c.was AND c.h[%1$s] <> c.o[%1$s])', watch[i]);
    END LOOP;
    IF refs IS NOT NULL THEN
        watched := watched || format(', array_agg(c.key) FILTER (WHERE NOT (c.alive AND c.was) OR c.moves%s)',
            (SELECT string_agg(format(' OR c.h[%1$s] <> c.o[%1$s]', i), '') FROM unnest(refs) i));
    END IF;

    RETURN format($q$
WITH cur AS MATERIALIZED (
    SELECT k.key, v.ctid AS vid, r.alive IS TRUE AS alive, v.deleted IS FALSE AS was,
           coalesce(r.scope, v.scope) AS scope, v.scope AS old_scope, (r.scope <> v.scope%19$s) IS TRUE AS moves,%20$s
           v.base_tx, v.born, v.moved, v.over, v.hashes AS o, r.h%9$s
    FROM unnest($3) AS k(key)
    LEFT JOIN ferry.version v ON v.tenant_id = $2 AND v.tbl = %1$s AND v.key = k.key
    LEFT JOIN (
        SELECT r.%3$I AS key, true AS alive, %4$s AS scope,%21$s ARRAY[
            %6$s] AS h
        FROM %2$s r%5$s
        WHERE r.%7$I = $2) r ON r.key = k.key%10$s
    WHERE CASE WHEN r.alive THEN v.key IS NULL OR v.deleted OR r.h <> v.hashes OR r.scope <> v.scope%22$s
               ELSE NOT v.deleted END
), upd AS (
    UPDATE ferry.version v SET
        deleted = NOT c.alive, tx = c.author, scope = c.scope,%23$s hashes = c.h,
        born = CASE WHEN c.alive AND NOT c.was THEN c.author ELSE c.born END,
        moved = CASE WHEN c.moves THEN $1 WHEN c.was THEN c.moved END,
        base_tx = CASE WHEN c.alive AND NOT c.was THEN c.author
                       WHEN c.whole THEN c.f[1] & 281474976710655 ELSE c.base_tx END,
        over = %18$s
    FROM (SELECT f.*, (f.was AND cardinality(f.f) = %13$s%14$s) IS TRUE AS whole,
                 width_bucket(f.f[1] >> 48 << 48, f.over) AS lower
          FROM (SELECT c.*, %11$s AS author, CASE WHEN c.alive AND c.was THEN array_remove(ARRAY[
            %8$s], NULL)%12$s END AS f
          FROM cur c WHERE c.vid IS NOT NULL OFFSET 0) f OFFSET 0) c
    WHERE v.tenant_id = $2 AND v.ctid = c.vid
), ins AS (
    INSERT INTO ferry.version (tenant_id, tbl, key, tx, base_tx, born, scope, over, hashes%24$s)
    SELECT $2, %1$s, c.key, %11$s, %11$s, %11$s, c.scope, %15$s, c.h%25$s
    FROM cur c WHERE c.vid IS NULL
), chg AS (
    INSERT INTO ferry.change (tenant_id, tx, tbl, scope, keys)
    SELECT $2, $1, %1$s, s.scope, array_agg(s.key)
    FROM (%26$s) s
    GROUP BY s.scope, uuid_hash(s.key) & $4
), sums AS (
    INSERT INTO ferry.sum (tenant_id, tbl, scope, tx, sums, rows)
    SELECT $2, %1$s, s.scope, $1, ARRAY[
            %16$s], sum(s.rows)
    FROM (%27$s) s
    GROUP BY s.scope
)
SELECT count(*), %28$s%17$s
FROM cur c$q$,
        t.tbl, t.relid, t.key_col, s.expr, s.joins, hashes, t.tenant_col, coalesce(cells, 'NULL::bigint'),
        CASE WHEN declares THEN ', d.stamp, d.stamps, d.nums, d.hashes AS dh' ELSE '' END,
        CASE WHEN declares THEN format(E'\n    LEFT JOIN ferry.declared d ON d.tx = $1 AND d.tbl = %s AND d.key = k.key', t.tbl)
             ELSE '' END,
        CASE WHEN declares THEN 'coalesce(c.stamp, $1)' ELSE '$1' END,
        CASE WHEN declares THEN format(' WHEN c.alive AND c.stamp IS NOT NULL THEN nullif(array_remove(ARRAY[%s], NULL), ''{}'')',
                                       coalesce(births, 'NULL::bigint')) ELSE '' END,
        coalesce(mutable, -1),
        CASE WHEN declares THEN ' AND (SELECT count(DISTINCT x & 281474976710655) FROM unnest(f.f) x) = 1' ELSE '' END,
        CASE WHEN declares THEN format('CASE WHEN c.stamp IS NOT NULL THEN nullif(array_remove(ARRAY[%s], NULL), ''{}'') END',
                                       coalesce(births, 'NULL::bigint')) ELSE 'NULL::bigint[]' END,
        sums, watched, ferry.over_sql(),
        -- 19 to 25: further scopes, where rows may have them, and how many are their own
        CASE WHEN lends THEN ' OR r.alive AND v.key IS NOT NULL AND (r.also, r.own) IS DISTINCT FROM (v.also, v.own)'
             WHEN listed THEN ' OR r.alive AND v.key IS NOT NULL AND r.also IS DISTINCT FROM v.also' ELSE '' END,
        CASE WHEN listed THEN E'\n           CASE WHEN r.alive THEN r.also ELSE v.also END AS also, v.also AS old_also,' ELSE '' END
            || CASE WHEN lends THEN ' CASE WHEN r.alive THEN r.own ELSE v.own END AS own,' ELSE '' END,
        CASE WHEN listed THEN ' ' || s.also || ' AS also,' ELSE '' END || CASE WHEN lends THEN ' ' || s.own || ' AS own,' ELSE '' END,
        CASE WHEN lends THEN ' OR (r.also, r.own) IS DISTINCT FROM (v.also, v.own)'
             WHEN listed THEN ' OR r.also IS DISTINCT FROM v.also' ELSE '' END,
        CASE WHEN listed THEN ' also = c.also,' ELSE '' END || CASE WHEN lends THEN ' own = c.own,' ELSE '' END,
        CASE WHEN listed THEN ', also' ELSE '' END || CASE WHEN lends THEN ', own' ELSE '' END,
        CASE WHEN listed THEN ', c.also' ELSE '' END || CASE WHEN lends THEN ', c.own' ELSE '' END,
        -- 26: the keys under all scopes that they are or were in
        CASE WHEN listed THEN 'SELECT x AS scope, c.key FROM cur c, unnest(c.scope || c.also) x
          UNION SELECT x, c.key FROM cur c, unnest(c.old_scope || c.old_also) x WHERE c.moves'
        ELSE 'SELECT c.scope, c.key FROM cur c
          UNION ALL SELECT c.old_scope, c.key FROM cur c WHERE c.moves' END,
        -- 27: what each scope gains and loses
        CASE WHEN listed THEN 'SELECT x AS scope, c.h, NULL::bigint[] AS o, c.alive::int AS rows FROM cur c, unnest(c.scope || c.also) x
          UNION ALL SELECT x, NULL, c.o, -(c.was::int) FROM cur c, unnest(c.old_scope || c.old_also) x WHERE c.vid IS NOT NULL'
        ELSE 'SELECT c.scope, c.h, CASE WHEN NOT c.moves THEN c.o END AS o,
                 c.alive::int - (c.was AND NOT c.moves)::int AS rows FROM cur c
          UNION ALL SELECT c.old_scope, NULL, c.o, -(c.was::int) FROM cur c WHERE c.moves' END,
        -- 28: who moved, and out of which scopes; of rows with several also those where they are now
        CASE WHEN listed THEN '(SELECT array_agg(c.key ORDER BY c.key, x) FROM cur c, unnest(c.old_scope || c.old_also || c.scope || c.also) x WHERE c.moves),
    (SELECT array_agg(x ORDER BY c.key, x) FROM cur c, unnest(c.old_scope || c.old_also || c.scope || c.also) x WHERE c.moves)'
        ELSE 'array_agg(c.key) FILTER (WHERE c.moves), array_agg(c.old_scope) FILTER (WHERE c.moves)' END);
END $outer$;

-- The query that reads one row with its version, into the variables of
-- ferry.finish_few_<tbl>. Starting a query costs by the size of its expressions, so it
-- hashes the cells and no more; comparing is cheaper outside.
CREATE FUNCTION ferry.row_query(of_tbl int) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $outer$
BEGIN
    RETURN (SELECT format($q$SELECT v.ctid, v.scope, v.base_tx, v.born, v.moved, v.over, v.hashes, r.scope, r.h
        INTO vid, old_scope, v_base, v_born, v_moved, v_over, o, now_scope, h
        FROM (SELECT) one
        LEFT JOIN ferry.version v ON v.tenant_id = $2 AND v.tbl = %1$s AND v.key = a_key
        LEFT JOIN (
            SELECT %2$s AS scope, ARRAY[
            %3$s] AS h
            FROM %4$s r%5$s WHERE r.%6$I = $2 AND r.%7$I = a_key OFFSET 0) r ON true$q$,
        t.tbl, s.expr, c.cells, t.relid, s.joins, t.tenant_col, t.key_col)
    FROM ferry.tracked t, ferry.scope_sql(of_tbl) s,
         (SELECT string_agg(format('coalesce(%s, 0)', ferry.fill(c.hash_expr, format('r.%I', c.name), 'seed # ' || c.num)),
                            E',\n            ' ORDER BY c.num) AS cells
          FROM ferry.tracked_column c WHERE c.tbl = of_tbl) c
    WHERE t.tbl = of_tbl);
END $outer$;

-- Where in the lists of declared columns each column of the table is; NULL if the lists are
-- not all alike.
CREATE FUNCTION ferry.declared_places(t bigint, of_tbl int) RETURNS int[]
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    list int[] := (SELECT d.nums FROM ferry.declared d WHERE d.tx = t AND d.tbl = of_tbl LIMIT 1);
BEGIN
    IF EXISTS (SELECT FROM ferry.declared d WHERE d.tx = t AND d.tbl = of_tbl AND d.nums <> list) THEN
        RETURN NULL;
    END IF;
    RETURN ARRAY(SELECT array_position(list, c.num) FROM ferry.tracked_column c WHERE c.tbl = of_tbl ORDER BY c.num);
END $$;
REVOKE EXECUTE ON FUNCTION ferry.declared_places(bigint, int) FROM PUBLIC;

-- Are there requests about rows of the table, or may there be? Comes with 0021.
CREATE FUNCTION ferry.is_asked(of_tbl int) RETURNS bool LANGUAGE sql STABLE RETURN false;

-- ferry.finish_few_<tbl> and ferry.finish_many_<tbl>: 0 nothing really changed, 1 something
-- did, 2 and rows of other tables were put on the list.
CREATE FUNCTION ferry.generate_finish(of_tbl int) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $outer$
DECLARE
    t ferry.tracked;
    hops ferry.scope_hop[];
    first_hop ferry.scope_hop;
    listed bool;
    refs int[];
    asked bool := ferry.is_asked(of_tbl);
    count_one text := '';
    lock_brought text := '';
    watch int[];
    vars text := '';
    targets text := '';
    settings text := '';
    lock_many text := '';
    one_lock text;
    came text;
    lock_one text := '';
    watch_one text := '';
    children text := '';
    marks bigint[];
    zeros bigint[];
    mutable int;
    brings bool;
    i int;
    d record;
    way text;
    prev text;
BEGIN
    SELECT * INTO t FROM ferry.tracked WHERE tbl = of_tbl;
    SELECT array_agg(h ORDER BY h.hop) INTO hops FROM ferry.scope_hop h WHERE h.tbl = of_tbl;
    listed := t.brought OR ferry.is_listed(of_tbl);

    -- Where a value's text depends on settings, they are fixed. Each costs a little in
    -- every transaction, so other tables do without.
    IF EXISTS (SELECT FROM ferry.tracked_column c WHERE c.tbl = of_tbl
               AND (c.kind = 'other' OR c.kind = 'array' AND c.pg_type ~ '^(timestamp|date|real|double)')) THEN
        settings := E'    SET timezone = ''UTC''\n    SET datestyle = ''ISO''\n    SET intervalstyle = ''postgres''\n'
                    '    SET extra_float_digits = 1\n    SET bytea_output = ''hex''\n';
    END IF;

    -- A new row, or one that points elsewhere now, locks the parents on its path against
    -- change until the commit: its scope can't become another behind its back.
    FOR first_hop IN SELECT (h).* FROM unnest(hops) h WHERE h.hop % 100 = 1 AND h.to_tbl IS NOT NULL ORDER BY h.hop LOOP
        way := '';
        prev := 'r';
        FOR d IN SELECT h.*, p.relid, p.key_col, p.tenant_col FROM unnest(hops) h JOIN ferry.tracked p ON p.tbl = h.to_tbl
                 WHERE h.hop / 100 = first_hop.hop / 100 ORDER BY h.hop LOOP
            way := way || format(' JOIN %s p%s ON p%s.%I = $2 AND p%s.%I = %s.%I',
                d.relid, d.hop, d.hop, d.tenant_col, d.hop, d.key_col, prev, d.col);
            prev := 'p' || d.hop;
        END LOOP;
        SELECT format('SELECT 1 FROM unnest($3) k(key) JOIN %s r ON r.%I = $2 AND r.%I = k.key '
                      'LEFT JOIN ferry.version v ON v.tenant_id = $2 AND v.tbl = %s AND v.key = k.key%s '
                      'WHERE v.key IS NULL OR v.deleted OR v.hashes[%s] IS DISTINCT FROM coalesce(%s, 0) FOR SHARE OF %s',
                      t.relid, t.tenant_col, t.key_col, t.tbl, way, c.i,
                      ferry.fill(c.hash_expr, format('r.%I', c.name),
                                 format('pg_catalog.uuid_hash_extended(r.%I, 0) # %s', t.key_col, c.num)), p.names),
               format(E'        IF h IS NOT NULL AND (o IS NULL OR h[%1$s] <> o[%1$s]) THEN\n'
                      '            -- The lock sees the newest state of the parents, which may be newer than what was read.\n'
                      '            SELECT %2$s INTO locked_scope FROM %3$s r%4$s WHERE r.%5$I = $2 AND r.%6$I = a_key FOR SHARE OF %7$s;\n'
                      '            now_scope := coalesce(locked_scope, now_scope);\n'
                      '        END IF;\n',
                      c.i, (ferry.scope_sql(of_tbl)).expr, t.relid, way, t.tenant_col, t.key_col, p.names)
        INTO one_lock, lock_one
        FROM (SELECT *, row_number() OVER (ORDER BY num) AS i FROM ferry.tracked_column WHERE tbl = of_tbl) c,
             (SELECT string_agg('p' || h.hop, ', ') AS names FROM unnest(hops) h
              WHERE h.to_tbl IS NOT NULL AND h.hop / 100 = first_hop.hop / 100) p
        WHERE c.name = first_hop.col;
        lock_many := lock_many || format(E'    EXECUTE %L USING t, tenant, keys;\n', one_lock);
    END LOOP;

    -- Tables whose path goes through a column of this one: their rows follow it.
    watch := ARRAY(SELECT DISTINCT c.i::int FROM ferry.scope_hop h
                   JOIN (SELECT *, row_number() OVER (ORDER BY num) AS i FROM ferry.tracked_column WHERE tbl = of_tbl) c ON c.name = h.col
                   WHERE h.from_tbl = of_tbl AND h.hop % 100 > 1 ORDER BY 1);
    FOREACH i IN ARRAY watch LOOP
        vars := vars || format(E'    m%s uuid[];\n', i);
        targets := targets || format(', m%s', i);
        watch_one := watch_one || format(E'            IF h[%1$s] <> o[%1$s] THEN\n                m%1$s := m%1$s || a_key;\n            END IF;\n', i);
    END LOOP;
    FOR d IN SELECT h.tbl AS child, h.hop, h.col, c.i, p.relid, p.key_col, p.tenant_col
             FROM ferry.scope_hop h
             JOIN (SELECT *, row_number() OVER (ORDER BY num) AS i FROM ferry.tracked_column WHERE tbl = of_tbl) c ON c.name = h.col
             JOIN ferry.tracked p ON p.tbl = h.tbl
             WHERE h.from_tbl = of_tbl AND h.hop % 100 > 1
             ORDER BY c.i, h.tbl, h.hop LOOP
        SELECT string_agg(format(' JOIN %s p%s ON p%s.%I = $2 AND p%s.%I = %s.%I', p.relid, h.hop, h.hop, p.tenant_col,
                                 h.hop, p.key_col, CASE WHEN h.hop % 100 = 1 THEN 'r' ELSE 'p' || h.hop - 1 END, h.col), '' ORDER BY h.hop)
        INTO way
        FROM ferry.scope_hop h JOIN ferry.tracked p ON p.tbl = h.to_tbl
        WHERE h.tbl = d.child AND h.hop < d.hop - 1 AND h.hop / 100 = d.hop / 100;
        -- The row before this table on the path points at it with the hop's column.
        SELECT h.col INTO STRICT prev FROM ferry.scope_hop h WHERE h.tbl = d.child AND h.hop = d.hop - 1;
        children := children || format($f$
    IF m%1$s IS NOT NULL THEN
        PERFORM ferry.need_read_committed();
        INSERT INTO ferry.dirty (tx, xid, tbl, arms, tenant_id, keys)
        SELECT $1, pg_current_xact_id(), %2$s, 0, $2, array_agg(s.key)
        FROM (SELECT r.%3$I AS key FROM %4$s r%5$s
              WHERE r.%6$I = $2 AND %7$s.%8$I = ANY (m%1$s)
              ORDER BY r.%3$I FOR NO KEY UPDATE OF r) s
        HAVING count(*) > 0;
        IF FOUND THEN
            did := 2;
        END IF;
    END IF;
$f$, d.i, d.child, d.key_col, d.relid, coalesce(way, ''), d.tenant_col,
            CASE WHEN d.hop % 100 = 2 THEN 'r' ELSE 'p' || d.hop - 2 END, prev);
    END LOOP;

    -- Rows that bring parents along, and rows that are brought: 0037.
    -- And rows that devices ask for something about: the requests are where they are (0021).
    refs := ferry.brings_by(of_tbl);
    brings := refs IS NOT NULL;
    refs := CASE WHEN asked THEN coalesce(refs, '{}') ELSE refs END;
    IF refs IS NOT NULL THEN
        vars := vars || E'    refs uuid[];\n';
        targets := targets || ', refs';
        SELECT format(E'\n        IF h IS NULL OR o IS NULL OR now_scope <> old_scope%s THEN\n            refs := refs || a_key;\n        END IF;',
                      string_agg(format(' OR h[%1$s] <> o[%1$s]', c), '')) INTO count_one FROM unnest(refs) c;
    END IF;
    IF asked THEN
        children := children || format($f$
    IF refs IS NOT NULL AND ferry.note_requests($1, $2, %1$s, refs) THEN
        did := 2;
    END IF;
$f$, of_tbl);
    END IF;
    IF brings THEN
        children := children || format($f$
    IF refs IS NOT NULL THEN
        INSERT INTO ferry.dirty (tx, xid, tbl, arms, tenant_id, keys)
        VALUES ($1, pg_current_xact_id(), %1$s | ferry.counts(), 0, $2, refs);
        did := 2;
    END IF;
$f$, of_tbl);
    END IF;
    IF t.brought THEN
        lock_brought := E'    PERFORM ferry.lock_brought(tenant);\n';
        children := children || format(E'    DELETE FROM ferry.brought b WHERE b.tenant_id = $2 AND b.tbl = %s AND b.key = ANY (keys) AND b.refs = 0;\n', of_tbl);
    END IF;
    SELECT array_agg(CASE WHEN c.name IN (t.key_col, t.tenant_col) THEN 0 ELSE c.num::bigint << 48 END ORDER BY c.num),
           array_agg(0::bigint), count(*) FILTER (WHERE c.name NOT IN (t.key_col, t.tenant_col))
    INTO marks, zeros, mutable
    FROM ferry.tracked_column c WHERE c.tbl = of_tbl;

    IF listed THEN
        -- One way for any number: rows with several scopes have no fast one.
        EXECUTE format('CREATE OR REPLACE FUNCTION ferry.finish_few_%1$s(t bigint, tenant uuid, keys uuid[], declares bool) RETURNS int '
                       'LANGUAGE plpgsql AS ''BEGIN RETURN ferry.finish_many_%1$s(t, tenant, keys, 0, declares); END''', of_tbl);
    ELSE
    EXECUTE format($f$
CREATE OR REPLACE FUNCTION ferry.finish_few_%1$s(t bigint, tenant uuid, keys uuid[], declares bool) RETURNS int
    LANGUAGE plpgsql
%2$sAS $fn$
#variable_conflict use_variable
DECLARE
    did int := 0;
    a_key uuid;
    seed bigint;
    vid tid;
    now_scope text;
    old_scope text;
    locked_scope text;
    v_base bigint;
    v_born bigint;
    v_moved bigint;
    v_over bigint[];
    o bigint[];          -- hashes before: NULL if there was no row
    h bigint[];          -- hashes now: NULL if there is none
    delta bigint[];
    marks bigint[] := %3$L;
    f bigint[];          -- overrides of the cells that changed
    same bool;
    author bigint := t;
    cell bigint;
    p int;
    d ferry.declared;
%4$sBEGIN
    FOREACH a_key IN ARRAY keys LOOP
        seed := uuid_hash_extended(a_key, 0);
        %5$s;
%6$s        IF h IS NULL THEN
            CONTINUE WHEN o IS NULL;
            now_scope := old_scope;
        ELSIF o IS NOT NULL THEN
            CONTINUE WHEN h = o AND now_scope = old_scope;
%7$s        END IF;
        did := 1;%12$s
        IF declares THEN
            SELECT * INTO d FROM ferry.declared x WHERE x.tx = $1 AND x.tbl = %1$s AND x.key = a_key;
            author := coalesce(d.stamp, t);
        END IF;
        IF h IS NOT NULL AND o IS NOT NULL THEN
            f := '{}';
            delta := %8$L;
            IF d.stamp IS NULL THEN
                FOR i IN 1 .. %9$s LOOP
                    IF h[i] <> o[i] THEN
                        delta[i] := h[i] # o[i];
                        f := f || (marks[i] | t);
                    END IF;
                END LOOP;
                same := true;
            ELSE
                FOR i IN 1 .. %9$s LOOP
                    IF h[i] <> o[i] THEN
                        delta[i] := h[i] # o[i];
                        p := array_position(d.nums, (marks[i] >> 48)::int);
                        cell := CASE WHEN d.hashes[p] = h[i] THEN coalesce(d.stamps[p], d.stamp) ELSE t END;
                        f := f || (marks[i] | cell);
                    END IF;
                END LOOP;
                same := (SELECT count(DISTINCT x & 281474976710655) = 1 FROM unnest(f) x);
            END IF;
            IF cardinality(f) = %10$s AND same THEN
                -- All columns at once need no overrides.
                v_base := f[1] & 281474976710655;
                v_over := NULL;
            ELSIF v_over IS NULL THEN
                v_over := nullif(f, '{}');
            ELSE
                -- As ferry.over_merge(), whose call would cost more than it does.
                FOREACH cell IN ARRAY f LOOP
                    p := width_bucket(cell >> 48 << 48, v_over);
                    v_over := v_over[:p] || cell || v_over[p + 1 + coalesce((v_over[p + 1] >> 48 = cell >> 48)::int, 0):];
                END LOOP;
            END IF;
            IF now_scope = old_scope THEN
                -- The most common end, in one statement.
                WITH u AS (UPDATE ferry.version v SET tx = author, base_tx = v_base, over = v_over, hashes = h WHERE v.ctid = vid),
                c AS (INSERT INTO ferry.change (tenant_id, tx, tbl, scope, keys) VALUES ($2, $1, %1$s, now_scope, ARRAY[a_key]))
                INSERT INTO ferry.sum (tenant_id, tbl, scope, tx, sums, rows) VALUES ($2, %1$s, now_scope, $1, delta, 0);
                CONTINUE;
            ELSE
                UPDATE ferry.version v SET tx = author, base_tx = v_base, over = v_over, hashes = h, scope = now_scope, moved = t
                WHERE v.ctid = vid;
                INSERT INTO ferry.sum (tenant_id, tbl, scope, tx, sums, rows)
                VALUES ($2, %1$s, now_scope, $1, h, 1), ($2, %1$s, old_scope, $1, o, -1);
            END IF;
        ELSIF h IS NULL THEN
            UPDATE ferry.version v SET deleted = true, tx = author, over = NULL, hashes = NULL WHERE v.ctid = vid;
            INSERT INTO ferry.sum (tenant_id, tbl, scope, tx, sums, rows) VALUES ($2, %1$s, now_scope, $1, o, -1);
        ELSE
            f := '{}';
            IF d.stamp IS NOT NULL THEN
                FOR i IN 1 .. %9$s LOOP
                    p := array_position(d.nums, (marks[i] >> 48)::int);
                    cell := CASE WHEN d.hashes[p] = h[i] THEN coalesce(d.stamps[p], d.stamp) ELSE t END;
                    IF marks[i] <> 0 AND cell <> d.stamp AND (h[i] <> 0 OR p IS NOT NULL) THEN
                        f := f || (marks[i] | cell);
                    END IF;
                END LOOP;
            END IF;
            IF vid IS NULL THEN
                WITH v AS (INSERT INTO ferry.version (tenant_id, tbl, key, tx, base_tx, born, scope, over, hashes)
                    VALUES ($2, %1$s, a_key, author, author, author, now_scope, nullif(f, '{}'), h)),
                c AS (INSERT INTO ferry.change (tenant_id, tx, tbl, scope, keys) VALUES ($2, $1, %1$s, now_scope, ARRAY[a_key]))
                INSERT INTO ferry.sum (tenant_id, tbl, scope, tx, sums, rows) VALUES ($2, %1$s, now_scope, $1, h, 1);
                CONTINUE;
            ELSE
                UPDATE ferry.version v SET deleted = false, tx = author, base_tx = author, born = author, scope = now_scope,
                    over = nullif(f, '{}'), hashes = h, moved = CASE WHEN now_scope <> old_scope THEN t END
                WHERE v.ctid = vid;
            END IF;
            INSERT INTO ferry.sum (tenant_id, tbl, scope, tx, sums, rows) VALUES ($2, %1$s, now_scope, $1, h, 1);
        END IF;
        INSERT INTO ferry.change (tenant_id, tx, tbl, scope, keys) VALUES ($2, $1, %1$s, now_scope, ARRAY[a_key]);
        IF now_scope <> old_scope THEN
            INSERT INTO ferry.change (tenant_id, tx, tbl, scope, keys) VALUES ($2, $1, %1$s, old_scope, ARRAY[a_key]);
            INSERT INTO ferry.left AS l (tenant_id, tbl, key, scope, tx) VALUES ($2, %1$s, a_key, old_scope, $1)
            ON CONFLICT (tenant_id, tbl, key, scope) DO UPDATE SET tx = excluded.tx;
            DELETE FROM ferry.left l WHERE l.tenant_id = $2 AND l.tbl = %1$s AND l.key = a_key AND l.scope = now_scope;
        END IF;
    END LOOP;%11$s
    RETURN did;
END $fn$ $f$, of_tbl, settings, marks, vars, ferry.row_query(of_tbl), lock_one, watch_one, zeros, cardinality(marks),
        greatest(mutable, 1), children, count_one);
    END IF;

    -- Of rows with several scopes the statement names all that they are or were in.
    came := CASE WHEN listed THEN ' AND NOT EXISTS (SELECT FROM ferry.version v WHERE v.tenant_id = $2 AND v.tbl = '
                 || of_tbl || ' AND v.key = u.key AND (v.scope = u.scope OR u.scope = ANY (v.also)))' ELSE '' END;
    EXECUTE format($f$
CREATE OR REPLACE FUNCTION ferry.finish_many_%1$s(t bigint, tenant uuid, keys uuid[], mask int, declares bool) RETURNS int
    LANGUAGE plpgsql
%2$s    SET jit = off
    SET work_mem = '64MB'
AS $fn$
DECLARE
    changed bigint;
    movers uuid[];
    scopes text[];
    did int := 0;
    places int[];
%3$sBEGIN
%4$s%10$s    IF declares THEN
        places := ferry.declared_places(t, %1$s);
        EXECUTE %5$L INTO changed, movers, scopes%6$s USING t, tenant, keys, mask, places;
    ELSE
        EXECUTE %7$L INTO changed, movers, scopes%6$s USING t, tenant, keys, mask;
    END IF;
    IF changed > 0 THEN
        did := 1;
    END IF;
    IF movers IS NOT NULL THEN
        INSERT INTO ferry.left AS l (tenant_id, tbl, key, scope, tx)
        SELECT $2, %1$s, u.key, u.scope, $1 FROM unnest(movers, scopes) AS u(key, scope) WHERE true%9$s
        ON CONFLICT (tenant_id, tbl, key, scope) DO UPDATE SET tx = excluded.tx;
        DELETE FROM ferry.left l USING ferry.version v
        WHERE l.tenant_id = $2 AND l.tbl = %1$s AND l.key = ANY (movers)
          AND v.tenant_id = $2 AND v.tbl = %1$s AND v.key = l.key AND (v.scope = l.scope OR l.scope = ANY (v.also));
    END IF;%8$s
    RETURN did;
END $fn$ $f$, of_tbl, settings, vars, lock_many, ferry.finish_sql(of_tbl, true, watch, refs), targets,
        ferry.finish_sql(of_tbl, false, watch, refs), children, came, lock_brought);
    EXECUTE format('REVOKE EXECUTE ON FUNCTION ferry.finish_few_%1$s(bigint, uuid, uuid[], bool), '
                   'ferry.finish_many_%1$s(bigint, uuid, uuid[], int, bool) FROM PUBLIC', of_tbl);
END $outer$;

CREATE FUNCTION ferry.need_read_committed() RETURNS void
    LANGUAGE plpgsql
AS $$
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        -- An older snapshot can't see the children that others have added meanwhile.
        RAISE EXCEPTION 'a row whose children follow it into another scope can only move in a READ COMMITTED transaction'
            USING ERRCODE = 'feature_not_supported',
                  HINT = 'Begin the transaction with BEGIN ISOLATION LEVEL READ COMMITTED.';
    END IF;
END $$;

-- A decision tree over the tables: a dynamic call would be parsed and planned for every
-- transaction, and a long CASE asks on average about half of the tables.
CREATE FUNCTION ferry.dispatch_sql(tbls int[], calls text[]) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n int := coalesce(cardinality(tbls), 0);
    half int := n / 2;
BEGIN
    IF n = 0 THEN
        RETURN '    RETURN 0;';
    ELSIF n = 1 THEN
        RETURN format(E'    IF of_tbl = %s THEN\n        RETURN %s;\n    END IF;\n    RETURN 0;', tbls[1], calls[1]);
    END IF;
    RETURN format(E'    IF of_tbl <= %s THEN\n%s\n    ELSE\n%s\n    END IF;', tbls[half],
                  ferry.dispatch_sql(tbls[1:half], calls[1:half]), ferry.dispatch_sql(tbls[half + 1:n], calls[half + 1:n]));
END $$;

-- The numbers that notes can have, and what each means: a table's, and behind those what is
-- done under the lock of what is brought.
CREATE FUNCTION ferry.dispatch_of(few bool) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ferry.dispatch_sql(array_agg(d.n ORDER BY d.n), array_agg(d.call ORDER BY d.n)) FROM (
        SELECT t.tbl, format('ferry.finish_%s_%s(t, tenant, keys, %sdeclares)', CASE WHEN few THEN 'few' ELSE 'many' END, t.tbl,
                             CASE WHEN few THEN '' ELSE 'mask, ' END)
        FROM ferry.tracked t WHERE NOT t.brought
        UNION ALL SELECT t.tbl, format('ferry.put_off(%s, t, tenant, keys)', t.tbl) FROM ferry.tracked t WHERE t.brought
        UNION ALL SELECT t.tbl | ferry.comes_last(), format('ferry.finish_many_%s(t, tenant, keys, %s, declares)', t.tbl,
                                                            CASE WHEN few THEN '0' ELSE 'mask' END)
        FROM ferry.tracked t WHERE t.brought
        UNION ALL SELECT b.tbl | ferry.counts(), format('ferry.count_%s(t, tenant, keys)', b.tbl)
        FROM (SELECT DISTINCT o.tbl FROM ferry.bring o) b) d(n, call)
$$;

CREATE FUNCTION ferry.generate_dispatch() RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $outer$
BEGIN
    EXECUTE format($f$
CREATE OR REPLACE FUNCTION ferry.finish_few(of_tbl int, t bigint, tenant uuid, keys uuid[], declares bool) RETURNS int
    LANGUAGE plpgsql
AS $fn$
BEGIN
%s
END $fn$ $f$, ferry.dispatch_of(true));
    -- The mask makes about a thousand keys to a row of ferry.change, in a power of two of rows.
    EXECUTE format($f$
CREATE OR REPLACE FUNCTION ferry.finish_many(of_tbl int, t bigint, tenant uuid, keys uuid[], declares bool) RETURNS int
    LANGUAGE plpgsql
AS $fn$
DECLARE
    mask int := (1 << ceil(log(2, cardinality(keys) / 1000 + 1))::int) - 1;
BEGIN
%s
END $fn$ $f$, ferry.dispatch_of(false));
    REVOKE EXECUTE ON FUNCTION ferry.finish_few(int, bigint, uuid, uuid[], bool),
        ferry.finish_many(int, bigint, uuid, uuid[], bool) FROM PUBLIC;
END $outer$;

-- Everything generated for a table, and for the tables on its path, whose watch lists
-- change with it.
CREATE FUNCTION ferry.generate(of_tbl int) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    other int;
BEGIN
    PERFORM ferry.generate_note(of_tbl);
    PERFORM ferry.generate_finish(of_tbl);
    PERFORM ferry.generate_count(of_tbl);
    FOR other IN SELECT DISTINCT h.from_tbl FROM ferry.scope_hop h WHERE h.tbl = of_tbl AND h.from_tbl <> of_tbl
                 UNION SELECT DISTINCT h.tbl FROM ferry.scope_hop h WHERE h.from_tbl = of_tbl AND h.tbl <> of_tbl LOOP
        PERFORM ferry.generate_finish(other);
    END LOOP;
    PERFORM ferry.generate_dispatch();
END $$;

RESET ROLE;
