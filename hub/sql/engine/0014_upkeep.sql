-- What the engine may forget, and when: one call for all tenants of a database.

SET LOCAL ROLE ferry_engine;

-- Changes go by age. Deletions go by age too, and not before every active device that came
-- lately has passed them: one that stayed away longer is checked in full.
CREATE FUNCTION ferry.upkeep(dry_run bool DEFAULT true, of_tenant uuid DEFAULT NULL, keep_changes interval DEFAULT '7 days',
                             keep_tombstones interval DEFAULT '90 days')
RETURNS TABLE (tenant_id uuid, what text, up_to bigint, n bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    SET row_security = off
AS $$
#variable_conflict use_column
DECLARE
    t uuid;
    head bigint;
    behind bigint;
BEGIN
    FOR t IN SELECT DISTINCT c.tenant_id FROM ferry.commit c WHERE c.tenant_id = coalesce(of_tenant, c.tenant_id) ORDER BY 1 LOOP
        tenant_id := t;
        what := 'changes';
        SELECT max(c.position) INTO head FROM ferry.commit c WHERE c.tenant_id = t AND c.at < now() - keep_changes;
        up_to := coalesce(head, 0);
        IF up_to > coalesce((SELECT h.changes FROM ferry.horizon h WHERE h.tenant_id = t), 0) THEN
            IF dry_run THEN
                SELECT count(*) INTO n FROM ferry.change x JOIN ferry.commit c ON c.tenant_id = t AND c.tx = x.tx
                WHERE x.tenant_id = t AND c.position <= up_to;
            ELSE
                n := ferry.prune_changes(t, up_to);
            END IF;
            RETURN NEXT;
        END IF;
        what := 'tombstones';
        SELECT max(c.position) INTO head FROM ferry.commit c WHERE c.tenant_id = t AND c.at < now() - keep_tombstones;
        SELECT min(d.bookmark) INTO behind FROM ferry.device d
        WHERE d.tenant_id = t AND d.status = 'active' AND d.last_seen > now() - keep_tombstones;
        up_to := least(coalesce(head, 0), coalesce(behind, head, 0));
        IF up_to > coalesce((SELECT h.tombstones FROM ferry.horizon h WHERE h.tenant_id = t), 0) THEN
            IF dry_run THEN
                SELECT (SELECT count(*) FROM ferry.version v WHERE v.tenant_id = t AND v.deleted
                        AND NOT EXISTS (SELECT FROM ferry.surrogates_since(t, up_to) s WHERE s.surrogate = v.tx))
                     + (SELECT count(*) FROM ferry.left l WHERE l.tenant_id = t
                        AND NOT EXISTS (SELECT FROM ferry.surrogates_since(t, up_to) s WHERE s.surrogate = l.tx)) INTO n;
            ELSE
                n := ferry.prune_tombstones(t, up_to);
            END IF;
            RETURN NEXT;
        END IF;
    END LOOP;
    tenant_id := NULL;
    what := 'parts'; -- of change-sets that nobody went on with: their devices offer them again
    up_to := NULL;
    SELECT count(*) INTO n FROM ferry.stage s WHERE s.at < now() - interval '7 days' AND s.tenant_id = coalesce(of_tenant, s.tenant_id)
        AND NOT EXISTS (SELECT FROM ferry.rejected r WHERE r.tenant_id = s.tenant_id AND r.device_id = s.device_id
                        AND r.number = s.number AND r.staging = s.staging);
    IF n > 0 THEN
        IF NOT dry_run THEN
            DELETE FROM ferry.stage s WHERE s.at < now() - interval '7 days' AND s.tenant_id = coalesce(of_tenant, s.tenant_id)
                AND NOT EXISTS (SELECT FROM ferry.rejected r WHERE r.tenant_id = s.tenant_id AND r.device_id = s.device_id
                                AND r.number = s.number AND r.staging = s.staging);
        END IF;
        RETURN NEXT;
    END IF;
    what := 'sums';
    up_to := NULL;
    SELECT count(*) INTO n FROM ferry.sum s WHERE s.tx <> 0;
    IF n > 0 THEN
        IF NOT dry_run THEN
            PERFORM ferry.fold_sums();
        END IF;
        RETURN NEXT;
    END IF;
END $$;
COMMENT ON FUNCTION ferry.upkeep(bool, uuid, interval, interval) IS
    'Forgets old changes and deletions and folds checksums; with dry_run only says what it would do';
REVOKE EXECUTE ON FUNCTION ferry.upkeep(bool, uuid, interval, interval) FROM PUBLIC;

RESET ROLE;
