-- A real-looking tenant for the demo: projects, 500 units, 200 leads, contacts, room scans.
-- Run with psql -v tenant=<uuid>; keys are derived from names, so that a second run finds
-- everything there and changes nothing.
BEGIN;
SELECT set_config('app.tenant_id', :'tenant', true) AS tenant \gset
CREATE FUNCTION pg_temp.key(name text) RETURNS uuid LANGUAGE sql IMMUTABLE AS
    $$ SELECT md5('ferry demo ' || current_setting('app.tenant_id') || name)::uuid $$;

-- Amina and Omar sell, each in a role of their own; Nadia leads them and decides.
INSERT INTO identity.users (tenant_id, id, email, display_name)
SELECT :'tenant', pg_temp.key('user ' || name), lower(name) || '@nilebay.example', name
FROM (VALUES ('Amina'), ('Omar'), ('Nadia')) AS u(name)
ON CONFLICT DO NOTHING;
INSERT INTO identity.roles (tenant_id, id, code, name)
SELECT :'tenant', pg_temp.key('role ' || code), code, name
FROM (VALUES ('sales_amina', 'Sales, Amina'), ('sales_omar', 'Sales, Omar'), ('sales_lead', 'Head of sales')) AS r(code, name)
ON CONFLICT DO NOTHING;
INSERT INTO identity.role_permissions (tenant_id, role_id, permission)
SELECT :'tenant'::uuid, pg_temp.key('role ' || role), permission
FROM (VALUES ('sales_amina'), ('sales_omar'), ('sales_lead')) AS r(role),
     unnest('{leads.*,contacts.*,deals.*,activities.*,inventory.view,inventory.create,inventory.edit,inventory.price,roomscan.*}'::text[]) AS permission
UNION ALL SELECT :'tenant'::uuid, pg_temp.key('role sales_lead'), 'inventory.approve'
ON CONFLICT DO NOTHING;
INSERT INTO identity.role_assignments (tenant_id, user_id, role_id)
SELECT :'tenant'::uuid, pg_temp.key('user ' || name), pg_temp.key('role ' || role)
FROM (VALUES ('Amina', 'sales_amina'), ('Omar', 'sales_omar'), ('Nadia', 'sales_lead')) AS a(name, role)
WHERE NOT EXISTS (SELECT FROM identity.role_assignments x WHERE x.user_id = pg_temp.key('user ' || name));

INSERT INTO inventory.developers (tenant_id, id, name, website)
VALUES (:'tenant', pg_temp.key('developer'), 'Nile Bay Developments', 'https://nilebay.example')
ON CONFLICT DO NOTHING;

INSERT INTO inventory.projects (tenant_id, id, developer_id, name, location, status, start_date)
SELECT :'tenant', pg_temp.key('project ' || n), pg_temp.key('developer'), name,
       jsonb_build_object('lat', 30.0 + n * 0.01, 'lng', 31.2 + n * 0.01), 'selling', date '2025-03-01' + n * 30
FROM (VALUES (1, 'Palm Court'), (2, 'Harbour Rise'), (3, 'Garden Terraces')) AS p(n, name)
ON CONFLICT DO NOTHING;

INSERT INTO inventory.units (tenant_id, id, project_id, code, floor, unit_type_code, size_sqm, bedrooms, bathrooms,
                             view, price_minor, currency, status, height_m)
SELECT :'tenant', pg_temp.key('unit ' || n), pg_temp.key('project ' || 1 + n % 3),
       chr(65 + n % 3) || '-' || lpad((n / 3 / 8 + 1)::text, 2, '0') || lpad((n / 3 % 8 + 1)::text, 2, '0'),
       n / 24 + 1, (ARRAY['APT_1BR', 'APT_2BR', 'VILLA_4BR'])[1 + n % 7 % 3], 60 + n % 90 + 0.5 * (n % 2),
       1 + n % 7 % 3, 1 + n % 2, (ARRAY['sea', 'garden', 'city'])[1 + n % 3], 150000000 + n % 50 * 5000000, 'EGP',
       CASE WHEN n % 11 = 0 THEN 'sold' WHEN n % 7 = 0 THEN 'reserved' ELSE 'available' END, 2.80
FROM generate_series(0, 499) n
ON CONFLICT DO NOTHING;

INSERT INTO crm.companies (tenant_id, id, name, city, country)
SELECT :'tenant', pg_temp.key('company ' || n), 'Company ' || n, 'Cairo', 'EG' FROM generate_series(1, 12) n
ON CONFLICT DO NOTHING;

INSERT INTO crm.contacts (tenant_id, id, company_id, full_name, email, phone_e164, tags)
SELECT :'tenant', pg_temp.key('contact ' || n), CASE WHEN n % 4 = 0 THEN pg_temp.key('company ' || 1 + n % 12) END,
       (ARRAY['Amina', 'Omar', 'Salma', 'Karim', 'Nour'])[1 + n % 5] || ' '
           || (ARRAY['Hassan', 'Farouk', 'Mansour', 'Selim'])[1 + n % 4] || ' ' || n,
       'contact' || n || '@example.com', '+2010' || lpad((n * 7919 % 100000000)::text, 8, '0'),
       CASE WHEN n % 3 = 0 THEN ARRAY['vip'] ELSE '{}' END
FROM generate_series(1, 160) n
ON CONFLICT DO NOTHING;

INSERT INTO crm.leads (tenant_id, id, contact_id, source_code, status_code, score, attributes)
SELECT :'tenant', pg_temp.key('lead ' || n), pg_temp.key('contact ' || 1 + n % 160),
       (ARRAY['web', 'walk_in', 'referral'])[1 + n % 3], (ARRAY['new', 'contacted', 'qualified'])[1 + n % 3], n % 100,
       jsonb_build_object('budget_minor', 100000000 + n * 1000000, 'wants', (ARRAY['sea', 'garden'])[1 + n % 2])
FROM generate_series(1, 200) n
ON CONFLICT DO NOTHING;

INSERT INTO roomscan.room_scans (tenant_id, id, unit_id, captured_at, document)
SELECT :'tenant', pg_temp.key('scan ' || n), pg_temp.key('unit ' || n * 11), timestamptz '2026-02-01 09:00Z' + n * interval '1 hour',
       jsonb_build_object('version', 2, 'walls', (
           SELECT jsonb_agg(jsonb_build_object('id', w, 'length_m', round(2.5 + w * 0.45 + n * 0.01, 2), 'height_m', 2.8))
           FROM generate_series(1, 8) w), 'doors', 2, 'windows', 3)
FROM generate_series(1, 40) n
ON CONFLICT DO NOTHING;
COMMIT;
