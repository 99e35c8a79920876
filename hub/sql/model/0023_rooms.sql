-- What a scan of rooms consists of, beyond the scan itself (roomscan.room_scans).
--
-- The source names these models and their relations, not their fields. The fields follow
-- what a RoomPlan capture gives: a session of a device in a unit, its files by the hash of
-- their content, and a model of surfaces and objects with dimensions (metres) and
-- transforms (a matrix of 4 by 4, column by column, as an array of 16 numbers).

SET LOCAL ROLE ferry_owner;

CREATE FUNCTION roomscan.is_transform(t jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE STRICT
    RETURN CASE WHEN jsonb_typeof(t) <> 'array' THEN false
                ELSE jsonb_array_length(t) = 16 AND NOT jsonb_path_exists(t, '$[*] ? (@.type() != "number")') END;
COMMENT ON FUNCTION roomscan.is_transform(jsonb) IS 'An array of 16 numbers: a matrix of 4 by 4, column by column';

CREATE TABLE roomscan.room_plan_presets (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT identity.uuid7(),
    name                text NOT NULL,
    description         text,
    settings            jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(settings) = 'object'),
    is_default          boolean NOT NULL DEFAULT false,
    created_by_actor_id uuid,
    updated_by_actor_id uuid,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
);
CREATE UNIQUE INDEX room_plan_presets_default_uq ON roomscan.room_plan_presets (tenant_id) WHERE is_default;
COMMENT ON TABLE roomscan.room_plan_presets IS 'Settings for scans: units, what to capture, file formats';
COMMENT ON COLUMN roomscan.room_plan_presets.settings IS '{"units": "metric", "capture": ["walls", ...], "exports": ["usdz", ...]}';
COMMENT ON COLUMN roomscan.room_plan_presets.is_default IS 'At most one of a tenant';

CREATE TABLE roomscan.room_scan_sessions (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT identity.uuid7(),
    unit_id             uuid NOT NULL,
    unit_component_id   uuid,
    preset_id           uuid,
    room_scan_id        uuid,
    device_id           uuid,
    user_id             uuid,
    title               text,
    status              text NOT NULL DEFAULT 'capturing'
                        CHECK (status IN ('capturing', 'captured', 'uploading', 'processing', 'completed', 'failed', 'cancelled')),
    device_model        text,
    software_version    text,
    coordinate_system   text NOT NULL DEFAULT 'y_up_right_handed' CHECK (coordinate_system IN ('y_up_right_handed', 'z_up_right_handed')),
    started_at          timestamptz NOT NULL,
    ended_at            timestamptz,
    quality             numeric(4,3) CHECK (quality BETWEEN 0 AND 1),
    notes               text,
    created_by_actor_id uuid,
    updated_by_actor_id uuid,
    deleted_by_actor_id uuid,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    deleted_at          timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, unit_id) REFERENCES inventory.units ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, unit_component_id) REFERENCES inventory.unit_components ON DELETE SET NULL (unit_component_id),
    FOREIGN KEY (tenant_id, preset_id) REFERENCES roomscan.room_plan_presets ON DELETE SET NULL (preset_id),
    FOREIGN KEY (tenant_id, room_scan_id) REFERENCES roomscan.room_scans ON DELETE SET NULL (room_scan_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users ON DELETE SET NULL (user_id),
    CHECK (ended_at >= started_at)
);
CREATE INDEX room_scan_sessions_unit_time_ix ON roomscan.room_scan_sessions (tenant_id, unit_id, started_at DESC);
CREATE INDEX room_scan_sessions_status_ix ON roomscan.room_scan_sessions (tenant_id, status);
COMMENT ON TABLE roomscan.room_scan_sessions IS 'A device capturing a unit or a room of it, from start to result';
COMMENT ON COLUMN roomscan.room_scan_sessions.device_id IS 'The device of ferry.device; no reference: the session outlives the device';
COMMENT ON COLUMN roomscan.room_scan_sessions.room_scan_id IS 'The document that came of it';
COMMENT ON COLUMN roomscan.room_scan_sessions.started_at IS 'By the device''s clock';
COMMENT ON COLUMN roomscan.room_scan_sessions.quality IS 'How sure the scanner was on the whole, 0 to 1';
COMMENT ON COLUMN roomscan.room_scan_sessions.deleted_at IS 'Set: archived, not shown unless asked for';

CREATE TABLE roomscan.room_scan_files (
    tenant_id   uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id          uuid NOT NULL DEFAULT identity.uuid7(),
    session_id  uuid NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('usdz', 'roomplan_json', 'point_cloud', 'mesh', 'depth', 'image', 'video', 'other')),
    file_name   text NOT NULL,
    media_type  text NOT NULL DEFAULT 'application/octet-stream',
    size_bytes  bigint NOT NULL CHECK (size_bytes >= 0),
    sha256      bytea NOT NULL CHECK (octet_length(sha256) = 32),
    captured_at timestamptz,
    stored_at   timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, session_id) REFERENCES roomscan.room_scan_sessions ON DELETE CASCADE
);
CREATE INDEX room_scan_files_session_ix ON roomscan.room_scan_files (tenant_id, session_id, kind);
CREATE INDEX room_scan_files_sha256_ix ON roomscan.room_scan_files (tenant_id, sha256);
COMMENT ON TABLE roomscan.room_scan_files IS 'Files of a session, by the hash of their content';
COMMENT ON COLUMN roomscan.room_scan_files.stored_at IS 'When the content was complete at the hub; NULL: the device still has to send it';

CREATE TABLE roomscan.room_models (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT identity.uuid7(),
    session_id          uuid NOT NULL,
    document_group_id   uuid,
    source_file_id      uuid,
    name                text NOT NULL,
    room_type           text,
    storey              int NOT NULL DEFAULT 0,
    version             int NOT NULL DEFAULT 1 CHECK (version > 0),
    status              text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'reviewed', 'published', 'superseded')),
    length_m            numeric(12,4) CHECK (length_m >= 0),
    width_m             numeric(12,4) CHECK (width_m >= 0),
    height_m            numeric(12,4) CHECK (height_m >= 0),
    floor_area_sqm      numeric(14,4) CHECK (floor_area_sqm >= 0),
    volume_m3           numeric(16,4) CHECK (volume_m3 >= 0),
    outline             jsonb,
    transform           jsonb CHECK (roomscan.is_transform(transform)),
    created_by_actor_id uuid,
    updated_by_actor_id uuid,
    deleted_by_actor_id uuid,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    deleted_at          timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, session_id) REFERENCES roomscan.room_scan_sessions ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, source_file_id) REFERENCES roomscan.room_scan_files ON DELETE SET NULL (source_file_id),
    FOREIGN KEY (tenant_id, document_group_id) REFERENCES documents.document_groups ON DELETE SET NULL (document_group_id)
);
CREATE INDEX room_models_session_ix ON roomscan.room_models (tenant_id, session_id);
COMMENT ON TABLE roomscan.room_models IS 'A room as the scan made it out: its size, with its surfaces and objects in their own tables';
COMMENT ON COLUMN roomscan.room_models.outline IS 'The floor''s corners in order: [[x, z], ...] in metres';
COMMENT ON COLUMN roomscan.room_models.transform IS 'From the room''s coordinates to the session''s';
COMMENT ON COLUMN roomscan.room_models.deleted_at IS 'Set: archived, not shown unless asked for';

CREATE TABLE roomscan.room_surfaces (
    tenant_id         uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                uuid NOT NULL DEFAULT identity.uuid7(),
    model_id          uuid NOT NULL,
    parent_surface_id uuid,
    category          text NOT NULL CHECK (category IN ('wall', 'floor', 'ceiling', 'door', 'window', 'opening')),
    is_open           boolean,
    width_m           numeric(12,4) CHECK (width_m >= 0),
    height_m          numeric(12,4) CHECK (height_m >= 0),
    thickness_m       numeric(12,4) CHECK (thickness_m >= 0),
    area_sqm          numeric(14,4) CHECK (area_sqm >= 0),
    transform         jsonb NOT NULL CHECK (roomscan.is_transform(transform)),
    polygon           jsonb,
    curve             jsonb,
    confidence        text CHECK (confidence IN ('low', 'medium', 'high')),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, model_id) REFERENCES roomscan.room_models ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, parent_surface_id) REFERENCES roomscan.room_surfaces ON DELETE CASCADE,
    CHECK (parent_surface_id <> id),
    CHECK (is_open IS NULL OR category = 'door')
);
CREATE INDEX room_surfaces_model_ix ON roomscan.room_surfaces (tenant_id, model_id, category);
CREATE INDEX room_surfaces_parent_ix ON roomscan.room_surfaces (tenant_id, parent_surface_id);
COMMENT ON TABLE roomscan.room_surfaces IS 'Walls, floors, ceilings, and the doors, windows and openings in them';
COMMENT ON COLUMN roomscan.room_surfaces.parent_surface_id IS 'The wall that a door, window or opening is in';
COMMENT ON COLUMN roomscan.room_surfaces.curve IS 'Of a round wall: centre, radius, start and end angle';

CREATE TABLE roomscan.room_objects (
    tenant_id         uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                uuid NOT NULL DEFAULT identity.uuid7(),
    model_id          uuid NOT NULL,
    parent_surface_id uuid,
    category          text NOT NULL
                      CHECK (category IN ('storage', 'refrigerator', 'stove', 'bed', 'sink', 'washer_dryer', 'toilet', 'bathtub', 'oven',
                                          'dishwasher', 'table', 'sofa', 'chair', 'fireplace', 'television', 'stairs', 'other')),
    label             text,
    width_m           numeric(12,4) CHECK (width_m >= 0),
    height_m          numeric(12,4) CHECK (height_m >= 0),
    depth_m           numeric(12,4) CHECK (depth_m >= 0),
    transform         jsonb NOT NULL CHECK (roomscan.is_transform(transform)),
    attributes        jsonb,
    confidence        text CHECK (confidence IN ('low', 'medium', 'high')),
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, model_id) REFERENCES roomscan.room_models ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, parent_surface_id) REFERENCES roomscan.room_surfaces ON DELETE SET NULL (parent_surface_id)
);
CREATE INDEX room_objects_model_ix ON roomscan.room_objects (tenant_id, model_id, category);
COMMENT ON TABLE roomscan.room_objects IS 'Furniture and fittings that the scan recognised';

CREATE TABLE roomscan.room_measurements (
    tenant_id   uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id          uuid NOT NULL DEFAULT identity.uuid7(),
    model_id    uuid NOT NULL,
    surface_id  uuid,
    object_id   uuid,
    kind        text NOT NULL CHECK (kind IN ('length', 'width', 'height', 'area', 'perimeter', 'volume', 'angle', 'distance')),
    value       numeric(16,4) NOT NULL,
    unit        text NOT NULL DEFAULT 'm' CHECK (unit IN ('m', 'm2', 'm3', 'deg')),
    tolerance   numeric(16,4) CHECK (tolerance >= 0),
    points      jsonb,
    method      text NOT NULL DEFAULT 'scan' CHECK (method IN ('scan', 'laser', 'tape', 'derived')),
    label       text,
    measured_at timestamptz,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, model_id) REFERENCES roomscan.room_models ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, surface_id) REFERENCES roomscan.room_surfaces ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, object_id) REFERENCES roomscan.room_objects ON DELETE CASCADE,
    CHECK (unit = CASE kind WHEN 'area' THEN 'm2' WHEN 'volume' THEN 'm3' WHEN 'angle' THEN 'deg' ELSE 'm' END)
);
CREATE INDEX room_measurements_model_ix ON roomscan.room_measurements (tenant_id, model_id, kind);
COMMENT ON TABLE roomscan.room_measurements IS 'Sizes that were measured, by the scan or by hand';
COMMENT ON COLUMN roomscan.room_measurements.tolerance IS 'In the unit of value';
COMMENT ON COLUMN roomscan.room_measurements.points IS 'Between which points: [[x, y, z], ...] in the room''s coordinates';

CREATE TABLE roomscan.room_annotations (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT identity.uuid7(),
    model_id            uuid NOT NULL,
    surface_id          uuid,
    object_id           uuid,
    kind                text NOT NULL DEFAULT 'note' CHECK (kind IN ('note', 'defect', 'question', 'photo')),
    severity            text CHECK (severity IN ('low', 'medium', 'high', 'critical')),
    body                text,
    anchor              jsonb,
    photo_file_id       uuid,
    is_resolved         boolean NOT NULL DEFAULT false,
    resolved_at         timestamptz,
    created_by_actor_id uuid,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, model_id) REFERENCES roomscan.room_models ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, surface_id) REFERENCES roomscan.room_surfaces ON DELETE SET NULL (surface_id),
    FOREIGN KEY (tenant_id, object_id) REFERENCES roomscan.room_objects ON DELETE SET NULL (object_id),
    FOREIGN KEY (tenant_id, photo_file_id) REFERENCES roomscan.room_scan_files ON DELETE SET NULL (photo_file_id)
);
CREATE INDEX room_annotations_model_ix ON roomscan.room_annotations (tenant_id, model_id, is_resolved);
COMMENT ON TABLE roomscan.room_annotations IS 'Notes and defects at a place of a room';
COMMENT ON COLUMN roomscan.room_annotations.anchor IS 'Where: [x, y, z] in the room''s coordinates';

CREATE TABLE roomscan.room_exports (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT identity.uuid7(),
    model_id            uuid NOT NULL,
    document_group_id   uuid,
    format              text NOT NULL CHECK (format IN ('usdz', 'obj', 'gltf', 'ifc', 'dxf', 'svg', 'pdf', 'json', 'csv')),
    options             jsonb,
    status              text NOT NULL DEFAULT 'requested' CHECK (status IN ('requested', 'running', 'ready', 'failed', 'expired')),
    file_name           text,
    size_bytes          bigint CHECK (size_bytes >= 0),
    sha256              bytea CHECK (octet_length(sha256) = 32),
    error_message       text,
    created_by_actor_id uuid,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    ready_at            timestamptz,
    expires_at          timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, model_id) REFERENCES roomscan.room_models ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, document_group_id) REFERENCES documents.document_groups ON DELETE SET NULL (document_group_id),
    CHECK (status <> 'ready' OR sha256 IS NOT NULL)
);
CREATE INDEX room_exports_model_ix ON roomscan.room_exports (tenant_id, model_id, created_at DESC);
COMMENT ON TABLE roomscan.room_exports IS 'A room written to a file of another format';

CREATE TABLE roomscan.room_processing_jobs (
    tenant_id     uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id            uuid NOT NULL DEFAULT identity.uuid7(),
    session_id    uuid NOT NULL,
    model_id      uuid,
    export_id     uuid,
    kind          text NOT NULL CHECK (kind IN ('build_model', 'merge_rooms', 'measure', 'export', 'thumbnail')),
    status        text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
    progress      int NOT NULL DEFAULT 0 CHECK (progress BETWEEN 0 AND 100),
    attempt       int NOT NULL DEFAULT 0 CHECK (attempt >= 0),
    parameters    jsonb,
    result        jsonb,
    error_code    text,
    error_message text,
    queued_at     timestamptz NOT NULL DEFAULT now(),
    started_at    timestamptz,
    finished_at   timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, session_id) REFERENCES roomscan.room_scan_sessions ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, model_id) REFERENCES roomscan.room_models ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, export_id) REFERENCES roomscan.room_exports ON DELETE CASCADE,
    CHECK (finished_at >= started_at)
);
CREATE INDEX room_processing_jobs_queue_ix ON roomscan.room_processing_jobs (tenant_id, status, queued_at);
CREATE INDEX room_processing_jobs_session_ix ON roomscan.room_processing_jobs (tenant_id, session_id);
COMMENT ON TABLE roomscan.room_processing_jobs IS 'Work on a session: making models, measuring, exporting';

SELECT identity.open_schema('roomscan');
SELECT identity.keep_updated_at('roomscan.room_plan_presets', 'roomscan.room_scan_sessions', 'roomscan.room_scan_files',
                                'roomscan.room_models', 'roomscan.room_surfaces', 'roomscan.room_objects',
                                'roomscan.room_measurements', 'roomscan.room_annotations', 'roomscan.room_exports',
                                'roomscan.room_processing_jobs');
SELECT governance.describe_common('roomscan.room_plan_presets', 'roomscan.room_scan_sessions', 'roomscan.room_models',
                                  'roomscan.room_annotations', 'roomscan.room_exports');

RESET ROLE;
