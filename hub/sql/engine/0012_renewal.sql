-- Certificates that renew themselves. A device has two for a while: the one it came with
-- stays good until the hub has seen the new one, so that an answer that is lost on its way
-- locks nobody out.

SET LOCAL ROLE ferry_engine;

ALTER TABLE ferry.device
    ADD COLUMN next_fingerprint bytea UNIQUE,
    ADD COLUMN next_not_after   timestamptz;
COMMENT ON COLUMN ferry.device.fingerprint IS 'SHA-256 of the certificate it came with last';
COMMENT ON COLUMN ferry.device.next_fingerprint IS 'SHA-256 of a renewed certificate that it has not come with yet';

-- It came with this certificate: if that is the renewed one, the former is worth nothing any more.
CREATE FUNCTION ferry.seen_certificate(print bytea) RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE ferry.device d SET fingerprint = d.next_fingerprint, not_after = d.next_not_after,
        next_fingerprint = NULL, next_not_after = NULL
    WHERE d.next_fingerprint = print AND d.status = 'active'
$$;
COMMENT ON FUNCTION ferry.seen_certificate(bytea) IS 'Retires a certificate once its successor was used';

-- Whose certificate this is; the device's row is locked, so that it is not revoked meanwhile.
CREATE FUNCTION ferry.renewing_device(print bytea)
RETURNS TABLE (device_id uuid, tenant_id uuid, name text, status text)
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT d.id, d.tenant_id, d.name, d.status FROM ferry.device d
    WHERE d.fingerprint = print OR d.next_fingerprint = print FOR UPDATE
$$;
COMMENT ON FUNCTION ferry.renewing_device(bytea) IS 'The device that may renew this certificate; no row: unknown';

-- used: the certificate that it asked with. A renewed one that was never used is replaced.
CREATE FUNCTION ferry.renew_certificate(device uuid, used bytea, print bytea, valid_until timestamptz) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM ferry.seen_certificate(used);
    UPDATE ferry.device d SET next_fingerprint = print, next_not_after = valid_until
    WHERE d.id = device AND d.fingerprint = used AND d.status = 'active';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'device % does not exist, is revoked, or has another certificate', device
            USING ERRCODE = 'invalid_authorization_specification';
    END IF;
END $$;
COMMENT ON FUNCTION ferry.renew_certificate(uuid, bytea, bytea, timestamptz) IS 'Records a certificate that was renewed';

REVOKE EXECUTE ON FUNCTION ferry.seen_certificate(bytea), ferry.renewing_device(bytea),
    ferry.renew_certificate(uuid, bytea, bytea, timestamptz) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.seen_certificate(bytea), ferry.renewing_device(bytea),
    ferry.renew_certificate(uuid, bytea, bytea, timestamptz) TO ferry_hub, ferry_owner;

RESET ROLE;
