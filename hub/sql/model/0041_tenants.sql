-- A tenant's key is of version 7 like all others that are made here (0030_permissions.sql made
-- it of version 4 again).

SET LOCAL ROLE ferry_owner;

CREATE OR REPLACE FUNCTION identity.create_tenant(name text, slug text, id uuid DEFAULT identity.uuid7()) RETURNS uuid
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO identity.tenants (id, name, slug) VALUES (create_tenant.id, create_tenant.name, create_tenant.slug);
    PERFORM identity.default_roles(create_tenant.id);
    RETURN create_tenant.id;
END $$;

RESET ROLE;
