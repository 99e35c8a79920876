-- Months: what only grows is cut by time, so that old rows go with their partition and not
-- one by one.
--
--   comms.messages_outbox                     by queued_at
--   integration.integration_webhook_logs      by received_at
--   integration.billing_webhook_logs          by received_at
--   governance.audit_logs                     by key (0015_audit.sql)
--
-- The key of a partitioned table contains its time, so it can't hold anything unique across
-- months. The keys of messages that must hold are therefore a small table of their own.
-- integration.webhook_deliveries stays whole: its rows live for weeks, senders change each of
-- them several times, and its key must hold.

SET LOCAL ROLE ferry_owner;

-- ---------------------------------------------------------------- the tables

CREATE TABLE comms.new_messages (LIKE comms.messages_outbox INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS)
    PARTITION BY RANGE (queued_at);
CREATE TABLE comms.messages_outbox_rest PARTITION OF comms.new_messages DEFAULT;
CREATE TABLE integration.new_webhook_logs (LIKE integration.integration_webhook_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS)
    PARTITION BY RANGE (received_at);
CREATE TABLE integration.integration_webhook_logs_rest PARTITION OF integration.new_webhook_logs DEFAULT;
CREATE TABLE integration.new_billing_logs (LIKE integration.billing_webhook_logs INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS)
    PARTITION BY RANGE (received_at);
CREATE TABLE integration.billing_webhook_logs_rest PARTITION OF integration.new_billing_logs DEFAULT;

CREATE TABLE comms.message_keys (
    tenant_id       uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    idempotency_key text NOT NULL,
    message_id      uuid NOT NULL,
    queued_at       timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, idempotency_key)
);
CREATE INDEX message_keys_queued_at_brin ON comms.message_keys USING brin (queued_at);
COMMENT ON TABLE comms.message_keys IS 'The idempotency keys of messages: each counts once, whatever the month';
COMMENT ON COLUMN comms.message_keys.message_id IS 'The message of comms.messages_outbox, with its queued_at; kept by triggers';

-- As the superuser, who alone sees the rows of all tenants.
RESET ROLE;
INSERT INTO comms.new_messages SELECT * FROM comms.messages_outbox;
INSERT INTO integration.new_webhook_logs SELECT * FROM integration.integration_webhook_logs;
INSERT INTO integration.new_billing_logs SELECT * FROM integration.billing_webhook_logs;
INSERT INTO comms.message_keys
SELECT m.tenant_id, m.idempotency_key, m.id, m.queued_at FROM comms.messages_outbox m WHERE m.idempotency_key IS NOT NULL;
SET LOCAL ROLE ferry_owner;
DROP TABLE comms.messages_outbox;
DROP TABLE integration.integration_webhook_logs;
DROP TABLE integration.billing_webhook_logs;
ALTER TABLE comms.new_messages RENAME TO messages_outbox;
ALTER TABLE integration.new_webhook_logs RENAME TO integration_webhook_logs;
ALTER TABLE integration.new_billing_logs RENAME TO billing_webhook_logs;

-- As the superuser: the checks of the rows there are must see them.
RESET ROLE;
ALTER TABLE comms.messages_outbox ADD PRIMARY KEY (tenant_id, id, queued_at),
    ADD FOREIGN KEY (tenant_id) REFERENCES identity.tenants ON DELETE CASCADE;
ALTER TABLE integration.integration_webhook_logs ADD PRIMARY KEY (tenant_id, id, received_at),
    ADD FOREIGN KEY (tenant_id) REFERENCES identity.tenants ON DELETE CASCADE;
ALTER TABLE integration.billing_webhook_logs ADD PRIMARY KEY (id, received_at),
    ADD FOREIGN KEY (tenant_id) REFERENCES identity.tenants ON DELETE CASCADE;
SET LOCAL ROLE ferry_owner;
CREATE INDEX outbox_idem_ix ON comms.messages_outbox (tenant_id, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX outbox_status_time_ix ON comms.messages_outbox (tenant_id, status, queued_at DESC);
CREATE INDEX integration_webhook_logs_time_ix ON integration.integration_webhook_logs (tenant_id, received_at DESC);
CREATE INDEX billing_webhook_logs_time_ix ON integration.billing_webhook_logs (tenant_id, received_at DESC);
COMMENT ON TABLE comms.messages_outbox IS 'Single messages to be sent through a provider; partitions are months of queued_at';
COMMENT ON COLUMN comms.messages_outbox.idempotency_key IS 'A second message with the same key is refused: it stands in message_keys';
COMMENT ON COLUMN comms.messages_outbox.queued_at IS 'Stays as it is: the message stands in its month';
COMMENT ON TABLE integration.integration_webhook_logs IS
    'Events of messaging and login providers, as they came; partitions are months of received_at';
COMMENT ON TABLE integration.billing_webhook_logs IS 'Events of the payment provider, as they came; partitions are months of received_at';
COMMENT ON TABLE comms.messages_outbox_rest IS 'Messages of months that have no partition';
COMMENT ON TABLE integration.integration_webhook_logs_rest IS 'Events of months that have no partition';
COMMENT ON TABLE integration.billing_webhook_logs_rest IS 'Events of months that have no partition';

SELECT identity.open_tables('comms.messages_outbox', 'integration.integration_webhook_logs', 'integration.billing_webhook_logs',
                            'comms.message_keys');
REVOKE INSERT, UPDATE, DELETE ON comms.message_keys FROM ferry_app;
CREATE POLICY owner ON comms.messages_outbox TO ferry_owner USING (true) WITH CHECK (true);
CREATE POLICY owner ON comms.message_keys TO ferry_owner USING (true) WITH CHECK (true);
CREATE POLICY owner ON integration.integration_webhook_logs TO ferry_owner USING (true) WITH CHECK (true);
CREATE POLICY owner ON integration.billing_webhook_logs TO ferry_owner USING (true) WITH CHECK (true);

-- ---------------------------------------------------------------- keys of messages

-- queued_at is left alone, or else a message that moves to another month would come in again.
CREATE FUNCTION comms.take_key() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.queued_at IS DISTINCT FROM OLD.queued_at THEN
        RAISE EXCEPTION 'a message stays in the month in which it was queued'
            USING ERRCODE = 'FE319', HINT = 'Leave queued_at as it is, and queue a new message.';
    END IF;
    IF TG_OP = 'UPDATE' AND OLD.idempotency_key IS NOT NULL THEN
        DELETE FROM comms.message_keys k WHERE k.tenant_id = OLD.tenant_id AND k.idempotency_key = OLD.idempotency_key;
    END IF;
    IF NEW.idempotency_key IS NOT NULL THEN
        INSERT INTO comms.message_keys VALUES (NEW.tenant_id, NEW.idempotency_key, NEW.id, NEW.queued_at);
    END IF;
    RETURN NEW;
END $$;
CREATE FUNCTION comms.free_keys() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    DELETE FROM comms.message_keys k USING gone g
    WHERE k.tenant_id = g.tenant_id AND k.idempotency_key = g.idempotency_key AND k.message_id = g.id;
    RETURN NULL;
END $$;
REVOKE EXECUTE ON FUNCTION comms.take_key(), comms.free_keys() FROM PUBLIC;
CREATE TRIGGER take_key BEFORE INSERT ON comms.messages_outbox
    FOR EACH ROW EXECUTE FUNCTION comms.take_key();
CREATE TRIGGER take_key_again BEFORE UPDATE ON comms.messages_outbox
    FOR EACH ROW WHEN ((OLD.tenant_id, OLD.id, OLD.queued_at, OLD.idempotency_key)
                       IS DISTINCT FROM (NEW.tenant_id, NEW.id, NEW.queued_at, NEW.idempotency_key))
    EXECUTE FUNCTION comms.take_key();
CREATE TRIGGER free_keys AFTER DELETE ON comms.messages_outbox REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION comms.free_keys();

-- As before (0024_rules.sql).
CREATE TRIGGER suppress_new BEFORE INSERT ON comms.messages_outbox
    FOR EACH ROW EXECUTE FUNCTION comms.mark_suppressed();
CREATE TRIGGER suppress_again BEFORE UPDATE ON comms.messages_outbox
    FOR EACH ROW WHEN (NEW.status IN ('pending', 'queued', 'sending')
                       AND (OLD.status, OLD.channel, OLD.to_email, OLD.to_phone_e164)
                           IS DISTINCT FROM (NEW.status, NEW.channel, NEW.to_email, NEW.to_phone_e164))
    EXECUTE FUNCTION comms.mark_suppressed();

-- ---------------------------------------------------------------- months

CREATE FUNCTION governance.monthly_tables() RETURNS TABLE (rel regclass, made_at name)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    VALUES ('comms.messages_outbox'::regclass, 'queued_at'::name),
           ('integration.integration_webhook_logs'::regclass, 'received_at'::name),
           ('integration.billing_webhook_logs'::regclass, 'received_at'::name)
$$;
COMMENT ON FUNCTION governance.monthly_tables() IS 'Tables whose partitions are months of a time';

-- A month of a table, and what stands in the partition of the rest of it moves there.
CREATE FUNCTION governance.make_month(rel regclass, made_at name, month timestamp) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    first timestamptz := month AT TIME ZONE 'UTC';
    next timestamptz := (month + interval '1 month') AT TIME ZONE 'UTC';
    name text;
    rest text;
    moved bigint;
BEGIN
    SELECT format('%I.%I', n.nspname, c.relname || '_' || to_char(month, 'YYYY_MM')), format('%I.%I', n.nspname, c.relname || '_rest')
    INTO name, rest FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = rel;
    EXECUTE format('CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', name, rel);
    EXECUTE format('COMMENT ON TABLE %s IS %L', name, 'Rows of ' || to_char(month, 'YYYY-MM'));
    EXECUTE format('WITH m AS (DELETE FROM %s x WHERE x.%I >= %L AND x.%I < %L RETURNING x.*) INSERT INTO %s SELECT * FROM m',
                   rest, made_at, first, made_at, next, name);
    GET DIAGNOSTICS moved = ROW_COUNT;
    EXECUTE format('ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%L) TO (%L)', rel, name, first, next);
    -- Nobody has rights on it, but who is given some is held to the policy here, too.
    PERFORM ferry.isolate(name::regclass);
    EXECUTE format('CREATE POLICY owner ON %s TO ferry_owner USING (true) WITH CHECK (true)', name);
    RETURN moved;
END $$;

-- The months from now on, and those of rows that came in without one; not those of times that
-- are made up.
CREATE FUNCTION governance.make_months(ahead int DEFAULT 3, dry_run bool DEFAULT false)
RETURNS TABLE (tab text, action text, n bigint, problem text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    this_month timestamp := date_trunc('month', now() AT TIME ZONE 'UTC');
    t record;
    m record;
    rest text;
BEGIN
    action := 'make';
    FOR t IN SELECT * FROM governance.monthly_tables() LOOP
        SELECT format('%I.%I', s.nspname, c.relname || '_rest') INTO rest
        FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace WHERE c.oid = t.rel;
        FOR m IN EXECUTE format(
                'SELECT month, coalesce(r.n, 0) AS n FROM generate_series(%L::timestamp, %L, interval ''1 month'') w(month) FULL JOIN '
                '(SELECT date_trunc(''month'', x.%I AT TIME ZONE ''UTC'') AS month, count(*) AS n FROM %s x '
                ' WHERE x.%I BETWEEN now() - interval ''10 years'' AND now() + interval ''1 month'' GROUP BY 1) r USING (month) '
                'ORDER BY month', this_month, this_month + make_interval(months => ahead), t.made_at, rest, t.made_at) LOOP
            tab := t.rel || '_' || to_char(m.month, 'YYYY_MM');
            n := m.n;
            CONTINUE WHEN to_regclass(tab) IS NOT NULL;
            IF NOT dry_run THEN
                n := governance.make_month(t.rel, t.made_at, m.month);
            END IF;
            RETURN NEXT;
        END LOOP;
    END LOOP;
END $$;
COMMENT ON FUNCTION governance.make_months(int, bool) IS 'Makes partitions of this month and the next ones; how many rows moved there from the rest';

CREATE FUNCTION governance.rule_name(rel regclass) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT substr(rel::text, length(split_part('governance.retention_rules'::regclass::text, '.', 1)) - length('governance') + 1)
$$;
COMMENT ON FUNCTION governance.rule_name(regclass) IS 'What a rule calls a table: its name without the prefix of a tenant''s own set';

-- How long rows of a table are kept at most: NULL when some are kept for ever or archived, so
-- that rows have to be looked at one by one.
CREATE FUNCTION governance.longest_retention(rel regclass) RETURNS interval
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN bool_and(r.action = 'purge' AND governance.retention_interval(r.policy) IS NOT NULL)
                     AND bool_or(r.tenant_id = ferry.nobody())
                THEN max(governance.retention_interval(r.policy)) END
    FROM governance.retention_rules r WHERE r.tab IN (governance.rule_name(rel), rel::text)
$$;

-- Months that hold nothing any more, or nothing that any rule still keeps.
CREATE FUNCTION governance.drop_months(dry_run bool DEFAULT true)
RETURNS TABLE (tab text, action text, n bigint, problem text)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t record;
    p record;
    month timestamp;
    until timestamptz;
BEGIN
    action := 'drop';
    FOR t IN SELECT m.rel, governance.longest_retention(m.rel) AS keep FROM governance.monthly_tables() m LOOP
        FOR p IN SELECT c.oid::regclass AS rel, right(c.relname, 7) AS month FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                 WHERE i.inhparent = t.rel AND c.relname ~ '_[0-9]{4}_[0-9]{2}$' ORDER BY c.relname LOOP
            month := to_date(p.month, 'YYYY_MM');
            until := (month + interval '1 month') AT TIME ZONE 'UTC';
            CONTINUE WHEN until > now() - interval '1 month';
            EXECUTE format('SELECT count(*) FROM %s', p.rel) INTO n;
            CONTINUE WHEN n > 0 AND (t.keep IS NULL OR until > now() - t.keep);
            tab := p.rel;
            IF NOT dry_run THEN
                IF t.rel = 'comms.messages_outbox'::regclass THEN
                    DELETE FROM comms.message_keys k WHERE k.queued_at >= month AT TIME ZONE 'UTC' AND k.queued_at < until;
                END IF;
                EXECUTE format('DROP TABLE %s', p.rel);
            END IF;
            RETURN NEXT;
        END LOOP;
    END LOOP;
END $$;
COMMENT ON FUNCTION governance.drop_months(bool) IS 'Drops months that are empty or older than any rule keeps; says which unless dry_run is false';
REVOKE EXECUTE ON FUNCTION governance.make_month(regclass, name, timestamp), governance.make_months(int, bool), governance.drop_months(bool)
    FROM PUBLIC;

SELECT ferry.isolate('comms.messages_outbox_rest');
SELECT ferry.isolate('integration.integration_webhook_logs_rest');
SELECT ferry.isolate('integration.billing_webhook_logs_rest');
CREATE POLICY owner ON comms.messages_outbox_rest TO ferry_owner USING (true) WITH CHECK (true);
CREATE POLICY owner ON integration.integration_webhook_logs_rest TO ferry_owner USING (true) WITH CHECK (true);
CREATE POLICY owner ON integration.billing_webhook_logs_rest TO ferry_owner USING (true) WITH CHECK (true);
SELECT governance.make_months();

-- ---------------------------------------------------------------- retention of these

-- The tables of this set of schemas whose rows have a tenant and a time.
CREATE OR REPLACE FUNCTION governance.retained_tables() RETURNS TABLE (rel regclass, made_at name, says bool, classified bool)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH own AS (SELECT left(n.nspname, length(n.nspname) - length('governance')) AS prefix
                 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = 'governance.retention_rules'::regclass)
    SELECT c.oid::regclass, made.col,
           EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'retention_policy' AND NOT a.attisdropped),
           EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'data_classification' AND NOT a.attisdropped)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    -- Some logs call the time at which a row was made otherwise.
    JOIN LATERAL (SELECT a.attname AS col FROM pg_attribute a JOIN unnest('{created_at,queued_at,occurred_at,recorded_at,received_at}'::name[])
                  WITH ORDINALITY w(col, place) ON w.col = a.attname
                  WHERE a.attrelid = c.oid AND NOT a.attisdropped ORDER BY w.place LIMIT 1) made ON true, own
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relowner = 'ferry_owner'::regrole
      AND coalesce((SELECT p.schema_prefix FROM ferry.placement p WHERE starts_with(n.nspname, p.schema_prefix)
                    ORDER BY length(p.schema_prefix) DESC LIMIT 1), '') = own.prefix
      AND c.oid NOT IN ('governance.audit_logs'::regclass, 'governance.archived_rows'::regclass, 'identity.tenants'::regclass)
      AND EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped AND a.attname = 'tenant_id')
    ORDER BY 1
$$;
-- Rows of nobody are archived, too, under the zero uuid, so tenant_id is no reference; what is
-- archived of a tenant goes with it all the same (governance.forget_shared).
ALTER TABLE governance.archived_rows DROP CONSTRAINT archived_rows_tenant_id_fkey;
COMMENT ON COLUMN governance.archived_rows.tenant_id IS 'The zero uuid: rows that belonged to no tenant';
COMMENT ON COLUMN governance.archived_rows.tab IS 'Where it stood: schema.table, without the prefix of a tenant''s own set';
CREATE POLICY owner ON governance.archived_rows TO ferry_owner USING (true) WITH CHECK (true);

-- Deletes the rows of a table for which a condition on x holds; those whose rule says so are
-- archived. What belongs to no tenant is archived under the zero uuid.
CREATE FUNCTION governance.remove_rows(rel regclass, made_at name, classified bool, due text) RETURNS bigint
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    name text := governance.rule_name(rel);
    restricted text := CASE WHEN classified THEN 'x.data_classification::text' ELSE 'NULL::text' END;
    n bigint;
BEGIN
    EXECUTE format('WITH gone AS (DELETE FROM %s x WHERE %s RETURNING x.*), kept AS ('
        'INSERT INTO governance.archived_rows (tenant_id, tab, row_data, data_classification, made_at) '
        'SELECT coalesce(x.tenant_id, ferry.nobody()), %L, to_jsonb(x), %s, x.%I FROM gone x WHERE %s IS DISTINCT FROM ''RESTRICTED'' '
        'AND (SELECT r.action FROM governance.retention_rules r WHERE r.tab IN (%L, %L) '
        'AND r.tenant_id IN (x.tenant_id, ferry.nobody()) ORDER BY r.tenant_id = ferry.nobody() LIMIT 1) = ''archive'') '
        'SELECT count(*) FROM gone', rel, due, name, restricted, made_at, restricted, name, rel::text) INTO n;
    RETURN n;
END $$;
REVOKE EXECUTE ON FUNCTION governance.remove_rows(regclass, name, bool, text) FROM PUBLIC;

-- Each table is a step of its own. Where a row may not go (it is immutable, or others refer to
-- it) each tenant's rows are a step, so that nobody's stay for another's; the answer says why.
CREATE OR REPLACE FUNCTION governance.apply_retention(of_tenant uuid DEFAULT NULL, dry_run bool DEFAULT true)
RETURNS TABLE (tab text, action text, n bigint, problem text)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t record;
    name text;
    policy text;
    due text;
    whose uuid;
    part bigint;
BEGIN
    FOR t IN SELECT * FROM governance.retained_tables() LOOP
        name := governance.rule_name(t.rel);
        CONTINUE WHEN NOT t.says AND NOT EXISTS (SELECT FROM governance.retention_rules r WHERE r.tab IN (name, t.rel::text));
        policy := format('coalesce(%s (SELECT r.policy FROM governance.retention_rules r WHERE r.tab IN (%L, %L) '
                         'AND r.tenant_id IN (x.tenant_id, ferry.nobody()) ORDER BY r.tenant_id = ferry.nobody() LIMIT 1))',
                         CASE WHEN t.says THEN 'x.retention_policy,' END, name, t.rel::text);
        due := format('x.%I < now() - governance.retention_interval(%s)', t.made_at, policy);
        tab := name;
        problem := NULL;
        action := coalesce((SELECT min(r.action) FROM governance.retention_rules r WHERE r.tab IN (name, t.rel::text)), 'purge');
        EXECUTE format('SELECT count(*) FROM %s x WHERE %s AND (%L::uuid IS NULL OR x.tenant_id = %L::uuid)', t.rel, due, of_tenant, of_tenant)
        INTO n;
        CONTINUE WHEN n = 0;
        IF NOT dry_run THEN
            BEGIN
                n := governance.remove_rows(t.rel, t.made_at, t.classified,
                                            CASE WHEN of_tenant IS NULL THEN due ELSE format('%s AND x.tenant_id = %L', due, of_tenant) END);
            EXCEPTION WHEN OTHERS THEN
                n := 0;
                problem := SQLERRM;
            END;
        END IF;
        IF problem IS NOT NULL AND of_tenant IS NULL THEN
            FOR whose IN EXECUTE format('SELECT DISTINCT x.tenant_id FROM %s x WHERE %s ORDER BY 1', t.rel, due) LOOP
                BEGIN
                    part := governance.remove_rows(t.rel, t.made_at, t.classified, format('%s AND x.tenant_id IS NOT DISTINCT FROM %L::uuid', due, whose));
                    n := n + part;
                EXCEPTION WHEN OTHERS THEN
                    problem := format('tenant %s: %s', whose, SQLERRM);
                END;
            END LOOP;
        END IF;
        RETURN NEXT;
    END LOOP;
END $$;

INSERT INTO governance.retention_rules (tenant_id, tab, policy) VALUES
    (ferry.nobody(), 'integration.integration_webhook_logs', 'MONTHS_6'),
    (ferry.nobody(), 'integration.billing_webhook_logs', 'YEARS_7');

RESET ROLE;
