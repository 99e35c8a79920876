-- The engine's roles and tables. hub/sql/README.md says what a row of each one means.
--
-- Roles: ferry_engine owns everything here and runs the capture (it must see the rows of
-- every tenant, hence BYPASSRLS, and nobody can log in as it). ferry_owner owns the
-- tenant model and may track tables. ferry_hub is what the hub process logs in as:
-- under row-level security, owner of nothing.

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ferry_engine') THEN
        CREATE ROLE ferry_engine NOLOGIN BYPASSRLS;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ferry_owner') THEN
        CREATE ROLE ferry_owner NOLOGIN;
    END IF;
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'ferry_hub') THEN
        CREATE ROLE ferry_hub LOGIN;
    END IF;
END $$;
-- To name who holds rows (ferry.lock_holders), it sees since when others' transactions are open.
DO $$
BEGIN
    GRANT pg_read_all_stats TO ferry_engine;
EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'ferry_engine cannot see since when transactions are open: GRANT pg_read_all_stats TO ferry_engine';
END $$;
-- Whoever may track a table writes the catalogue and the generated functions.
GRANT ferry_engine TO ferry_owner;

CREATE SCHEMA IF NOT EXISTS ferry AUTHORIZATION ferry_engine;
SET LOCAL ROLE ferry_engine;
COMMENT ON SCHEMA ferry IS 'Ferry''s engine: what is kept beside the tracked tables';
-- The policies of the model call ferry.tenant(); that needs no more than this.
GRANT USAGE ON SCHEMA ferry TO PUBLIC;

CREATE TABLE ferry.migration (
    part       text NOT NULL,
    number     int NOT NULL,
    name       text NOT NULL,
    sha256     bytea NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (part, number)
);
COMMENT ON TABLE ferry.migration IS 'The migrations this database has had; written by ferry-hub migrate';

CREATE SEQUENCE ferry.surrogate_seq;
CREATE SEQUENCE ferry.position_seq;
CREATE SEQUENCE ferry.table_seq AS int;

-- ---------------------------------------------------------------- the catalogue

CREATE TABLE ferry.tracked (
    tbl          int PRIMARY KEY,
    relid        regclass NOT NULL UNIQUE,
    nsp          text NOT NULL,
    name         text NOT NULL,
    replica_name text NOT NULL UNIQUE,
    key_col      text NOT NULL,
    tenant_col   text NOT NULL,
    scope        text NOT NULL,
    write        bool NOT NULL,
    rank         int NOT NULL DEFAULT 0,
    hash_plain   bool NOT NULL DEFAULT true,
    excluded     text[] NOT NULL DEFAULT '{}',
    excluded_nums int[] NOT NULL DEFAULT '{}',
    brought      bool NOT NULL DEFAULT false
);
COMMENT ON TABLE ferry.tracked IS 'Tracked tables; tbl is the number on the wire and never reused';
COMMENT ON COLUMN ferry.tracked.brought IS 'Its rows come along with rows that refer to them (ferry.bring), or did since it is tracked';
COMMENT ON COLUMN ferry.tracked.excluded_nums IS 'The excluded columns as the catalogue numbers them: they stay excluded under another name';

CREATE TABLE ferry.tracked_column (
    tbl         int NOT NULL REFERENCES ferry.tracked ON DELETE CASCADE,
    num         int NOT NULL,
    name        text NOT NULL,
    pg_type     text NOT NULL,
    kind        text NOT NULL,
    not_null    bool NOT NULL,
    has_default bool NOT NULL,
    policy      text NOT NULL DEFAULT 'lww',
    policy_options jsonb,
    labels      text[],
    hash_expr   text NOT NULL,
    wire_expr   text NOT NULL,
    in_expr     text NOT NULL,
    ref_tbl     int,
    generated   bool NOT NULL DEFAULT false,
    filled      jsonb,
    PRIMARY KEY (tbl, num)
);
COMMENT ON TABLE ferry.tracked_column IS 'Synced columns; num is attnum and stays with a renamed column';
COMMENT ON COLUMN ferry.tracked_column.filled IS 'What rows got that were there when the column came (a wire value as JSON); NULL: nothing';
GRANT SELECT ON ferry.tracked, ferry.tracked_column TO PUBLIC;

-- ---------------------------------------------------------------- versions and the feed

-- No index beside the key and room in each page, so that an update stays in its page (HOT).
CREATE TABLE ferry.version (
    tenant_id uuid NOT NULL,
    tbl       int NOT NULL,
    key       uuid NOT NULL,
    deleted   bool NOT NULL DEFAULT false,
    tx        bigint NOT NULL,
    base_tx   bigint NOT NULL,
    born      bigint NOT NULL,
    moved     bigint,
    scope     text NOT NULL,
    over      bigint[],
    hashes    bigint[],
    also      text[],
    own       int,
    PRIMARY KEY (tenant_id, tbl, key)
) WITH (fillfactor = 70);
COMMENT ON TABLE ferry.version IS 'The version of each tracked row, also after its deletion';
COMMENT ON COLUMN ferry.version.moved IS
    'Surrogate with which the row last changed its scope in this life; NULL if it never did';
COMMENT ON COLUMN ferry.version.also IS 'Further scopes of a row that is in several, in order; NULL: none, as of most';
COMMENT ON COLUMN ferry.version.own IS
    'How many of also, from the first, the row has by itself; in the others it is because rows there refer to it, to be read only. NULL: all';

CREATE TABLE ferry.left (
    tenant_id uuid NOT NULL,
    tbl       int NOT NULL,
    key       uuid NOT NULL,
    scope     text NOT NULL,
    tx        bigint NOT NULL,
    PRIMARY KEY (tenant_id, tbl, key, scope)
);
COMMENT ON TABLE ferry.left IS 'Rows that left a scope and are not back';

CREATE TABLE ferry.bring (
    tbl    int NOT NULL REFERENCES ferry.tracked ON DELETE CASCADE,
    num    int NOT NULL,
    to_tbl int NOT NULL REFERENCES ferry.tracked,
    PRIMARY KEY (tbl, num)
);
COMMENT ON TABLE ferry.bring IS 'Columns whose foreign key brings the parent along, to be read, wherever the row is';

CREATE TABLE ferry.reference (
    tenant_id uuid NOT NULL,
    tbl       int NOT NULL,
    key       uuid NOT NULL,
    num       int NOT NULL,
    to_tbl    int NOT NULL,
    parent    uuid NOT NULL,
    scopes    text[] NOT NULL,
    PRIMARY KEY (tenant_id, tbl, key, num)
);
COMMENT ON TABLE ferry.reference IS 'What each row that brings a parent was counted for in ferry.brought';

-- Counts change often and their keys seldom: room in each page keeps that in its page (HOT).
CREATE TABLE ferry.brought (
    tenant_id uuid NOT NULL,
    tbl       int NOT NULL,
    key       uuid NOT NULL,
    scope     text NOT NULL,
    refs      bigint NOT NULL,
    PRIMARY KEY (tenant_id, tbl, key, scope)
) WITH (fillfactor = 70);
CREATE INDEX brought_scope_ix ON ferry.brought (tenant_id, tbl, scope, key);
COMMENT ON TABLE ferry.brought IS 'In which scopes a row is because rows there refer to it, and how many do';

CREATE TABLE ferry.change (
    tenant_id uuid NOT NULL,
    tx        bigint NOT NULL,
    tbl       int NOT NULL,
    scope     text NOT NULL,
    keys      uuid[] NOT NULL
);
-- Keys are random: compressing them costs time and saves nothing.
ALTER TABLE ferry.change ALTER COLUMN keys SET STORAGE EXTERNAL;
CREATE INDEX change_tx_ix ON ferry.change (tenant_id, tx);
COMMENT ON TABLE ferry.change IS 'Recent changes by transaction; may be pruned at any time, version holds the truth';

CREATE TABLE ferry.stamp (
    id        bigint PRIMARY KEY,
    tx        bigint NOT NULL,
    tenant_id uuid NOT NULL,
    device_id uuid,
    number    bigint NOT NULL,
    at        bigint NOT NULL
);
COMMENT ON TABLE ferry.stamp IS 'A surrogate that stands for a device''s change-set inside a transaction; device NULL: the hub, at another time than the transaction''s';

CREATE TABLE ferry.commit (
    tenant_id uuid NOT NULL,
    position  bigint NOT NULL,
    tx        bigint NOT NULL,
    mark      bigint NOT NULL,
    xid       xid8 NOT NULL,
    at        timestamptz NOT NULL,
    origin    text NOT NULL,
    PRIMARY KEY (tenant_id, position)
);
CREATE UNIQUE INDEX commit_tx_uq ON ferry.commit (tx, tenant_id);
COMMENT ON TABLE ferry.commit IS 'Committed transactions of a tenant, in commit order';

CREATE TABLE ferry.sum (
    tenant_id uuid NOT NULL,
    tbl       int NOT NULL,
    scope     text NOT NULL,
    tx        bigint NOT NULL,
    sums      bigint[] NOT NULL,
    rows      bigint NOT NULL,
    position  bigint
);
-- Sums add up, so a transaction may have several rows; only the folded one is unique.
CREATE UNIQUE INDEX sum_folded_uq ON ferry.sum (tenant_id, tbl, scope) WHERE tx = 0;
CREATE INDEX sum_ix ON ferry.sum (tenant_id, tbl, scope);
COMMENT ON TABLE ferry.sum IS 'Changes of the checksums by transaction; tx = 0 is what has been folded';

CREATE TABLE ferry.horizon (
    tenant_id  uuid PRIMARY KEY,
    changes    bigint NOT NULL DEFAULT 0,
    tombstones bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE ferry.horizon IS
    'Up to which position ferry.change and the tombstones of a tenant have been pruned';

CREATE TABLE ferry.history (
    one        bool PRIMARY KEY DEFAULT true CHECK (one),
    epoch      uuid NOT NULL DEFAULT gen_random_uuid(),
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO ferry.history DEFAULT VALUES;
COMMENT ON TABLE ferry.history IS 'The identity of this database''s history';

-- ---------------------------------------------------------------- the running transaction

-- Both hold nothing once a transaction has ended, so a crash may empty them: no WAL.
CREATE UNLOGGED TABLE ferry.dirty (
    tx        bigint NOT NULL,
    xid       xid8 NOT NULL,
    tbl       int NOT NULL,
    arms      int NOT NULL,
    tenant_id uuid,
    keys      uuid[] NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000);
ALTER TABLE ferry.dirty ALTER COLUMN keys SET STORAGE EXTERNAL;
CREATE INDEX dirty_tx_ix ON ferry.dirty (tx);
COMMENT ON TABLE ferry.dirty IS
    'Keys touched by the running transaction; tbl 0 asks for a position, -1 is ferry.merging(true)';
COMMENT ON COLUMN ferry.dirty.arms IS
    '1: arms the end of the transaction; 2: arms it again, after it ran early; 0: neither';

CREATE UNLOGGED TABLE ferry.declared (
    tx     bigint NOT NULL,
    tbl    int NOT NULL,
    key    uuid NOT NULL,
    stamp  bigint NOT NULL,
    nums   int[] NOT NULL DEFAULT '{}',
    hashes bigint[] NOT NULL DEFAULT '{}',
    stamps bigint[]
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000);
CREATE INDEX declared_ix ON ferry.declared (tx, tbl, key);
COMMENT ON TABLE ferry.declared IS 'Cells that the merge writes for a device, until the transaction ends';
COMMENT ON COLUMN ferry.declared.stamps IS
    'Set by ferry.finish() where several change-sets of a batch wrote one row: the stamp of each cell';

-- ---------------------------------------------------------------- devices and verdicts

CREATE TABLE ferry.device (
    id            uuid PRIMARY KEY,
    tenant_id     uuid NOT NULL,
    name          text NOT NULL,
    user_id       uuid,
    class         text NOT NULL,
    status        text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'revoked')),
    fingerprint   bytea UNIQUE,
    not_after     timestamptz,
    incarnation   bytea,
    settled       bigint NOT NULL DEFAULT 0,
    settled_above bigint[] NOT NULL DEFAULT '{}',
    bookmark      bigint NOT NULL DEFAULT 0,
    last_seen     timestamptz,
    failed_at     timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);
CREATE INDEX device_tenant_ix ON ferry.device (tenant_id, name);
COMMENT ON TABLE ferry.device IS 'Enrolled devices';

CREATE TABLE ferry.device_scope (
    device_id uuid NOT NULL REFERENCES ferry.device ON DELETE CASCADE,
    scope     text NOT NULL,
    PRIMARY KEY (device_id, scope)
);
COMMENT ON TABLE ferry.device_scope IS 'The scopes that a device holds';

CREATE TABLE ferry.token (
    id          uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id   uuid NOT NULL,
    secret_hash bytea NOT NULL UNIQUE,
    name        text NOT NULL,
    user_id     uuid,
    class       text NOT NULL,
    scopes      text[] NOT NULL DEFAULT '{tenant,global}',
    expires_at  timestamptz NOT NULL,
    used_at     timestamptz,
    device_id   uuid,
    created_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ferry.token IS 'One-time enrolment tokens; only the hash of the secret is kept';

CREATE TABLE ferry.settled (
    tenant_id uuid NOT NULL,
    device_id uuid NOT NULL,
    number    bigint NOT NULL,
    tx        bigint NOT NULL,
    verdict   text NOT NULL CHECK (verdict IN ('accepted', 'superseded', 'rejected', 'parked')),
    code      int,
    sentence  text,
    detail    jsonb,
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, device_id, number)
);
COMMENT ON TABLE ferry.settled IS 'The verdict on each change-set';

CREATE TABLE ferry.conflict (
    id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id       uuid NOT NULL,
    tbl             int NOT NULL,
    key             uuid NOT NULL,
    num             int NOT NULL,
    tx              bigint NOT NULL,
    kind            text NOT NULL CHECK (kind IN ('update_update', 'delete_update', 'update_delete')),
    winner          text NOT NULL CHECK (winner IN ('device', 'hub')),
    device_id       uuid NOT NULL,
    number          bigint NOT NULL,
    device_value    jsonb,
    hub_value       jsonb,
    result_value    jsonb,
    other_device_id uuid,
    state           text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'resolved')),
    at              timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX conflict_device_ix ON ferry.conflict (tenant_id, device_id, number);
CREATE INDEX conflict_row_ix ON ferry.conflict (tenant_id, tbl, key);
CREATE INDEX conflict_tx_ix ON ferry.conflict (tenant_id, tx);
COMMENT ON TABLE ferry.conflict IS
    'Two edits of one column, neither of which had seen the other; num 0 is the row itself';

CREATE TABLE ferry.rejected (
    tenant_id uuid NOT NULL,
    device_id uuid NOT NULL,
    number    bigint NOT NULL,
    code      int NOT NULL,
    sentence  text NOT NULL,
    body      bytea NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    staging   bigint,
    PRIMARY KEY (tenant_id, device_id, number)
);
COMMENT ON TABLE ferry.rejected IS 'Refused change-sets, whole';
COMMENT ON COLUMN ferry.rejected.staging IS 'It is larger than a message: its parts stay in ferry.stage under this name, and body is empty; NULL: body has it';

CREATE TABLE ferry.stage (
    tenant_id uuid NOT NULL,
    device_id uuid NOT NULL,
    number    bigint NOT NULL,
    staging   bigint NOT NULL,
    part      int NOT NULL,
    body      bytea NOT NULL,
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, device_id, number, staging, part)
);
ALTER TABLE ferry.stage ALTER COLUMN body SET STORAGE EXTERNAL;
COMMENT ON TABLE ferry.stage IS 'Parts of change-sets too large for a message: on their way, or kept for ferry.rejected';
COMMENT ON COLUMN ferry.stage.staging IS 'Names the session that brought it, so that parts of two copies of a device are never joined';
COMMENT ON COLUMN ferry.stage.body IS 'The part as it came; empty: there was no room for it';

-- ---------------------------------------------------------------- isolation

-- The reserved tenant of rows that belong to nobody (global codes).
CREATE FUNCTION ferry.nobody() RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN '00000000-0000-0000-0000-000000000000'::uuid;

-- Fails closed: an error when app.tenant_id was never set in this session, no tenant when
-- it is empty (which is what a setting made with SET LOCAL falls back to), and none for
-- the reserved tenant, whose rows nobody may write by claiming to be it.
CREATE FUNCTION ferry.tenant() RETURNS uuid
    LANGUAGE sql STABLE PARALLEL SAFE
    RETURN nullif(nullif(current_setting('app.tenant_id'), '')::uuid,
                  '00000000-0000-0000-0000-000000000000'::uuid);
COMMENT ON FUNCTION ferry.tenant() IS 'The tenant this transaction works for; every policy asks it';

-- Turns row-level security on, also for the table's owner, with the tenant policy. Rows of
-- the reserved tenant are readable by all where global, and written by ferry_owner alone.
CREATE FUNCTION ferry.isolate(tab regclass, global bool DEFAULT false, tenant_col text DEFAULT 'tenant_id')
RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', tab);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', tab);
    EXECUTE format('CREATE POLICY ferry_tenant ON %s USING (%I = ferry.tenant()) WITH CHECK (%I = ferry.tenant())',
                   tab, tenant_col, tenant_col);
    IF global THEN
        EXECUTE format('CREATE POLICY ferry_global ON %s FOR SELECT USING (%I = ferry.nobody())', tab, tenant_col);
        EXECUTE format('CREATE POLICY ferry_global_owner ON %s TO ferry_owner USING (%I = ferry.nobody()) '
                       'WITH CHECK (%I = ferry.nobody())', tab, tenant_col, tenant_col);
    END IF;
END $$;
COMMENT ON FUNCTION ferry.isolate(regclass, bool, text) IS
    'Row-level security with the tenant policy, forced on the owner too';

-- What the hub reads of rows and their fate is isolated like the rows themselves. The
-- tables without a policy hold no row data and are read before a tenant is known.
SELECT ferry.isolate('ferry.version', true);
SELECT ferry.isolate('ferry.left', true);
SELECT ferry.isolate('ferry.change', true);
SELECT ferry.isolate('ferry.reference');
SELECT ferry.isolate('ferry.brought');
SELECT ferry.isolate('ferry.settled');
SELECT ferry.isolate('ferry.conflict');
SELECT ferry.isolate('ferry.rejected');
SELECT ferry.isolate('ferry.stage');

GRANT SELECT ON ALL TABLES IN SCHEMA ferry TO ferry_hub;
GRANT INSERT, DELETE ON ferry.declared, ferry.stamp, ferry.stage, ferry.settled TO ferry_hub;
GRANT UPDATE ON ferry.settled, ferry.stage TO ferry_hub;
GRANT INSERT, UPDATE ON ferry.conflict, ferry.rejected, ferry.device, ferry.token TO ferry_hub;
GRANT INSERT, DELETE ON ferry.device_scope TO ferry_hub;
GRANT DELETE ON ferry.rejected, ferry.token TO ferry_hub;
GRANT USAGE ON SEQUENCE ferry.surrogate_seq TO ferry_hub;
GRANT SELECT ON SEQUENCE ferry.position_seq TO ferry_hub;

RESET ROLE;
