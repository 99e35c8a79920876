-- Developers, projects, units, maps, and the code lists of units.
--
-- Differences from the source: a code that is global had tenant_id NULL and a unique key
-- over COALESCE(tenant_id, ...), which a constraint can't hold; it has the reserved
-- tenant's id now, and the key is plain.

CREATE SCHEMA inventory AUTHORIZATION ferry_owner;
SET LOCAL ROLE ferry_owner;
COMMENT ON SCHEMA inventory IS 'Property: projects, units, plans and maps';

CREATE TABLE inventory.developers (
    tenant_id uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id        uuid NOT NULL DEFAULT gen_random_uuid(),
    name      text NOT NULL,
    website   text,
    phone     text,
    email     text,
    address   text,
    logo_url  text,
    PRIMARY KEY (tenant_id, id)
);
COMMENT ON TABLE inventory.developers IS 'Who builds';

CREATE TABLE inventory.projects (
    tenant_id      uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id             uuid NOT NULL DEFAULT gen_random_uuid(),
    developer_id   uuid,
    name           text NOT NULL,
    location       jsonb,
    status         text,
    start_date     date,
    end_date       date,
    description    text,
    map_overlay_id uuid,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, developer_id) REFERENCES inventory.developers ON DELETE SET NULL (developer_id)
);
CREATE INDEX projects_tenant_name_ix ON inventory.projects (tenant_id, name);
COMMENT ON TABLE inventory.projects IS 'Developments; a project is also a scope that devices hold';
COMMENT ON COLUMN inventory.projects.location IS '{"lat": ..., "lng": ...}';
COMMENT ON COLUMN inventory.projects.map_overlay_id IS 'The overlay shown first; no reference, since overlays refer to projects';

CREATE TABLE inventory.unit_type_codes (
    tenant_id  uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    code       text NOT NULL,
    label      text NOT NULL,
    is_active  boolean DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code)
);
COMMENT ON TABLE inventory.unit_type_codes IS 'Kinds of units: global ones, and those of a tenant';

CREATE TABLE inventory.component_type_codes (
    tenant_id  uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    code       text NOT NULL,
    label      text NOT NULL,
    is_active  boolean DEFAULT true,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code)
);
COMMENT ON TABLE inventory.component_type_codes IS 'Kinds of rooms and parts of units: global ones, and those of a tenant';

CREATE TABLE inventory.units (
    tenant_id        uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id               uuid NOT NULL DEFAULT gen_random_uuid(),
    project_id       uuid NOT NULL,
    code             text,
    floor            int,
    unit_type_code   text NOT NULL,
    size_sqm         numeric(12,2),
    bedrooms         int,
    bathrooms        int,
    view             text,
    price_minor      bigint,
    currency         char(3),
    status           text NOT NULL DEFAULT 'available',
    virtual_tour_url text,
    length_m         numeric(12,2),
    width_m          numeric(12,2),
    height_m         numeric(12,2),
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, project_id) REFERENCES inventory.projects ON DELETE CASCADE
);
CREATE INDEX units_lookup_ix ON inventory.units (tenant_id, status, unit_type_code, price_minor);
CREATE INDEX units_project_ix ON inventory.units (tenant_id, project_id);
COMMENT ON TABLE inventory.units IS 'Flats, villas, shops: what is sold';
COMMENT ON COLUMN inventory.units.price_minor IS 'In the minor unit of the currency; each change is kept in unit_price_history';
COMMENT ON COLUMN inventory.units.unit_type_code IS 'A code of unit_type_codes, the tenant''s or a global one';

CREATE TABLE inventory.unit_components (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT gen_random_uuid(),
    unit_id             uuid NOT NULL,
    component_type_code text NOT NULL,
    name                text,
    length_m            numeric(12,2),
    width_m             numeric(12,2),
    height_m            numeric(12,2),
    area_sqm            numeric(12,2),
    sort_order          int,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, unit_id) REFERENCES inventory.units ON DELETE CASCADE
);
CREATE INDEX unit_components_unit_ix ON inventory.unit_components (tenant_id, unit_id);
COMMENT ON TABLE inventory.unit_components IS 'Rooms and other parts of a unit';

CREATE TABLE inventory.unit_price_history (
    tenant_id          uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                 uuid NOT NULL DEFAULT gen_random_uuid(),
    unit_id            uuid NOT NULL,
    price_minor        bigint NOT NULL,
    currency           char(3) NOT NULL,
    effective_at       timestamptz NOT NULL,
    changed_by_user_id uuid,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, unit_id) REFERENCES inventory.units ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, changed_by_user_id) REFERENCES identity.users
);
CREATE INDEX unit_price_time_ix ON inventory.unit_price_history (tenant_id, unit_id, effective_at DESC);
COMMENT ON TABLE inventory.unit_price_history IS 'Prices a unit has had; written by a trigger when one changes';
COMMENT ON COLUMN inventory.unit_price_history.changed_by_user_id IS 'The setting app.user_id of the session, where it has one';

CREATE TABLE inventory.map_overlays (
    tenant_id  uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id         uuid NOT NULL DEFAULT gen_random_uuid(),
    project_id uuid,
    name       text,
    file_url   text,
    file_type  text,
    width_px   int,
    height_px  int,
    dpi        int,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, project_id) REFERENCES inventory.projects ON DELETE CASCADE
);
COMMENT ON TABLE inventory.map_overlays IS 'Plans and pictures that shapes are drawn on';

CREATE TABLE inventory.map_shapes (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT gen_random_uuid(),
    overlay_id          uuid NOT NULL,
    kind                text NOT NULL CHECK (kind IN ('unit', 'component')),
    unit_id             uuid,
    unit_component_id   uuid,
    unit_type_code      text,
    component_type_code text,
    geom_geojson        jsonb NOT NULL,
    area_sqm            numeric(12,2),
    perimeter_m         numeric(12,2),
    label               text,
    version             int NOT NULL DEFAULT 1,
    is_active           boolean NOT NULL DEFAULT true,
    updated_by_user_id  uuid,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, overlay_id) REFERENCES inventory.map_overlays ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, unit_id) REFERENCES inventory.units ON DELETE SET NULL (unit_id),
    FOREIGN KEY (tenant_id, unit_component_id) REFERENCES inventory.unit_components ON DELETE SET NULL (unit_component_id)
);
CREATE INDEX map_shapes_overlay_kind_ix ON inventory.map_shapes (tenant_id, overlay_id, kind, is_active);
COMMENT ON TABLE inventory.map_shapes IS 'Where on an overlay a unit or a part of one lies';

-- One statement for a whole price list; a history entry belongs to its unit's tenant,
-- whoever writes, hence the definer and the policy below.
CREATE FUNCTION inventory.note_prices() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO inventory.unit_price_history (tenant_id, unit_id, price_minor, currency, effective_at, changed_by_user_id)
    SELECT n.tenant_id, n.id, n.price_minor, n.currency, now(), nullif(current_setting('app.user_id', true), '')::uuid
    FROM after n JOIN before o ON o.tenant_id = n.tenant_id AND o.id = n.id
    WHERE (n.price_minor, n.currency) IS DISTINCT FROM (o.price_minor, o.currency)
      AND n.price_minor IS NOT NULL AND n.currency IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER price_history AFTER UPDATE ON inventory.units
    REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION inventory.note_prices();

SELECT identity.open_schema('inventory', 'unit_type_codes', 'component_type_codes');
CREATE POLICY history_writer ON inventory.unit_price_history TO ferry_owner USING (true) WITH CHECK (true);
SELECT identity.keep_updated_at('inventory.unit_type_codes', 'inventory.component_type_codes', 'inventory.units',
                                'inventory.unit_components', 'inventory.map_shapes');

SELECT set_config('app.tenant_id', '', true);
INSERT INTO inventory.unit_type_codes (code, label) VALUES
    ('APT_1BR', 'Apartment 1BR'),
    ('APT_2BR', 'Apartment 2BR'),
    ('VILLA_4BR', 'Villa 4BR');
INSERT INTO inventory.component_type_codes (code, label) VALUES
    ('ROOM_BED', 'Bedroom'),
    ('ROOM_BATH', 'Bathroom'),
    ('KITCHEN_STD', 'Kitchen'),
    ('BALCONY_STD', 'Balcony');

RESET ROLE;
