-- Rules that the sources state of ledger, approvals, contracts, prices and messages.
--
-- They are triggers, so they hold for a device's change-set and for anybody's SQL alike. A
-- rule that refuses does so with a SQLSTATE of the class FE: its digits are the number of
-- the code in the error registry, which is what a device gets.

SET LOCAL ROLE ferry_owner;

-- Which user stands behind a row's change: that of the device, in a merge, else the setting
-- app.user_id. NULL when the user is not one of the tenant.
CREATE FUNCTION identity.author_of(tab regclass, tenant uuid, key uuid) RETURNS uuid
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT u.id FROM identity.users u
    WHERE u.tenant_id = tenant
      AND u.id = coalesce((SELECT a.user_id FROM governance.authors(tab, ARRAY[key]) a LIMIT 1),
                          nullif(current_setting('app.user_id', true), '')::uuid)
$$;
REVOKE EXECUTE ON FUNCTION identity.author_of(regclass, uuid, uuid) FROM PUBLIC;

-- Rows that are evidence stay as they are, until their tenant goes.
CREATE FUNCTION identity.keep_evidence() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'DELETE' AND OLD.tenant_id <> ferry.nobody() AND NOT EXISTS (SELECT FROM identity.tenants t WHERE t.id = OLD.tenant_id) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'rows of %.% are never changed or deleted', TG_TABLE_SCHEMA, TG_TABLE_NAME
        USING ERRCODE = 'FE319', HINT = 'Write a new row that corrects the old one, or archive what it belongs to.';
END $$;
COMMENT ON FUNCTION identity.keep_evidence() IS 'Trigger: a row may not be changed, and not be deleted while its tenant is there';

-- ---------------------------------------------------------------- the ledger

-- A statement's entries are added to their accounts together. Accounts are locked in the
-- order of their keys, so that two transfers can't wait for each other; not FOR UPDATE, which
-- would wait for the other's foreign key.
CREATE FUNCTION billing.post_tokens() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    a record;
    fell bool;
BEGIN
    FOR a IN SELECT t.*, p.delta, p.n FROM billing.token_accounts t
             JOIN (SELECT e.tenant_id, e.account_id, sum(e.signed_amount) AS delta, count(*) AS n
                   FROM entries e GROUP BY 1, 2) p ON p.tenant_id = t.tenant_id AND p.account_id = t.id
             ORDER BY t.tenant_id, t.id FOR NO KEY UPDATE OF t LOOP
        IF a.balance + a.delta < -a.overdraft_limit AND a.delta < 0 THEN
            RAISE EXCEPTION 'the token account % has % and can''t go down by %', a.name, a.balance, -a.delta
                USING ERRCODE = 'FE323', HINT = 'Credit the account first, or raise its overdraft_limit.';
        END IF;
        fell := (a.balance + a.delta < a.low_balance_threshold) IS TRUE;
        UPDATE billing.token_accounts t SET balance = t.balance + a.delta, entries = t.entries + a.n,
            low_balance_since = CASE WHEN fell THEN coalesce(t.low_balance_since, now()) END
        WHERE t.tenant_id = a.tenant_id AND t.id = a.id;
        IF fell AND a.low_balance_since IS NULL AND a.alert_user_id IS NOT NULL THEN
            INSERT INTO comms.notifications_inbox (tenant_id, user_id, category, title, body, meta)
            VALUES (a.tenant_id, a.alert_user_id, 'system', 'Token balance is low',
                    format('The account %s has %s tokens left, below %s.', a.name, a.balance + a.delta, a.low_balance_threshold),
                    jsonb_build_object('token_account_id', a.id, 'balance', a.balance + a.delta));
        END IF;
    END LOOP;
    RETURN NULL;
END $$;
CREATE TRIGGER post AFTER INSERT ON billing.token_transactions
    REFERENCING NEW TABLE AS entries FOR EACH STATEMENT EXECUTE FUNCTION billing.post_tokens();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON billing.token_transactions
    FOR EACH ROW EXECUTE FUNCTION identity.keep_evidence();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON billing.token_transactions
    FOR EACH STATEMENT EXECUTE FUNCTION governance.refuse_change();

-- A balance starts at nothing and moves with the ledger's own trigger alone.
CREATE FUNCTION billing.guard_balance() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.balance <> 0 OR NEW.entries <> 0 THEN
            RAISE EXCEPTION 'a token account starts with nothing'
                USING ERRCODE = 'FE323', HINT = 'Insert a credit into billing.token_transactions.';
        END IF;
    ELSIF pg_trigger_depth() < 2 THEN
        RAISE EXCEPTION 'a balance is the sum of its transactions and can''t be set'
            USING ERRCODE = 'FE323', HINT = 'Insert into billing.token_transactions.';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_insert BEFORE INSERT ON billing.token_accounts
    FOR EACH ROW EXECUTE FUNCTION billing.guard_balance();
CREATE TRIGGER guard_update BEFORE UPDATE ON billing.token_accounts
    FOR EACH ROW WHEN ((OLD.balance, OLD.entries) IS DISTINCT FROM (NEW.balance, NEW.entries))
    EXECUTE FUNCTION billing.guard_balance();
-- A new threshold counts at once.
CREATE FUNCTION billing.note_threshold() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    NEW.low_balance_since := CASE WHEN NEW.balance < NEW.low_balance_threshold THEN coalesce(OLD.low_balance_since, now()) END;
    RETURN NEW;
END $$;
CREATE TRIGGER threshold BEFORE UPDATE ON billing.token_accounts
    FOR EACH ROW WHEN (OLD.low_balance_threshold IS DISTINCT FROM NEW.low_balance_threshold)
    EXECUTE FUNCTION billing.note_threshold();

-- The ledger as it was at each entry.
CREATE VIEW billing.token_statements WITH (security_invoker) AS
    SELECT t.tenant_id, t.account_id, t.id, t.created_at, t.direction, t.amount, t.reason,
           sum(t.signed_amount) OVER (PARTITION BY t.tenant_id, t.account_id ORDER BY t.created_at, t.id) AS balance_after
    FROM billing.token_transactions t;
COMMENT ON VIEW billing.token_statements IS 'Transactions with the balance after each';

CREATE FUNCTION billing.verify_ledger() RETURNS TABLE (tenant_id uuid, account_id uuid, balance bigint, sum bigint)
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT a.tenant_id, a.id, a.balance, coalesce(t.sum, 0)::bigint
    FROM billing.token_accounts a
    LEFT JOIN (SELECT x.tenant_id, x.account_id, sum(x.signed_amount) AS sum, count(*) AS n
               FROM billing.token_transactions x GROUP BY 1, 2) t ON t.tenant_id = a.tenant_id AND t.account_id = a.id
    WHERE (a.balance, a.entries) IS DISTINCT FROM (coalesce(t.sum, 0)::bigint, coalesce(t.n, 0))
$$;
COMMENT ON FUNCTION billing.verify_ledger() IS 'Accounts whose balance is not the sum of their transactions: none, unless triggers were off';
REVOKE EXECUTE ON FUNCTION billing.verify_ledger() FROM PUBLIC;
CREATE POLICY owner ON billing.token_accounts TO ferry_owner USING (true) WITH CHECK (true);
CREATE POLICY owner ON billing.token_transactions TO ferry_owner USING (true) WITH CHECK (true);
CREATE POLICY owner ON comms.notifications_inbox TO ferry_owner USING (true) WITH CHECK (true);
REVOKE UPDATE, DELETE ON billing.token_transactions FROM ferry_app;

-- ---------------------------------------------------------------- messages

CREATE FUNCTION comms.normalize(channel text, address text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE WHEN channel = 'email' THEN lower(btrim(address))
                WHEN channel IN ('sms', 'whatsapp')
                THEN regexp_replace(regexp_replace(btrim(address), '^00', '+'), '[^0-9+]', '', 'g')
                ELSE btrim(address) END;
COMMENT ON FUNCTION comms.normalize(text, text) IS 'An address as the suppression list has it: e-mail in small letters, telephone as + and digits';

CREATE FUNCTION comms.is_suppressed(tenant uuid, on_channel text, address text) RETURNS boolean
    LANGUAGE sql STABLE
AS $$
    SELECT EXISTS (SELECT FROM comms.suppression_list s
                   WHERE s.tenant_id = tenant AND s.channel = on_channel AND s.normalized_value = comms.normalize(on_channel, address))
$$;
COMMENT ON FUNCTION comms.is_suppressed(uuid, text, text) IS 'May this address not be written to?';

CREATE FUNCTION comms.normalize_suppression() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    NEW.normalized_value := comms.normalize(NEW.channel, NEW.normalized_value);
    RETURN NEW;
END $$;
CREATE TRIGGER normalize BEFORE INSERT OR UPDATE ON comms.suppression_list
    FOR EACH ROW EXECUTE FUNCTION comms.normalize_suppression();
-- As the superuser, who alone sees the rows of all tenants.
RESET ROLE;
UPDATE comms.suppression_list SET normalized_value = normalized_value;
SET LOCAL ROLE ferry_owner;

-- A message to a suppressed address is kept, so that its sender sees what became of it, and
-- is marked before anybody could send it. Setting such a message to be sent again is refused.
CREATE FUNCTION comms.mark_suppressed() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    IF NEW.status IN ('sent', 'delivered', 'failed', 'suppressed') AND TG_OP = 'INSERT'
       OR NOT comms.is_suppressed(NEW.tenant_id, NEW.channel, CASE NEW.channel WHEN 'email' THEN NEW.to_email ELSE NEW.to_phone_e164 END) THEN
        RETURN NEW;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        RAISE EXCEPTION 'the recipient is on the suppression list of channel %', NEW.channel
            USING ERRCODE = 'FE317', HINT = 'Delete the entry of comms.suppression_list if the recipient has agreed again.';
    END IF;
    NEW.status := 'suppressed';
    NEW.error_code := 'SUPPRESSED';
    RETURN NEW;
END $$;
CREATE TRIGGER suppress_new BEFORE INSERT ON comms.messages_outbox
    FOR EACH ROW EXECUTE FUNCTION comms.mark_suppressed();
CREATE TRIGGER suppress_again BEFORE UPDATE ON comms.messages_outbox
    FOR EACH ROW WHEN (NEW.status IN ('pending', 'queued', 'sending')
                       AND (OLD.status, OLD.channel, OLD.to_email, OLD.to_phone_e164)
                           IS DISTINCT FROM (NEW.status, NEW.channel, NEW.to_email, NEW.to_phone_e164))
    EXECUTE FUNCTION comms.mark_suppressed();

-- What waits for an address that is suppressed now is not sent either.
CREATE FUNCTION comms.suppress_waiting() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    UPDATE comms.messages_outbox m SET status = 'suppressed', error_code = 'SUPPRESSED'
    FROM added a
    WHERE m.tenant_id = a.tenant_id AND m.channel = a.channel AND m.status IN ('pending', 'queued')
      AND comms.normalize(m.channel, CASE m.channel WHEN 'email' THEN m.to_email ELSE m.to_phone_e164 END) = a.normalized_value;
    RETURN NULL;
END $$;
CREATE TRIGGER suppress_waiting AFTER INSERT ON comms.suppression_list
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION comms.suppress_waiting();
COMMENT ON COLUMN comms.messages_outbox.error_code IS 'SUPPRESSED: the recipient is on the suppression list; else the provider''s';

-- ---------------------------------------------------------------- approvals

-- As the superuser: the check of the rows there are must see them.
RESET ROLE;
ALTER TABLE approvals.approvals
    DROP CONSTRAINT approvals_subject_entity_check,
    ADD CONSTRAINT approvals_subject_entity_check
        CHECK (subject_entity IN ('deal', 'unit', 'campaign', 'contract', 'deployment_plan')),
    ADD CONSTRAINT approvals_levels_check CHECK (level BETWEEN 1 AND required_levels) NOT VALID,
    ADD COLUMN sla          interval CHECK (sla > interval '0'),
    ADD COLUMN escalated_at timestamptz;
SET LOCAL ROLE ferry_owner;
ALTER TABLE approvals.approval_history ADD COLUMN level int;
CREATE INDEX approval_history_approval_ix ON approvals.approval_history (tenant_id, approval_id, created_at);
CREATE INDEX approvals_overdue_ix ON approvals.approvals (tenant_id, sla_due_at) WHERE state = 'pending';
COMMENT ON COLUMN approvals.approvals.level IS 'The level that decides next: 1 to required_levels';
COMMENT ON COLUMN approvals.approvals.sla IS 'How long each level may take; sla_due_at is counted anew from it';
COMMENT ON COLUMN approvals.approvals.sla_due_at IS 'When the present level should have decided';
COMMENT ON COLUMN approvals.approvals.escalated_at IS 'When it was noticed that the present level is late';
COMMENT ON COLUMN approvals.approval_history.level IS 'The level that acted';

-- pending, level 1 .. required_levels -> approved (by the last level) -> applied
--         any level                   -> rejected, cancelled
CREATE FUNCTION approvals.guard_approval() RETURNS trigger
    LANGUAGE plpgsql
AS $$
DECLARE
    why text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        IF NEW.state <> 'pending' OR NEW.level <> 1 THEN
            why := 'an approval starts as pending, at level 1';
        END IF;
        NEW.sla_due_at := coalesce(NEW.sla_due_at, now() + NEW.sla);
    ELSIF OLD.state NOT IN ('pending', 'approved') THEN
        why := format('this approval is %s, which is final', OLD.state);
    ELSIF NEW.required_levels <> OLD.required_levels THEN
        why := 'how many levels must approve is fixed when it is asked for';
    ELSIF NEW.state = 'pending' AND OLD.state = 'pending' THEN
        IF NEW.level <> OLD.level + 1 AND NEW.level <> OLD.level THEN
            why := format('level %s decides now, and level %s after it', OLD.level, OLD.level + 1);
        ELSIF NEW.level > OLD.level THEN
            NEW.sla_due_at := coalesce(now() + NEW.sla, NEW.sla_due_at);
            NEW.escalated_at := NULL;
        END IF;
    ELSIF NEW.level <> OLD.level THEN
        why := 'a decision leaves the level as it is';
    ELSIF OLD.state = 'pending' AND NEW.state = 'approved' AND OLD.level < OLD.required_levels THEN
        why := format('level %s of %s decides now: raise the level instead', OLD.level, OLD.required_levels);
    ELSIF NEW.state <> OLD.state AND NOT (OLD.state, NEW.state) IN
          (('pending', 'approved'), ('pending', 'rejected'), ('pending', 'cancelled'), ('approved', 'applied'), ('approved', 'cancelled')) THEN
        why := format('an approval that is %s can''t become %s', OLD.state, NEW.state);
    END IF;
    IF why IS NOT NULL THEN
        RAISE EXCEPTION '%', why USING ERRCODE = 'FE318', HINT = 'Use approvals.decide, which does it in order.';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard_insert BEFORE INSERT ON approvals.approvals
    FOR EACH ROW EXECUTE FUNCTION approvals.guard_approval();
CREATE TRIGGER guard_update BEFORE UPDATE ON approvals.approvals
    FOR EACH ROW WHEN ((OLD.state, OLD.level, OLD.required_levels) IS DISTINCT FROM (NEW.state, NEW.level, NEW.required_levels))
    EXECUTE FUNCTION approvals.guard_approval();

CREATE FUNCTION approvals.note_approval() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    what text;
BEGIN
    IF TG_OP = 'INSERT' THEN
        what := 'submitted';
    ELSIF NEW.state <> OLD.state THEN
        what := NEW.state;
    ELSIF NEW.level > OLD.level THEN
        what := 'approved';
    ELSIF NEW.escalated_at IS NOT NULL AND OLD.escalated_at IS NULL THEN
        what := 'escalated';
    ELSE
        RETURN NULL;
    END IF;
    INSERT INTO approvals.approval_history (tenant_id, approval_id, actor_user_id, action, level, note, created_at)
    VALUES (NEW.tenant_id, NEW.id,
            coalesce(identity.author_of(TG_RELID, NEW.tenant_id, NEW.id), CASE WHEN TG_OP = 'INSERT' THEN NEW.requested_by END),
            what, CASE WHEN TG_OP = 'UPDATE' THEN OLD.level ELSE 1 END, nullif(current_setting('app.note', true), ''), clock_timestamp());
    RETURN NULL;
END $$;
CREATE TRIGGER history AFTER INSERT OR UPDATE ON approvals.approvals
    FOR EACH ROW EXECUTE FUNCTION approvals.note_approval();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON approvals.approval_history
    FOR EACH ROW EXECUTE FUNCTION identity.keep_evidence();
CREATE POLICY owner ON approvals.approval_history TO ferry_owner USING (true) WITH CHECK (true);
REVOKE INSERT, UPDATE, DELETE ON approvals.approval_history FROM ferry_app;

-- Decides at a level for the tenant of the session; the new state and level.
CREATE FUNCTION approvals.decide(approval uuid, at_level int, decision text, note text DEFAULT NULL,
                                 OUT state text, OUT level int)
    LANGUAGE plpgsql
AS $$
DECLARE
    a approvals.approvals;
    former text := coalesce(current_setting('app.note', true), '');
BEGIN
    IF decision IS NULL OR decision NOT IN ('approve', 'reject') THEN
        RAISE EXCEPTION 'a decision is approve or reject, not %', coalesce(decision, 'nothing') USING ERRCODE = 'invalid_parameter_value';
    END IF;
    SELECT * INTO a FROM approvals.approvals p WHERE p.tenant_id = ferry.tenant() AND p.id = approval FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'this tenant has no approval %', approval USING ERRCODE = 'no_data_found';
    END IF;
    IF a.state <> 'pending' THEN
        RAISE EXCEPTION 'this approval is % already', a.state USING ERRCODE = 'FE318';
    END IF;
    IF at_level IS DISTINCT FROM a.level THEN
        RAISE EXCEPTION 'level % decides now, not level %', a.level, at_level
            USING ERRCODE = 'FE318', HINT = 'Levels decide one after the other.';
    END IF;
    PERFORM set_config('app.note', coalesce(note, ''), true);
    UPDATE approvals.approvals p SET
        state = CASE WHEN decision = 'reject' THEN 'rejected' WHEN a.level = a.required_levels THEN 'approved' ELSE 'pending' END,
        level = CASE WHEN decision = 'approve' AND a.level < a.required_levels THEN a.level + 1 ELSE a.level END
    WHERE p.tenant_id = a.tenant_id AND p.id = a.id
    RETURNING p.state, p.level INTO decide.state, decide.level;
    PERFORM set_config('app.note', former, true);
END $$;
COMMENT ON FUNCTION approvals.decide(uuid, int, text, text) IS
    'approve or reject at a level; refused (FE318) unless it is that level''s turn';

CREATE VIEW approvals.overdue WITH (security_invoker) AS
    SELECT a.tenant_id, a.id, a.domain, a.subject_entity, a.subject_id, a.level, a.required_levels, a.requested_by, a.sla_due_at,
           now() - a.sla_due_at AS late_by, a.escalated_at
    FROM approvals.approvals a WHERE a.state = 'pending' AND a.sla_due_at < now();
COMMENT ON VIEW approvals.overdue IS 'Approvals whose present level is late';
GRANT SELECT ON approvals.overdue, billing.token_statements TO ferry_app;

-- Notes what is late, once a level, and tells who asked. How many.
CREATE FUNCTION approvals.escalate_overdue() RETURNS bigint
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH late AS (
        UPDATE approvals.approvals a SET escalated_at = now()
        WHERE a.state = 'pending' AND a.sla_due_at < now() AND a.escalated_at IS NULL
        RETURNING a.*
    ), told AS (
        INSERT INTO comms.notifications_inbox (tenant_id, user_id, category, title, body, meta)
        SELECT l.tenant_id, l.requested_by, 'approvals', 'An approval is late',
               format('%s: level %s of %s should have decided by %s.', l.domain, l.level, l.required_levels,
                      to_char(l.sla_due_at AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')),
               jsonb_build_object('approval_id', l.id)
        FROM late l RETURNING 1
    )
    SELECT count(*) FROM told
$$;
COMMENT ON FUNCTION approvals.escalate_overdue() IS 'Marks late approvals of all tenants as escalated; how many';
CREATE POLICY owner ON approvals.approvals TO ferry_owner USING (true) WITH CHECK (true);
REVOKE EXECUTE ON FUNCTION approvals.escalate_overdue() FROM PUBLIC;

-- ---------------------------------------------------------------- prices

-- The first change of a unit's price also keeps the price that it had until then: so a
-- history is whole, and a unit that is made with a price costs no further row until then.
CREATE OR REPLACE FUNCTION inventory.note_prices() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    tenants uuid[];
    keys uuid[];
    olds jsonb[];
    news jsonb[];
    made timestamptz[];
BEGIN
    SELECT array_agg(n.tenant_id), array_agg(n.id), array_agg(n.created_at),
           array_agg(jsonb_build_object('code', o.code, 'price_minor', o.price_minor, 'currency', o.currency)),
           array_agg(jsonb_build_object('code', n.code, 'price_minor', n.price_minor, 'currency', n.currency))
    INTO tenants, keys, made, olds, news
    FROM after n JOIN before o ON o.tenant_id = n.tenant_id AND o.id = n.id
    WHERE (n.price_minor, n.currency) IS DISTINCT FROM (o.price_minor, o.currency);
    IF tenants IS NULL THEN
        RETURN NULL;
    END IF;
    PERFORM governance.write_audit(TG_RELID, 'UPDATE', 'MEDIUM', '{}', tenants, keys, olds, news);
    INSERT INTO inventory.unit_price_history (tenant_id, unit_id, price_minor, currency, effective_at)
    SELECT p.tenant_id, p.id, (p.price ->> 'price_minor')::bigint, p.price ->> 'currency', p.made
    FROM unnest(tenants, keys, olds, made) AS p(tenant_id, id, price, made)
    WHERE p.price ->> 'price_minor' IS NOT NULL AND p.price ->> 'currency' IS NOT NULL
      AND NOT EXISTS (SELECT FROM inventory.unit_price_history h WHERE h.tenant_id = p.tenant_id AND h.unit_id = p.id);
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

-- ---------------------------------------------------------------- contracts

CREATE FUNCTION contracts.count_version() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    NEW.version := CASE WHEN TG_OP = 'INSERT' THEN 1 ELSE OLD.version END;
    IF TG_OP = 'UPDATE' AND to_jsonb(NEW) - 'updated_at' <> to_jsonb(OLD) - 'updated_at' THEN
        NEW.version := OLD.version + 1;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER count_version BEFORE INSERT OR UPDATE ON contracts.contracts
    FOR EACH ROW EXECUTE FUNCTION contracts.count_version();

CREATE FUNCTION contracts.keep_version() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    content jsonb := to_jsonb(NEW);
BEGIN
    INSERT INTO contracts.contract_versions (tenant_id, contract_id, version, content, content_hash, changed_fields, changed_by)
    VALUES (NEW.tenant_id, NEW.id, NEW.version, content, sha256(convert_to(content::text, 'UTF8')),
            CASE WHEN TG_OP = 'UPDATE' THEN governance.changed_fields(to_jsonb(OLD), content) ELSE '{}' END,
            identity.author_of(TG_RELID, NEW.tenant_id, NEW.id));
    RETURN NULL;
END $$;
CREATE TRIGGER keep_first_version AFTER INSERT ON contracts.contracts
    FOR EACH ROW EXECUTE FUNCTION contracts.keep_version();
CREATE TRIGGER keep_version AFTER UPDATE ON contracts.contracts
    FOR EACH ROW WHEN (OLD.version <> NEW.version) EXECUTE FUNCTION contracts.keep_version();
CREATE TRIGGER immutable BEFORE UPDATE OR DELETE ON contracts.contract_versions
    FOR EACH ROW EXECUTE FUNCTION identity.keep_evidence();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON contracts.contract_versions
    FOR EACH STATEMENT EXECUTE FUNCTION governance.refuse_change();
CREATE POLICY owner ON contracts.contract_versions TO ferry_owner USING (true) WITH CHECK (true);
REVOKE INSERT, UPDATE, DELETE ON contracts.contract_versions FROM ferry_app;

-- ---------------------------------------------------------------- audit

SELECT governance.audit_columns('contracts.contracts', '{}', '{}', 'HIGH');
SELECT governance.audit_columns('billing.payments', '{}', '{method_details}', 'HIGH');
SELECT governance.audit_columns('billing.token_accounts', '{name,plan_tier,overdraft_limit,low_balance_threshold,alert_user_id}');
SELECT governance.audit_columns('governance.secrets', '{}', '{ciphertext}', 'CRITICAL');
SELECT governance.audit_columns('governance.kms_keys', '{}', '{}', 'HIGH');
SELECT governance.audit_columns('governance.policies', '{}', '{}', 'HIGH');
SELECT governance.audit_columns('integration.webhook_subscriptions', '{}', '{signing_key,headers}', 'MEDIUM');
SELECT governance.audit_columns('integration.connectors', '{code,config,status,software_project_id}', '{config}', 'MEDIUM');

RESET ROLE;
