-- Events of a tenant's aggregates, in order; what has been computed from them.

SET LOCAL ROLE ferry_owner;

CREATE TABLE events.tenant_events (
    tenant_id            uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                   uuid NOT NULL DEFAULT identity.uuid7(),
    status               governance.tenant_child_status NOT NULL DEFAULT 'ACTIVE',
    version              int NOT NULL DEFAULT 1,
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    deleted_at           timestamptz,
    deleted_by_actor_id  uuid,
    created_by_actor_id  uuid,
    updated_by_actor_id  uuid,
    audit_correlation_id uuid,
    data_classification  text NOT NULL DEFAULT 'INTERNAL',
    retention_policy     governance.retention_policy,
    event_type           events.event_type NOT NULL DEFAULT 'TENANT_PROVISIONED',
    aggregate_type       varchar(100) NOT NULL,
    aggregate_id         uuid NOT NULL,
    sequence             int NOT NULL DEFAULT 1,
    event_name           varchar(255) NOT NULL,
    event_description    text,
    occurred_at          timestamptz NOT NULL DEFAULT now(),
    payload              jsonb NOT NULL,
    payload_schema       varchar(100),
    payload_hash         varchar(64),
    actor_id             uuid,
    actor_type           varchar(50),
    causation_id         uuid,
    correlation_id       uuid,
    stream_id            uuid NOT NULL,
    stream_position      int NOT NULL DEFAULT 1,
    expected_version     int,
    processed            boolean NOT NULL DEFAULT false,
    processed_at         timestamptz,
    projection_version   int DEFAULT 1,
    metadata             jsonb,
    tags                 varchar(50)[] NOT NULL DEFAULT '{}',
    is_snapshot          boolean NOT NULL DEFAULT false,
    snapshot_version     int,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, aggregate_type, aggregate_id, sequence),
    UNIQUE (tenant_id, stream_id, stream_position)
);
CREATE INDEX tenant_events_occurred_at_brin ON events.tenant_events USING brin (occurred_at);
CREATE INDEX tenant_events_actor_id_ix ON events.tenant_events (tenant_id, actor_id);
CREATE INDEX tenant_events_aggregate_type_aggregate_id_ix ON events.tenant_events (tenant_id, aggregate_type, aggregate_id);
CREATE INDEX tenant_events_aggregate_type_ix ON events.tenant_events (tenant_id, aggregate_type);
CREATE INDEX tenant_events_audit_correlation_id_ix ON events.tenant_events (tenant_id, audit_correlation_id);
CREATE INDEX tenant_events_causation_id_ix ON events.tenant_events (tenant_id, causation_id);
CREATE INDEX tenant_events_correlation_id_ix ON events.tenant_events (tenant_id, correlation_id);
CREATE INDEX tenant_events_data_classification_ix ON events.tenant_events (tenant_id, data_classification);
CREATE INDEX tenant_events_deleted_at_ix ON events.tenant_events (tenant_id, deleted_at);
CREATE INDEX tenant_events_event_type_ix ON events.tenant_events (tenant_id, event_type);
CREATE INDEX tenant_events_is_snapshot_ix ON events.tenant_events (tenant_id, is_snapshot);
CREATE INDEX tenant_events_occurred_at_tenant_brin ON events.tenant_events USING brin (tenant_id, occurred_at);
CREATE INDEX tenant_events_processed_ix ON events.tenant_events (tenant_id, processed);
CREATE INDEX tenant_events_status_ix ON events.tenant_events (tenant_id, status);
CREATE INDEX tenant_events_stream_id_ix ON events.tenant_events (tenant_id, stream_id);
COMMENT ON TABLE events.tenant_events IS 'What happened to an aggregate, in order; appended by events.append, never changed';
COMMENT ON COLUMN events.tenant_events.sequence IS 'Place among the events of its aggregate: 1, 2, 3 ...';
COMMENT ON COLUMN events.tenant_events.stream_position IS 'Place in its stream: 1, 2, 3 ...';
COMMENT ON COLUMN events.tenant_events.stream_id IS 'What is read in one order; the tenant''s own stream has the tenant''s id';
COMMENT ON COLUMN events.tenant_events.expected_version IS 'The sequence that the writer believed to be the last';
COMMENT ON COLUMN events.tenant_events.causation_id IS 'The event or request that led to this one';
COMMENT ON COLUMN events.tenant_events.payload_hash IS 'SHA-256 of the payload';
COMMENT ON COLUMN events.tenant_events.processed IS 'Handled by whoever works the events off; of all columns only these few may change';

CREATE TABLE events.event_projections (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT identity.uuid7(),
    version             int NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    deleted_at          timestamptz,
    deleted_by_actor_id uuid,
    created_by_actor_id uuid,
    updated_by_actor_id uuid,
    name                text NOT NULL,
    state               jsonb NOT NULL,
    stream_id           uuid,
    stream_position     int NOT NULL DEFAULT 0,
    reducer             text,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
);
CREATE INDEX event_projections_created_at_brin ON events.event_projections USING brin (created_at);
CREATE INDEX event_projections_deleted_at_ix ON events.event_projections (tenant_id, deleted_at);
CREATE INDEX event_projections_updated_at_brin ON events.event_projections USING brin (updated_at);
COMMENT ON TABLE events.event_projections IS 'What has been computed from events; may be rebuilt at any time';
COMMENT ON COLUMN events.event_projections.stream_position IS 'The last event that the state includes';
COMMENT ON COLUMN events.event_projections.reducer IS 'Function (state jsonb, event events.tenant_events) returning jsonb that takes an event in';

CREATE TABLE events.event_snapshots (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT identity.uuid7(),
    version             int NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    deleted_at          timestamptz,
    deleted_by_actor_id uuid,
    created_by_actor_id uuid,
    updated_by_actor_id uuid,
    aggregate_type      text NOT NULL,
    aggregate_id        text NOT NULL,
    snapshot            jsonb NOT NULL,
    aggregate_version   int NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, aggregate_type, aggregate_id, aggregate_version)
);
CREATE INDEX event_snapshots_created_at_brin ON events.event_snapshots USING brin (created_at);
CREATE INDEX event_snapshots_aggregate_type_aggregate_id_ix ON events.event_snapshots (tenant_id, aggregate_type, aggregate_id);
CREATE INDEX event_snapshots_deleted_at_ix ON events.event_snapshots (tenant_id, deleted_at);
COMMENT ON TABLE events.event_snapshots IS 'An aggregate''s state after an event, so that reading it needs only later ones';
COMMENT ON COLUMN events.event_snapshots.aggregate_version IS 'Sequence of the last event that it includes';

SELECT identity.open_schema('events');
SELECT governance.keep_versions('events.tenant_events', 'events.event_projections', 'events.event_snapshots');
SELECT governance.describe_common('events.tenant_events', 'events.event_projections', 'events.event_snapshots');

RESET ROLE;
