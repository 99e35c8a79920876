-- Enrolment and looking a device up, each as one step that can't be half done.

SET LOCAL ROLE ferry_engine;

-- Spends a token and makes its device, whose certificate the hub then signs and records
-- with ferry.certify in the same transaction: a failure leaves the token unspent.
CREATE FUNCTION ferry.redeem_token(hash bytea)
RETURNS TABLE (device_id uuid, tenant_id uuid, name text, user_id uuid, class text, scopes text[])
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.token;
    new_id uuid := gen_random_uuid();
BEGIN
    SELECT * INTO t FROM ferry.token o WHERE o.secret_hash = hash FOR UPDATE;
    IF t.id IS NULL THEN
        RAISE EXCEPTION 'this enrolment token is not known here'
            USING ERRCODE = 'invalid_authorization_specification', HINT = 'Make a new one with ferry-hub token create.';
    ELSIF t.used_at IS NOT NULL THEN
        RAISE EXCEPTION 'this enrolment token has been used'
            USING ERRCODE = 'invalid_authorization_specification', HINT = 'Make a new one with ferry-hub token create.';
    ELSIF t.expires_at <= clock_timestamp() THEN
        RAISE EXCEPTION 'this enrolment token has expired'
            USING ERRCODE = 'invalid_authorization_specification', HINT = 'Make a new one with ferry-hub token create.';
    END IF;
    INSERT INTO ferry.device (id, tenant_id, name, user_id, class)
    VALUES (new_id, t.tenant_id, t.name, t.user_id, t.class);
    INSERT INTO ferry.device_scope (device_id, scope) SELECT new_id, s FROM (SELECT DISTINCT unnest(t.scopes)) u(s);
    UPDATE ferry.token o SET used_at = clock_timestamp(), device_id = new_id WHERE o.id = t.id;
    RETURN QUERY SELECT new_id, t.tenant_id, t.name, t.user_id, t.class, t.scopes;
END $$;
COMMENT ON FUNCTION ferry.redeem_token(bytea) IS 'Spends an enrolment token and makes its device';

CREATE FUNCTION ferry.certify(device uuid, print bytea, valid_until timestamptz) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE ferry.device d SET fingerprint = print, not_after = valid_until WHERE d.id = device AND d.status = 'active';
    IF NOT FOUND THEN
        RAISE EXCEPTION 'device % does not exist or is revoked', device USING ERRCODE = 'no_data_found';
    END IF;
END $$;
COMMENT ON FUNCTION ferry.certify(uuid, bytea, timestamptz) IS 'Records the certificate of a device';

-- The one device with this certificate, whatever its status: the caller says why it is
-- turned away. No row: unknown.
CREATE FUNCTION ferry.device_by_fingerprint(print bytea)
RETURNS TABLE (device ferry.device, scopes text[])
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT d, coalesce((SELECT array_agg(s.scope ORDER BY s.scope) FROM ferry.device_scope s WHERE s.device_id = d.id), '{}')
    FROM ferry.device d WHERE d.fingerprint = print
$$;

CREATE FUNCTION ferry.revoke_device(device uuid) RETURNS bool
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE ferry.device d SET status = 'revoked' WHERE d.id = device AND d.status <> 'revoked';
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION ferry.revoke_device(uuid) IS 'Revokes a device for good; false if it was or is unknown';

REVOKE EXECUTE ON FUNCTION ferry.redeem_token(bytea), ferry.certify(uuid, bytea, timestamptz),
    ferry.device_by_fingerprint(bytea), ferry.revoke_device(uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.redeem_token(bytea), ferry.certify(uuid, bytea, timestamptz),
    ferry.device_by_fingerprint(bytea), ferry.revoke_device(uuid) TO ferry_hub, ferry_owner;

RESET ROLE;
