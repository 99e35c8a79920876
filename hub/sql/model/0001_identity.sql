-- Tenants, users, roles.
--
-- Rules of the whole model. Each table of a tenant has tenant_id first in its primary key,
-- its unique keys and its foreign keys, so that no reference can cross tenants and an
-- engine that distributes by tenant (Citus) can hold it. Row-level security is forced on
-- each. A list of values that the source named in a comment is a CHECK. ON DELETE SET NULL
-- names its column, since tenant_id must stay. updated_at moves only if something else did.
--
-- Differences from the source here: tenants.slug was declared unique twice; user_profiles,
-- role_permissions and sessions had no tenant; group_members and user_roles had one that
-- nothing tied to the tenant of their parents.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ferry_app') THEN
        -- What a back office logs in as, or is a member of: plain SQL under row-level security.
        CREATE ROLE ferry_app NOLOGIN;
    END IF;
END $$;
CREATE EXTENSION IF NOT EXISTS citext;

CREATE SCHEMA identity AUTHORIZATION ferry_owner;
SET LOCAL ROLE ferry_owner;
COMMENT ON SCHEMA identity IS 'Tenants, their users and what those may do';

CREATE FUNCTION identity.set_updated_at() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    NEW.updated_at := now();
    RETURN NEW;
END $$;

-- Gives tables the trigger that keeps updated_at; a writer that sets it keeps its value.
CREATE FUNCTION identity.keep_updated_at(VARIADIC tabs regclass[]) RETURNS void
    LANGUAGE plpgsql
AS $$
DECLARE
    tab regclass;
BEGIN
    FOREACH tab IN ARRAY tabs LOOP
        EXECUTE format('CREATE TRIGGER updated_at BEFORE UPDATE ON %s FOR EACH ROW '
                       'WHEN (OLD.* IS DISTINCT FROM NEW.* AND OLD.updated_at = NEW.updated_at) '
                       'EXECUTE FUNCTION identity.set_updated_at()', tab);
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION identity.keep_updated_at(regclass[]) FROM PUBLIC;

-- Isolates the tables of a schema that have a tenant and opens them to the back office.
CREATE FUNCTION identity.open_schema(nsp name, VARIADIC global text[] DEFAULT '{}') RETURNS void
    LANGUAGE plpgsql
AS $$
DECLARE
    tab regclass;
BEGIN
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO ferry_app', nsp);
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO ferry_app', nsp);
    FOR tab IN SELECT c.oid FROM pg_class c
               JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'tenant_id' AND NOT a.attisdropped
               WHERE c.relnamespace = nsp::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relrowsecurity ORDER BY c.relname LOOP
        PERFORM ferry.isolate(tab, (SELECT c.relname = ANY (global) FROM pg_class c WHERE c.oid = tab));
    END LOOP;
END $$;
REVOKE EXECUTE ON FUNCTION identity.open_schema(name, text[]) FROM PUBLIC;

CREATE TABLE identity.tenants (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid()
               CHECK (id <> '00000000-0000-0000-0000-000000000000'),
    name       text NOT NULL,
    slug       text NOT NULL,
    locale     text DEFAULT 'en',
    timezone   text DEFAULT 'Africa/Cairo',
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE UNIQUE INDEX tenants_slug_uq ON identity.tenants (slug);
COMMENT ON TABLE identity.tenants IS 'Companies whose data is kept apart';
COMMENT ON COLUMN identity.tenants.id IS 'The zero uuid is reserved for rows that belong to nobody';
COMMENT ON COLUMN identity.tenants.slug IS 'Short name in addresses and on the command line';

CREATE TABLE identity.users (
    tenant_id     uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id            uuid NOT NULL DEFAULT gen_random_uuid(),
    email         citext NOT NULL,
    password_hash text,
    status        text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended', 'deactivated')),
    last_login_at timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX users_email_per_tenant_uq ON identity.users (tenant_id, email);
COMMENT ON TABLE identity.users IS 'People who work for a tenant';
COMMENT ON COLUMN identity.users.password_hash IS 'Never leaves the hub: excluded from sync';

CREATE TABLE identity.user_profiles (
    tenant_id         uuid NOT NULL,
    user_id           uuid NOT NULL,
    full_name         text,
    phone_e164        text,
    phone_verified_at timestamptz,
    locale            text,
    timezone          text,
    PRIMARY KEY (tenant_id, user_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users ON DELETE CASCADE
);
COMMENT ON TABLE identity.user_profiles IS 'What others see of a user; at most one each';
COMMENT ON COLUMN identity.user_profiles.phone_e164 IS 'International form, +201001234567';

CREATE TABLE identity.roles (
    tenant_id      uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id             uuid NOT NULL DEFAULT gen_random_uuid(),
    code           text NOT NULL,
    name           text NOT NULL,
    parent_role_id uuid,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, parent_role_id) REFERENCES identity.roles ON DELETE SET NULL (parent_role_id)
);
CREATE UNIQUE INDEX roles_code_uq ON identity.roles (tenant_id, code);
COMMENT ON TABLE identity.roles IS 'Bundles of permissions; a role has its parent''s too';

CREATE TABLE identity.role_permissions (
    tenant_id  uuid NOT NULL,
    role_id    uuid NOT NULL,
    permission text NOT NULL,
    PRIMARY KEY (tenant_id, role_id, permission),
    FOREIGN KEY (tenant_id, role_id) REFERENCES identity.roles ON DELETE CASCADE
);
COMMENT ON TABLE identity.role_permissions IS 'Permissions of a role, as <domain>.<action>';

CREATE TABLE identity.groups (
    tenant_id   uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id          uuid NOT NULL DEFAULT gen_random_uuid(),
    name        text NOT NULL,
    description text,
    PRIMARY KEY (tenant_id, id)
);
COMMENT ON TABLE identity.groups IS 'Teams';

CREATE TABLE identity.group_members (
    tenant_id uuid NOT NULL,
    group_id  uuid NOT NULL,
    user_id   uuid NOT NULL,
    PRIMARY KEY (tenant_id, group_id, user_id),
    FOREIGN KEY (tenant_id, group_id) REFERENCES identity.groups ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users ON DELETE CASCADE
);
CREATE INDEX group_members_tenant_user_ix ON identity.group_members (tenant_id, user_id);
COMMENT ON TABLE identity.group_members IS 'Who is in which team';

CREATE TABLE identity.user_roles (
    tenant_id uuid NOT NULL,
    user_id   uuid NOT NULL,
    role_id   uuid NOT NULL,
    PRIMARY KEY (tenant_id, user_id, role_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, role_id) REFERENCES identity.roles ON DELETE CASCADE
);
COMMENT ON TABLE identity.user_roles IS 'Who has which role';

CREATE TABLE identity.sessions (
    tenant_id          uuid NOT NULL,
    id                 uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id            uuid NOT NULL,
    refresh_token_hash text NOT NULL,
    ip                 inet,
    user_agent         text,
    created_at         timestamptz NOT NULL DEFAULT now(),
    revoked_at         timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users ON DELETE CASCADE
);
CREATE INDEX sessions_user_created_ix ON identity.sessions (tenant_id, user_id, created_at DESC);
COMMENT ON TABLE identity.sessions IS 'Logins of users';

CREATE TABLE identity.audit_logs (
    tenant_id   uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id          uuid NOT NULL DEFAULT gen_random_uuid(),
    user_id     uuid,
    action      text NOT NULL,
    entity_type text NOT NULL,
    entity_id   uuid,
    before_data jsonb,
    after_data  jsonb,
    ip_address  inet,
    user_agent  text,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX audit_logs_tenant_time_ix ON identity.audit_logs (tenant_id, created_at DESC);
COMMENT ON TABLE identity.audit_logs IS 'Who did what to what';
COMMENT ON COLUMN identity.audit_logs.user_id IS 'No reference: the entry outlives the user';

-- The tenants themselves are kept by the owner, and each tenant sees its own row.
SELECT ferry.isolate('identity.tenants', tenant_col => 'id');
CREATE POLICY owner ON identity.tenants TO ferry_owner USING (true) WITH CHECK (true);
SELECT identity.open_schema('identity');
REVOKE INSERT, UPDATE, DELETE ON identity.tenants FROM ferry_app;
SELECT identity.keep_updated_at('identity.users');

-- A new tenant with the roles and permissions that each one starts with.
CREATE FUNCTION identity.create_tenant(name text, slug text, id uuid DEFAULT gen_random_uuid()) RETURNS uuid
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    outside text := coalesce(current_setting('app.tenant_id', true), '');
BEGIN
    INSERT INTO identity.tenants (id, name, slug) VALUES (create_tenant.id, create_tenant.name, create_tenant.slug);
    PERFORM set_config('app.tenant_id', create_tenant.id::text, true);
    INSERT INTO identity.roles (tenant_id, code, name) VALUES
        (create_tenant.id, 'admin', 'Administrator'),
        (create_tenant.id, 'sales_exec', 'Sales Executive'),
        (create_tenant.id, 'inventory_mgr', 'Inventory Manager');
    INSERT INTO identity.role_permissions (tenant_id, role_id, permission)
    SELECT r.tenant_id, r.id, p.perm
    FROM identity.roles r
    CROSS JOIN (VALUES ('leads.view'), ('leads.create'), ('deals.view'), ('inventory.view'), ('reports.view')) AS p(perm)
    WHERE r.tenant_id = create_tenant.id AND r.code IN ('admin', 'sales_exec', 'inventory_mgr');
    PERFORM set_config('app.tenant_id', outside, true);
    RETURN create_tenant.id;
END $$;
COMMENT ON FUNCTION identity.create_tenant(text, text, uuid) IS 'Makes a tenant with its first roles and permissions';
REVOKE EXECUTE ON FUNCTION identity.create_tenant(text, text, uuid) FROM PUBLIC;

RESET ROLE;
