-- The policy "approval": what a device writes into such a column waits here until somebody
-- approves it; then it is written with who asked for it as its author.
--
--   pending -> approved    written
--           -> stale       approved, but the column had changed since: the hub's value stands
--           -> refused     by whoever decides
--           -> withdrawn   by who asked
--           -> replaced    the same device asked for another value meanwhile
--
-- Devices see the requests for the rows that they see: a request is in all scopes of its row, and
-- follows it (0004). They decide by writing status and note. A request that was decided never
-- changes again.

SET LOCAL ROLE ferry_engine;

CREATE TABLE ferry.approval (
    tenant_id        uuid NOT NULL,
    id               uuid NOT NULL DEFAULT gen_random_uuid(),
    tbl              int NOT NULL,
    num              int NOT NULL,
    scope            text NOT NULL,
    subject_table    text NOT NULL,
    subject_id       uuid NOT NULL,
    subject_column   text NOT NULL,
    old_value        text,
    new_value        text,
    met_value        text,
    status           text NOT NULL DEFAULT 'pending'
                     CHECK (status IN ('pending', 'approved', 'stale', 'refused', 'withdrawn', 'replaced')),
    requested_by     uuid,
    requested_device uuid NOT NULL,
    change_set       bigint NOT NULL,
    requested_at     timestamptz NOT NULL,
    decided_by       uuid,
    decided_device   uuid,
    decided_at       timestamptz,
    note             text,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT approval_decided_ck CHECK ((status = 'pending') = (decided_at IS NULL))
);
CREATE INDEX approval_subject_ix ON ferry.approval (tenant_id, tbl, subject_id);
SELECT ferry.isolate('ferry.approval');
COMMENT ON TABLE ferry.approval IS 'Values that devices wrote into columns with the policy approval: they wait here to be approved';
COMMENT ON COLUMN ferry.approval.scope IS 'The first scope that the row was in when it was asked; the request is where the row is now';
COMMENT ON COLUMN ferry.approval.subject_table IS 'The row''s table as devices name it';
COMMENT ON COLUMN ferry.approval.old_value IS 'What stood at the hub when it was asked, as PostgreSQL prints it';
COMMENT ON COLUMN ferry.approval.met_value IS 'stale: what stood when it was approved';
COMMENT ON COLUMN ferry.approval.requested_by IS 'The user of the device that asked; NULL: it has none';
COMMENT ON COLUMN ferry.approval.change_set IS 'The number of the change-set that asked';
COMMENT ON COLUMN ferry.approval.decided_device IS 'NULL: decided by SQL at the hub';
GRANT SELECT ON ferry.approval TO ferry_hub;

-- One table of requests for all sets of schemas.
CREATE FUNCTION ferry.is_shared(tab oid) RETURNS bool
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    RETURN tab = 'ferry.approval'::regclass;

DO $$
DECLARE
    was text := pg_get_functiondef('ferry.schema_hash(uuid)'::regprocedure);
    now text := replace(was, 'WHERE o.tenant_id IS NOT DISTINCT FROM', 'WHERE ferry.is_shared(o.relid) OR o.tenant_id IS NOT DISTINCT FROM');
BEGIN
    IF now = was THEN
        RAISE EXCEPTION 'ferry.schema_hash is not as this migration expects it';
    END IF;
    EXECUTE now;
END $$;

-- ---------------------------------------------------------------- where requests are

-- Requests about a table whose column asks no more stay what they are.
CREATE OR REPLACE FUNCTION ferry.is_asked(of_tbl int) RETURNS bool
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
    RETURN EXISTS (SELECT FROM ferry.tracked_column c WHERE c.tbl = of_tbl AND c.policy = 'approval')
        OR EXISTS (SELECT FROM ferry.approval a WHERE a.tbl = of_tbl);

-- For the finish function of a table some of whose rows came, went or are in other scopes now:
-- the requests about them are finished once more, after them. Were there any?
CREATE FUNCTION ferry.note_requests(t bigint, tenant uuid, of_tbl int, keys uuid[]) RETURNS bool
    LANGUAGE plpgsql
AS $$
BEGIN
    INSERT INTO ferry.dirty (tx, xid, tbl, arms, tenant_id, keys)
    SELECT t, pg_current_xact_id(), r.tbl, 0, tenant, array_agg(a.id)
    FROM ferry.approval a JOIN ferry.tracked r ON r.relid = 'ferry.approval'::regclass
    WHERE a.tenant_id = tenant AND a.tbl = of_tbl AND a.subject_id = ANY (keys)
    GROUP BY r.tbl;
    RETURN FOUND;
END $$;

-- All about a table's rows, whose scopes have other names now, or which devices no longer get.
CREATE FUNCTION ferry.note_requests(of_tbl int) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ferry.note(r.tbl, a.tenant_id, array_agg(a.id))
    FROM ferry.approval a JOIN ferry.tracked r ON r.relid = 'ferry.approval'::regclass
    WHERE a.tbl = of_tbl GROUP BY r.tbl, a.tenant_id
$$;

-- The scopes that a request's row has by itself: who decides needs the permission in one of them.
CREATE FUNCTION ferry.scopes_of(request ferry.approval) RETURNS text[]
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT v.scope || v.also[:coalesce(v.own, cardinality(v.also))] FROM ferry.version v
                     WHERE v.tenant_id = request.tenant_id AND v.tbl = request.tbl AND v.key = request.subject_id), ARRAY[request.scope])
$$;

-- ---------------------------------------------------------------- the policy

CREATE OR REPLACE VIEW ferry.known_permission AS
    SELECT t.read_permission AS permission FROM ferry.tracked t WHERE t.read_permission IS NOT NULL
    UNION SELECT r.permission FROM ferry.permission_rule r
    UNION SELECT c.policy_options ->> 'permission' FROM ferry.tracked_column c WHERE c.policy = 'approval';
CREATE CONSTRAINT TRIGGER rights_approval AFTER UPDATE OF policy, policy_options ON ferry.tracked_column
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (OLD.policy = 'approval' OR NEW.policy = 'approval')
    EXECUTE FUNCTION ferry.on_rules();

CREATE FUNCTION ferry.approval_misfit(c ferry.tracked_column, options jsonb) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN coalesce(options ->> 'permission', '') !~ '^[a-z][a-z0-9_]*(\.[a-z0-9_]+)+$' OR options - 'permission' <> '{}'
            THEN 'its options name who may approve, as {"permission": "deals.approve"}'
        WHEN EXISTS (SELECT FROM ferry.tracked t WHERE t.tbl = c.tbl AND (t.key_col = c.name OR ferry.is_shared(t.relid)))
            THEN 'a key and a request are no matter of approval'
    END
$$;
COMMENT ON FUNCTION ferry.approval_misfit(ferry.tracked_column, jsonb) IS 'What is wrong with an approval''s options; NULL: nothing';

CREATE FUNCTION ferry.share_approvals() RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$ UPDATE ferry.tracked SET tenant_id = NULL WHERE relid = 'ferry.approval'::regclass AND tenant_id IS NOT NULL $$;

-- Whatever moves rows of the table takes their requests along.
CREATE FUNCTION ferry.take_requests(tab regclass) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM ferry.need_owner(tab);
    PERFORM ferry.generate(t.tbl) FROM ferry.tracked t WHERE t.relid = tab;
END $$;

-- From the first column with this policy on, devices have the table of requests. The engine
-- writes what was approved.
CREATE FUNCTION ferry.open_approvals(tab regclass, col text) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = error
AS $$
DECLARE
    c text;
BEGIN
    EXECUTE format('GRANT UPDATE (%I) ON %s TO ferry_engine', col, tab);
    PERFORM ferry.take_requests(tab);
    IF EXISTS (SELECT FROM ferry.tracked t WHERE t.relid = 'ferry.approval'::regclass) THEN
        RETURN;
    END IF;
    PERFORM ferry.track('ferry.approval', 'row:scope', true, 'approval_requests', '{tbl,num}');
    PERFORM ferry.share_approvals();
    FOR c IN SELECT o.name FROM ferry.tracked_column o JOIN ferry.tracked t ON t.tbl = o.tbl
             WHERE t.relid = 'ferry.approval'::regclass AND o.name NOT IN ('id', 'tenant_id', 'status', 'note') LOOP
        PERFORM ferry.policy('ferry.approval', c, 'hub');
    END LOOP;
    PERFORM ferry.policy('ferry.approval', 'status', 'guard', '{"pending": ["approved", "refused", "withdrawn"]}');
END $$;

-- ---------------------------------------------------------------- asking

-- A value as the database prints it, the same for both sides of a comparison.
CREATE FUNCTION ferry.stored_text(c ferry.tracked_column, v jsonb) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
AS $$
DECLARE
    printed text;
BEGIN
    EXECUTE format('SELECT (%s)::%s::text', ferry.kept_value(c.kind, c.in_expr, v), c.pg_type) INTO printed;
    RETURN printed;
END $$;

-- The row's value there and its scope; no scope: there is no such row.
CREATE FUNCTION ferry.subject(of_tenant uuid, of_tbl int, of_num int, of_key uuid, hold bool, OUT printed text, OUT scope text)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
AS $$
DECLARE
    t ferry.tracked;
    c ferry.tracked_column;
    s record;
BEGIN
    SELECT * INTO t FROM ferry.tracked o WHERE o.tbl = of_tbl;
    SELECT * INTO c FROM ferry.tracked_column o WHERE o.tbl = of_tbl AND o.num = of_num;
    IF c.num IS NOT NULL THEN
        SELECT * INTO s FROM ferry.scope_sql(of_tbl);
        EXECUTE format('SELECT r.%I::text, %s FROM %s r%s WHERE r.%I = $2 AND r.%I = $1%s', c.name, s.expr, t.relid, s.joins,
                       t.tenant_col, t.key_col, CASE WHEN hold THEN ' FOR NO KEY UPDATE OF r' ELSE '' END)
            INTO printed, scope USING of_key, of_tenant;
    END IF;
END $$;

-- One value; the permission to write the column is needed to ask, too.
CREATE FUNCTION ferry.ask_approval(of_tenant uuid, of_device uuid, of_number bigint, of_tbl int, of_key uuid, of_num int, at bigint, v jsonb)
RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked;
    c ferry.tracked_column;
    s record;
    wanted text;
BEGIN
    SELECT * INTO t FROM ferry.tracked o WHERE o.tbl = of_tbl;
    SELECT * INTO c FROM ferry.tracked_column o WHERE o.tbl = of_tbl AND o.num = of_num;
    IF t.guarded THEN
        PERFORM ferry.check_rights(of_tenant, of_tbl, 'update', ARRAY[of_num], ARRAY[of_key], ARRAY[of_device]);
    END IF;
    SELECT * INTO s FROM ferry.subject(of_tenant, of_tbl, of_num, of_key, false);
    wanted := ferry.stored_text(c, v);
    UPDATE ferry.approval a SET status = 'replaced', decided_at = now(), decided_device = of_device
    WHERE a.tenant_id = of_tenant AND a.tbl = of_tbl AND a.subject_id = of_key AND a.num = of_num AND a.status = 'pending'
      AND a.requested_device = of_device;
    IF s.scope IS NOT NULL AND wanted IS DISTINCT FROM s.printed THEN
        INSERT INTO ferry.approval (tenant_id, tbl, num, scope, subject_table, subject_id, subject_column, old_value, new_value,
                                    requested_by, requested_device, change_set, requested_at)
        VALUES (of_tenant, of_tbl, of_num, s.scope, t.replica_name, of_key, c.name, s.printed, wanted,
                (SELECT d.user_id FROM ferry.device d WHERE d.id = of_device), of_device, of_number,
                timestamptz 'epoch' + at * interval '1 microsecond');
    END IF;
END $$;

CREATE FUNCTION ferry.ask_approvals(of_tenant uuid, of_device uuid, of_number bigint, tbls int[], keys uuid[], nums int[], at bigint[], vals text[])
RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT ferry.ask_approval(of_tenant, of_device, of_number, u.tbl, u.key, u.num, u.at, u.v::jsonb)
    FROM unnest(tbls, keys, nums, at, vals) AS u(tbl, key, num, at, v)
$$;
COMMENT ON FUNCTION ferry.ask_approvals(uuid, uuid, bigint, int[], uuid[], int[], bigint[], text[]) IS
    'What a device wrote into columns with the policy approval, as requests';

-- ---------------------------------------------------------------- deciding

-- Who writes this request in a merge; NULL: nobody does.
CREATE FUNCTION ferry.deciding_device(request ferry.approval) RETURNS uuid
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT s.device_id FROM ferry.declared d JOIN ferry.stamp s ON s.id = d.stamp
    WHERE d.tx = ferry.running_tx(pg_current_xact_id()) AND d.key = request.id
      AND d.tbl = (SELECT t.tbl FROM ferry.tracked t WHERE t.relid = 'ferry.approval'::regclass)
    ORDER BY d.stamp DESC LIMIT 1
$$;

-- Who asked may withdraw; who has the permission may refuse, and approve what others asked for.
CREATE FUNCTION ferry.may_decide(request ferry.approval, decision text, device uuid, by_user uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    own bool := device = request.requested_device OR by_user = request.requested_by;
    needed text := (SELECT c.policy_options ->> 'permission' FROM ferry.tracked_column c
                    WHERE c.tbl = request.tbl AND c.num = request.num AND c.policy = 'approval');
BEGIN
    IF decision = 'withdrawn' AND NOT coalesce(own, false) THEN
        RAISE EXCEPTION 'only who asked for a change may withdraw it' USING ERRCODE = 'FE314', HINT = 'Refuse it instead.';
    ELSIF decision = 'approved' AND own THEN
        RAISE EXCEPTION 'nobody approves what he asked for himself' USING ERRCODE = 'FE314';
    ELSIF decision <> 'withdrawn' AND NOT EXISTS (
          SELECT FROM ferry.held_right h
          WHERE h.device_id = device AND h.permission = needed
            AND (h.scope = '*' OR h.scope IN (SELECT ferry.root_of(x) FROM unnest(ferry.scopes_of(request)) x))) THEN
        RAISE EXCEPTION 'the permission % is missing to decide about %.%', coalesce(needed, 'to approve'), request.subject_table,
            request.subject_column USING ERRCODE = 'FE314', HINT = 'A role with this permission can be assigned to the device''s user.';
    END IF;
END $$;

-- Writes the value; its version and the audit log name who asked. The key is noted first: a
-- transaction that begins with the row's own note ends like any other (0003_capture.sql).
CREATE FUNCTION ferry.apply_approval(request ferry.approval) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET timezone = 'UTC'
    SET datestyle = 'ISO'
    SET intervalstyle = 'postgres'
    SET extra_float_digits = 1
    SET bytea_output = 'hex'
AS $$
DECLARE
    t ferry.tracked;
    c ferry.tracked_column;
    this_tx bigint := ferry.note(request.tbl, request.tenant_id, ARRAY[request.subject_id]);
    stamp bigint := nextval('ferry.surrogate_seq'::regclass);
    hash bigint;
BEGIN
    SELECT * INTO t FROM ferry.tracked o WHERE o.tbl = request.tbl;
    SELECT * INTO c FROM ferry.tracked_column o WHERE o.tbl = request.tbl AND o.num = request.num;
    IF NOT EXISTS (SELECT FROM ferry.dirty d WHERE d.tx = this_tx AND d.tbl = -1) THEN
        PERFORM ferry.note(-1, NULL, '{}');
    END IF;
    EXECUTE format('SELECT coalesce(%s, 0)', ferry.fill(c.hash_expr, format('$2::%s', c.pg_type),
                   format('pg_catalog.uuid_hash_extended($1, 0) # %s', c.num)))
        INTO hash USING request.subject_id, request.new_value;
    INSERT INTO ferry.stamp (id, tx, tenant_id, device_id, number, at)
    VALUES (stamp, this_tx, request.tenant_id, request.requested_device, request.change_set,
            (extract(epoch FROM request.requested_at) * 1000000)::bigint);
    INSERT INTO ferry.declared (tx, tbl, key, stamp, nums, hashes)
    VALUES (this_tx, request.tbl, request.subject_id, stamp, ARRAY[c.num], ARRAY[hash]);
    EXECUTE format('UPDATE %s SET %I = $3::%s WHERE %I = $1 AND %I = $2', t.relid, c.name, c.pg_type, t.tenant_col, t.key_col)
        USING request.tenant_id, request.subject_id, request.new_value;
END $$;

CREATE FUNCTION ferry.on_decision() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s record;
BEGIN
    IF OLD.status <> 'pending' THEN
        RAISE EXCEPTION 'this request is % already, since %', OLD.status, to_char(OLD.decided_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')
            USING ERRCODE = 'FE318';
    END IF;
    NEW.decided_at := clock_timestamp();
    NEW.decided_device := ferry.deciding_device(OLD);
    NEW.decided_by := coalesce((SELECT d.user_id FROM ferry.device d WHERE d.id = NEW.decided_device),
                               nullif(current_setting('app.user_id', true), '')::uuid);
    IF NEW.decided_device IS NOT NULL THEN
        PERFORM ferry.may_decide(OLD, NEW.status, NEW.decided_device, NEW.decided_by);
    END IF;
    IF NEW.status <> 'approved' THEN
        RETURN NEW;
    END IF;
    SELECT * INTO s FROM ferry.subject(OLD.tenant_id, OLD.tbl, OLD.num, OLD.subject_id, true);
    IF s.scope IS NULL OR s.printed IS DISTINCT FROM OLD.old_value AND s.printed IS DISTINCT FROM OLD.new_value THEN
        NEW.status := 'stale';
        NEW.met_value := s.printed;
    ELSIF s.printed IS DISTINCT FROM OLD.new_value THEN
        PERFORM ferry.apply_approval(OLD);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER decision BEFORE UPDATE OF status ON ferry.approval FOR EACH ROW
    WHEN (NEW.status IN ('approved', 'refused', 'withdrawn') AND NEW.status <> OLD.status)
    EXECUTE FUNCTION ferry.on_decision();

-- What was asked, and by whom, is a matter of record.
CREATE FUNCTION ferry.keep_request() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        RAISE EXCEPTION 'of a request only status and note change, and status once' USING ERRCODE = 'FE319';
    END IF;
    RAISE EXCEPTION 'requests are made by an edit of the column itself, and stay' USING ERRCODE = 'FE319';
END $$;
CREATE TRIGGER by_hub BEFORE INSERT OR DELETE ON ferry.approval FOR EACH ROW WHEN (current_user = 'ferry_hub')
    EXECUTE FUNCTION ferry.keep_request();
CREATE TRIGGER immutable BEFORE UPDATE ON ferry.approval FOR EACH ROW
    WHEN ((OLD.tenant_id, OLD.id, OLD.tbl, OLD.num, OLD.scope, OLD.subject_table, OLD.subject_id, OLD.subject_column, OLD.old_value,
           OLD.new_value, OLD.requested_by, OLD.requested_device, OLD.change_set, OLD.requested_at)
          IS DISTINCT FROM
          (NEW.tenant_id, NEW.id, NEW.tbl, NEW.num, NEW.scope, NEW.subject_table, NEW.subject_id, NEW.subject_column, NEW.old_value,
           NEW.new_value, NEW.requested_by, NEW.requested_device, NEW.change_set, NEW.requested_at)
          OR OLD.status <> 'pending' AND NEW.status NOT IN ('approved', 'refused', 'withdrawn') AND NEW.status <> OLD.status)
    EXECUTE FUNCTION ferry.keep_request();

-- For SQL: what became of it. Rights: those of the caller on the table.
CREATE FUNCTION ferry.decide(request uuid, decision text, note text) RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    became text;
BEGIN
    UPDATE ferry.approval a SET status = decision, note = coalesce(decide.note, a.note)
    WHERE a.tenant_id = ferry.tenant() AND a.id = request RETURNING a.status INTO became;
    IF became IS NULL THEN
        RAISE EXCEPTION 'this tenant has no request %', request USING ERRCODE = 'FE010';
    END IF;
    RETURN became;
END $$;
CREATE FUNCTION ferry.approve(request uuid, note text DEFAULT NULL) RETURNS text
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$ SELECT ferry.decide(request, 'approved', note) $$;
COMMENT ON FUNCTION ferry.approve(uuid, text) IS 'Approves a request of the session''s tenant: approved, or stale if its column has changed since';
CREATE FUNCTION ferry.refuse(request uuid, note text DEFAULT NULL) RETURNS text
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$ SELECT ferry.decide(request, 'refused', note) $$;
COMMENT ON FUNCTION ferry.refuse(uuid, text) IS 'Refuses a request of the session''s tenant';

-- A tenant that is gone: its requests, and what was kept of its rows and of what its devices wrote.
CREATE FUNCTION ferry.forget_kept(tenant uuid) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    DELETE FROM ferry.approval a WHERE a.tenant_id = tenant;
    DELETE FROM ferry.last_row l WHERE l.tenant_id = tenant;
    DELETE FROM ferry.rejected r WHERE r.tenant_id = tenant;
    DELETE FROM ferry.parked_wait w WHERE w.tenant_id = tenant;
    DELETE FROM ferry.stage s WHERE s.tenant_id = tenant;
    DELETE FROM ferry.kept k WHERE k.tenant_id = tenant
$$;
COMMENT ON FUNCTION ferry.forget_kept(uuid) IS 'Forgets the requests, kept rows and refused, parked and staged change-sets of a tenant';

REVOKE EXECUTE ON FUNCTION ferry.note_requests(bigint, uuid, int, uuid[]), ferry.note_requests(int), ferry.scopes_of(ferry.approval),
    ferry.take_requests(regclass) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.take_requests(regclass) TO ferry_owner;
REVOKE EXECUTE ON FUNCTION ferry.approval_misfit(ferry.tracked_column, jsonb), ferry.share_approvals(), ferry.open_approvals(regclass, text),
    ferry.stored_text(ferry.tracked_column, jsonb), ferry.subject(uuid, int, int, uuid, bool),
    ferry.ask_approval(uuid, uuid, bigint, int, uuid, int, bigint, jsonb),
    ferry.ask_approvals(uuid, uuid, bigint, int[], uuid[], int[], bigint[], text[]),
    ferry.deciding_device(ferry.approval), ferry.may_decide(ferry.approval, text, uuid, uuid), ferry.apply_approval(ferry.approval), ferry.forget_kept(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.ask_approvals(uuid, uuid, bigint, int[], uuid[], int[], bigint[], text[]) TO ferry_hub;
GRANT EXECUTE ON FUNCTION ferry.approval_misfit(ferry.tracked_column, jsonb), ferry.share_approvals(),
    ferry.open_approvals(regclass, text), ferry.forget_kept(uuid) TO ferry_owner;

-- Whoever may track tables may track this one.
RESET ROLE;
ALTER TABLE ferry.approval OWNER TO ferry_owner;
GRANT ALL ON ferry.approval TO ferry_engine;
