-- A tenant that is deleted takes its rows with it, also those of tables that hold rows of
-- everybody (the zero uuid) and so cannot refer to identity.tenants.

SET LOCAL ROLE ferry_owner;

-- tenant_id is set for the rows' own policies: the owner, too, is held to one tenant at a time.
CREATE FUNCTION governance.forget_shared() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    outside text := coalesce(current_setting('app.tenant_id', true), '');
BEGIN
    PERFORM set_config('app.tenant_id', OLD.id::text, true);
    DELETE FROM inventory.unit_type_codes r WHERE r.tenant_id = OLD.id;
    DELETE FROM inventory.component_type_codes r WHERE r.tenant_id = OLD.id;
    DELETE FROM integration.schema_definitions r WHERE r.tenant_id = OLD.id;
    DELETE FROM integration.integration_templates r WHERE r.tenant_id = OLD.id;
    DELETE FROM governance.feature_flags r WHERE r.tenant_id = OLD.id;
    DELETE FROM governance.resource_types r WHERE r.tenant_id = OLD.id;
    DELETE FROM governance.retention_rules r WHERE r.tenant_id = OLD.id;
    DELETE FROM governance.archived_rows r WHERE r.tenant_id = OLD.id;
    DELETE FROM growth.waitlist_entries r WHERE r.tenant_id = OLD.id;
    PERFORM set_config('app.tenant_id', outside, true);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION governance.forget_shared() IS 'Trigger: the rows of a deleted tenant in tables that hold rows of everybody, too';
REVOKE EXECUTE ON FUNCTION governance.forget_shared() FROM PUBLIC;
CREATE TRIGGER forget_shared AFTER DELETE ON identity.tenants
    FOR EACH ROW EXECUTE FUNCTION governance.forget_shared();

RESET ROLE;
