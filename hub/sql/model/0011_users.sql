-- Users, members, roles and where they hold, keys, sessions, devices, actors.
--
-- A user belongs to a tenant here, also where a source calls it global: so no key crosses
-- tenants. Who somebody is across tenants says identity.actors, which stays at the hub.

SET LOCAL ROLE ferry_owner;

-- ---------------------------------------------------------------- users

UPDATE ferry.tracked SET excluded = '{password_hash,metadata,mfa_secret_id,mfa_enabled,deleted_by,delete_reason}'
WHERE relid = 'identity.users'::regclass;
ALTER TABLE identity.users
    ADD COLUMN display_name  text,
    ADD COLUMN metadata      jsonb,
    ADD COLUMN mfa_secret_id uuid,
    ADD COLUMN mfa_enabled   boolean NOT NULL DEFAULT false,
    ADD COLUMN deleted_at    timestamptz,
    ADD COLUMN deleted_by    uuid,
    ADD COLUMN delete_reason text;
CREATE INDEX users_deleted_at_ix ON identity.users (tenant_id, deleted_at);
COMMENT ON COLUMN identity.users.mfa_secret_id IS 'The encrypted secret of the second factor; never leaves the hub';
COMMENT ON COLUMN identity.users.deleted_at IS 'Set: the user is deleted, though kept';
COMMENT ON COLUMN identity.users.deleted_by IS 'The user who did it; no reference: outlives that one';

ALTER TABLE identity.user_profiles
    ADD COLUMN handle     text,
    ADD COLUMN avatar_url text,
    ADD COLUMN bio        text,
    ADD COLUMN links      jsonb,
    ADD COLUMN created_at timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
CREATE UNIQUE INDEX user_profiles_handle_uq ON identity.user_profiles (tenant_id, handle);
COMMENT ON COLUMN identity.user_profiles.handle IS 'Short name by which others mention the user';
COMMENT ON COLUMN identity.user_profiles.links IS '[{"title": ..., "url": ...}, ...]';

CREATE TABLE identity.user_settings (
    tenant_id     uuid NOT NULL,
    user_id       uuid NOT NULL,
    notifications jsonb NOT NULL DEFAULT '{}',
    privacy       jsonb NOT NULL DEFAULT '{}',
    accessibility jsonb NOT NULL DEFAULT '{}',
    product       jsonb NOT NULL DEFAULT '{}',
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users ON DELETE CASCADE
);
COMMENT ON TABLE identity.user_settings IS 'What a user chose; at most one row each';
COMMENT ON COLUMN identity.user_settings.product IS 'Choices of single screens and tools';

CREATE TABLE identity.members (
    tenant_id  uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id         uuid NOT NULL DEFAULT identity.uuid7(),
    user_id    uuid NOT NULL,
    role       text,
    status     text NOT NULL DEFAULT 'active' CHECK (status IN ('invited', 'active', 'left')),
    attributes jsonb NOT NULL DEFAULT '{}',
    invited_by uuid,
    joined_at  timestamptz,
    left_at    timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, user_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users ON DELETE CASCADE
);
COMMENT ON TABLE identity.members IS 'How a user belongs to the tenant: since when, as what';
COMMENT ON COLUMN identity.members.role IS 'Title within the organisation; what it allows is in role_assignments';
COMMENT ON COLUMN identity.members.attributes IS 'What policies may ask about: department, site, grade ...';
COMMENT ON COLUMN identity.members.invited_by IS 'A user; no reference: outlives that one';

-- ---------------------------------------------------------------- roles

ALTER TABLE identity.roles
    ADD COLUMN description text,
    ADD COLUMN is_system   boolean NOT NULL DEFAULT false,
    ADD COLUMN created_at  timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN updated_at  timestamptz NOT NULL DEFAULT now();
COMMENT ON COLUMN identity.roles.is_system IS 'Comes with every tenant; its code is relied on';
ALTER TABLE identity.role_permissions
    ADD COLUMN id         uuid NOT NULL DEFAULT identity.uuid7(),
    ADD COLUMN created_at timestamptz NOT NULL DEFAULT now(),
    ADD UNIQUE (tenant_id, id),
    ADD CONSTRAINT role_permissions_form CHECK (permission ~ '^(\*|[a-z][a-z0-9_]*(\.[a-z0-9_]+)*\.(\*|[a-z0-9_]+))$');

CREATE TYPE identity.role_scope AS ENUM ('GLOBAL', 'TENANT', 'PROJECT');
CREATE TABLE identity.role_assignments (
    tenant_id  uuid NOT NULL,
    id         uuid NOT NULL DEFAULT identity.uuid7(),
    user_id    uuid NOT NULL,
    role_id    uuid NOT NULL,
    scope_kind identity.role_scope NOT NULL DEFAULT 'TENANT',
    project_id uuid,
    granted_by uuid,
    starts_at  timestamptz,
    expires_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE NULLS NOT DISTINCT (tenant_id, user_id, role_id, scope_kind, project_id),
    CHECK ((scope_kind = 'PROJECT') = (project_id IS NOT NULL)),
    CHECK (starts_at < expires_at),
    FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, role_id) REFERENCES identity.roles ON DELETE CASCADE
);
CREATE INDEX role_assignments_role_ix ON identity.role_assignments (tenant_id, role_id);
CREATE INDEX role_assignments_project_ix ON identity.role_assignments (tenant_id, project_id) WHERE project_id IS NOT NULL;
COMMENT ON TABLE identity.role_assignments IS 'Who has which role, and where it holds';
COMMENT ON COLUMN identity.role_assignments.scope_kind IS
    'GLOBAL: also for rows that belong to no tenant; TENANT: for the whole tenant; PROJECT: for one project';
COMMENT ON COLUMN identity.role_assignments.project_id IS 'A project of any kind, hence no reference; the scope project:<id>';
COMMENT ON COLUMN identity.role_assignments.granted_by IS 'A user; no reference: outlives that one';
-- As the superuser, who alone sees the rows of all tenants.
RESET ROLE;
INSERT INTO identity.role_assignments (tenant_id, user_id, role_id)
SELECT r.tenant_id, r.user_id, r.role_id FROM identity.user_roles r;
SET LOCAL ROLE ferry_owner;

DROP TABLE identity.user_roles;
CREATE VIEW identity.user_roles WITH (security_invoker) AS
    SELECT a.tenant_id, a.user_id, a.role_id FROM identity.role_assignments a WHERE a.scope_kind = 'TENANT';
COMMENT ON VIEW identity.user_roles IS 'Roles that hold for the whole tenant, as older programs know them; may be written';

-- ---------------------------------------------------------------- keys, sessions, devices

CREATE TABLE identity.api_keys (
    tenant_id     uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id            uuid NOT NULL DEFAULT identity.uuid7(),
    user_id       uuid,
    name          text NOT NULL,
    prefix        varchar(16),
    scopes        text[] NOT NULL DEFAULT '{}',
    hashed_secret text NOT NULL,
    last_used_at  timestamptz,
    expires_at    timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    revoked_at    timestamptz,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, hashed_secret),
    FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users ON DELETE CASCADE
);
CREATE INDEX api_keys_user_ix ON identity.api_keys (tenant_id, user_id);
COMMENT ON TABLE identity.api_keys IS 'Keys with which programs act for a tenant or a user';
COMMENT ON COLUMN identity.api_keys.prefix IS 'The first letters of the key, by which people tell keys apart';
COMMENT ON COLUMN identity.api_keys.scopes IS 'Permissions, as <domain>.<action>';
COMMENT ON COLUMN identity.api_keys.hashed_secret IS 'Never leaves the hub';

ALTER TABLE identity.sessions
    ADD COLUMN user_device_id uuid,
    ADD COLUMN last_seen_at   timestamptz,
    ADD COLUMN expires_at     timestamptz;

CREATE TABLE fleet.user_devices (
    tenant_id    uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id           uuid NOT NULL DEFAULT identity.uuid7(),
    user_id      uuid NOT NULL,
    device_id    uuid,
    name         text NOT NULL,
    platform     text,
    model        text,
    os_version   text,
    app_version  text,
    push_token   text,
    trusted      boolean NOT NULL DEFAULT false,
    last_seen_at timestamptz,
    revoked_at   timestamptz,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, device_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users ON DELETE CASCADE
);
CREATE INDEX user_devices_user_ix ON fleet.user_devices (tenant_id, user_id);
COMMENT ON TABLE fleet.user_devices IS 'Phones, tablets and computers of users';
COMMENT ON COLUMN fleet.user_devices.device_id IS 'The enrolled device (ferry.device), if it is one; no reference into the engine';
COMMENT ON COLUMN fleet.user_devices.push_token IS 'Lets others reach the device: never leaves the hub';
-- As the superuser: row-level security would hide from the check what it has to check.
RESET ROLE;
ALTER TABLE identity.sessions ADD FOREIGN KEY (tenant_id, user_device_id)
    REFERENCES fleet.user_devices ON DELETE SET NULL (user_device_id);
SET LOCAL ROLE ferry_owner;
COMMENT ON COLUMN identity.sessions.user_device_id IS 'The device the user logged in on, where it is known';

-- ---------------------------------------------------------------- actors

CREATE TABLE identity.actors (
    id                    uuid NOT NULL DEFAULT identity.uuid7(),
    status                identity.actor_status NOT NULL DEFAULT 'ACTIVE',
    version               int NOT NULL DEFAULT 1,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    deleted_at            timestamptz,
    deleted_by_actor_id   uuid,
    created_by_actor_id   uuid,
    updated_by_actor_id   uuid,
    audit_correlation_id  uuid,
    data_classification   text NOT NULL DEFAULT 'INTERNAL',
    retention_policy      governance.retention_policy,
    actor_type            identity.actor_type NOT NULL,
    global_id             varchar(255) NOT NULL,
    display_name          varchar(255) NOT NULL,
    description           text,
    user_id               uuid,
    service_account_id    uuid,
    api_key_id            uuid,
    system_process_name   varchar(100),
    is_active             boolean NOT NULL DEFAULT true,
    is_system             boolean NOT NULL DEFAULT false,
    can_perform_actions   boolean NOT NULL DEFAULT true,
    requires_mfa          boolean NOT NULL DEFAULT false,
    last_activity_at      timestamptz,
    last_login_at         timestamptz,
    last_ip_address       inet,
    session_count         int NOT NULL DEFAULT 0,
    failed_login_attempts int NOT NULL DEFAULT 0,
    locked_until          timestamptz,
    risk_score            smallint DEFAULT 0,
    compliance_level      varchar(50),
    audit_flags           text[] NOT NULL DEFAULT '{}',
    tags                  text[] NOT NULL DEFAULT '{}',
    metadata              jsonb DEFAULT '{}',
    PRIMARY KEY (id),
    UNIQUE (global_id),
    UNIQUE (user_id),
    UNIQUE (service_account_id),
    UNIQUE (api_key_id),
    CHECK (risk_score BETWEEN 0 AND 100),
    CHECK (num_nonnulls(user_id, service_account_id, api_key_id, system_process_name) <= 1),
    FOREIGN KEY (deleted_by_actor_id) REFERENCES identity.actors ON DELETE SET NULL,
    FOREIGN KEY (created_by_actor_id) REFERENCES identity.actors ON DELETE SET NULL,
    FOREIGN KEY (updated_by_actor_id) REFERENCES identity.actors ON DELETE SET NULL
);
CREATE INDEX actors_actor_type_ix ON identity.actors (actor_type);
CREATE INDEX actors_is_active_ix ON identity.actors (is_active);
CREATE INDEX actors_is_system_ix ON identity.actors (is_system);
CREATE INDEX actors_last_activity_at_ix ON identity.actors (last_activity_at);
CREATE INDEX actors_risk_score_ix ON identity.actors (risk_score);
CREATE INDEX actors_compliance_level_ix ON identity.actors (compliance_level);
CREATE INDEX actors_system_process_name_ix ON identity.actors (system_process_name);
CREATE INDEX actors_created_at_brin ON identity.actors USING brin (created_at);
CREATE INDEX actors_audit_correlation_id_ix ON identity.actors (audit_correlation_id);
CREATE INDEX actors_data_classification_ix ON identity.actors (data_classification);
CREATE INDEX actors_deleted_at_ix ON identity.actors (deleted_at);
CREATE INDEX actors_status_ix ON identity.actors (status);
COMMENT ON TABLE identity.actors IS 'Whoever acts, across tenants: people, services, keys, processes. Stays at the hub';
COMMENT ON COLUMN identity.actors.global_id IS 'The same in every tenant, such as an address or a name of a service';
COMMENT ON COLUMN identity.actors.user_id IS 'Of an actor USER; no reference, since users belong to tenants';
COMMENT ON COLUMN identity.actors.service_account_id IS 'Of an actor SERVICE_ACCOUNT';
COMMENT ON COLUMN identity.actors.api_key_id IS 'Of an actor API_KEY';
COMMENT ON COLUMN identity.actors.system_process_name IS 'Of an actor SYSTEM';
COMMENT ON COLUMN identity.actors.risk_score IS '0 to 100';

SELECT identity.open_schema('identity');
SELECT identity.open_schema('fleet');
-- Actors belong to no tenant: only their owner sees them.
ALTER TABLE identity.actors ENABLE ROW LEVEL SECURITY;
ALTER TABLE identity.actors FORCE ROW LEVEL SECURITY;
CREATE POLICY owner ON identity.actors TO ferry_owner USING (true) WITH CHECK (true);
REVOKE ALL ON identity.actors FROM ferry_app;
REVOKE INSERT, UPDATE, DELETE ON identity.tenants FROM ferry_app;
SELECT identity.keep_updated_at('identity.user_profiles', 'identity.user_settings', 'identity.members', 'identity.roles',
                                'identity.role_assignments', 'fleet.user_devices');
SELECT governance.keep_versions('identity.actors');
SELECT governance.describe_common('identity.actors');

RESET ROLE;
