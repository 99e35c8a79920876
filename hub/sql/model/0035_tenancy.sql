-- Tenants and the engine: what the engine has to know of a tenant follows its row, and as
-- many users as it may have is what it gets.

SET LOCAL ROLE ferry_owner;

CREATE FUNCTION identity.tell_engine() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM ferry.note_tenant(NEW.id, NEW.slug::text, NEW.name, NEW.status::text, NEW.max_users,
                              NEW.max_storage * 1048576::bigint, NEW.max_api_calls);
    RETURN NULL;
END $$;
CREATE TRIGGER tell_engine AFTER INSERT OR UPDATE OF name, slug, status, max_users, max_storage, max_api_calls
    ON identity.tenants FOR EACH ROW EXECUTE FUNCTION identity.tell_engine();

SELECT ferry.note_tenant(t.id, t.slug::text, t.name, t.status::text, t.max_users, t.max_storage * 1048576::bigint, t.max_api_calls)
FROM identity.tenants t;

-- Users that are deactivated or deleted count for nothing, so that one can be put in the
-- place of another. Two writers wait for each other, or both would see room for one.
CREATE FUNCTION identity.check_users() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    outside text := coalesce(current_setting('app.tenant_id', true), '');
    t record;
    n bigint;
BEGIN
    FOR t IN SELECT p.tenant_id, p.max_users FROM ferry.placement p
             WHERE p.tenant_id IN (SELECT w.tenant_id FROM written w) AND p.max_users IS NOT NULL ORDER BY 1 LOOP
        PERFORM pg_advisory_xact_lock(hashtextextended('identity.users ' || t.tenant_id, 0));
        PERFORM set_config('app.tenant_id', t.tenant_id::text, true);
        SELECT count(*) INTO n FROM identity.users u
        WHERE u.tenant_id = t.tenant_id AND u.status <> 'deactivated' AND u.deleted_at IS NULL;
        PERFORM set_config('app.tenant_id', outside, true);
        IF n > t.max_users THEN
            RAISE EXCEPTION 'the tenant may have % users and would have %', t.max_users, n
                USING ERRCODE = 'FE316', HINT = 'Deactivate one, or raise the limit: ferry-hub tenant limit.';
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER check_users_added AFTER INSERT ON identity.users REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION identity.check_users();
CREATE TRIGGER check_users_changed AFTER UPDATE ON identity.users REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION identity.check_users();

CREATE FUNCTION identity.set_tenant_status(tenant uuid, status text) RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before text;
BEGIN
    SELECT t.status::text INTO before FROM identity.tenants t WHERE t.id = tenant FOR UPDATE;
    IF before IS NULL THEN
        RAISE EXCEPTION 'there is no tenant %', tenant USING ERRCODE = 'no_data_found';
    ELSIF before = 'DELETED' AND set_tenant_status.status <> 'DELETED' THEN
        RAISE EXCEPTION 'the tenant is deleted, and its devices were told to remove its data'
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Make a new tenant and enrol devices anew.';
    END IF;
    UPDATE identity.tenants t SET status = set_tenant_status.status::identity.tenant_status,
        deleted_at = CASE WHEN set_tenant_status.status = 'DELETED' THEN coalesce(t.deleted_at, now()) END
    WHERE t.id = tenant;
    RETURN before;
END $$;
COMMENT ON FUNCTION identity.set_tenant_status(uuid, text) IS
    'What devices of the tenant may do from now on; its status before. Deleting is for good';
REVOKE EXECUTE ON FUNCTION identity.set_tenant_status(uuid, text), identity.check_users(), identity.tell_engine() FROM PUBLIC;

RESET ROLE;
