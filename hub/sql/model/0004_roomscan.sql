-- Room scans, as a field device takes them.

CREATE SCHEMA roomscan AUTHORIZATION ferry_owner;
SET LOCAL ROLE ferry_owner;
COMMENT ON SCHEMA roomscan IS 'Scans of rooms and what is made of them';

CREATE TABLE roomscan.room_scans (
    tenant_id   uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id          uuid NOT NULL DEFAULT gen_random_uuid(),
    unit_id     uuid NOT NULL,
    device_id   uuid,
    user_id     uuid,
    captured_at timestamptz NOT NULL,
    uploaded_at timestamptz,
    document    jsonb NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, unit_id) REFERENCES inventory.units ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users ON DELETE SET NULL (user_id)
);
CREATE INDEX room_scans_unit_time_ix ON roomscan.room_scans (tenant_id, unit_id, captured_at DESC);
COMMENT ON TABLE roomscan.room_scans IS 'One scan of a room or of a whole unit';
COMMENT ON COLUMN roomscan.room_scans.device_id IS 'The device that took it; no reference: the scan outlives the device';
COMMENT ON COLUMN roomscan.room_scans.captured_at IS 'When it was taken, by the device''s clock';
COMMENT ON COLUMN roomscan.room_scans.uploaded_at IS 'When the files that belong to it were complete at the hub';
COMMENT ON COLUMN roomscan.room_scans.document IS 'The RoomPlan document: walls, openings, objects, with dimensions and transforms';

SELECT identity.open_schema('roomscan');
SELECT identity.keep_updated_at('roomscan.room_scans');

RESET ROLE;
