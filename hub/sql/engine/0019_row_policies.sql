-- What concerns whole rows of a table: a check of its owner's, which judges what devices
-- write with a sentence of its own, what becomes of rows whose parents are missing,
-- and of a deletion that meets an update.

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

-- ---------------------------------------------------------------- parents that are missing

-- What the hub keeps of devices' change-sets: the refused, the parked, and parts on their way. Counted
-- beside each write, since what it takes is asked before anything more is kept.
CREATE TABLE ferry.kept (
    tenant_id uuid NOT NULL,
    device_id uuid NOT NULL,
    bytes     bigint NOT NULL,
    PRIMARY KEY (tenant_id, device_id)
);
SELECT ferry.isolate('ferry.kept');
GRANT SELECT ON ferry.kept TO ferry_hub;
COMMENT ON TABLE ferry.kept IS 'How much of each device''s change-sets stands in ferry.rejected and ferry.stage';
COMMENT ON COLUMN ferry.kept.bytes IS 'Bytes of the bodies, and 200 for each row';

CREATE FUNCTION ferry.add_kept(tenants uuid[], devices uuid[], bytes bigint[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
AS $$
    INSERT INTO ferry.kept AS k (tenant_id, device_id, bytes)
    SELECT u.tenant, u.device, sum(u.n) FROM unnest(tenants, devices, bytes) AS u(tenant, device, n) GROUP BY 1, 2 ORDER BY 1, 2
    ON CONFLICT (tenant_id, device_id) DO UPDATE SET bytes = k.bytes + excluded.bytes
$$;

CREATE FUNCTION ferry.count_kept() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        PERFORM ferry.add_kept(array_agg(g.tenant_id), array_agg(g.device_id), array_agg(- octet_length(g.body)::bigint - 200)) FROM gone g;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        PERFORM ferry.add_kept(array_agg(c.tenant_id), array_agg(c.device_id), array_agg(octet_length(c.body)::bigint + 200)) FROM came c;
    END IF;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION ferry.add_kept(uuid[], uuid[], bigint[]), ferry.count_kept() FROM PUBLIC;
CREATE TRIGGER ferry_kept_came AFTER INSERT ON ferry.rejected REFERENCING NEW TABLE AS came
    FOR EACH STATEMENT EXECUTE FUNCTION ferry.count_kept();
CREATE TRIGGER ferry_kept_gone AFTER DELETE ON ferry.rejected REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION ferry.count_kept();
CREATE TRIGGER ferry_kept_came AFTER INSERT ON ferry.stage REFERENCING NEW TABLE AS came
    FOR EACH STATEMENT EXECUTE FUNCTION ferry.count_kept();
CREATE TRIGGER ferry_kept_changed AFTER UPDATE ON ferry.stage REFERENCING OLD TABLE AS gone NEW TABLE AS came
    FOR EACH STATEMENT EXECUTE FUNCTION ferry.count_kept();
CREATE TRIGGER ferry_kept_gone AFTER DELETE ON ferry.stage REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION ferry.count_kept();

CREATE FUNCTION ferry.kept_room(tenant uuid, devices uuid[], device_most bigint, tenant_most bigint)
RETURNS TABLE (device_id uuid, room bigint)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT u.id, least(device_most - coalesce(k.bytes, 0), tenant_most - a.bytes) FROM unnest(devices) AS u(id)
    CROSS JOIN (SELECT coalesce(sum(o.bytes), 0)::bigint AS bytes FROM ferry.kept o WHERE o.tenant_id = tenant) a
    LEFT JOIN ferry.kept k ON k.tenant_id = tenant AND k.device_id = u.id
$$;
COMMENT ON FUNCTION ferry.kept_room(uuid, uuid[], bigint, bigint) IS 'How many bytes more may be kept of each of these devices; none, when it is not above 0';

-- Is there room for a part of a large change-set? Asked for every sixteenth, whose answer
-- holds for those behind it.
CREATE FUNCTION ferry.stage_has_room(tenant uuid, device uuid, of_number bigint, of_staging bigint, of_part int, device_most bigint, tenant_most bigint)
RETURNS bool
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN of_part % 16 <> 0 THEN
        NOT EXISTS (SELECT FROM ferry.stage s WHERE s.tenant_id = tenant AND s.device_id = device AND s.number = of_number
                    AND s.staging = of_staging AND s.part = of_part / 16 * 16 AND octet_length(s.body) = 0)
    ELSE (SELECT r.room > 0 FROM ferry.kept_room(tenant, ARRAY[device], device_most, tenant_most) r) END
$$;
COMMENT ON FUNCTION ferry.stage_has_room(uuid, uuid, bigint, bigint, int, bigint, bigint) IS
    'May a part of a large change-set be stored, beside what is kept of this device and tenant?';
REVOKE EXECUTE ON FUNCTION ferry.stage_has_room(uuid, uuid, bigint, bigint, int, bigint, bigint), ferry.kept_room(uuid, uuid[], bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.stage_has_room(uuid, uuid, bigint, bigint, int, bigint, bigint), ferry.kept_room(uuid, uuid[], bigint, bigint) TO ferry_hub;

ALTER TABLE ferry.tracked
    ADD COLUMN on_missing_parent text NOT NULL DEFAULT 'reject' CHECK (on_missing_parent IN ('reject', 'park')),
    ADD COLUMN park_for interval NOT NULL DEFAULT interval '7 days' CHECK (park_for > interval '0');
COMMENT ON COLUMN ferry.tracked.on_missing_parent IS 'A device''s row that refers to a missing one: is refused, or waits for it';
COMMENT ON COLUMN ferry.tracked.park_for IS 'How long it waits';

ALTER TABLE ferry.rejected
    ADD COLUMN parked_until timestamptz,
    ADD COLUMN retry_at timestamptz,
    ADD COLUMN waits_number bigint;
CREATE INDEX rejected_parked_ix ON ferry.rejected (tenant_id, device_id, number) WHERE parked_until IS NOT NULL;
COMMENT ON TABLE ferry.rejected IS 'Change-sets that were refused, or wait for something (parked), whole';
COMMENT ON COLUMN ferry.rejected.parked_until IS 'Until when it waits; NULL: it was refused';
COMMENT ON COLUMN ferry.rejected.retry_at IS 'When it may be merged again, should the last attempt not have settled it';
COMMENT ON COLUMN ferry.rejected.waits_number IS 'The parked change-set of the same device that it builds on';

CREATE TABLE ferry.parked_wait (
    tenant_id uuid NOT NULL,
    device_id uuid NOT NULL,
    number    bigint NOT NULL,
    tbl       int NOT NULL,
    key       uuid NOT NULL,
    own       bool NOT NULL,
    PRIMARY KEY (tenant_id, device_id, number, tbl, key)
);
SELECT ferry.isolate('ferry.parked_wait');
GRANT SELECT, DELETE ON ferry.parked_wait TO ferry_hub;
COMMENT ON TABLE ferry.parked_wait IS 'Rows that parked change-sets wait for';
COMMENT ON COLUMN ferry.parked_wait.own IS 'It makes the row itself; only while they are gathered';

-- Of the rows that a change-set (or a portion of it) refers to those that are not there, and
-- those that it makes itself.
CREATE FUNCTION ferry.note_waits(tenant uuid, device uuid, of_number bigint, tbls int[], keys uuid[], own_tbls int[], own_keys uuid[])
RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO ferry.parked_wait AS w (tenant_id, device_id, number, tbl, key, own)
    SELECT tenant, device, of_number, x.tbl, x.key, bool_or(x.own)
    FROM (SELECT u.tbl, u.key, false AS own FROM unnest(tbls, keys) AS u(tbl, key)
          WHERE NOT EXISTS (SELECT FROM ferry.version v WHERE v.tenant_id IN (tenant, ferry.nobody()) AND v.tbl = u.tbl
                            AND v.key = u.key AND NOT v.deleted)
          UNION ALL SELECT u.tbl, u.key, true FROM unnest(own_tbls, own_keys) AS u(tbl, key)) x
    GROUP BY x.tbl, x.key
    ON CONFLICT (tenant_id, device_id, number, tbl, key) DO UPDATE SET own = true WHERE excluded.own
$$;
COMMENT ON FUNCTION ferry.note_waits(uuid, uuid, bigint, int[], uuid[], int[], uuid[]) IS
    'Gathers what a change-set waits for: call it for each portion, then ferry.count_waits';

CREATE FUNCTION ferry.count_waits(tenant uuid, device uuid, of_number bigint) RETURNS TABLE (missing bigint, one text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM ferry.parked_wait w WHERE w.tenant_id = tenant AND w.device_id = device AND w.number = of_number AND w.own;
    RETURN QUERY
        SELECT count(*), (array_agg(t.replica_name || ' ' || w.key ORDER BY t.rank, w.tbl, w.key))[1]
        FROM ferry.parked_wait w LEFT JOIN ferry.tracked t ON t.tbl = w.tbl
        WHERE w.tenant_id = tenant AND w.device_id = device AND w.number = of_number;
END $$;
COMMENT ON FUNCTION ferry.count_waits(uuid, uuid, bigint) IS
    'For how many rows a change-set waits, once all of them are noted, and one of them for people';

-- Beside its verdict: how long a parked change-set waits. One that builds on another waits as
-- long as that.
CREATE FUNCTION ferry.park(tenant uuid, device uuid, of_number bigint, child int, behind bigint) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE ferry.rejected r SET retry_at = now(), waits_number = nullif(behind, 0),
        parked_until = coalesce((SELECT o.parked_until FROM ferry.rejected o
                                 WHERE o.tenant_id = tenant AND o.device_id = device AND o.number = behind),
                                now() + (SELECT t.park_for FROM ferry.tracked t WHERE t.tbl = child), now())
    WHERE r.tenant_id = tenant AND r.device_id = device AND r.number = of_number
$$;
COMMENT ON FUNCTION ferry.park(uuid, uuid, bigint, int, bigint) IS 'Notes until when a parked change-set waits';

-- One that goes on waiting, for something else. What waited behind another (DEPENDS) waits for a row
-- from now on; else it has waited for a part of its time. What waits behind it waits as long.
CREATE FUNCTION ferry.park_on(tenant uuid, device uuid, of_number bigint, child int, this_tx bigint, with_code int, told text) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE ferry.settled s SET tx = this_tx, code = with_code, sentence = told
    WHERE s.tenant_id = tenant AND s.device_id = device AND s.number = of_number;
    UPDATE ferry.rejected r SET code = with_code, sentence = told, retry_at = now(), waits_number = NULL,
        parked_until = CASE WHEN r.waits_number IS NULL THEN r.parked_until
                       ELSE now() + (SELECT t.park_for FROM ferry.tracked t WHERE t.tbl = child) END
    WHERE r.tenant_id = tenant AND r.device_id = device AND r.number = of_number;
    WITH RECURSIVE chain AS (
        SELECT r.number, r.parked_until FROM ferry.rejected r
        WHERE r.tenant_id = tenant AND r.device_id = device AND r.number = of_number
        UNION SELECT r.number, b.parked_until FROM chain b JOIN ferry.rejected r
            ON r.tenant_id = tenant AND r.device_id = device AND r.waits_number = b.number AND r.parked_until IS NOT NULL)
    UPDATE ferry.rejected r SET parked_until = b.parked_until FROM chain b
    WHERE r.tenant_id = tenant AND r.device_id = device AND r.number = b.number AND r.parked_until < b.parked_until
$$;
COMMENT ON FUNCTION ferry.park_on(uuid, uuid, bigint, int, bigint, int, text) IS
    'A parked change-set waits for something else now; its device is told with this transaction';

-- Those that have what they wait for, or have waited long enough; each hub that asks takes some. One behind
-- another expires with that, or begins to wait for rows of its own: nobody has waited for these yet.
CREATE FUNCTION ferry.parked_due(tenant uuid, most int) RETURNS TABLE (device_id uuid, number bigint, expired bool, body bytea, staging bigint)
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE ferry.rejected r SET retry_at = now() + interval '30 seconds'
    FROM (SELECT p.device_id, p.number FROM ferry.rejected p
          WHERE p.tenant_id = tenant AND p.parked_until IS NOT NULL AND p.retry_at <= now()
            AND (p.parked_until <= now() OR NOT EXISTS (
                 SELECT FROM ferry.parked_wait w WHERE w.tenant_id = tenant AND w.device_id = p.device_id AND w.number = p.number
                 AND NOT EXISTS (SELECT FROM ferry.version v WHERE v.tenant_id IN (tenant, ferry.nobody()) AND v.tbl = w.tbl
                                 AND v.key = w.key AND NOT v.deleted))
                 AND NOT EXISTS (SELECT FROM ferry.rejected o WHERE o.tenant_id = tenant AND o.device_id = p.device_id
                                 AND o.number = p.waits_number AND o.parked_until IS NOT NULL))
          ORDER BY p.device_id, p.number LIMIT most FOR UPDATE SKIP LOCKED) d
    WHERE r.tenant_id = tenant AND r.device_id = d.device_id AND r.number = d.number
    RETURNING r.device_id, r.number, r.parked_until <= now() AND r.waits_number IS NULL, r.body, r.staging
$$;
COMMENT ON FUNCTION ferry.parked_due(uuid, int) IS 'Parked change-sets that may be merged now; asked for again no sooner than in half a minute';

-- Whom a hub asks about though none of their devices is connected: some of them, in turns. A
-- tenant whose devices are not let in has its changes not merged either.
CREATE FUNCTION ferry.parked_tenants(of_set uuid) RETURNS SETOF uuid
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
AS $$
    SELECT p.tenant_id FROM (SELECT DISTINCT r.tenant_id FROM ferry.rejected r WHERE r.parked_until IS NOT NULL) p
    LEFT JOIN ferry.tenancy t ON t.tenant_id = p.tenant_id
    WHERE t.shut IS NULL AND t.held IS NULL
      AND CASE WHEN of_set = ferry.nobody() THEN t.own_schema IS NOT TRUE ELSE p.tenant_id = of_set END
    ORDER BY random() LIMIT 100
$$;
COMMENT ON FUNCTION ferry.parked_tenants(uuid) IS 'Tenants of a set of schemas (nobody: the shared one) that have parked change-sets';
REVOKE EXECUTE ON FUNCTION ferry.parked_tenants(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.parked_tenants(uuid) TO ferry_hub;

-- In the home database: a place that is not open is looked at now and then, if something is parked there.
CREATE TABLE ferry.parked_place (
    tenant_id uuid PRIMARY KEY REFERENCES ferry.placement ON DELETE CASCADE,
    looked_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ferry.parked_place IS 'Tenants with a place of their own of which some have parked change-sets there';
COMMENT ON COLUMN ferry.parked_place.looked_at IS 'When a hub was told to look there last';

CREATE FUNCTION ferry.note_parked_place(place_conninfo text, of_set uuid, is_there bool) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    here uuid[] := ARRAY(SELECT t.tenant_id FROM ferry.tenancy t WHERE t.conninfo = place_conninfo
                         AND CASE WHEN of_set = ferry.nobody() THEN NOT t.own_schema ELSE t.tenant_id = of_set END
                         ORDER BY t.tenant_id);
BEGIN
    IF NOT is_there THEN
        DELETE FROM ferry.parked_place p WHERE p.tenant_id = ANY (here);
    ELSIF NOT EXISTS (SELECT FROM ferry.parked_place p WHERE p.tenant_id = ANY (here)) THEN
        INSERT INTO ferry.parked_place (tenant_id) VALUES (here[1]) ON CONFLICT DO NOTHING;
    END IF;
END $$;
COMMENT ON FUNCTION ferry.note_parked_place(text, uuid, bool) IS 'Notes whether something is parked in a place, under the first of its tenants';

-- A tenant whose devices are not let in keeps its turn until they are.
CREATE FUNCTION ferry.parked_places(most int) RETURNS SETOF uuid
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE ferry.parked_place p SET looked_at = now()
    FROM (SELECT o.tenant_id FROM ferry.parked_place o JOIN ferry.tenancy t ON t.tenant_id = o.tenant_id
          WHERE o.looked_at < now() - interval '10 minutes' AND t.shut IS NULL
          ORDER BY o.looked_at LIMIT most FOR UPDATE OF o SKIP LOCKED) d
    WHERE p.tenant_id = d.tenant_id
    RETURNING p.tenant_id
$$;
COMMENT ON FUNCTION ferry.parked_places(int) IS 'Tenants in whose places something is parked, and which nobody looked at for ten minutes';
REVOKE EXECUTE ON FUNCTION ferry.note_parked_place(text, uuid, bool), ferry.parked_places(int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.note_parked_place(text, uuid, bool), ferry.parked_places(int) TO ferry_hub;

-- ---------------------------------------------------------------- deletions and updates

ALTER TABLE ferry.tracked ADD COLUMN on_delete text NOT NULL DEFAULT 'delete_wins' CHECK (on_delete IN ('delete_wins', 'update_wins'));
COMMENT ON COLUMN ferry.tracked.on_delete IS 'Which of a deletion and an update stands, neither of which had seen the other';

-- An update can only put back what was kept.
CREATE TABLE ferry.last_row (
    tenant_id uuid NOT NULL,
    tbl       int NOT NULL,
    key       uuid NOT NULL,
    row       jsonb NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, tbl, key)
);
CREATE INDEX last_row_at_ix ON ferry.last_row (tenant_id, tbl, at);
SELECT ferry.isolate('ferry.last_row');
COMMENT ON TABLE ferry.last_row IS 'Deleted rows of tables where an update wins, as they were, with columns that never leave the hub; for 90 days';

-- Beside each deletion. What is older than any edit that may still come goes on the way.
CREATE FUNCTION ferry.keep_last() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
AS $$
DECLARE
    t ferry.tracked;
BEGIN
    SELECT * INTO t FROM ferry.tracked o WHERE o.relid = TG_RELID;
    INSERT INTO ferry.last_row AS l (tenant_id, tbl, key, row)
    SELECT (x.j ->> t.tenant_col)::uuid, t.tbl, (x.j ->> t.key_col)::uuid, x.j FROM (SELECT to_jsonb(g) AS j FROM gone g) x
    ON CONFLICT (tenant_id, tbl, key) DO UPDATE SET row = excluded.row, at = excluded.at;
    DELETE FROM ferry.last_row l USING (SELECT DISTINCT (to_jsonb(g) ->> t.tenant_col)::uuid AS id FROM gone g) x
    WHERE l.tenant_id = x.id AND l.tbl = t.tbl AND l.at < now() - interval '90 days';
    RETURN NULL;
END $$;

-- Deleted rows without the columns that never leave the hub.
CREATE FUNCTION ferry.last_rows(tenant uuid, of_tbl int, keys uuid[]) RETURNS TABLE (key uuid, image jsonb)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT l.key, l.row - t.excluded FROM ferry.last_row l JOIN ferry.tracked t ON t.tbl = l.tbl
    WHERE l.tenant_id = tenant AND l.tbl = of_tbl AND l.key = ANY (keys)
$$;
COMMENT ON FUNCTION ferry.last_rows(uuid, int, uuid[]) IS 'Deleted rows as they were, of a table where an update wins';

-- The rows' cells are the hub's, and older than any edit that had not seen them.
CREATE FUNCTION ferry.revive(tenant uuid, of_tbl int, keys uuid[], this_tx bigint, oldest bigint) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
AS $$
DECLARE
    t ferry.tracked;
    cols text;
BEGIN
    SELECT * INTO t FROM ferry.tracked o WHERE o.tbl = of_tbl;
    SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) INTO cols FROM pg_attribute a
    WHERE a.attrelid = t.relid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '';
    EXECUTE format('INSERT INTO %1$s (%2$s) SELECT %2$s FROM (SELECT (jsonb_populate_record(NULL::%1$s, l.row)).* FROM ferry.last_row l '
                   'WHERE l.tenant_id = $1 AND l.tbl = %3$s AND l.key = ANY ($2)) r', t.relid, cols, of_tbl)
        USING tenant, keys;
    INSERT INTO ferry.stamp (id, tx, tenant_id, device_id, number, at) VALUES (oldest, this_tx, tenant, NULL, 0, 0) ON CONFLICT DO NOTHING;
    EXECUTE ferry.row_sql(of_tbl, format('INSERT INTO ferry.declared (tx, tbl, key, stamp, nums, hashes) '
        'SELECT $3, %s, s.key, $4, $5, s.h FROM (%%s AND r.%I = ANY ($1)) s', of_tbl, t.key_col))
        USING keys, tenant, this_tx, oldest, ARRAY(SELECT c.num FROM ferry.tracked_column c WHERE c.tbl = of_tbl ORDER BY c.num);
    DELETE FROM ferry.last_row l WHERE l.tenant_id = tenant AND l.tbl = of_tbl AND l.key = ANY (keys);
END $$;
COMMENT ON FUNCTION ferry.revive(uuid, int, uuid[], bigint, bigint) IS 'Puts deleted rows back as they were, for an update that wins';

-- ---------------------------------------------------------------- setting them

CREATE FUNCTION ferry.set_row_policy(of_tbl int, deletion text, missing text, wait interval) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM ferry.need_owner((SELECT t.relid FROM ferry.tracked t WHERE t.tbl = of_tbl));
    UPDATE ferry.tracked t SET on_delete = coalesce(deletion, t.on_delete), on_missing_parent = coalesce(missing, t.on_missing_parent),
        park_for = coalesce(wait, t.park_for)
    WHERE t.tbl = of_tbl;
    IF deletion = 'delete_wins' THEN
        DELETE FROM ferry.last_row l WHERE l.tbl = of_tbl;
    END IF;
END $$;

CREATE FUNCTION ferry.row_policy(tab regclass, on_delete text DEFAULT NULL, on_missing_parent text DEFAULT NULL,
                                 park_for interval DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $$
DECLARE
    t ferry.tracked := ferry.need_tracked(tab);
BEGIN
    IF on_missing_parent NOT IN ('reject', 'park') THEN
        RAISE EXCEPTION '"%" is nothing to do about a missing parent', on_missing_parent
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Write reject or park.';
    ELSIF on_delete NOT IN ('delete_wins', 'update_wins') THEN
        RAISE EXCEPTION '"%" is nothing to do about a deletion', on_delete
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Write delete_wins or update_wins.';
    ELSIF park_for <= interval '0' THEN
        RAISE EXCEPTION 'what is parked waits for some time: %', park_for USING ERRCODE = 'invalid_parameter_value';
    ELSIF on_delete = 'update_wins' AND (SELECT c.relkind FROM pg_class c WHERE c.oid = tab) <> 'r' THEN
        RAISE EXCEPTION '% is partitioned, and its deleted rows are not kept', tab USING ERRCODE = 'wrong_object_type';
    END IF;
    IF on_delete IS NOT NULL THEN
        EXECUTE format('DROP TRIGGER IF EXISTS ferry_last ON %s', tab);
    END IF;
    IF on_delete = 'update_wins' THEN
        EXECUTE format('CREATE TRIGGER ferry_last AFTER DELETE ON %s REFERENCING OLD TABLE AS gone '
                       'FOR EACH STATEMENT EXECUTE FUNCTION ferry.keep_last()', tab);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER ferry_last', tab);
        EXECUTE format('GRANT INSERT ON %s TO ferry_engine', tab);
    END IF;
    PERFORM ferry.set_row_policy(t.tbl, on_delete, on_missing_parent, park_for);
END $$;
COMMENT ON FUNCTION ferry.row_policy(regclass, text, text, interval) IS
    'What stands of a deletion and an update (delete_wins, update_wins), what becomes of a device''s rows whose parents are missing (reject, park), and how long they wait; NULL: as it was';

REVOKE EXECUTE ON FUNCTION ferry.set_row_policy(int, text, text, interval), ferry.row_policy(regclass, text, text, interval),
    ferry.note_waits(uuid, uuid, bigint, int[], uuid[], int[], uuid[]), ferry.count_waits(uuid, uuid, bigint),
    ferry.park(uuid, uuid, bigint, int, bigint), ferry.park_on(uuid, uuid, bigint, int, bigint, int, text), ferry.parked_due(uuid, int),
    ferry.last_rows(uuid, int, uuid[]), ferry.revive(uuid, int, uuid[], bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.set_row_policy(int, text, text, interval), ferry.row_policy(regclass, text, text, interval) TO ferry_owner;
GRANT EXECUTE ON FUNCTION ferry.note_waits(uuid, uuid, bigint, int[], uuid[], int[], uuid[]), ferry.count_waits(uuid, uuid, bigint),
    ferry.park(uuid, uuid, bigint, int, bigint), ferry.park_on(uuid, uuid, bigint, int, bigint, int, text), ferry.parked_due(uuid, int),
    ferry.last_rows(uuid, int, uuid[]), ferry.revive(uuid, int, uuid[], bigint, bigint) TO ferry_hub;
REVOKE EXECUTE ON FUNCTION ferry.set_validator(int, regproc), ferry.validate(regclass, regproc),
    ferry.ask_validator(ferry.tracked, uuid, text, uuid[], uuid[]),
    ferry.check_policies(uuid, int, text, uuid[], uuid[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.set_validator(int, regproc), ferry.validate(regclass, regproc) TO ferry_owner;
GRANT EXECUTE ON FUNCTION ferry.check_policies(uuid, int, text, uuid[], uuid[]) TO ferry_hub;

RESET ROLE;
