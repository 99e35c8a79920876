-- Lives: copies of one device are told apart.
--
-- With each contact a device proposes a random mark, and the hub keeps the one it took last.
-- A copy of the device's files, or a device that was restored from an older copy, comes with
-- a mark of the past and is turned away with its data kept. How many lives there were tells
-- a device of the past from a hub that was restored: that one knows fewer than the device.

SET LOCAL ROLE ferry_engine;

ALTER TABLE ferry.device
    ADD COLUMN life bigint NOT NULL DEFAULT 0,
    ADD COLUMN life_mark bigint,
    ADD COLUMN adopt_mark bigint,
    ADD COLUMN quarantined_at timestamptz,
    ADD COLUMN refused_incarnation bytea,
    ADD COLUMN refused_mark bigint,
    ADD COLUMN apart bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN ferry.device.life IS 'How many contacts began, as the device counts them, too';
COMMENT ON COLUMN ferry.device.life_mark IS 'What the device said with the last of them; NULL: whoever comes next is taken';
COMMENT ON COLUMN ferry.device.adopt_mark IS
    'A copy with this mark was released: it is told so until it has understood';
COMMENT ON COLUMN ferry.device.quarantined_at IS 'When a copy with a mark of the past was turned away last; NULL: none, or released';
COMMENT ON COLUMN ferry.device.apart IS
    'Numbers up to here may have been used by another copy than the one that is let in: its edits have not seen them';

-- marks: the one that the device was taken with last, then those it has proposed since.
-- last: the highest number that this copy may have pushed.
CREATE FUNCTION ferry.greet(print bytea, of_incarnation bytea, of_life bigint, marks bigint[], next_mark bigint, last bigint)
RETURNS TABLE (clone bool, adopted bool, life bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    d ferry.device;
    highest bigint;
BEGIN
    SELECT * INTO d FROM ferry.device o WHERE o.fingerprint = print AND o.status = 'active' FOR UPDATE;
    IF d.id IS NULL THEN
        RETURN;
    END IF;
    IF d.incarnation <> of_incarnation
       OR next_mark IS NOT NULL AND NOT (d.life_mark IS NULL OR d.life_mark = ANY (marks) OR of_life > d.life) THEN
        UPDATE ferry.device o SET quarantined_at = clock_timestamp(), refused_incarnation = of_incarnation, refused_mark = marks[1]
        WHERE o.id = d.id;
        RETURN QUERY SELECT true, false, d.life;
        RETURN;
    END IF;
    IF next_mark IS NULL THEN -- a file in the place of a link, or an agent without lives
        UPDATE ferry.device o SET last_seen = now(), incarnation = coalesce(o.incarnation, of_incarnation) WHERE o.id = d.id;
        RETURN QUERY SELECT false, false, 0::bigint;
        RETURN;
    END IF;
    SELECT greatest(d.settled, max(n)) INTO highest FROM unnest(d.settled_above) n;
    UPDATE ferry.device o SET last_seen = now(), incarnation = coalesce(o.incarnation, of_incarnation),
        apart = CASE WHEN o.adopt_mark = marks[1] OR last < highest THEN highest ELSE o.apart END,
        life = greatest(o.life, of_life) + 1, life_mark = next_mark,
        adopt_mark = CASE WHEN o.adopt_mark = marks[1] THEN o.adopt_mark END
    WHERE o.id = d.id
    RETURNING false, o.adopt_mark IS NOT NULL, o.life INTO clone, adopted, life;
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION ferry.greet(bytea, bytea, bigint, bigint[], bigint, bigint) IS
    'Begins a life of the device with this certificate, or finds that it is a copy; no row: not active';

-- Lets the copy in that was turned away last; whichever was let in before is turned away from
-- now on. No row: none was turned away.
CREATE FUNCTION ferry.release_device(device uuid, dry_run bool DEFAULT false)
RETURNS TABLE (name text, quarantined_at timestamptz)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
    d ferry.device;
BEGIN
    SELECT * INTO d FROM ferry.device o WHERE o.id = device AND o.quarantined_at IS NOT NULL FOR UPDATE;
    IF d.id IS NULL THEN
        RETURN;
    END IF;
    IF NOT dry_run THEN
        UPDATE ferry.device o SET incarnation = d.refused_incarnation, life_mark = nullif(d.refused_mark, 0),
            adopt_mark = coalesce(d.refused_mark, 0), quarantined_at = NULL, refused_incarnation = NULL, refused_mark = NULL
        WHERE o.id = device;
    END IF;
    RETURN QUERY SELECT d.name, d.quarantined_at;
END $$;
COMMENT ON FUNCTION ferry.release_device(uuid, bool) IS
    'The copy of a device that was turned away last is the device from now on';

REVOKE EXECUTE ON FUNCTION ferry.greet(bytea, bytea, bigint, bigint[], bigint, bigint), ferry.release_device(uuid, bool) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.greet(bytea, bytea, bigint, bigint[], bigint, bigint) TO ferry_hub;
GRANT EXECUTE ON FUNCTION ferry.release_device(uuid, bool) TO ferry_owner;

RESET ROLE;
