-- The audit log: every sensitive change writes an entry in its own transaction, whoever made
-- it and however; entries never change, and a chain of hashes for each tenant shows it if one
-- did.
--
--   change -> governance.audit_changes()  statement triggers: rows before and after
--          -> governance.write_audit()    entries, a set a statement
--   commit -> governance.chain_audit()    under the tenant's lock: order and hashes
--
-- It is one table for what the sources call audit log; identity.audit_logs is a view of it.
-- An entry outlives its tenant, its user and its device, so none of them is referenced: a log
-- that a cascade empties would prove nothing.
--
-- Partitions are months of the key, which is a uuid of version 7, so that (tenant_id, id)
-- can be the primary key.

SET LOCAL ROLE ferry_owner;

CREATE TABLE governance.audit_logs (
    tenant_id            uuid NOT NULL,
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
    action               governance.audit_action NOT NULL DEFAULT 'READ',
    operation            text,
    target_model         varchar(100) NOT NULL,
    target_id            uuid,
    target_name          varchar(255),
    actor_id             uuid,
    actor_type           varchar(50),
    actor_name           varchar(255),
    device_id            uuid,
    change_set           bigint,
    db_user              text NOT NULL DEFAULT session_user,
    request_id           uuid,
    session_id           uuid,
    ip_address           varchar(45),
    user_agent           text,
    old_values           jsonb,
    new_values           jsonb,
    changed_fields       varchar(100)[] NOT NULL DEFAULT '{}',
    payload_hash         varchar(64),
    risk_level           governance.impact_level NOT NULL DEFAULT 'LOW',
    compliance_flags     varchar(50)[] NOT NULL DEFAULT '{}',
    metadata             jsonb,
    tags                 varchar(50)[] NOT NULL DEFAULT '{}',
    success              boolean NOT NULL DEFAULT true,
    error_code           varchar(50),
    error_message        text,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT audit_logs_id_version_7 CHECK (get_byte(uuid_send(id), 6) >> 4 = 7)
) PARTITION BY RANGE (id);
CREATE TABLE governance.audit_logs_rest PARTITION OF governance.audit_logs DEFAULT;
CREATE INDEX audit_logs_created_at_brin ON governance.audit_logs USING brin (created_at);
CREATE INDEX audit_logs_created_at_tenant_brin ON governance.audit_logs USING brin (tenant_id, created_at);
CREATE INDEX audit_logs_time_ix ON governance.audit_logs (tenant_id, created_at DESC);
CREATE INDEX audit_logs_action_ix ON governance.audit_logs (tenant_id, action);
CREATE INDEX audit_logs_actor_id_ix ON governance.audit_logs (tenant_id, actor_id);
CREATE INDEX audit_logs_audit_correlation_id_ix ON governance.audit_logs (tenant_id, audit_correlation_id);
CREATE INDEX audit_logs_data_classification_ix ON governance.audit_logs (tenant_id, data_classification);
CREATE INDEX audit_logs_deleted_at_ix ON governance.audit_logs (tenant_id, deleted_at);
CREATE INDEX audit_logs_request_id_ix ON governance.audit_logs (tenant_id, request_id);
CREATE INDEX audit_logs_risk_level_ix ON governance.audit_logs (tenant_id, risk_level);
CREATE INDEX audit_logs_status_ix ON governance.audit_logs (tenant_id, status);
CREATE INDEX audit_logs_success_ix ON governance.audit_logs (tenant_id, success);
CREATE INDEX audit_logs_target_ix ON governance.audit_logs (tenant_id, target_model, target_id);
CREATE INDEX audit_logs_target_model_ix ON governance.audit_logs (tenant_id, target_model);
COMMENT ON TABLE governance.audit_logs IS 'Who did what to what; entries never change';
COMMENT ON TABLE governance.audit_logs_rest IS 'Entries of months that have no partition';
COMMENT ON COLUMN governance.audit_logs.tenant_id IS 'No reference: the log outlives its tenant. The zero uuid: changes that concern no tenant';
COMMENT ON COLUMN governance.audit_logs.operation IS 'What was done in the words of the program, where action is too coarse';
COMMENT ON COLUMN governance.audit_logs.target_model IS 'The table, or what a program calls the thing';
COMMENT ON COLUMN governance.audit_logs.target_id IS 'The row''s key';
COMMENT ON COLUMN governance.audit_logs.actor_id IS 'The user (setting app.user_id, or the user of the device); no reference';
COMMENT ON COLUMN governance.audit_logs.actor_type IS 'USER, DEVICE or SYSTEM; programs may write others';
COMMENT ON COLUMN governance.audit_logs.actor_name IS 'The device''s name or the database''s user';
COMMENT ON COLUMN governance.audit_logs.device_id IS 'The device whose change-set did it (setting app.device_id elsewhere)';
COMMENT ON COLUMN governance.audit_logs.change_set IS 'The number of that change-set';
COMMENT ON COLUMN governance.audit_logs.db_user IS 'Who was connected to the database';
COMMENT ON COLUMN governance.audit_logs.old_values IS 'The row before, secrets redacted';
COMMENT ON COLUMN governance.audit_logs.new_values IS 'The row after, secrets redacted';
COMMENT ON COLUMN governance.audit_logs.payload_hash IS 'SHA-256 of old_values, a newline and new_values';
SELECT governance.describe_common('governance.audit_logs');

CREATE TABLE governance.audit_chain (
    tenant_id uuid NOT NULL,
    seq       bigint NOT NULL,
    entry_id  uuid NOT NULL,
    prev_hash bytea NOT NULL,
    hash      bytea NOT NULL,
    PRIMARY KEY (tenant_id, seq),
    UNIQUE (tenant_id, entry_id)
);
COMMENT ON TABLE governance.audit_chain IS 'The order of a tenant''s audit entries, and the hashes that bind each to those before it';
COMMENT ON COLUMN governance.audit_chain.seq IS '1, 2, 3 ... in the order of commits';
COMMENT ON COLUMN governance.audit_chain.prev_hash IS 'The hash before it; 32 zero bytes for the first';
COMMENT ON COLUMN governance.audit_chain.hash IS 'SHA-256 of prev_hash, seq (8 bytes) and governance.audit_digest of the entry';

CREATE TABLE governance.audit_pending (
    tenant_id uuid NOT NULL,
    n         bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    ids       uuid[] NOT NULL,
    PRIMARY KEY (tenant_id, n)
);
COMMENT ON TABLE governance.audit_pending IS 'Entries that wait for the end of their transaction to be chained';

CREATE TABLE governance.audit_purges (
    partition_name text PRIMARY KEY,
    from_id        uuid NOT NULL,
    to_id          uuid NOT NULL,
    entries        bigint NOT NULL,
    purged_at      timestamptz NOT NULL DEFAULT now(),
    purged_by      text NOT NULL DEFAULT session_user
);
COMMENT ON TABLE governance.audit_purges IS 'Months that were dropped from the audit log; their hashes stay in the chain';

-- ---------------------------------------------------------------- entries

-- What an entry's hash stands for: all that was written, in an order and form that later
-- columns don't change. STABLE, as to_jsonb is, so that it can be inlined.
CREATE FUNCTION governance.audit_digest(e governance.audit_logs) RETURNS bytea
    LANGUAGE sql STABLE
AS $$
    SELECT sha256(convert_to(jsonb_build_array(
        e.tenant_id, e.id, (extract(epoch FROM e.created_at) * 1000000)::bigint, e.action, e.operation, e.target_model, e.target_id,
        e.target_name, e.actor_id, e.actor_type, e.actor_name, e.device_id, e.change_set, e.db_user, e.request_id, e.session_id,
        e.ip_address, e.user_agent, e.old_values, e.new_values, to_jsonb(e.changed_fields), e.payload_hash, e.risk_level,
        to_jsonb(e.compliance_flags), e.metadata, to_jsonb(e.tags), e.success, e.error_code, e.error_message,
        e.audit_correlation_id, e.data_classification)::text, 'UTF8'))
$$;
COMMENT ON FUNCTION governance.audit_digest(governance.audit_logs) IS 'SHA-256 of all that an audit entry says';

CREATE FUNCTION governance.audit_payload_hash(old_values jsonb, new_values jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE
AS $$
    SELECT governance.sha256_hex(coalesce(old_values::text, '') || E'\n' || coalesce(new_values::text, ''))
$$;

-- What a writer can't say itself: when, under whose login, and the hash.
CREATE FUNCTION governance.complete_audit() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    NEW.created_at := clock_timestamp();
    NEW.updated_at := NEW.created_at;
    NEW.db_user := session_user;
    NEW.payload_hash := governance.audit_payload_hash(NEW.old_values, NEW.new_values);
    RETURN NEW;
END $$;

CREATE FUNCTION governance.refuse_change() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'rows of %.% are never changed or deleted', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'FE319', HINT = 'Write a new entry that corrects the old one.';
END $$;

-- Rights. Policies and not grants say who may write, so that a schema opened again opens
-- nothing here: everybody reads its tenant's log and may add to it, nobody else touches it.
DO $$
DECLARE
    tab text;
BEGIN
    FOREACH tab IN ARRAY ARRAY['audit_logs', 'audit_logs_rest', 'audit_chain', 'audit_pending', 'audit_purges'] LOOP
        EXECUTE format('ALTER TABLE governance.%I ENABLE ROW LEVEL SECURITY', tab);
        EXECUTE format('ALTER TABLE governance.%I FORCE ROW LEVEL SECURITY', tab);
        EXECUTE format('CREATE POLICY owner ON governance.%I TO ferry_owner USING (true) WITH CHECK (true)', tab);
    END LOOP;
END $$;
CREATE POLICY tenant_reads ON governance.audit_logs FOR SELECT USING (tenant_id = ferry.tenant());
CREATE POLICY tenant_adds ON governance.audit_logs FOR INSERT WITH CHECK (tenant_id = ferry.tenant());
CREATE POLICY tenant_reads ON governance.audit_chain FOR SELECT USING (tenant_id = ferry.tenant());
GRANT SELECT, INSERT ON governance.audit_logs TO ferry_app;
GRANT SELECT ON governance.audit_chain TO ferry_app;

-- ---------------------------------------------------------------- the chain

-- Puts a tenant's waiting entries into its chain. The lock is the one under which the tenant's
-- positions are given out: with one of its own, two transactions could take the two in
-- different order.
CREATE FUNCTION governance.chain_pending(tenant uuid) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    at_seq bigint;
    last bytea;
    batch record;
    entry record;
    seqs bigint[] := '{}';
    ids uuid[] := '{}';
    prevs bytea[] := '{}';
    hashes bytea[] := '{}';
BEGIN
    IF tenant <> ferry.nobody() THEN
        PERFORM pg_advisory_xact_lock_shared(ferry.lock_of(ferry.nobody()));
    END IF;
    PERFORM pg_advisory_xact_lock(ferry.lock_of(tenant));
    SELECT c.seq, c.hash INTO at_seq, last FROM governance.audit_chain c WHERE c.tenant_id = tenant ORDER BY c.seq DESC LIMIT 1;
    at_seq := coalesce(at_seq, 0);
    last := coalesce(last, decode(repeat('00', 32), 'hex'));
    FOR batch IN SELECT p.n, p.ids FROM governance.audit_pending p WHERE p.tenant_id = tenant ORDER BY p.n LOOP
        -- OFFSET 0 keeps this from becoming a join that reads the whole month: nobody has
        -- analyzed a new partition yet.
        FOR entry IN SELECT u.id, d.digest FROM unnest(batch.ids) WITH ORDINALITY AS u(id, place)
                     CROSS JOIN LATERAL (SELECT governance.audit_digest(l) AS digest FROM governance.audit_logs l
                                         WHERE l.tenant_id = tenant AND l.id = u.id OFFSET 0) d
                     ORDER BY u.place LOOP
            at_seq := at_seq + 1;
            seqs := seqs || at_seq;
            ids := ids || entry.id;
            prevs := prevs || last;
            last := sha256(last || int8send(at_seq) || entry.digest);
            hashes := hashes || last;
        END LOOP;
        DELETE FROM governance.audit_pending p WHERE p.tenant_id = tenant AND p.n = batch.n;
    END LOOP;
    INSERT INTO governance.audit_chain (tenant_id, seq, entry_id, prev_hash, hash)
    SELECT tenant, u.seq, u.id, u.prev, u.hash FROM unnest(seqs, ids, prevs, hashes) AS u(seq, id, prev, hash);
    RETURN cardinality(ids);
END $$;
COMMENT ON FUNCTION governance.chain_pending(uuid) IS 'Chains the entries of a tenant that wait for it';

-- A transaction with an old snapshot can't see the end of the chain: its entries wait for the
-- next transaction that can.
CREATE FUNCTION governance.chain_audit() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF current_setting('transaction_isolation') = 'read committed'
       AND EXISTS (SELECT FROM governance.audit_pending p WHERE p.tenant_id = NEW.tenant_id AND p.n = NEW.n) THEN
        PERFORM governance.chain_pending(NEW.tenant_id);
    END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER chain AFTER INSERT ON governance.audit_pending
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION governance.chain_audit();

CREATE FUNCTION governance.note_audit() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO governance.audit_pending (tenant_id, ids)
    SELECT e.tenant_id, array_agg(e.id) FROM entries e GROUP BY e.tenant_id;
    RETURN NULL;
END $$;

-- Recomputes the chain of a tenant. One row: the first entry that is broken, or how many were
-- checked and the last hash, which shows, noted elsewhere, that nothing was cut off the end.
CREATE FUNCTION governance.verify_audit(tenant uuid)
RETURNS TABLE (ok bool, entries bigint, seq bigint, entry_id uuid, problem text, last_hash text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
    last bytea := decode(repeat('00', 32), 'hex');
BEGIN
    ok := false;
    entries := 0;
    IF EXISTS (SELECT FROM governance.audit_pending p WHERE p.tenant_id = tenant) THEN
        PERFORM governance.chain_pending(tenant);
    END IF;
    FOR r IN SELECT c.seq, c.entry_id, c.prev_hash, c.hash, l.id AS found, governance.audit_digest(l) AS digest,
                    l.payload_hash = governance.audit_payload_hash(l.old_values, l.new_values) AS payload_ok
             FROM governance.audit_chain c LEFT JOIN governance.audit_logs l ON l.tenant_id = c.tenant_id AND l.id = c.entry_id
             WHERE c.tenant_id = tenant ORDER BY c.seq LOOP
        seq := r.seq;
        entry_id := r.entry_id;
        problem := CASE
            WHEN r.seq <> entries + 1 THEN 'entries before it are missing from the chain'
            WHEN r.prev_hash <> last THEN 'its link to the entry before it was changed'
            WHEN r.found IS NULL AND NOT EXISTS (
                SELECT FROM governance.audit_purges p WHERE r.entry_id >= p.from_id AND r.entry_id < p.to_id) THEN 'the entry was deleted'
            WHEN NOT r.payload_ok THEN 'its values before and after do not fit their hash'
            WHEN r.found IS NOT NULL AND r.hash <> sha256(last || int8send(r.seq) || r.digest) THEN 'the entry was changed'
            END;
        IF problem IS NOT NULL THEN
            RETURN NEXT;
            RETURN;
        END IF;
        last := r.hash;
        entries := r.seq;
    END LOOP;
    SELECT l.id INTO entry_id FROM governance.audit_logs l WHERE l.tenant_id = tenant AND NOT EXISTS (
        SELECT FROM governance.audit_chain c WHERE c.tenant_id = tenant AND c.entry_id = l.id) ORDER BY l.id LIMIT 1;
    IF FOUND THEN
        seq := NULL;
        problem := 'the entry stands in no chain';
        RETURN NEXT;
        RETURN;
    END IF;
    ok := true;
    seq := NULL;
    entry_id := NULL;
    last_hash := encode(last, 'hex');
    RETURN NEXT;
END $$;
COMMENT ON FUNCTION governance.verify_audit(uuid) IS 'Recomputes the chain of a tenant''s audit entries and names the first that is broken';

-- ---------------------------------------------------------------- what is audited

CREATE FUNCTION governance.redact(doc jsonb, sensitive text[]) RETURNS jsonb
    LANGUAGE sql IMMUTABLE STRICT
AS $$
    SELECT doc || coalesce((SELECT jsonb_object_agg(s, '[redacted]') FROM unnest(sensitive) s WHERE doc ->> s IS NOT NULL), '{}')
$$;

-- Which columns differ, of all that say something about the row.
CREATE FUNCTION governance.changed_fields(old_values jsonb, new_values jsonb) RETURNS text[]
    LANGUAGE sql IMMUTABLE
AS $$
    SELECT coalesce(array_agg(k ORDER BY k), '{}')
    FROM jsonb_object_keys(coalesce(new_values, old_values)) k
    WHERE old_values -> k IS DISTINCT FROM new_values -> k
      AND k NOT IN ('updated_at', 'version', 'last_login_at', 'last_used_at', 'last_seen_at')
$$;

-- Whose change-set wrote these rows of a table, in a merge: each row's device is the one that
-- declared it, since the change-sets of several are merged with one statement.
CREATE FUNCTION governance.authors(tab regclass, keys uuid[])
RETURNS TABLE (key uuid, device_id uuid, user_id uuid, name text, change_set bigint)
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t bigint := ferry.running_tx(pg_current_xact_id());
    of_tbl int;
BEGIN
    IF t > 0 THEN
        SELECT o.tbl INTO of_tbl FROM ferry.tracked o WHERE o.relid = tab;
        RETURN QUERY SELECT DISTINCT ON (x.key) x.key, d.id, d.user_id, d.name, s.number
                     FROM ferry.declared x JOIN ferry.stamp s ON s.id = x.stamp JOIN ferry.device d ON d.id = s.device_id
                     WHERE x.tx = t AND x.tbl = of_tbl AND x.key = ANY (keys) ORDER BY x.key, x.stamp DESC;
    END IF;
END $$;

-- Writes entries for rows of a table: a set a statement.
CREATE FUNCTION governance.write_audit(tab regclass, what governance.audit_action, risk governance.impact_level, sensitive text[],
                                       tenants uuid[], keys uuid[], olds jsonb[], news jsonb[]) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    by_user uuid := nullif(current_setting('app.user_id', true), '')::uuid;
    by_device uuid := nullif(current_setting('app.device_id', true), '')::uuid;
BEGIN
    INSERT INTO governance.audit_logs (tenant_id, action, target_model, target_id, target_name, actor_id, actor_type, actor_name,
        device_id, change_set, request_id, session_id, ip_address, user_agent, audit_correlation_id, risk_level, old_values,
        new_values, changed_fields)
    SELECT u.tenant_id, what, tab::text, u.key, left(coalesce(u.new_row, u.old_row) ->> 'name', 255),
           coalesce(a.user_id, by_user),
           CASE WHEN coalesce(a.user_id, by_user) IS NOT NULL THEN 'USER'
                WHEN coalesce(a.device_id, by_device) IS NOT NULL THEN 'DEVICE' ELSE 'SYSTEM' END,
           left(coalesce(a.name, session_user), 255), coalesce(a.device_id, by_device), a.change_set,
           nullif(current_setting('app.request_id', true), '')::uuid, nullif(current_setting('app.session_id', true), '')::uuid,
           left(nullif(current_setting('app.ip_address', true), ''), 45), nullif(current_setting('app.user_agent', true), ''),
           nullif(current_setting('app.correlation_id', true), '')::uuid, risk,
           governance.redact(u.old_row, sensitive), governance.redact(u.new_row, sensitive),
           governance.changed_fields(u.old_row, u.new_row)
    FROM unnest(tenants, keys, olds, news) AS u(tenant_id, key, old_row, new_row)
    LEFT JOIN governance.authors(tab, keys) a ON a.key = u.key;
END $$;
REVOKE EXECUTE ON FUNCTION governance.authors(regclass, uuid[]), governance.write_audit(regclass, governance.audit_action,
    governance.impact_level, text[], uuid[], uuid[], jsonb[], jsonb[]) FROM PUBLIC;

-- Arguments: the key's column, the tenant's column, risk, watched columns (none: all),
-- sensitive columns.
CREATE FUNCTION governance.audit_changes() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    key_col text := TG_ARGV[0];
    tenant_col text := TG_ARGV[1];
    risk governance.impact_level := TG_ARGV[2];
    watch text[] := TG_ARGV[3];
    sensitive text[] := TG_ARGV[4];
    tenants uuid[];
    keys uuid[];
    olds jsonb[];
    news jsonb[];
BEGIN
    IF TG_OP = 'INSERT' THEN
        SELECT array_agg((j ->> tenant_col)::uuid), array_agg((j ->> key_col)::uuid), array_agg(NULL::jsonb), array_agg(j)
        INTO tenants, keys, olds, news FROM (SELECT to_jsonb(n) AS j FROM after n) n;
    ELSIF TG_OP = 'DELETE' THEN
        SELECT array_agg((j ->> tenant_col)::uuid), array_agg((j ->> key_col)::uuid), array_agg(j), array_agg(NULL::jsonb)
        INTO tenants, keys, olds, news FROM (SELECT to_jsonb(o) AS j FROM before o) o;
    ELSE
        -- A changed key is a row that went and one that came.
        SELECT array_agg(coalesce(n.tenant, o.tenant)), array_agg(coalesce(n.key, o.key)), array_agg(o.j), array_agg(n.j)
        INTO tenants, keys, olds, news
        FROM (SELECT (j ->> tenant_col)::uuid AS tenant, (j ->> key_col)::uuid AS key, j FROM (SELECT to_jsonb(b) AS j FROM before b) b) o
        FULL JOIN (SELECT (j ->> tenant_col)::uuid AS tenant, (j ->> key_col)::uuid AS key, j FROM (SELECT to_jsonb(a) AS j FROM after a) a) n
            ON n.tenant = o.tenant AND n.key = o.key
        WHERE CASE WHEN watch = '{}' THEN governance.changed_fields(o.j, n.j) <> '{}' ELSE governance.changed_fields(o.j, n.j) && watch END;
    END IF;
    IF tenants IS NOT NULL THEN
        PERFORM governance.write_audit(TG_RELID, CASE TG_OP WHEN 'INSERT' THEN 'CREATE' ELSE TG_OP END::governance.audit_action,
                                       risk, sensitive, tenants, keys, olds, news);
    END IF;
    RETURN NULL;
END $$;

-- Audits a table: all changes, or of updates only those that touch a watched column.
CREATE FUNCTION governance.audit_columns(tab regclass, watch text[], sensitive text[] DEFAULT '{}',
                                         risk governance.impact_level DEFAULT 'MEDIUM') RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    has_tenant bool := EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = tab AND a.attname = 'tenant_id' AND NOT a.attisdropped);
    key_col text;
    col text;
    op text;
BEGIN
    FOREACH col IN ARRAY watch || sensitive LOOP
        IF NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = tab AND a.attname = col AND NOT a.attisdropped) THEN
            RAISE EXCEPTION '% has no column %', tab, col USING ERRCODE = 'undefined_column';
        END IF;
    END LOOP;
    SELECT a.attname INTO key_col FROM pg_attribute a
    WHERE a.attrelid = tab AND NOT a.attisdropped AND a.atttypid = 'uuid'::regtype
      AND (a.attname = 'id' OR a.attname <> 'tenant_id' AND EXISTS (
          SELECT FROM pg_index i WHERE i.indrelid = tab AND i.indisprimary AND a.attnum = ANY (i.indkey)))
    ORDER BY a.attname <> 'id', a.attnum LIMIT 1;
    IF key_col IS NULL THEN
        RAISE EXCEPTION '% has no uuid by which an audit entry can name a row', tab
            USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Give it a column id of type uuid.';
    END IF;
    FOREACH op IN ARRAY ARRAY['INSERT', 'UPDATE', 'DELETE'] LOOP
        EXECUTE format('CREATE OR REPLACE TRIGGER audit_%s AFTER %s ON %s REFERENCING %s FOR EACH STATEMENT '
                       'EXECUTE FUNCTION governance.audit_changes(%L, %L, %L, %L, %L)', lower(op), op, tab,
                       CASE op WHEN 'INSERT' THEN 'NEW TABLE AS after' WHEN 'DELETE' THEN 'OLD TABLE AS before'
                               ELSE 'OLD TABLE AS before NEW TABLE AS after' END,
                       key_col, CASE WHEN has_tenant THEN 'tenant_id' ELSE 'id' END, risk, watch, sensitive);
        EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER audit_%s', tab, lower(op));
    END LOOP;
END $$;
COMMENT ON FUNCTION governance.audit_columns(regclass, text[], text[], governance.impact_level) IS
    'Audits a table; of updates only those that touch a watched column, if there are any';

CREATE FUNCTION governance.audit(tab regclass, VARIADIC sensitive text[] DEFAULT '{}') RETURNS void
    LANGUAGE sql
AS $$
    SELECT governance.audit_columns(tab, '{}', sensitive)
$$;
COMMENT ON FUNCTION governance.audit(regclass, text[]) IS 'Audits every change of a table; the columns named are redacted';
REVOKE EXECUTE ON FUNCTION governance.audit(regclass, text[]), governance.chain_pending(uuid), governance.verify_audit(uuid),
    governance.audit_columns(regclass, text[], text[], governance.impact_level) FROM PUBLIC;

SELECT governance.audit_columns('identity.users', '{}', '{password_hash,mfa_secret_id}', 'HIGH');
SELECT governance.audit_columns('identity.roles', '{}', '{}', 'HIGH');
SELECT governance.audit_columns('identity.role_permissions', '{}', '{}', 'HIGH');
SELECT governance.audit_columns('identity.role_assignments', '{}', '{}', 'HIGH');
SELECT governance.audit_columns('identity.tenants', '{}', '{}', 'CRITICAL');
SELECT governance.audit_columns('identity.api_keys', '{}', '{hashed_secret}', 'HIGH');
SELECT governance.audit('approvals.approvals');
SELECT governance.audit('billing.subscriptions');
SELECT governance.audit('billing.billing_accounts');
SELECT governance.audit('governance.feature_flags');
SELECT governance.audit('billing.invoices');
SELECT governance.audit('inventory.projects');

-- The history asks whether a user is still there, whoever changed the price.
CREATE POLICY owner_reads ON identity.users FOR SELECT TO ferry_owner USING (true);

-- Prices: beside the history. An update that changes no price costs what it did before.
CREATE OR REPLACE FUNCTION inventory.note_prices() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tenants uuid[];
    keys uuid[];
    olds jsonb[];
    news jsonb[];
BEGIN
    SELECT array_agg(n.tenant_id), array_agg(n.id),
           array_agg(jsonb_build_object('code', o.code, 'price_minor', o.price_minor, 'currency', o.currency)),
           array_agg(jsonb_build_object('code', n.code, 'price_minor', n.price_minor, 'currency', n.currency))
    INTO tenants, keys, olds, news
    FROM after n JOIN before o ON o.tenant_id = n.tenant_id AND o.id = n.id
    WHERE (n.price_minor, n.currency) IS DISTINCT FROM (o.price_minor, o.currency);
    IF tenants IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM governance.write_audit(TG_RELID, 'UPDATE', 'MEDIUM', '{}', tenants, keys, olds, news);
    INSERT INTO inventory.unit_price_history (tenant_id, unit_id, price_minor, currency, effective_at, changed_by_user_id)
    SELECT p.tenant_id, p.id, (p.price ->> 'price_minor')::bigint, p.price ->> 'currency', now(), w.id
    FROM unnest(tenants, keys, news) AS p(tenant_id, id, price)
    LEFT JOIN governance.authors(TG_RELID, keys) a ON a.key = p.id
    -- A device's user may be gone; the history must not stop a price for that.
    LEFT JOIN identity.users w ON w.tenant_id = p.tenant_id
        AND w.id = coalesce(a.user_id, nullif(current_setting('app.user_id', true), '')::uuid)
    WHERE p.price ->> 'price_minor' IS NOT NULL AND p.price ->> 'currency' IS NOT NULL;
    RETURN NULL;
END $$;

-- ---------------------------------------------------------------- months

-- Makes the partitions of this month and the next ones. A month that has entries in the
-- partition of the rest stays there.
CREATE FUNCTION governance.make_audit_partitions(ahead int DEFAULT 3) RETURNS SETOF text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    month timestamptz;
    first uuid;
    next uuid;
    name text;
BEGIN
    FOR i IN 0 .. ahead LOOP
        month := date_trunc('month', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC' + make_interval(months => i);
        first := identity.uuid7_floor(month);
        next := identity.uuid7_floor((month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC');
        name := 'audit_logs_' || to_char(month AT TIME ZONE 'UTC', 'YYYY_MM');
        CONTINUE WHEN to_regclass('governance.' || name) IS NOT NULL
            OR EXISTS (SELECT FROM governance.audit_logs_rest l WHERE l.id >= first AND l.id < next);
        EXECUTE format('CREATE TABLE governance.%I PARTITION OF governance.audit_logs FOR VALUES FROM (%L) TO (%L)', name, first, next);
        EXECUTE format('COMMENT ON TABLE governance.%I IS %L', name, 'Audit entries of ' || to_char(month AT TIME ZONE 'UTC', 'YYYY-MM'));
        EXECUTE format('CREATE TRIGGER no_truncate BEFORE TRUNCATE ON governance.%I FOR EACH STATEMENT '
                       'EXECUTE FUNCTION governance.refuse_change()', name);
        EXECUTE format('ALTER TABLE governance.%I ENABLE ROW LEVEL SECURITY', name);
        EXECUTE format('ALTER TABLE governance.%I FORCE ROW LEVEL SECURITY', name);
        EXECUTE format('CREATE POLICY tenant_reads ON governance.%I FOR SELECT USING (tenant_id = ferry.tenant())', name);
        EXECUTE format('CREATE POLICY owner ON governance.%I TO ferry_owner USING (true) WITH CHECK (true)', name);
        RETURN NEXT name;
    END LOOP;
END $$;
COMMENT ON FUNCTION governance.make_audit_partitions(int) IS 'Makes the audit log''s partitions of this month and the next ones';

-- Drops the months that ended before a time; their hashes stay in the chain, and what was
-- dropped is noted. With dry_run only says which.
CREATE FUNCTION governance.purge_audit(before timestamptz, dry_run bool DEFAULT true)
RETURNS TABLE (partition_name text, entries bigint)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    r record;
    month timestamp;
BEGIN
    FOR r IN SELECT c.relname::text AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
             WHERE i.inhparent = 'governance.audit_logs'::regclass AND c.relname ~ '^audit_logs_[0-9]{4}_[0-9]{2}$' ORDER BY 1 LOOP
        month := to_date(right(r.name, 7), 'YYYY_MM');
        CONTINUE WHEN (month + interval '1 month') AT TIME ZONE 'UTC' > before;
        partition_name := r.name;
        EXECUTE format('SELECT count(*) FROM governance.%I', r.name) INTO entries;
        IF NOT dry_run THEN
            INSERT INTO governance.audit_purges (partition_name, from_id, to_id, entries)
            VALUES (r.name, identity.uuid7_floor(month AT TIME ZONE 'UTC'),
                    identity.uuid7_floor((month + interval '1 month') AT TIME ZONE 'UTC'), purge_audit.entries);
            EXECUTE format('DROP TABLE governance.%I', r.name);
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;
COMMENT ON FUNCTION governance.purge_audit(timestamptz, bool) IS 'Drops months of the audit log; says which unless dry_run is false';
REVOKE EXECUTE ON FUNCTION governance.make_audit_partitions(int), governance.purge_audit(timestamptz, bool) FROM PUBLIC;
SELECT governance.make_audit_partitions();

-- ---------------------------------------------------------------- the log that was there before

-- Copies the log that was there before. A key of version 4 says nothing about time, so the
-- entry gets a new one, and the old one stays in its metadata.
-- As the superuser, who alone sees the rows of all tenants.
RESET ROLE;
INSERT INTO governance.audit_logs (tenant_id, id, created_at, updated_at, action, operation, target_model, target_id, actor_id,
                                   actor_type, old_values, new_values, ip_address, user_agent, payload_hash, db_user, metadata)
SELECT l.tenant_id, identity.uuid7(l.created_at), l.created_at, l.created_at,
       coalesce((SELECT e FROM unnest(enum_range(NULL::governance.audit_action)) e WHERE e::text = upper(l.action)),
                CASE WHEN l.before_data IS NULL AND l.after_data IS NOT NULL THEN 'CREATE'
                     WHEN l.before_data IS NOT NULL AND l.after_data IS NULL THEN 'DELETE'
                     WHEN l.before_data IS NOT NULL THEN 'UPDATE' ELSE 'READ' END::governance.audit_action),
       l.action, left(l.entity_type, 100), l.entity_id, l.user_id, CASE WHEN l.user_id IS NOT NULL THEN 'USER' END,
       l.before_data, l.after_data, host(l.ip_address), l.user_agent,
       governance.audit_payload_hash(l.before_data, l.after_data), 'migration', jsonb_build_object('former_id', l.id)
FROM identity.audit_logs l ORDER BY l.created_at, l.id;
SET LOCAL ROLE ferry_owner;
DROP TABLE identity.audit_logs;
CREATE VIEW identity.audit_logs WITH (security_invoker) AS
    SELECT l.tenant_id, coalesce((l.metadata ->> 'former_id')::uuid, l.id) AS id, l.actor_id AS user_id,
           coalesce(l.operation, lower(l.action::text)) AS action, l.target_model AS entity_type, l.target_id AS entity_id,
           l.old_values AS before_data, l.new_values AS after_data, l.ip_address, l.user_agent, l.created_at
    FROM governance.audit_logs l;
COMMENT ON VIEW identity.audit_logs IS 'The audit log as older programs read it';
GRANT SELECT ON identity.audit_logs TO ferry_app;

-- What was copied from before has no place in a chain yet.
INSERT INTO governance.audit_pending (tenant_id, ids)
SELECT l.tenant_id, array_agg(l.id ORDER BY l.created_at, l.id) FROM governance.audit_logs l GROUP BY l.tenant_id;

-- From here on the log is what its entries say.
CREATE TRIGGER complete BEFORE INSERT ON governance.audit_logs
    FOR EACH ROW EXECUTE FUNCTION governance.complete_audit();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON governance.audit_logs
    FOR EACH ROW EXECUTE FUNCTION governance.refuse_change();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON governance.audit_chain
    FOR EACH ROW EXECUTE FUNCTION governance.refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON governance.audit_logs
    FOR EACH STATEMENT EXECUTE FUNCTION governance.refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON governance.audit_logs_rest
    FOR EACH STATEMENT EXECUTE FUNCTION governance.refuse_change();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON governance.audit_chain
    FOR EACH STATEMENT EXECUTE FUNCTION governance.refuse_change();
CREATE TRIGGER note AFTER INSERT ON governance.audit_logs REFERENCING NEW TABLE AS entries
    FOR EACH STATEMENT EXECUTE FUNCTION governance.note_audit();

RESET ROLE;
