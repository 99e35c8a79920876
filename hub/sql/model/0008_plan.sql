-- The sync plan: which tables devices get, in which scopes, and what they may write.
-- Parents stand before tables whose scope leads over them.

SELECT ferry.track('identity.tenants', write => false);
SELECT ferry.track('identity.users', write => false, exclude => '{password_hash}');
SELECT ferry.track('identity.user_profiles');
SELECT ferry.track('inventory.unit_type_codes', 'global', write => false);
SELECT ferry.track('inventory.component_type_codes', 'global', write => false);
SELECT ferry.track('inventory.developers');
SELECT ferry.track('inventory.projects');
SELECT ferry.track('inventory.units', 'project:project_id');
SELECT ferry.track('inventory.unit_components', 'project:unit_id.project_id');
SELECT ferry.track('inventory.unit_price_history', 'project:unit_id.project_id', write => false);
SELECT ferry.track('inventory.map_overlays', 'project:project_id');
SELECT ferry.track('inventory.map_shapes', 'project:overlay_id.project_id');
SELECT ferry.track('roomscan.room_scans', 'project:unit_id.project_id');
SELECT ferry.track('crm.companies');
SELECT ferry.track('crm.contacts');
SELECT ferry.track('crm.leads');
SELECT ferry.track('crm.deal_pipelines');
SELECT ferry.track('crm.deal_stages');
SELECT ferry.track('crm.deals');
SELECT ferry.track('crm.activities');
SELECT ferry.track('comms.notifications_inbox', 'user:user_id');
