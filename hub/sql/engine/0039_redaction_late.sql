-- Redaction and devices that come late: what they wrote under the schema before goes where its
-- columns are now. For that a cell keeps its version when it moves to the restricted table
-- and back: nobody edited it, so a late edit meets other edits and not the redaction.

SET LOCAL ROLE ferry_engine;

CREATE TABLE ferry.revealed_column (
    restricted     int NOT NULL,
    restricted_num int NOT NULL,
    name           text NOT NULL,
    tbl            int NOT NULL REFERENCES ferry.tracked ON DELETE CASCADE,
    num            int,
    PRIMARY KEY (restricted, restricted_num)
);
COMMENT ON TABLE ferry.revealed_column IS 'Where the columns of restricted tables that are no more went: late devices may still write them';
COMMENT ON COLUMN ferry.revealed_column.restricted IS 'The number that the restricted table had; numbers are never used twice';
COMMENT ON COLUMN ferry.revealed_column.num IS 'NULL: the table has it anyway (the tenant, where the row is)';

CREATE VIEW ferry.late_column AS
    SELECT p.tbl, p.num, p.n, p.name, p.kind, p.to_num, NULL::int AS to_tbl, p.discarded, p.converter IS NOT NULL AS converts
    FROM ferry.past_column p
    UNION ALL SELECT x.tbl, x.num, 0, x.name, NULL, x.restricted_num, x.restricted, false, false FROM ferry.redacted x
    UNION ALL SELECT r.restricted, r.restricted_num, 0, r.name, NULL, r.num, r.tbl, r.num IS NULL, false FROM ferry.revealed_column r;
COMMENT ON VIEW ferry.late_column IS 'What became of columns that late devices may still know, those too that stand in another table now';
GRANT SELECT ON ferry.late_column TO ferry_hub;

-- ---------------------------------------------------------------- cells keep their versions

-- The rows that the restricted table begins with, each with the versions that its cells have in
-- the table. Rows that the same transaction wrote besides are left to the capture.
CREATE FUNCTION ferry.take_redacted(of_tbl int, made int, nums int[], made_nums int[]) RETURNS void
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
    t bigint := ferry.current_tx();
    sums text := (SELECT string_agg(format('bit_xor(c.h[%s])', x.i), ', ' ORDER BY x.i)
                  FROM (SELECT row_number() OVER (ORDER BY o.num) AS i FROM ferry.tracked_column o WHERE o.tbl = made) x);
    tenant uuid;
    taken bigint;
BEGIN
    FOR tenant IN SELECT DISTINCT v.tenant_id FROM ferry.version v WHERE v.tbl = of_tbl AND NOT v.deleted LOOP
        EXECUTE ferry.row_sql(made, replace(replace(replace($q$
WITH noted AS MATERIALIZED (
    SELECT unnest(d.keys) AS key FROM ferry.dirty d WHERE d.tx = $1 AND d.tbl = {tbl} AND d.tenant_id = $2
), cur AS MATERIALIZED (
    SELECT s.key, s.scope, s.also, s.own, s.h, v.base_tx, v.born,
           (SELECT array_agg((u.now::bigint << 48) | (x & 281474976710655) ORDER BY u.now)
            FROM unnest(v.over) x JOIN unnest($3, $4) AS u(was, now) ON u.was = x >> 48) AS over
    FROM (%s) s JOIN ferry.version v ON v.tenant_id = $2 AND v.tbl = {tbl} AND v.key = s.key
    WHERE NOT v.deleted AND s.key NOT IN (SELECT n.key FROM noted n)
), rows AS (
    INSERT INTO ferry.version (tenant_id, tbl, key, tx, base_tx, born, moved, scope, over, hashes, also, own)
    SELECT $2, {made}, c.key, $1, c.base_tx, c.born, $1, c.scope, c.over, c.h, c.also, c.own FROM cur c
), chg AS (
    INSERT INTO ferry.change (tenant_id, tx, tbl, scope, keys)
    SELECT $2, $1, {made}, x, array_agg(c.key) FROM cur c, unnest(c.scope || c.also) x GROUP BY x, uuid_hash(c.key) & 15
), sums AS (
    INSERT INTO ferry.sum (tenant_id, tbl, scope, tx, sums, rows)
    SELECT $2, {made}, x, $1, ARRAY[{sums}]::bigint[], count(*) FROM cur c, unnest(c.scope || c.also) x GROUP BY x
)
SELECT count(*) FROM cur$q$, '{tbl}', of_tbl::text), '{made}', made::text), '{sums}', sums)) INTO taken USING t, tenant, nums, made_nums;
        IF taken > 0 THEN
            PERFORM ferry.note(0, tenant, '{}');
        END IF;
    END LOOP;
END $$;

-- And back: a cell without a restricted row was empty from the row's beginning on.
CREATE FUNCTION ferry.take_revealed(of_tbl int, made int, nums int[], made_nums int[], written uuid[]) RETURNS void
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
    t bigint := ferry.current_tx();
    places bigint[];
    sums text;
    tenant uuid;
    taken bigint;
    others uuid[];
BEGIN
    IF nums IS NULL THEN -- all of them were dropped
        RETURN;
    END IF;
    SELECT array_agg(c.i) FILTER (WHERE c.num = ANY (nums)), string_agg(format('bit_xor(c.o[%1$s] # c.h[%1$s])', c.i), ', ' ORDER BY c.i)
    INTO places, sums
    FROM (SELECT x.num, row_number() OVER (ORDER BY x.num) AS i FROM ferry.tracked_column x WHERE x.tbl = of_tbl) c;
    INSERT INTO ferry.retyped (tbl, num, tx) SELECT of_tbl, x, t FROM unnest(nums) x ON CONFLICT DO NOTHING;
    FOR tenant IN SELECT DISTINCT v.tenant_id FROM ferry.version v WHERE v.tbl = of_tbl AND NOT v.deleted LOOP
        EXECUTE ferry.row_sql(of_tbl, replace(replace(replace($q$
WITH noted AS MATERIALIZED (
    SELECT unnest($6) AS key
), cur AS MATERIALIZED (
    SELECT s.key, s.h, v.ctid AS vid, v.scope || v.also AS scopes, v.hashes AS o, v.over,
           (SELECT array_agg((u.num::bigint << 48) | w.id ORDER BY u.num) FROM unnest($3, $4) AS u(num, made)
            CROSS JOIN LATERAL (SELECT CASE WHEN r.key IS NULL THEN v.born WHEN r.deleted THEN r.tx ELSE coalesce(
                (SELECT x & 281474976710655 FROM unnest(r.over) x WHERE x >> 48 = u.made), r.base_tx) END AS id) w
            WHERE w.id <> v.base_tx) AS cells,
           EXISTS (SELECT FROM unnest(v.hashes, s.h) WITH ORDINALITY AS x(o, h, i) WHERE x.o <> x.h AND NOT x.i = ANY ($5)) AS differs
    FROM (%s) s JOIN ferry.version v ON v.tenant_id = $2 AND v.tbl = {tbl} AND v.key = s.key
    LEFT JOIN ferry.version r ON r.tenant_id = $2 AND r.tbl = {made} AND r.key = s.key
    WHERE NOT v.deleted AND s.key NOT IN (SELECT n.key FROM noted n)
), upd AS (
    UPDATE ferry.version v SET hashes = c.h, over = ferry.over_merge(coalesce(c.over, '{}'), c.cells),
                               tx = CASE WHEN c.h <> c.o THEN $1 ELSE v.tx END
    FROM (SELECT o.vid, o.h, o.o, o.over, o.cells FROM cur o WHERE NOT o.differs AND o.cells IS NOT NULL) c
    WHERE v.tenant_id = $2 AND v.ctid = c.vid
), same AS (
    UPDATE ferry.version v SET hashes = c.h, tx = $1 FROM cur c
    WHERE v.tenant_id = $2 AND v.ctid = c.vid AND NOT c.differs AND c.cells IS NULL AND c.h <> c.o
), chg AS (
    INSERT INTO ferry.change (tenant_id, tx, tbl, scope, keys)
    SELECT $2, $1, {tbl}, x, array_agg(c.key) FROM cur c, unnest(c.scopes) x WHERE NOT c.differs AND c.h <> c.o GROUP BY x, uuid_hash(c.key) & 15
), sums AS (
    INSERT INTO ferry.sum (tenant_id, tbl, scope, tx, sums, rows)
    SELECT $2, {tbl}, x, $1, ARRAY[{sums}]::bigint[], 0 FROM cur c, unnest(c.scopes) x WHERE NOT c.differs AND c.h <> c.o GROUP BY x
)
SELECT count(*) FILTER (WHERE NOT c.differs AND c.h <> c.o), array_agg(c.key) FILTER (WHERE c.differs) FROM cur c$q$,
            '{tbl}', of_tbl::text), '{made}', made::text), '{sums}', sums))
            INTO taken, others USING t, tenant, nums, made_nums, places, written;
        IF taken > 0 THEN
            PERFORM ferry.note(0, tenant, '{}');
        END IF;
        IF others IS NOT NULL THEN
            PERFORM ferry.note(of_tbl, tenant, others);
        END IF;
    END LOOP;
END $$;

CREATE FUNCTION ferry.note_revealed(of_tbl int, made int) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO ferry.revealed_column (restricted, restricted_num, name, tbl, num)
    SELECT made, c.num, c.name, of_tbl, x.num
    FROM ferry.tracked_column c JOIN ferry.tracked r ON r.tbl = c.tbl
    LEFT JOIN ferry.redacted_column x ON x.restricted = made AND x.restricted_num = c.num
    WHERE c.tbl = made AND (x.num IS NOT NULL OR c.name IN (r.tenant_col, r.key_col) OR r.archives AND c.name = 'deleted_at')
$$;

-- A redacted column that gets another type has it in both tables from the same generation on: late
-- devices know it in one of them.
CREATE FUNCTION ferry.copy_past() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO ferry.past_column AS p (tbl, num, n, name, kind, pg_type, in_expr, converter)
    SELECT d.tbl, c.num, NEW.n, NEW.name, NEW.kind, NEW.pg_type, NEW.in_expr, NEW.converter
    FROM ferry.redacted_column c JOIN ferry.redaction d ON d.restricted = c.restricted
    WHERE c.restricted = NEW.tbl AND c.restricted_num = NEW.num
    ON CONFLICT (tbl, num, n) DO UPDATE SET kind = excluded.kind, pg_type = excluded.pg_type, in_expr = excluded.in_expr,
                                            converter = excluded.converter;
    RETURN NULL;
END $$;
CREATE TRIGGER redacted AFTER INSERT OR UPDATE ON ferry.past_column FOR EACH ROW WHEN (NEW.kind IS NOT NULL)
    EXECUTE FUNCTION ferry.copy_past();

REVOKE EXECUTE ON FUNCTION ferry.take_redacted(int, int, int[], int[]), ferry.take_revealed(int, int, int[], int[], uuid[]),
    ferry.note_revealed(int, int), ferry.make_redacted_value(int, text), ferry.drop_redacted_value(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.make_redacted_value(int, text), ferry.drop_redacted_value(int) TO ferry_owner;

RESET ROLE;
