-- The sync plan: which tables devices get, and what their users need to read and write them.
-- Every table that is not here stays at the hub.
--
--   SELECT ferry.plan(<table>, <scope>, <rights>, ...)
--     scope     whose rows: of the tenant, of everybody (global), of a project, of a user
--     rights    'leads': leads.view to read, leads.create, leads.edit, leads.delete to write
--     read, "insert", "update", "delete"     a single permission instead
--     write => false    devices only read
--     archive => true   rows with deleted_at set leave devices that hold no archived scope
--     exclude           columns that never leave the hub
--   SELECT ferry.bring(<table>, <column>)    the parents that the column names come along, to be read
--
-- Scope and permission both have to be there: a row of crm.leads goes to devices that hold
-- the scope tenant and whose user has leads.view. Parents stand before their children.
SET LOCAL ROLE ferry_owner;

-- identity: who works here. Secrets, settings of the tenant, keys, sessions and audit stay.
SELECT ferry.plan('identity.tenants', write => false);
SELECT ferry.plan('identity.users', write => false, archive => true);
SELECT ferry.plan('identity.user_profiles', "insert" => 'profiles.edit', "update" => 'profiles.edit', "delete" => 'profiles.edit');
SELECT ferry.plan('identity.user_settings', 'user:user_id');
SELECT ferry.plan('identity.groups', write => false);
SELECT ferry.plan('identity.roles', write => false);
SELECT ferry.plan('identity.role_assignments', 'user:user_id', write => false);

-- governance: what is switched on, for devices that answer that offline. Policies, secrets
-- and sequences stay.
SELECT ferry.plan('governance.feature_flags', 'global', write => false);

-- documents: names by which they are sorted, and texts.
SELECT ferry.plan('documents.document_groups', rights => 'documents', archive => true);
SELECT ferry.plan('documents.labels', rights => 'documents', archive => true);
SELECT ferry.plan('documents.terms_templates', rights => 'documents', write => false, archive => true);
SELECT ferry.plan('documents.contract_templates', rights => 'documents', write => false, archive => true);

-- inventory: developments and their units. Names of projects and codes are open to all.
SELECT ferry.plan('inventory.unit_type_codes', 'global', write => false);
SELECT ferry.plan('inventory.component_type_codes', 'global', write => false);
SELECT ferry.plan('inventory.developers', "insert" => 'inventory.create', "update" => 'inventory.edit', "delete" => 'inventory.delete');
SELECT ferry.plan('inventory.projects', "insert" => 'inventory.create', "update" => 'inventory.edit', "delete" => 'inventory.delete');
SELECT ferry.plan('inventory.units', 'project:project_id', 'inventory');
SELECT ferry.permit('inventory.units', 'insert', 'inventory.price', '{price_minor,currency}');
SELECT ferry.permit('inventory.units', 'update', 'inventory.price', '{price_minor,currency}');
SELECT ferry.plan('inventory.unit_components', 'project:unit_id.project_id', 'inventory');
SELECT ferry.plan('inventory.unit_price_history', 'project:unit_id.project_id', 'inventory', write => false);
SELECT ferry.plan('inventory.map_overlays', 'project:project_id', 'inventory');
SELECT ferry.plan('inventory.map_shapes', 'project:overlay_id.project_id', 'inventory');

-- roomscan: rooms of units. Jobs and exports run at the hub.
SELECT ferry.plan('roomscan.room_scans', 'project:unit_id.project_id', 'roomscan');
SELECT ferry.plan('roomscan.room_plan_presets', rights => 'roomscan');
SELECT ferry.plan('roomscan.room_scan_sessions', 'project:unit_id.project_id', 'roomscan', archive => true);
-- A role for a single project does not reach the presets, which are the tenant's.
SELECT ferry.bring('roomscan.room_scan_sessions', 'preset_id');
SELECT ferry.plan('roomscan.room_scan_files', 'project:session_id.unit_id.project_id', 'roomscan');
SELECT ferry.policy('roomscan.room_scan_files', 'stored_at', 'hub');
SELECT ferry.plan('roomscan.room_models', 'project:session_id.unit_id.project_id', 'roomscan', archive => true);
SELECT ferry.plan('roomscan.room_surfaces', 'project:model_id.session_id.unit_id.project_id', 'roomscan');
SELECT ferry.plan('roomscan.room_objects', 'project:model_id.session_id.unit_id.project_id', 'roomscan');
SELECT ferry.plan('roomscan.room_measurements', 'project:model_id.session_id.unit_id.project_id', 'roomscan');
SELECT ferry.plan('roomscan.room_annotations', 'project:model_id.session_id.unit_id.project_id', 'roomscan');

-- crm: whom a tenant sells to.
SELECT ferry.plan('crm.companies', rights => 'contacts');
SELECT ferry.plan('crm.contacts', rights => 'contacts');
SELECT ferry.plan('crm.leads', rights => 'leads', archive => true);
SELECT ferry.plan('crm.deal_pipelines', read => 'deals.view', "insert" => 'deals.setup', "update" => 'deals.setup', "delete" => 'deals.setup');
SELECT ferry.plan('crm.deal_stages', read => 'deals.view', "insert" => 'deals.setup', "update" => 'deals.setup', "delete" => 'deals.setup');
SELECT ferry.plan('crm.deals', rights => 'deals');
SELECT ferry.plan('crm.activities', rights => 'activities');

-- comms: what the user is told. Campaigns, templates and the outbox stay.
SELECT ferry.plan('comms.notifications_inbox', 'user:user_id');

-- commerce: who buys what.
SELECT ferry.plan('commerce.customers', rights => 'customers', exclude => '{provider,external_id,billing_contacts,metadata}');
SELECT ferry.plan('commerce.orders', rights => 'orders', write => false, exclude => '{connector_id,external_id}');

-- engagement: work for clients. Everyone has his own hours.
SELECT ferry.plan('engagement.services', rights => 'services', archive => true);
SELECT ferry.permit('engagement.services', 'insert', 'services.price', '{price_minor,currency}');
SELECT ferry.permit('engagement.services', 'update', 'services.price', '{price_minor,currency}');
SELECT ferry.plan('engagement.engagements', rights => 'engagements', archive => true);
SELECT ferry.plan('engagement.assignments', read => 'engagements.view', "insert" => 'engagements.edit', "update" => 'engagements.edit', "delete" => 'engagements.edit');
SELECT ferry.plan('engagement.time_entries', 'user:user_id', 'time');

-- contracts, billing, approvals: contracts are signed and invoices written at the hub.
SELECT ferry.plan('contracts.contracts', rights => 'contracts', archive => true, exclude => '{signature_envelope_id}');
SELECT ferry.policy('contracts.contracts', c, 'hub') FROM unnest('{version,signature_status,signature_provider,signed_at}'::text[]) c;
SELECT ferry.plan('contracts.contract_versions', rights => 'contracts', write => false);
SELECT ferry.plan('billing.invoices', rights => 'billing', write => false, archive => true, exclude => '{provider,provider_invoice_id}');
SELECT ferry.plan('billing.invoice_lines', rights => 'billing', write => false);
SELECT ferry.plan('approvals.approvals', rights => 'approvals', "insert" => 'approvals.request', "update" => 'approvals.approve');
SELECT ferry.policy('approvals.approvals', c, 'hub') FROM unnest('{sla_due_at,escalated_at}'::text[]) c;
SELECT ferry.plan('approvals.approval_history', rights => 'approvals', write => false);

-- media, assistant: files' names and the user's own conversations. Where files lie, stays.
SELECT ferry.plan('media.media_assets', rights => 'media', exclude => '{storage_key}');
SELECT ferry.plan('assistant.conversations', 'user:user_id', read => 'assistant.use', "insert" => 'assistant.use', "update" => 'assistant.use', "delete" => 'assistant.use');
SELECT ferry.plan('assistant.messages', 'user:conversation_id.user_id', read => 'assistant.use', "insert" => 'assistant.use', "update" => 'assistant.use', "delete" => 'assistant.use');

-- Which of these the tenants' policies speak of already.
SELECT governance.note_policies();

RESET ROLE;
