-- What keys and evidence need to hold under load and against hands: an index behind every
-- reference, so that deleting a parent does not read its children's whole table; the price
-- list under row-level security like everything else; and rows that say what was, which stay.

SET LOCAL ROLE ferry_owner;

-- ---------------------------------------------------------------- references

CREATE INDEX approvals_requested_by_ix ON approvals.approvals (tenant_id, requested_by);
CREATE INDEX automations_owner_user_ix ON automation.automations (tenant_id, owner_user_id) WHERE owner_user_id IS NOT NULL;
CREATE INDEX invoice_lines_service_ix ON billing.invoice_lines (tenant_id, service_id) WHERE service_id IS NOT NULL;
CREATE INDEX invoices_document_group_ix ON billing.invoices (tenant_id, document_group_id) WHERE document_group_id IS NOT NULL;
CREATE INDEX invoices_engagement_ix ON billing.invoices (tenant_id, engagement_id) WHERE engagement_id IS NOT NULL;
CREATE INDEX invoices_user_ix ON billing.invoices (tenant_id, user_id) WHERE user_id IS NOT NULL;
CREATE INDEX payments_user_ix ON billing.payments (tenant_id, user_id) WHERE user_id IS NOT NULL;
CREATE INDEX subscriptions_catalog_plan_ix ON billing.subscriptions (catalog_plan_id) WHERE catalog_plan_id IS NOT NULL;
CREATE INDEX token_accounts_alert_user_ix ON billing.token_accounts (tenant_id, alert_user_id) WHERE alert_user_id IS NOT NULL;
CREATE INDEX customers_contact_ix ON commerce.customers (tenant_id, contact_id) WHERE contact_id IS NOT NULL;
CREATE INDEX customers_user_ix ON commerce.customers (tenant_id, user_id) WHERE user_id IS NOT NULL;
CREATE INDEX orders_connector_ix ON commerce.orders (tenant_id, connector_id) WHERE connector_id IS NOT NULL;
CREATE INDEX campaigns_created_by_user_ix ON comms.campaigns (tenant_id, created_by_user_id) WHERE created_by_user_id IS NOT NULL;
CREATE INDEX telemarketing_calls_campaign_ix ON comms.telemarketing_calls (tenant_id, campaign_id) WHERE campaign_id IS NOT NULL;
CREATE INDEX telemarketing_calls_contact_ix ON comms.telemarketing_calls (tenant_id, contact_id) WHERE contact_id IS NOT NULL;
CREATE INDEX telemarketing_calls_lead_ix ON comms.telemarketing_calls (tenant_id, lead_id) WHERE lead_id IS NOT NULL;
CREATE INDEX contracts_contract_template_ix ON contracts.contracts (tenant_id, contract_template_id) WHERE contract_template_id IS NOT NULL;
CREATE INDEX contracts_customer_ix ON contracts.contracts (tenant_id, customer_id) WHERE customer_id IS NOT NULL;
CREATE INDEX activities_company_ix ON crm.activities (tenant_id, company_id) WHERE company_id IS NOT NULL;
CREATE INDEX activities_contact_ix ON crm.activities (tenant_id, contact_id) WHERE contact_id IS NOT NULL;
CREATE INDEX activities_deal_ix ON crm.activities (tenant_id, deal_id) WHERE deal_id IS NOT NULL;
CREATE INDEX contacts_company_ix ON crm.contacts (tenant_id, company_id) WHERE company_id IS NOT NULL;
CREATE INDEX deals_company_ix ON crm.deals (tenant_id, company_id) WHERE company_id IS NOT NULL;
CREATE INDEX deals_contact_ix ON crm.deals (tenant_id, contact_id) WHERE contact_id IS NOT NULL;
CREATE INDEX deals_stage_ix ON crm.deals (tenant_id, stage_id);
CREATE INDEX leads_company_ix ON crm.leads (tenant_id, company_id) WHERE company_id IS NOT NULL;
CREATE INDEX leads_contact_ix ON crm.leads (tenant_id, contact_id) WHERE contact_id IS NOT NULL;
CREATE INDEX change_jobs_software_project_ix ON delivery.change_jobs (tenant_id, software_project_id) WHERE software_project_id IS NOT NULL;
CREATE INDEX deployment_plans_approval_ix ON delivery.deployment_plans (tenant_id, approval_id) WHERE approval_id IS NOT NULL;
CREATE INDEX deployment_plans_decided_by_ix ON delivery.deployment_plans (tenant_id, decided_by) WHERE decided_by IS NOT NULL;
CREATE INDEX deployments_rollback_of_ix ON delivery.deployments (tenant_id, rollback_of_id) WHERE rollback_of_id IS NOT NULL;
CREATE INDEX prompt_requests_user_ix ON delivery.prompt_requests (tenant_id, user_id) WHERE user_id IS NOT NULL;
CREATE INDEX engagements_contract_template_ix ON engagement.engagements (tenant_id, contract_template_id) WHERE contract_template_id IS NOT NULL;
CREATE INDEX engagements_customer_ix ON engagement.engagements (tenant_id, customer_id) WHERE customer_id IS NOT NULL;
CREATE INDEX engagements_document_group_ix ON engagement.engagements (tenant_id, document_group_id) WHERE document_group_id IS NOT NULL;
CREATE INDEX engagements_terms_template_ix ON engagement.engagements (tenant_id, terms_template_id) WHERE terms_template_id IS NOT NULL;
CREATE INDEX devices_agent_ix ON fleet.devices (tenant_id, agent_id) WHERE agent_id IS NOT NULL;
CREATE INDEX actors_created_by_actor_ix ON identity.actors (created_by_actor_id) WHERE created_by_actor_id IS NOT NULL;
CREATE INDEX actors_deleted_by_actor_ix ON identity.actors (deleted_by_actor_id) WHERE deleted_by_actor_id IS NOT NULL;
CREATE INDEX actors_updated_by_actor_ix ON identity.actors (updated_by_actor_id) WHERE updated_by_actor_id IS NOT NULL;
CREATE INDEX roles_parent_role_ix ON identity.roles (tenant_id, parent_role_id) WHERE parent_role_id IS NOT NULL;
CREATE INDEX sessions_user_device_ix ON identity.sessions (tenant_id, user_device_id) WHERE user_device_id IS NOT NULL;
CREATE INDEX schema_definitions_integration_template_ix ON integration.schema_definitions (tenant_id, integration_template_id) WHERE integration_template_id IS NOT NULL;
CREATE INDEX map_overlays_project_ix ON inventory.map_overlays (tenant_id, project_id) WHERE project_id IS NOT NULL;
CREATE INDEX map_shapes_unit_component_ix ON inventory.map_shapes (tenant_id, unit_component_id) WHERE unit_component_id IS NOT NULL;
CREATE INDEX map_shapes_unit_ix ON inventory.map_shapes (tenant_id, unit_id) WHERE unit_id IS NOT NULL;
CREATE INDEX projects_developer_ix ON inventory.projects (tenant_id, developer_id) WHERE developer_id IS NOT NULL;
CREATE INDEX unit_price_history_changed_by_user_ix ON inventory.unit_price_history (tenant_id, changed_by_user_id) WHERE changed_by_user_id IS NOT NULL;
CREATE INDEX media_assets_engagement_ix ON media.media_assets (tenant_id, engagement_id) WHERE engagement_id IS NOT NULL;
CREATE INDEX media_assets_uploaded_by_ix ON media.media_assets (tenant_id, uploaded_by) WHERE uploaded_by IS NOT NULL;
CREATE INDEX room_annotations_object_ix ON roomscan.room_annotations (tenant_id, object_id) WHERE object_id IS NOT NULL;
CREATE INDEX room_annotations_photo_file_ix ON roomscan.room_annotations (tenant_id, photo_file_id) WHERE photo_file_id IS NOT NULL;
CREATE INDEX room_annotations_surface_ix ON roomscan.room_annotations (tenant_id, surface_id) WHERE surface_id IS NOT NULL;
CREATE INDEX room_exports_document_group_ix ON roomscan.room_exports (tenant_id, document_group_id) WHERE document_group_id IS NOT NULL;
CREATE INDEX room_measurements_object_ix ON roomscan.room_measurements (tenant_id, object_id) WHERE object_id IS NOT NULL;
CREATE INDEX room_measurements_surface_ix ON roomscan.room_measurements (tenant_id, surface_id) WHERE surface_id IS NOT NULL;
CREATE INDEX room_models_document_group_ix ON roomscan.room_models (tenant_id, document_group_id) WHERE document_group_id IS NOT NULL;
CREATE INDEX room_models_source_file_ix ON roomscan.room_models (tenant_id, source_file_id) WHERE source_file_id IS NOT NULL;
CREATE INDEX room_objects_parent_surface_ix ON roomscan.room_objects (tenant_id, parent_surface_id) WHERE parent_surface_id IS NOT NULL;
CREATE INDEX room_processing_jobs_export_ix ON roomscan.room_processing_jobs (tenant_id, export_id) WHERE export_id IS NOT NULL;
CREATE INDEX room_processing_jobs_model_ix ON roomscan.room_processing_jobs (tenant_id, model_id) WHERE model_id IS NOT NULL;
CREATE INDEX room_scan_sessions_preset_ix ON roomscan.room_scan_sessions (tenant_id, preset_id) WHERE preset_id IS NOT NULL;
CREATE INDEX room_scan_sessions_room_scan_ix ON roomscan.room_scan_sessions (tenant_id, room_scan_id) WHERE room_scan_id IS NOT NULL;
CREATE INDEX room_scan_sessions_unit_component_ix ON roomscan.room_scan_sessions (tenant_id, unit_component_id) WHERE unit_component_id IS NOT NULL;
CREATE INDEX room_scan_sessions_user_ix ON roomscan.room_scan_sessions (tenant_id, user_id) WHERE user_id IS NOT NULL;
CREATE INDEX room_scans_user_ix ON roomscan.room_scans (tenant_id, user_id) WHERE user_id IS NOT NULL;

COMMENT ON CONSTRAINT deals_tenant_id_stage_id_fkey ON crm.deals IS 'A stage with deals is not deleted, but goes with its pipeline';
COMMENT ON CONSTRAINT unit_price_history_tenant_id_changed_by_user_id_fkey ON inventory.unit_price_history IS
    'Who changed a price is deactivated, not deleted';
COMMENT ON CONSTRAINT campaigns_tenant_id_created_by_user_id_fkey ON comms.campaigns IS 'Who made a campaign is deactivated, not deleted';
COMMENT ON CONSTRAINT approvals_tenant_id_requested_by_fkey ON approvals.approvals IS 'Who asked is deactivated, not deleted';
COMMENT ON CONSTRAINT time_entries_tenant_id_user_id_fkey ON engagement.time_entries IS 'Whose hours these are is deactivated, not deleted';
COMMENT ON CONSTRAINT subscriptions_catalog_plan_id_fkey ON billing.subscriptions IS 'A plan that is subscribed to is retired (is_active), not deleted';
COMMENT ON CONSTRAINT token_transactions_tenant_id_account_id_fkey ON billing.token_transactions IS 'An account with entries stays; both go with the tenant';
COMMENT ON CONSTRAINT payments_tenant_id_invoice_id_fkey ON billing.payments IS 'A paid invoice stays; both go with the tenant';
COMMENT ON CONSTRAINT secrets_tenant_id_kms_key_id_fkey ON governance.secrets IS 'A key that secrets are encrypted under stays';
COMMENT ON CONSTRAINT connector_secrets_tenant_id_secret_id_fkey ON integration.connector_secrets IS 'A secret that a connector uses stays';

-- ---------------------------------------------------------------- the price list

-- It belongs to no tenant: everybody reads it, its owner writes it.
ALTER TABLE billing.plans ENABLE ROW LEVEL SECURITY;
ALTER TABLE billing.plans FORCE ROW LEVEL SECURITY;
ALTER TABLE billing.plan_features ENABLE ROW LEVEL SECURITY;
ALTER TABLE billing.plan_features FORCE ROW LEVEL SECURITY;
CREATE POLICY everybody_reads ON billing.plans FOR SELECT USING (true);
CREATE POLICY everybody_reads ON billing.plan_features FOR SELECT USING (true);
CREATE POLICY owner ON billing.plans TO ferry_owner USING (true) WITH CHECK (true);
CREATE POLICY owner ON billing.plan_features TO ferry_owner USING (true) WITH CHECK (true);

-- ---------------------------------------------------------------- prices that were

-- Only a unit's own deletion takes its prices along.
CREATE FUNCTION inventory.keep_prices() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    outside text := coalesce(current_setting('app.tenant_id', true), '');
    there bool;
BEGIN
    IF TG_OP = 'DELETE' THEN
        PERFORM set_config('app.tenant_id', OLD.tenant_id::text, true);
        there := EXISTS (SELECT FROM inventory.units u WHERE u.tenant_id = OLD.tenant_id AND u.id = OLD.unit_id);
        PERFORM set_config('app.tenant_id', outside, true);
        IF NOT there THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'prices that a unit has had are never changed or deleted'
        USING ERRCODE = 'FE319', HINT = 'Change the unit''s price; that appends to them.';
END $$;
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON inventory.unit_price_history
    FOR EACH ROW EXECUTE FUNCTION inventory.keep_prices();
REVOKE INSERT, UPDATE, DELETE ON inventory.unit_price_history FROM ferry_app;
REVOKE EXECUTE ON FUNCTION inventory.keep_prices() FROM PUBLIC;

-- ---------------------------------------------------------------- numbers without gaps

-- A sequence that may have no gap counts by steps of its own and stays once it has counted:
-- set back it would give a number twice, set forward it would leave some out.
CREATE FUNCTION governance.keep_count() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        IF NOT EXISTS (SELECT FROM identity.tenants t WHERE t.id = OLD.tenant_id) THEN
            RETURN OLD;
        END IF;
        RAISE EXCEPTION 'the number sequence % has counted and must have no gap, so it stays', OLD.code
            USING ERRCODE = 'FE321', HINT = 'Set its status to another than ACTIVE.';
    END IF;
    IF NOT NEW.gap_free OR NEW.period < OLD.period
       OR NEW.period = OLD.period AND NEW.current_value NOT IN (OLD.current_value, OLD.current_value + OLD.step) THEN
        RAISE EXCEPTION 'the number sequence % has counted to % and must have no gap', OLD.code, OLD.current_value
            USING ERRCODE = 'FE321', HINT = 'Numbers are taken with governance.next_number.';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER keep_count BEFORE UPDATE ON governance.number_sequences
    FOR EACH ROW WHEN (OLD.gap_free AND OLD.current_value > 0
                       AND (OLD.gap_free, OLD.current_value, OLD.period) IS DISTINCT FROM (NEW.gap_free, NEW.current_value, NEW.period))
    EXECUTE FUNCTION governance.keep_count();
CREATE TRIGGER keep_used BEFORE DELETE ON governance.number_sequences
    FOR EACH ROW WHEN (OLD.gap_free AND OLD.current_value > 0) EXECUTE FUNCTION governance.keep_count();
REVOKE EXECUTE ON FUNCTION governance.keep_count() FROM PUBLIC;

-- As before (0016_numbers.sql), for the tenant's own sequences alone.
CREATE OR REPLACE FUNCTION governance.loose_value(of_id uuid, of_period text, first int, step int) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stem text := 'number_' || replace(of_id::text, '-', '') || '_';
    name text := stem || translate(of_period, '-', '');
    old text;
    caller name := CASE current_setting('role') WHEN 'none' THEN session_user ELSE current_setting('role') END;
BEGIN
    -- The rights of the owner make the sequence, so who asks is held to the tenant here. Where
    -- row-level security does not hold the caller, it does not hold here either.
    IF NOT (SELECT r.rolsuper OR r.rolbypassrls FROM pg_roles r WHERE r.rolname = caller) THEN
        IF NOT EXISTS (SELECT FROM governance.number_sequences q WHERE q.tenant_id = ferry.tenant() AND q.id = of_id AND NOT q.gap_free) THEN
            RAISE EXCEPTION 'this tenant has no number sequence %', of_id USING ERRCODE = 'FE321', HINT = 'Use governance.next_number.';
        END IF;
    END IF;
    IF to_regclass(format('governance.%I', name)) IS NULL THEN
        PERFORM pg_advisory_xact_lock(uuid_hash_extended(of_id, 4021958317));
        IF to_regclass(format('governance.%I', name)) IS NULL THEN
            -- What another has made meanwhile may not be known here until the schema is locked.
            EXECUTE format('CREATE SEQUENCE IF NOT EXISTS governance.%I MINVALUE 0 START %s INCREMENT %s', name, first, step);
            FOR old IN SELECT c.relname FROM pg_class c WHERE c.relkind = 'S' AND c.relnamespace = 'governance'::regnamespace
                       AND starts_with(c.relname, stem) ORDER BY c.relname DESC OFFSET 2 LOOP
                EXECUTE format('DROP SEQUENCE governance.%I', old);
            END LOOP;
        END IF;
    END IF;
    RETURN nextval(format('governance.%I', name));
END $$;

-- ---------------------------------------------------------------- rules of retention

-- A rule for a table that nobody looks at would keep nothing and say nothing.
CREATE FUNCTION governance.check_retention_rule() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM governance.retained_tables() t WHERE NEW.tab IN (t.rel::text, governance.rule_name(t.rel))) THEN
        RAISE EXCEPTION 'retention does not look at a table %', NEW.tab
            USING ERRCODE = 'undefined_table', HINT = 'Name one of governance.retained_tables() as schema.table.';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_rule BEFORE INSERT OR UPDATE ON governance.retention_rules
    FOR EACH ROW EXECUTE FUNCTION governance.check_retention_rule();
REVOKE EXECUTE ON FUNCTION governance.check_retention_rule() FROM PUBLIC;

-- ---------------------------------------------------------------- what was published

-- A payload was checked when it came in, and may have gone out: it stays what it is. So does a
-- version of a schema, or it could come back as another.
CREATE TRIGGER published BEFORE UPDATE ON integration.webhook_deliveries
    FOR EACH ROW WHEN ((OLD.tenant_id, OLD.id, OLD.subscription_id, OLD.event, OLD.payload, OLD.idempotency_key)
                       IS DISTINCT FROM (NEW.tenant_id, NEW.id, NEW.subscription_id, NEW.event, NEW.payload, NEW.idempotency_key))
    EXECUTE FUNCTION identity.keep_evidence();
CREATE TRIGGER kept BEFORE DELETE ON integration.schema_definitions
    FOR EACH ROW EXECUTE FUNCTION identity.keep_evidence();

RESET ROLE;
