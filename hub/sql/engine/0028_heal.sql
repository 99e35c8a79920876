-- Healing: a database that was restored from an older backup, and what its devices know of
-- the time since.
--
-- Marks tell histories apart: a bookmark whose position has another mark here, or none, was
-- given out by a history that this database has lost. Positions and marks are kept for ever
-- (a row in ferry.commit each), so that the newest common one is always found.

SET LOCAL ROLE ferry_engine;

ALTER TABLE ferry.stamp ADD COLUMN old_position bigint;
COMMENT ON COLUMN ferry.stamp.old_position IS
    'Of a replay: where it had been settled in a history that this database has lost';
ALTER TABLE ferry.stamp ADD COLUMN last_position bigint;
COMMENT ON COLUMN ferry.stamp.last_position IS
    'Of a replay that had come back before, and was lost again: where it was settled last';

CREATE TABLE ferry.rewind (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    found_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    found_by     text NOT NULL CHECK (found_by IN ('device', 'witness')),
    tenant_id    uuid NOT NULL,
    device_id    uuid,
    lost         bigint NOT NULL,
    common       bigint NOT NULL,
    old_epoch    uuid NOT NULL,
    was_epoch    uuid NOT NULL,
    epoch        uuid NOT NULL
);
CREATE INDEX rewind_device_ix ON ferry.rewind (device_id, id);
COMMENT ON TABLE ferry.rewind IS
    'That this database went back in time, as somebody found it out: a device by its bookmark, or the witness file';
COMMENT ON COLUMN ferry.rewind.lost IS 'A position that the lost history had; later ones may have been lost, too';
COMMENT ON COLUMN ferry.rewind.old_epoch IS 'Of who found it out: one that this database may never have had';
COMMENT ON COLUMN ferry.rewind.was_epoch IS 'That it had until then';
COMMENT ON COLUMN ferry.rewind.common IS 'The newest position that both are known to have; 0: none is known';

-- The first to find a rewind out makes a new epoch: who names the present one, or one that this
-- history has never had, since it was made after the backup. Others come late.
-- At most one a minute: a device that lies about its bookmark costs no more than that (R19).
-- Positions go on at the present time in microseconds, which no history has reached that ran
-- before now (it would have had a million commits in each second). So a position belongs to
-- one history alone, and those of a later history are higher.
CREATE FUNCTION ferry.note_rewind(by text, tenant uuid, device uuid, of_epoch uuid, lost bigint, common bigint) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    now_epoch uuid;
    new_epoch uuid;
BEGIN
    SELECT h.epoch INTO now_epoch FROM ferry.history h FOR UPDATE;
    IF (of_epoch = now_epoch OR NOT EXISTS (SELECT FROM ferry.rewind r WHERE of_epoch IN (r.old_epoch, r.was_epoch, r.epoch)))
       AND NOT EXISTS (SELECT FROM ferry.rewind r WHERE r.epoch = now_epoch AND r.was_epoch <> r.epoch
                       AND r.found_at > clock_timestamp() - interval '1 minute') THEN
        new_epoch := gen_random_uuid();
        UPDATE ferry.history SET epoch = new_epoch, created_at = clock_timestamp();
        PERFORM ferry.skip_leases();
    END IF;
    PERFORM setval('ferry.position_seq'::regclass,
                   greatest(s.last_value + 1000000, (extract(epoch FROM clock_timestamp()) * 1000000)::bigint))
    FROM ferry.position_seq s;
    INSERT INTO ferry.rewind (found_by, tenant_id, device_id, lost, common, old_epoch, was_epoch, epoch)
    VALUES (by, tenant, device, lost, common, coalesce(of_epoch, now_epoch), now_epoch, coalesce(new_epoch, now_epoch));
    RETURN coalesce(new_epoch, now_epoch);
END $$;
COMMENT ON FUNCTION ferry.note_rewind(text, uuid, uuid, uuid, bigint, bigint) IS
    'Notes that this database went back in time; the epoch that holds from now on';

REVOKE EXECUTE ON FUNCTION ferry.note_rewind(text, uuid, uuid, uuid, bigint, bigint) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.note_rewind(text, uuid, uuid, uuid, bigint, bigint) TO ferry_hub, ferry_owner;
GRANT SELECT ON ferry.rewind TO ferry_hub, ferry_owner;

-- Rows that replays made and deleted within one transaction are noted as deleted: an edit of
-- one that comes later would wait for it for ever. No device has such a row, so the scope
-- matters to none; stamps are of the deletions.
CREATE FUNCTION ferry.bury(of_tenant uuid, of_tbl int, of_scope text, of_keys uuid[], stamps bigint[]) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO ferry.version AS v (tenant_id, tbl, key, deleted, tx, base_tx, born, scope)
    SELECT of_tenant, of_tbl, u.key, true, u.stamp, u.stamp, u.stamp, of_scope FROM unnest(of_keys, stamps) AS u(key, stamp)
    WHERE of_tenant = ferry.tenant()
    ON CONFLICT (tenant_id, tbl, key) DO UPDATE SET tx = excluded.tx WHERE v.deleted
$$;
COMMENT ON FUNCTION ferry.bury(uuid, int, text, uuid[], bigint[]) IS 'Notes rows as deleted that came and went within this transaction';
REVOKE EXECUTE ON FUNCTION ferry.bury(uuid, int, text, uuid[], bigint[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.bury(uuid, int, text, uuid[], bigint[]) TO ferry_hub;

-- ---------------------------------------------------------------- backups

CREATE TABLE ferry.backup (
    id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    begun_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    done_at  timestamptz,
    heads    jsonb NOT NULL DEFAULT '{}'
);
COMMENT ON TABLE ferry.backup IS 'Backups of this database, as ferry-hub backup-mark was told of them';
COMMENT ON COLUMN ferry.backup.heads IS 'Position of each tenant when the backup began: what it surely holds';

CREATE TABLE ferry.backed_up (
    tenant_id uuid PRIMARY KEY,
    position  bigint NOT NULL
);
COMMENT ON TABLE ferry.backed_up IS 'Up to which position a backup surely holds a tenant: devices may forget it';
GRANT SELECT ON ferry.backup, ferry.backed_up TO ferry_hub, ferry_owner;

-- Before a backup. A tenant's positions become visible in their order, so whatever snapshot
-- is taken from now on holds all of them up to these.
CREATE FUNCTION ferry.backup_begin() RETURNS ferry.backup
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO ferry.backup (heads)
    SELECT coalesce(jsonb_object_agg(t.tenant_id, h.position), '{}')
    FROM (SELECT DISTINCT c.tenant_id FROM ferry.commit c) t CROSS JOIN LATERAL ferry.head(t.tenant_id) h
    RETURNING *
$$;
COMMENT ON FUNCTION ferry.backup_begin() IS 'Notes, before a backup, what it will surely hold';

-- After it. The newest begun one counts, and no older one any more; no row: none was begun.
CREATE FUNCTION ferry.backup_done() RETURNS SETOF ferry.backup
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    done ferry.backup;
BEGIN
    UPDATE ferry.backup b SET done_at = clock_timestamp()
    WHERE b.id = (SELECT max(n.id) FROM ferry.backup n) AND b.done_at IS NULL RETURNING * INTO done;
    IF done.id IS NULL THEN
        RETURN;
    END IF;
    INSERT INTO ferry.backed_up AS u (tenant_id, position)
    SELECT h.key::uuid, h.value::bigint FROM jsonb_each_text(done.heads) h
    ON CONFLICT (tenant_id) DO UPDATE SET position = greatest(u.position, excluded.position);
    RETURN NEXT done;
END $$;
COMMENT ON FUNCTION ferry.backup_done() IS 'The backup that was begun last is complete and kept: devices may forget what it holds';

REVOKE EXECUTE ON FUNCTION ferry.backup_begin(), ferry.backup_done() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.backup_begin(), ferry.backup_done() TO ferry_owner;

RESET ROLE;
