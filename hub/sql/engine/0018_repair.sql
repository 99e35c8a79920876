-- What people do about conflicts: choose a side or a value, in SQL or through ferry-hub.

SET LOCAL ROLE ferry_engine;

ALTER TABLE ferry.conflict
    ADD COLUMN resolved_at timestamptz,
    ADD COLUMN resolved_by text,
    ADD COLUMN resolution text CHECK (resolution IN ('device', 'hub', 'value', 'null'));
ALTER TABLE ferry.conflict ADD CONSTRAINT conflict_resolved_ck CHECK (
    (state = 'resolved') = (resolved_at IS NOT NULL AND resolved_by IS NOT NULL AND resolution IS NOT NULL));
CREATE INDEX conflict_open_ix ON ferry.conflict (tenant_id, at) WHERE state = 'open';
COMMENT ON COLUMN ferry.conflict.resolved_by IS 'Who chose, as ferry.resolve_conflict was told';
COMMENT ON COLUMN ferry.conflict.resolution IS 'What was chosen: a side, another value, or NULL';

-- A kept wire value as an expression of its column's type.
CREATE FUNCTION ferry.kept_value(kind text, in_expr text, v jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN x.t IS NULL THEN 'NULL' ELSE ferry.fill(in_expr, CASE
        WHEN kind IN ('timestamptz', 'date') AND x.t ~ 'Infinity' THEN format('%L::%s', lower(x.t), kind)
        WHEN kind = 'timestamptz' THEN format('(timestamptz ''epoch'' + %s * interval ''1 microsecond'')', x.t::bigint)
        WHEN kind = 'date' THEN format('(date ''epoch'' + %s)', x.t::int)
        WHEN kind = 'bool' THEN format('%L::bool', x.t)
        WHEN kind = 'int' THEN format('%L::int8', x.t)
        WHEN kind = 'float' THEN format('%L::float8', x.t)
        WHEN kind = 'uuid' THEN format('%L::uuid', x.t)
        WHEN kind = 'bytes' THEN format('%L::bytea', x.t)
        ELSE format('%L::text', x.t) END) END
    FROM (SELECT v #>> '{}' AS t) x
$$;
COMMENT ON FUNCTION ferry.kept_value(text, text, jsonb) IS 'A value of ferry.conflict as an expression of its column''s type';

-- The same for people.
CREATE FUNCTION ferry.value_text(kind text, v jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN x.t ~ 'Infinity' OR kind IS NULL THEN x.t
        WHEN kind = 'timestamptz' THEN to_char(timestamp 'epoch' + x.t::bigint * interval '1 microsecond', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
        WHEN kind = 'date' THEN (date 'epoch' + x.t::int)::text
        ELSE x.t END
    FROM (SELECT v #>> '{}' AS t) x
$$;
COMMENT ON FUNCTION ferry.value_text(text, jsonb) IS 'A value of ferry.conflict as a person reads it';

-- The deleted row as the hub had it: a deletion that met changes keeps each column's value.
CREATE FUNCTION ferry.kept_row_sql(x ferry.conflict) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT format('INSERT INTO %s (%I, %I%s) VALUES ($1, $2%s)', t.relid, t.tenant_col, t.key_col,
                  coalesce(string_agg(format(', %I', c.name), '' ORDER BY c.num), ''),
                  coalesce(string_agg(', ' || ferry.kept_value(c.kind, c.in_expr, k.hub_value), '' ORDER BY c.num), ''))
    FROM ferry.tracked t
    LEFT JOIN ferry.conflict k ON k.tenant_id = x.tenant_id AND k.tx = x.tx AND k.device_id = x.device_id
        AND k.number = x.number AND k.tbl = x.tbl AND k.key = x.key AND k.kind = x.kind AND k.num <> 0
    LEFT JOIN ferry.tracked_column c ON c.tbl = k.tbl AND c.num = k.num AND NOT c.generated
        AND c.name NOT IN (t.tenant_col, t.key_col)
    WHERE t.tbl = x.tbl AND (k.id IS NULL OR c.num IS NOT NULL)
    GROUP BY t.relid, t.tenant_col, t.key_col
$$;

-- Writes what was chosen as ordinary SQL of the caller, and marks the conflict. Rights: those
-- of the caller, on the table and on ferry.conflict.
CREATE FUNCTION ferry.resolve_conflict(conflict uuid, take text, value text DEFAULT NULL, by_whom text DEFAULT session_user,
                                       dry_run bool DEFAULT false)
RETURNS TABLE (action text, before text, after text, resolved bigint)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    x ferry.conflict;
    t ferry.tracked;
    c ferry.tracked_column;
    present bool;
    expr text;
BEGIN
    IF take IS NULL OR take NOT IN ('device', 'hub', 'value', 'null') OR (take = 'value') <> (value IS NOT NULL) THEN
        RAISE EXCEPTION 'take device, hub, null, or value with the value' USING ERRCODE = 'FE001';
    END IF;
    SELECT k.* INTO x FROM ferry.conflict k WHERE k.id = conflict FOR UPDATE;
    IF x.id IS NULL THEN
        RAISE EXCEPTION 'there is no conflict %', conflict USING ERRCODE = 'FE010';
    ELSIF x.state = 'resolved' THEN
        RAISE EXCEPTION 'conflict % is resolved already: % took %, at %', conflict, x.resolved_by, x.resolution, x.resolved_at
            USING ERRCODE = 'FE011';
    END IF;
    PERFORM set_config('app.tenant_id', x.tenant_id::text, true);
    SELECT k.* INTO t FROM ferry.tracked k WHERE k.tbl = x.tbl;
    SELECT k.* INTO c FROM ferry.tracked_column k WHERE k.tbl = x.tbl AND k.num = x.num;
    IF t.tbl IS NULL OR (x.num <> 0 AND c.num IS NULL) THEN
        RAISE EXCEPTION 'the table or column of conflict % is no more', conflict USING ERRCODE = 'FE010';
    END IF;
    EXECUTE format('SELECT %s FROM %s r WHERE r.%I = $1 AND r.%I = $2 FOR NO KEY UPDATE',
                   CASE WHEN x.num = 0 THEN '''the row''' ELSE format('r.%I::text', c.name) END, t.relid, t.tenant_col, t.key_col)
        INTO before USING x.tenant_id, x.key;
    GET DIAGNOSTICS resolved = ROW_COUNT;
    present := resolved > 0;
    resolved := 1;
    action := 'none';
    after := before;

    IF x.num <> 0 AND present AND (take IN ('value', 'null') OR x.kind = 'update_update'
            OR (x.kind = 'update_delete' AND take = 'device') OR (x.kind = 'delete_update' AND take = 'hub')) THEN
        expr := CASE take WHEN 'value' THEN format('%L::%s', value, c.pg_type) WHEN 'null' THEN 'NULL'
                ELSE ferry.kept_value(c.kind, c.in_expr, CASE take WHEN 'device' THEN x.device_value ELSE x.hub_value END) END;
        EXECUTE format('SELECT (%s)::%s::text', expr, c.pg_type) INTO after;
        IF after IS DISTINCT FROM before THEN
            action := 'update';
            IF NOT dry_run THEN
                EXECUTE format('UPDATE %s SET %I = %s WHERE %I = $1 AND %I = $2', t.relid, c.name, expr, t.tenant_col, t.key_col)
                    USING x.tenant_id, x.key;
            END IF;
        END IF;
    ELSIF x.num <> 0 AND NOT present AND x.kind = 'delete_update' AND take = 'hub' THEN
        action := 'insert';
        after := 'the row';
        IF NOT dry_run THEN
            EXECUTE ferry.kept_row_sql(x) USING x.tenant_id, x.key;
        END IF;
    ELSIF x.num = 0 AND present AND take = (CASE x.kind WHEN 'delete_update' THEN 'device' ELSE 'hub' END) THEN
        action := 'delete';
        after := NULL;
        IF NOT dry_run THEN
            EXECUTE format('DELETE FROM %s WHERE %I = $1 AND %I = $2', t.relid, t.tenant_col, t.key_col) USING x.tenant_id, x.key;
        END IF;
    ELSIF NOT present AND NOT (x.kind = 'delete_update' AND take = 'device') AND NOT (x.kind = 'update_delete' AND take = 'hub') THEN
        RAISE EXCEPTION 'the row of conflict % is deleted, and one value does not bring it back', conflict
            USING ERRCODE = 'FE010', HINT = 'Insert the row with SQL, then resolve the conflict; or take the side that deleted it.';
    ELSIF x.num = 0 AND take IN ('value', 'null') THEN
        RAISE EXCEPTION 'conflict % is about a whole row: take device or hub', conflict USING ERRCODE = 'FE001';
    ELSIF x.num <> 0 AND present THEN
        RAISE EXCEPTION 'the row of conflict % was made again since it was deleted', conflict
            USING ERRCODE = 'FE011', HINT = 'Delete it with SQL if it has to go, then take a value or the other side.';
    END IF;

    IF dry_run THEN
        RETURN NEXT;
        RETURN;
    END IF;
    -- One deletion's values are one conflict to a person.
    UPDATE ferry.conflict k SET state = 'resolved', resolved_at = now(), resolved_by = by_whom, resolution = take
    WHERE k.tenant_id = x.tenant_id AND k.state = 'open' AND (k.id = x.id
        OR (x.kind = 'delete_update' AND take IN ('device', 'hub') AND action IN ('insert', 'none') AND NOT present AND k.tx = x.tx
            AND k.device_id = x.device_id AND k.number = x.number AND k.tbl = x.tbl AND k.key = x.key AND k.kind = x.kind));
    GET DIAGNOSTICS resolved = ROW_COUNT;
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION ferry.resolve_conflict(uuid, text, text, text, bool) IS
    'Takes the device''s side, the hub''s, a value or NULL, by SQL of the caller, and marks the conflict with who and when';

-- A wire value as its column would hold it, for people. One that does not fit there is shown as it came;
-- so is text, which a cast would cut to the column's length.
CREATE FUNCTION ferry.held_text(c ferry.tracked_column, v jsonb) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
AS $$
DECLARE
    held text;
BEGIN
    IF c.kind = 'text' AND c.pg_type NOT LIKE 'character(%' THEN
        RETURN v #>> '{}';
    END IF;
    EXECUTE format('SELECT (%s)::%s::text', ferry.kept_value(c.kind, c.in_expr, v), c.pg_type) INTO held;
    RETURN held;
EXCEPTION WHEN OTHERS THEN
    RETURN v #>> '{}';
END $$;
COMMENT ON FUNCTION ferry.held_text(ferry.tracked_column, jsonb) IS 'A wire value as its column would hold it, as a person reads it';

-- Both sides are printed by the column's type, so that what is written in two ways is the same value.
CREATE FUNCTION ferry.row_differences(tenant uuid, of_tbl int, of_key uuid, cells jsonb) RETURNS TABLE (name text, stands text, wanted text)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
AS $$
DECLARE
    t ferry.tracked;
    held jsonb;
BEGIN
    SELECT * INTO t FROM ferry.tracked o WHERE o.tbl = of_tbl;
    IF t.tbl IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format('SELECT jsonb_object(ARRAY[%s]::text[], ARRAY[%s]::text[]) FROM %s r WHERE r.%I = $1 AND r.%I = $2',
                   (SELECT string_agg(quote_literal(c.num), ', ' ORDER BY c.num) FROM ferry.tracked_column c WHERE c.tbl = of_tbl),
                   (SELECT string_agg(format('r.%I::text', c.name), ', ' ORDER BY c.num) FROM ferry.tracked_column c WHERE c.tbl = of_tbl),
                   t.relid, t.tenant_col, t.key_col)
        INTO held USING tenant, of_key;
    IF cells IS NULL AND held IS NOT NULL THEN
        RETURN NEXT;
    END IF;
    RETURN QUERY
        SELECT c.name, left(held ->> c.num::text, 4096), left(w.value, 4096)
        FROM jsonb_each(cells) e JOIN ferry.tracked_column c ON c.tbl = of_tbl AND c.num = e.key::int
        CROSS JOIN LATERAL (SELECT ferry.held_text(c, e.value) AS value OFFSET 0) w
        WHERE held ->> c.num::text IS DISTINCT FROM w.value
        ORDER BY c.num;
END $$;
COMMENT ON FUNCTION ferry.row_differences(uuid, int, uuid, jsonb) IS
    'Where wire values ({"<column>": value}) differ from a row as it stands; cells NULL, which deletes it: one row without a name if it is there';
