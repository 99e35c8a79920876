-- Feature flags, number sequences, encryption profiles; groups, labels and templates of documents.

SET LOCAL ROLE ferry_owner;

CREATE TABLE governance.feature_flags (
    tenant_id            uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
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
    key                  varchar(100) NOT NULL,
    name                 varchar(255) NOT NULL,
    description          text,
    enabled              boolean NOT NULL DEFAULT false,
    rollout_percentage   int NOT NULL DEFAULT 0,
    scope                governance.feature_flag_scope NOT NULL DEFAULT 'TENANT',
    target_user_ids      uuid[] NOT NULL DEFAULT '{}',
    target_roles         varchar(50)[] NOT NULL DEFAULT '{}',
    conditions           jsonb,
    start_date           timestamptz,
    end_date             timestamptz,
    is_temporary         boolean NOT NULL DEFAULT false,
    tags                 varchar(50)[] NOT NULL DEFAULT '{}',
    environment          varchar(20) NOT NULL DEFAULT 'production',
    priority             int NOT NULL DEFAULT 0,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, key),
    CHECK (rollout_percentage BETWEEN 0 AND 100),
    CHECK (start_date < end_date)
);
CREATE INDEX feature_flags_created_at_brin ON governance.feature_flags USING brin (created_at);
CREATE INDEX feature_flags_audit_correlation_id_ix ON governance.feature_flags (tenant_id, audit_correlation_id);
CREATE INDEX feature_flags_data_classification_ix ON governance.feature_flags (tenant_id, data_classification);
CREATE INDEX feature_flags_deleted_at_ix ON governance.feature_flags (tenant_id, deleted_at);
CREATE INDEX feature_flags_enabled_ix ON governance.feature_flags (tenant_id, enabled);
CREATE INDEX feature_flags_key_enabled_ix ON governance.feature_flags (tenant_id, key, enabled);
CREATE INDEX feature_flags_scope_ix ON governance.feature_flags (tenant_id, scope);
CREATE INDEX feature_flags_status_ix ON governance.feature_flags (tenant_id, status);
COMMENT ON TABLE governance.feature_flags IS 'What is switched on for whom; shared/flags.h says how a flag is answered';
COMMENT ON COLUMN governance.feature_flags.tenant_id IS 'The zero uuid: for every tenant, unless it has a flag of this key itself';
COMMENT ON COLUMN governance.feature_flags.conditions IS '{"<attribute>": <value or list of values or {"<operator>": ...}>, ...}; all must hold';
COMMENT ON COLUMN governance.feature_flags.rollout_percentage IS 'For how many of 100 it is on, chosen by a stable hash; 0: for nobody but those who are named';
COMMENT ON COLUMN governance.feature_flags.priority IS 'Of two flags that answer, the higher counts';
COMMENT ON COLUMN governance.feature_flags.environment IS 'Where it counts: production, staging ...';

CREATE TABLE governance.number_sequences (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT identity.uuid7(),
    status              governance.tenant_child_status NOT NULL DEFAULT 'ACTIVE',
    version             int NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    deleted_at          timestamptz,
    deleted_by_actor_id uuid,
    created_by_actor_id uuid,
    updated_by_actor_id uuid,
    code                varchar(50) NOT NULL,
    name                varchar(255) NOT NULL,
    description         text,
    prefix              varchar(20) NOT NULL,
    suffix              varchar(20),
    padding_length      int NOT NULL DEFAULT 6,
    current_value       int NOT NULL DEFAULT 0,
    min_value           int NOT NULL DEFAULT 1,
    max_value           int,
    step                int NOT NULL DEFAULT 1,
    reset_mode          governance.number_sequence_reset_mode NOT NULL DEFAULT 'NEVER',
    reset_value         int NOT NULL DEFAULT 1,
    last_reset_at       timestamptz,
    format_template     text NOT NULL DEFAULT '{prefix}-{number}',
    example_output      varchar(100),
    gap_free            boolean NOT NULL DEFAULT true,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, code),
    CHECK (step > 0 AND padding_length BETWEEN 0 AND 18)
);
CREATE INDEX number_sequences_status_ix ON governance.number_sequences (tenant_id, status);
CREATE INDEX number_sequences_deleted_at_ix ON governance.number_sequences (tenant_id, deleted_at);
COMMENT ON TABLE governance.number_sequences IS 'Counters of human-readable numbers, given out by governance.next_number';
COMMENT ON COLUMN governance.number_sequences.code IS 'What is numbered, such as INVOICE';
COMMENT ON COLUMN governance.number_sequences.current_value IS 'The last value given out in this period; 0: none yet';
COMMENT ON COLUMN governance.number_sequences.reset_value IS 'What a new period starts with';
COMMENT ON COLUMN governance.number_sequences.format_template IS
    'Text with {prefix}, {suffix}, {number} or {SEQ} (padded), {YYYY}, {YY}, {MM}, {DD}, {WW}';
COMMENT ON COLUMN governance.number_sequences.gap_free IS
    'A number that was given out and not used comes back: takers wait for each other''s transactions';

CREATE TABLE governance.encryption_profiles (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT identity.uuid7(),
    status              governance.tenant_child_status NOT NULL DEFAULT 'ACTIVE',
    version             int NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    deleted_at          timestamptz,
    deleted_by_actor_id uuid,
    created_by_actor_id uuid,
    updated_by_actor_id uuid,
    name                varchar(255) NOT NULL,
    algorithm           varchar(50) NOT NULL DEFAULT 'AES-256-GCM',
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
);

COMMENT ON TABLE governance.encryption_profiles IS 'How a kind of data is encrypted';

CREATE TABLE documents.document_groups (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT identity.uuid7(),
    status              governance.tenant_child_status NOT NULL DEFAULT 'ACTIVE',
    version             int NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    deleted_at          timestamptz,
    deleted_by_actor_id uuid,
    created_by_actor_id uuid,
    updated_by_actor_id uuid,
    name                varchar(255),
    description         text,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX document_groups_created_at_brin ON documents.document_groups USING brin (created_at);
CREATE INDEX document_groups_deleted_at_ix ON documents.document_groups (tenant_id, deleted_at);
CREATE INDEX document_groups_status_ix ON documents.document_groups (tenant_id, status);
COMMENT ON TABLE documents.document_groups IS 'Documents that belong together';

CREATE TABLE documents.terms_templates (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT identity.uuid7(),
    status              governance.tenant_child_status NOT NULL DEFAULT 'ACTIVE',
    version             int NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    deleted_at          timestamptz,
    deleted_by_actor_id uuid,
    created_by_actor_id uuid,
    updated_by_actor_id uuid,
    name                varchar(255),
    body                text,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX terms_templates_created_at_brin ON documents.terms_templates USING brin (created_at);
CREATE INDEX terms_templates_deleted_at_ix ON documents.terms_templates (tenant_id, deleted_at);
CREATE INDEX terms_templates_status_ix ON documents.terms_templates (tenant_id, status);
COMMENT ON TABLE documents.terms_templates IS 'Terms that are put into documents';

CREATE TABLE documents.contract_templates (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT identity.uuid7(),
    status              governance.tenant_child_status NOT NULL DEFAULT 'ACTIVE',
    version             int NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    deleted_at          timestamptz,
    deleted_by_actor_id uuid,
    created_by_actor_id uuid,
    updated_by_actor_id uuid,
    name                varchar(255),
    body                text,
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX contract_templates_created_at_brin ON documents.contract_templates USING brin (created_at);
CREATE INDEX contract_templates_deleted_at_ix ON documents.contract_templates (tenant_id, deleted_at);
CREATE INDEX contract_templates_status_ix ON documents.contract_templates (tenant_id, status);
COMMENT ON TABLE documents.contract_templates IS 'Texts that contracts are made from';

CREATE TABLE documents.labels (
    tenant_id           uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                  uuid NOT NULL DEFAULT identity.uuid7(),
    status              text NOT NULL DEFAULT 'ACTIVE',
    version             int NOT NULL DEFAULT 1,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now(),
    deleted_at          timestamptz,
    deleted_by_actor_id uuid,
    created_by_actor_id uuid,
    updated_by_actor_id uuid,
    name                varchar(100) NOT NULL,
    color               varchar(7),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
);

COMMENT ON TABLE documents.labels IS 'Words by which documents are sorted';

SELECT identity.open_schema('governance', 'feature_flags');
SELECT identity.open_schema('documents');
SELECT governance.keep_versions('governance.feature_flags', 'governance.number_sequences', 'governance.encryption_profiles',
                                'documents.document_groups', 'documents.terms_templates', 'documents.contract_templates', 'documents.labels');
SELECT governance.describe_common('governance.feature_flags', 'governance.number_sequences', 'governance.encryption_profiles',
                                  'documents.document_groups', 'documents.terms_templates', 'documents.contract_templates', 'documents.labels');

RESET ROLE;
