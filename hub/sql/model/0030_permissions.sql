-- Who may what: roles with their parents, assigned globally, for a tenant or for a project,
-- become the rights of devices. hub/sql/engine/0010 says what follows from them.

-- The engine asks these functions as itself, and so past row-level security.
GRANT USAGE ON SCHEMA identity TO ferry_engine;
GRANT SELECT ON identity.users, identity.roles, identity.role_permissions, identity.role_assignments TO ferry_engine;
SET LOCAL ROLE ferry_owner;

-- The roles of devices' users, with those they inherit.
CREATE FUNCTION identity.roles_of(devices uuid[]) RETURNS TABLE (device_id uuid, tenant_id uuid, role_id uuid, scope text)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE held AS (
        SELECT d.id AS device_id, d.tenant_id, a.role_id,
               CASE a.scope_kind WHEN 'PROJECT' THEN 'project:' || a.project_id ELSE '*' END AS scope
        FROM ferry.device d
        JOIN identity.users u ON u.tenant_id = d.tenant_id AND u.id = d.user_id AND u.status = 'active' AND u.deleted_at IS NULL
        JOIN identity.role_assignments a ON a.tenant_id = d.tenant_id AND a.user_id = d.user_id
        WHERE d.id = ANY (devices) AND a.starts_at <= statement_timestamp() IS NOT FALSE
          AND a.expires_at > statement_timestamp() IS NOT FALSE
        UNION
        -- A device without a user has the role of its tenant that is made for those.
        SELECT d.id, d.tenant_id, r.id, '*' FROM ferry.device d
        JOIN identity.roles r ON r.tenant_id = d.tenant_id AND r.code = 'device'
        WHERE d.id = ANY (devices) AND d.user_id IS NULL
        UNION
        SELECT h.device_id, h.tenant_id, r.parent_role_id, h.scope
        FROM held h JOIN identity.roles r ON r.tenant_id = h.tenant_id AND r.id = h.role_id
        WHERE r.parent_role_id IS NOT NULL)
    SELECT h.device_id, h.tenant_id, h.role_id, h.scope FROM held h
$$;
COMMENT ON FUNCTION identity.roles_of(uuid[]) IS 'The roles of devices'' users and where they hold; *: in the whole tenant';

CREATE FUNCTION identity.rights_of(devices uuid[]) RETURNS TABLE (device_id uuid, permission text, scope text)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT h.device_id, p.permission, h.scope
    FROM identity.roles_of(devices) h JOIN identity.role_permissions p ON p.tenant_id = h.tenant_id AND p.role_id = h.role_id
$$;
COMMENT ON FUNCTION identity.rights_of(uuid[]) IS 'The permissions of devices'' users and where they hold; asked by the engine';

CREATE FUNCTION identity.rights_next(devices uuid[]) RETURNS TABLE (device_id uuid, at timestamptz)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT d.id, x.at
    FROM ferry.device d JOIN identity.role_assignments a ON a.tenant_id = d.tenant_id AND a.user_id = d.user_id
    CROSS JOIN LATERAL (VALUES (a.starts_at), (a.expires_at)) AS x(at)
    WHERE d.id = ANY (devices) AND x.at > statement_timestamp()
$$;
COMMENT ON FUNCTION identity.rights_next(uuid[]) IS 'When a role of devices'' users begins or expires next; asked by the engine';

-- ---------------------------------------------------------------- changes

-- Assignments and users concern the devices of some users, roles those of the whole tenant.
CREATE FUNCTION identity.on_assignments() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM ferry.rights_changed(c.tenant_id, c.users)
    FROM (SELECT x.tenant_id, array_agg(DISTINCT x.user_id) AS users FROM changed x GROUP BY x.tenant_id ORDER BY 1) c;
    RETURN NULL;
END $$;
CREATE TRIGGER rights_insert AFTER INSERT ON identity.role_assignments REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION identity.on_assignments();
CREATE TRIGGER rights_update_old AFTER UPDATE ON identity.role_assignments REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION identity.on_assignments();
CREATE TRIGGER rights_update_new AFTER UPDATE ON identity.role_assignments REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION identity.on_assignments();
CREATE TRIGGER rights_delete AFTER DELETE ON identity.role_assignments REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION identity.on_assignments();

CREATE FUNCTION identity.on_user_state() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM ferry.rights_changed(NEW.tenant_id, ARRAY[NEW.id]);
    RETURN NULL;
END $$;
CREATE TRIGGER rights AFTER UPDATE OF status, deleted_at ON identity.users FOR EACH ROW
    WHEN (OLD.status IS DISTINCT FROM NEW.status OR (OLD.deleted_at IS NULL) <> (NEW.deleted_at IS NULL))
    EXECUTE FUNCTION identity.on_user_state();

CREATE FUNCTION identity.on_roles() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM ferry.rights_changed(c.tenant_id) FROM (SELECT DISTINCT x.tenant_id FROM changed x ORDER BY 1) c;
    RETURN NULL;
END $$;
DO $$
DECLARE
    tab text;
BEGIN
    FOREACH tab IN ARRAY ARRAY['identity.roles', 'identity.role_permissions'] LOOP
        EXECUTE format('CREATE TRIGGER rights_insert AFTER INSERT ON %s REFERENCING NEW TABLE AS changed '
                       'FOR EACH STATEMENT EXECUTE FUNCTION identity.on_roles()', tab);
        EXECUTE format('CREATE TRIGGER rights_update AFTER UPDATE ON %s REFERENCING NEW TABLE AS changed '
                       'FOR EACH STATEMENT EXECUTE FUNCTION identity.on_roles()', tab);
        EXECUTE format('CREATE TRIGGER rights_delete AFTER DELETE ON %s REFERENCING OLD TABLE AS changed '
                       'FOR EACH STATEMENT EXECUTE FUNCTION identity.on_roles()', tab);
    END LOOP;
END $$;

-- ---------------------------------------------------------------- what a tenant starts with

-- The roles that every tenant starts with. One that is there already gets the permissions
-- of the list that it lacks.
CREATE FUNCTION identity.default_roles(tenant uuid) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    outside text := coalesce(current_setting('app.tenant_id', true), '');
BEGIN
    PERFORM set_config('app.tenant_id', tenant::text, true);
    WITH role (code, name, permissions) AS (VALUES
        ('admin', 'Administrator', '{*,leads.view,leads.create,deals.view,inventory.view,reports.view}'::text[]),
        ('sales_exec', 'Sales Executive', '{leads.view,leads.create,leads.edit,contacts.view,contacts.create,contacts.edit,'
         'deals.view,deals.create,deals.edit,activities.view,activities.create,activities.edit,inventory.view,roomscan.view,'
         'documents.view,services.view,contracts.view,customers.view,orders.view,media.view,approvals.view,approvals.request,'
         'time.*,assistant.use,reports.view}'),
        ('inventory_mgr', 'Inventory Manager', '{leads.view,leads.create,deals.view,inventory.view,inventory.create,'
         'inventory.edit,inventory.delete,inventory.price,roomscan.view,roomscan.create,roomscan.edit,roomscan.delete,'
         'documents.view,media.view,approvals.view,approvals.request,time.*,assistant.use,reports.view}'),
        ('device', 'Device without a user', '{leads.*,contacts.*,deals.*,activities.*,inventory.*,roomscan.*}')),
    made AS (
        INSERT INTO identity.roles (tenant_id, code, name, is_system) SELECT tenant, r.code, r.name, true FROM role r
        ON CONFLICT (tenant_id, code) DO UPDATE SET is_system = true
        RETURNING id, code)
    INSERT INTO identity.role_permissions (tenant_id, role_id, permission)
    SELECT tenant, m.id, p FROM made m JOIN role r ON r.code = m.code CROSS JOIN unnest(r.permissions) p
    ON CONFLICT (tenant_id, role_id, permission) DO NOTHING;
    PERFORM set_config('app.tenant_id', outside, true);
END $$;
COMMENT ON FUNCTION identity.default_roles(uuid) IS 'Gives a tenant the roles that each one starts with';
REVOKE EXECUTE ON FUNCTION identity.default_roles(uuid) FROM PUBLIC;

CREATE OR REPLACE FUNCTION identity.create_tenant(name text, slug text, id uuid DEFAULT gen_random_uuid()) RETURNS uuid
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO identity.tenants (id, name, slug) VALUES (create_tenant.id, create_tenant.name, create_tenant.slug);
    PERFORM identity.default_roles(create_tenant.id);
    RETURN create_tenant.id;
END $$;

-- Tenants from before; their devices had no user, and go on with the role for those.
SELECT identity.default_roles(t.id) FROM identity.tenants t;

RESET ROLE;
