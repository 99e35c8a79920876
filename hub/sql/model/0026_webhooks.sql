-- Webhooks out: events for subscribers, signed, tried again with growing pauses, and given up
-- after a bound. ferry-hub webhooks deliver does the sending; what to send and what became of
-- it is decided here, so that several senders can work side by side.

SET LOCAL ROLE ferry_owner;

ALTER TABLE integration.webhook_subscriptions
    ADD COLUMN retry_delay interval NOT NULL DEFAULT '30 seconds' CHECK (retry_delay BETWEEN interval '1 millisecond' AND interval '1 hour');

-- Headers that a subscriber wants besides, such as a token of its own: plain names and values,
-- none that would change the request itself.
CREATE FUNCTION integration.headers_fit(headers jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE STRICT
AS $$
    SELECT count(*) <= 16 AND coalesce(sum(octet_length(h.key) + octet_length(h.value #>> '{}')), 0) <= 1024
           AND coalesce(bool_and(jsonb_typeof(h.value) = 'string' AND h.key ~ '^[A-Za-z0-9-]{1,64}$' AND h.value #>> '{}' ~ '^[ -~]*$'
                                 AND lower(h.key) !~ '^(host|connection|content-.*|transfer-encoding|expect|upgrade|idempotency-key|ferry-.*)$'), true)
    FROM jsonb_each(CASE jsonb_typeof(headers) WHEN 'object' THEN headers ELSE '{}' END) h
$$;
ALTER TABLE integration.webhook_subscriptions ADD CONSTRAINT webhook_subscriptions_headers_fit CHECK (integration.headers_fit(headers));
COMMENT ON COLUMN integration.webhook_subscriptions.headers IS 'Further headers of each request: up to 16, {"Authorization": "Bearer ..."}';
COMMENT ON COLUMN integration.webhook_subscriptions.retry_delay IS 'Pause after the first failure; it doubles with each further one, up to 6 hours';

CREATE FUNCTION integration.hmac_sha256(key bytea, message bytea) RETURNS bytea
    LANGUAGE plpgsql IMMUTABLE STRICT
AS $$
DECLARE
    k bytea := CASE WHEN octet_length(key) > 64 THEN sha256(key) ELSE key END;
    inner_pad bytea := decode(repeat('36', 64), 'hex');
    outer_pad bytea := decode(repeat('5c', 64), 'hex');
BEGIN
    FOR i IN 0 .. octet_length(k) - 1 LOOP
        inner_pad := set_byte(inner_pad, i, get_byte(k, i) # 54);
        outer_pad := set_byte(outer_pad, i, get_byte(k, i) # 92);
    END LOOP;
    RETURN sha256(outer_pad || sha256(inner_pad || message));
END $$;
COMMENT ON FUNCTION integration.hmac_sha256(bytea, bytea) IS 'RFC 2104 with SHA-256';

-- Whatever way a delivery comes in: its payload fits the schema of its event.
CREATE FUNCTION integration.check_delivery() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM integration.check_payload(NEW.tenant_id, NEW.event, NEW.payload,
        (SELECT s.schema_version FROM integration.webhook_subscriptions s
         WHERE s.tenant_id = NEW.tenant_id AND s.id = NEW.subscription_id));
    RETURN NEW;
END $$;
CREATE TRIGGER check_payload BEFORE INSERT ON integration.webhook_deliveries
    FOR EACH ROW EXECUTE FUNCTION integration.check_delivery();
CREATE POLICY owner ON integration.webhook_subscriptions TO ferry_owner USING (true) WITH CHECK (true);
CREATE POLICY owner ON integration.webhook_deliveries TO ferry_owner USING (true) WITH CHECK (true);

-- An event for all who subscribed to it: how many deliveries. A repeated key adds none.
CREATE FUNCTION integration.publish(tenant uuid, of_event text, payload jsonb, idempotency_key text DEFAULT NULL) RETURNS bigint
    LANGUAGE sql
AS $$
    WITH added AS (
        INSERT INTO integration.webhook_deliveries (tenant_id, subscription_id, event, payload, idempotency_key)
        SELECT s.tenant_id, s.id, of_event, payload, coalesce(publish.idempotency_key, identity.uuid7()::text) || ':' || s.id
        FROM integration.webhook_subscriptions s
        WHERE s.tenant_id = tenant AND s.enabled AND s.event IN (of_event, '*')
        ON CONFLICT (tenant_id, idempotency_key) DO NOTHING RETURNING 1)
    SELECT count(*) FROM added
$$;
COMMENT ON FUNCTION integration.publish(uuid, text, jsonb, text) IS
    'Queues an event for its subscribers; how many. The key makes a repetition add nothing';

-- Takes up to most deliveries that are due, for a sender that answers within lease: what it
-- does not settle by then is due again. The signature covers the time it is made at, so that
-- a recorded request can't be repeated much later.
CREATE FUNCTION integration.claim_deliveries(most int DEFAULT 20, lease interval DEFAULT '2 minutes')
RETURNS TABLE (tenant_id uuid, id uuid, attempt int, event text, target_url text, headers jsonb, idempotency_key text,
               signed_at bigint, signature text, body text)
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    -- Their sender ended with the last attempt under way.
    WITH lost AS (
        UPDATE integration.webhook_deliveries d SET status = 'failed', response_code = NULL,
            error_message = 'the sender ended before the last attempt was answered'
        FROM integration.webhook_subscriptions s
        WHERE s.tenant_id = d.tenant_id AND s.id = d.subscription_id AND d.status = 'sending'
          AND d.next_attempt_at <= clock_timestamp() AND d.attempt >= s.max_attempts
    ), due AS (
        SELECT d.tenant_id, d.id FROM integration.webhook_deliveries d
        JOIN integration.webhook_subscriptions s ON s.tenant_id = d.tenant_id AND s.id = d.subscription_id
        WHERE d.status IN ('pending', 'sending') AND d.next_attempt_at <= clock_timestamp() AND s.enabled
          AND d.attempt < s.max_attempts
        ORDER BY d.next_attempt_at LIMIT most FOR UPDATE OF d SKIP LOCKED
    ), taken AS (
        UPDATE integration.webhook_deliveries d SET status = 'sending', attempt = d.attempt + 1,
            last_attempt_at = clock_timestamp(), next_attempt_at = clock_timestamp() + lease
        FROM due WHERE d.tenant_id = due.tenant_id AND d.id = due.id
        RETURNING d.*
    )
    SELECT t.tenant_id, t.id, t.attempt, t.event, s.target_url, s.headers, t.idempotency_key, w.at,
           encode(integration.hmac_sha256(s.signing_key, convert_to(w.at || '.' || w.body, 'UTF8')), 'hex'), w.body
    FROM taken t
    JOIN integration.webhook_subscriptions s ON s.tenant_id = t.tenant_id AND s.id = t.subscription_id
    CROSS JOIN LATERAL (SELECT extract(epoch FROM t.last_attempt_at)::bigint AS at,
        jsonb_build_object('id', t.id, 'event', t.event, 'created_at', t.created_at, 'data', t.payload)::text AS body) w
$$;
COMMENT ON FUNCTION integration.claim_deliveries(int, interval) IS 'Takes deliveries that are due, each with its signature';

-- What became of an attempt. 2xx: delivered. 410: the target is gone, its subscription ends.
-- Anything else is tried again after a pause, up to the subscription's bound. A sender that
-- was thought dead, whose delivery another one has taken, changes nothing (NULL).
CREATE FUNCTION integration.settle_delivery(tenant uuid, delivery uuid, of_attempt int, code int, error text DEFAULT NULL)
RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    now_status text;
    s integration.webhook_subscriptions;
    d integration.webhook_deliveries;
BEGIN
    SELECT * INTO d FROM integration.webhook_deliveries x
    WHERE x.tenant_id = tenant AND x.id = delivery AND x.status = 'sending' AND x.attempt = of_attempt FOR UPDATE;
    IF NOT FOUND THEN
        RETURN NULL;
    END IF;
    SELECT * INTO s FROM integration.webhook_subscriptions x WHERE x.tenant_id = tenant AND x.id = d.subscription_id;
    now_status := CASE WHEN code BETWEEN 200 AND 299 THEN 'delivered'
                       WHEN code = 410 OR d.attempt >= s.max_attempts THEN 'failed'
                       ELSE 'pending' END;
    UPDATE integration.webhook_deliveries x SET
        status = now_status, response_code = code,
        error_message = CASE WHEN now_status <> 'delivered' THEN left(error, 500) END,
        delivered_at = CASE WHEN now_status = 'delivered' THEN clock_timestamp() END,
        -- A fifth more or less, so that what failed together does not come back together.
        next_attempt_at = clock_timestamp()
            + least(s.retry_delay * power(2, least(d.attempt, 20) - 1), interval '6 hours') * (0.8 + 0.4 * random())
    WHERE x.tenant_id = tenant AND x.id = delivery;
    IF code = 410 THEN
        UPDATE integration.webhook_subscriptions x SET enabled = false WHERE x.tenant_id = tenant AND x.id = s.id;
    END IF;
    RETURN now_status;
END $$;
COMMENT ON FUNCTION integration.settle_delivery(uuid, uuid, int, int, text) IS
    'Notes an attempt''s outcome; the new status; NULL when another attempt has begun';

-- Deletes settled deliveries that are older than a time; says how many, and deletes with
-- dry_run false.
CREATE FUNCTION integration.purge_deliveries(before timestamptz, dry_run bool DEFAULT true) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n bigint;
BEGIN
    IF dry_run THEN
        SELECT count(*) INTO n FROM integration.webhook_deliveries d
        WHERE d.created_at < before AND d.status IN ('delivered', 'failed', 'cancelled');
    ELSE
        DELETE FROM integration.webhook_deliveries d
        WHERE d.created_at < before AND d.status IN ('delivered', 'failed', 'cancelled');
        GET DIAGNOSTICS n = ROW_COUNT;
    END IF;
    RETURN n;
END $$;
COMMENT ON FUNCTION integration.purge_deliveries(timestamptz, bool) IS 'Deletes old settled deliveries; only counts them unless dry_run is false';

REVOKE EXECUTE ON FUNCTION integration.claim_deliveries(int, interval), integration.settle_delivery(uuid, uuid, int, int, text),
    integration.purge_deliveries(timestamptz, bool) FROM PUBLIC;
GRANT USAGE ON SCHEMA integration TO ferry_hub;
GRANT EXECUTE ON FUNCTION integration.claim_deliveries(int, interval), integration.settle_delivery(uuid, uuid, int, int, text)
    TO ferry_hub;

RESET ROLE;
