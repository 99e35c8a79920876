-- Scopes of teams and roles: rows of a table tracked with 'team:<column>' go to the devices of
-- the team's members, those of 'role:<column>' to the devices of users who have the role, or
-- one that inherits it, in the whole tenant.

GRANT SELECT ON identity.group_members TO ferry_engine;
SET LOCAL ROLE ferry_owner;

CREATE FUNCTION identity.scopes_of(devices uuid[]) RETURNS TABLE (device_id uuid, scope text)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT d.id, 'team:' || m.group_id
    FROM ferry.device d
    JOIN identity.users u ON u.tenant_id = d.tenant_id AND u.id = d.user_id AND u.status = 'active' AND u.deleted_at IS NULL
    JOIN identity.group_members m ON m.tenant_id = d.tenant_id AND m.user_id = d.user_id
    WHERE d.id = ANY (devices)
    UNION
    SELECT r.device_id, 'role:' || r.role_id FROM identity.roles_of(devices) r WHERE r.scope = '*'
$$;
COMMENT ON FUNCTION identity.scopes_of(uuid[]) IS 'The scopes of the teams and roles of devices'' users; asked by the engine';

DO $$
DECLARE
    x record;
BEGIN
    FOR x IN SELECT * FROM (VALUES ('rights_insert', 'INSERT', 'NEW'), ('rights_update_old', 'UPDATE', 'OLD'),
                                   ('rights_update_new', 'UPDATE', 'NEW'), ('rights_delete', 'DELETE', 'OLD')) v(name, event, side) LOOP
        EXECUTE format('CREATE TRIGGER %I AFTER %s ON identity.group_members REFERENCING %s TABLE AS changed '
                       'FOR EACH STATEMENT EXECUTE FUNCTION identity.on_assignments()', x.name, x.event, x.side);
    END LOOP;
END $$;

SELECT ferry.answer_scopes('identity.scopes_of');

RESET ROLE;
