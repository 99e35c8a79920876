-- Events: their order, what they may not do, snapshots and projections.
--
-- The order is given at insertion under a lock of the tenant's events, which the transaction
-- keeps: so a position that is seen has all lower ones before it, and there are no holes. It is
-- taken before the lock of the tenant's positions, which comes at the commit, never after.

SET LOCAL ROLE ferry_owner;

CREATE FUNCTION events.place() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    version int;
BEGIN
    PERFORM pg_advisory_xact_lock(uuid_hash_extended(NEW.tenant_id, 4021958318));
    SELECT coalesce(max(e.sequence), 0) INTO version FROM events.tenant_events e
    WHERE e.tenant_id = NEW.tenant_id AND e.aggregate_type = NEW.aggregate_type AND e.aggregate_id = NEW.aggregate_id;
    IF NEW.expected_version <> version THEN
        RAISE EXCEPTION '% % is at version %, not %', NEW.aggregate_type, NEW.aggregate_id, version, NEW.expected_version
            USING ERRCODE = 'FE322', HINT = 'Read its newer events, decide again, and append with the version read.';
    END IF;
    NEW.sequence := version + 1;
    NEW.stream_id := coalesce(NEW.stream_id, NEW.tenant_id);
    NEW.stream_position := 1 + coalesce((SELECT max(e.stream_position) FROM events.tenant_events e
                                         WHERE e.tenant_id = NEW.tenant_id AND e.stream_id = NEW.stream_id), 0);
    NEW.payload_hash := governance.sha256_hex(NEW.payload::text);
    IF NEW.payload_schema IS NOT NULL THEN
        PERFORM integration.check_payload(NEW.tenant_id, split_part(NEW.payload_schema, '@', 1), NEW.payload,
                                          nullif(split_part(NEW.payload_schema, '@', 2), '')::int);
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER place BEFORE INSERT ON events.tenant_events FOR EACH ROW EXECUTE FUNCTION events.place();

-- Only how far an event has been handled may change. A tenant's events go with the tenant.
CREATE FUNCTION events.keep() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    handling CONSTANT text[] := '{processed,processed_at,projection_version,status,version,updated_at,updated_by_actor_id}';
BEGIN
    IF TG_OP = 'UPDATE' THEN
        IF to_jsonb(NEW) - handling = to_jsonb(OLD) - handling THEN
            RETURN NEW;
        END IF;
    ELSIF TG_OP = 'DELETE' THEN
        IF NOT EXISTS (SELECT FROM identity.tenants t WHERE t.id = OLD.tenant_id) THEN
            RETURN OLD;
        END IF;
    END IF;
    RAISE EXCEPTION 'events are never changed or deleted'
        USING ERRCODE = 'FE319', HINT = 'Append an event that undoes what the old one did.';
END $$;
CREATE TRIGGER keep BEFORE UPDATE OR DELETE ON events.tenant_events FOR EACH ROW EXECUTE FUNCTION events.keep();
CREATE TRIGGER no_truncate BEFORE TRUNCATE ON events.tenant_events FOR EACH STATEMENT EXECUTE FUNCTION events.keep();

-- Appends an event and answers with its row. expected_version: the sequence that the caller
-- last read, 0 for a new aggregate; NULL: whatever it is. Another version is FE322.
-- payload_schema: subject, or subject@version, of a JSON schema that the payload has to fit.
CREATE FUNCTION events.append(tenant uuid, aggregate_type text, aggregate_id uuid, event_type events.event_type, event_name text,
                              payload jsonb, expected_version int DEFAULT NULL, stream_id uuid DEFAULT NULL,
                              causation_id uuid DEFAULT NULL, correlation_id uuid DEFAULT NULL, metadata jsonb DEFAULT NULL,
                              payload_schema text DEFAULT NULL)
RETURNS events.tenant_events
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    e events.tenant_events;
BEGIN
    INSERT INTO events.tenant_events (tenant_id, aggregate_type, aggregate_id, event_type, event_name, payload, expected_version,
        stream_id, causation_id, correlation_id, metadata, payload_schema, actor_id, actor_type)
    VALUES (tenant, append.aggregate_type, append.aggregate_id, append.event_type, append.event_name, append.payload,
        append.expected_version, append.stream_id, append.causation_id, append.correlation_id, append.metadata,
        append.payload_schema,
        nullif(current_setting('app.user_id', true), '')::uuid,
        CASE WHEN nullif(current_setting('app.user_id', true), '') IS NULL THEN 'SYSTEM' ELSE 'USER' END)
    RETURNING * INTO e;
    RETURN e;
EXCEPTION WHEN unique_violation THEN
    -- Only a transaction with an old snapshot comes here: it can't see what came before.
    RAISE EXCEPTION '% % has newer events than this transaction can see', append.aggregate_type, append.aggregate_id
        USING ERRCODE = 'FE322', HINT = 'Begin the transaction again.';
END $$;
COMMENT ON FUNCTION events.append(uuid, text, uuid, events.event_type, text, jsonb, int, uuid, uuid, uuid, jsonb, text) IS
    'Appends an event to an aggregate; FE322 if the aggregate is at another version than expected';

-- ---------------------------------------------------------------- states made from events

-- A reducer takes a state and an event and gives the next state. This one counts.
CREATE FUNCTION events.count_by_type(state jsonb, event events.tenant_events) RETURNS jsonb
    LANGUAGE sql IMMUTABLE
AS $$
    SELECT jsonb_set(state, ARRAY[event.event_type::text], to_jsonb(coalesce((state ->> event.event_type::text)::bigint, 0) + 1))
$$;
COMMENT ON FUNCTION events.count_by_type(jsonb, events.tenant_events) IS 'A reducer: how many events there were of each type';

CREATE FUNCTION events.reducer_of(name text) RETURNS regprocedure
    LANGUAGE plpgsql STABLE
AS $$
DECLARE
    found regprocedure := to_regprocedure(name || '(jsonb, events.tenant_events)');
BEGIN
    IF found IS NULL THEN
        RAISE EXCEPTION 'there is no reducer %', name
            USING ERRCODE = 'undefined_function', HINT = 'It is a function (state jsonb, event events.tenant_events) returning jsonb, named with its schema.';
    END IF;
    RETURN found;
END $$;

CREATE FUNCTION events.reduce(reducer regprocedure, state jsonb, event events.tenant_events) RETURNS jsonb
    LANGUAGE plpgsql
AS $$
BEGIN
    EXECUTE format('SELECT %s($1, $2)', reducer::regproc) INTO state USING state, event;
    RETURN state;
END $$;

-- An aggregate's state from its last snapshot and the events after it.
CREATE FUNCTION events.state_of(tenant uuid, of_type text, of_id uuid, reducer text, OUT state jsonb, OUT version int)
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    f regprocedure := events.reducer_of(reducer);
    e events.tenant_events;
BEGIN
    SELECT s.snapshot, s.aggregate_version INTO state, version FROM events.event_snapshots s
    WHERE s.tenant_id = tenant AND s.aggregate_type = of_type AND s.aggregate_id = of_id::text AND s.deleted_at IS NULL
    ORDER BY s.aggregate_version DESC LIMIT 1;
    state := coalesce(state, '{}');
    version := coalesce(version, 0);
    FOR e IN SELECT * FROM events.tenant_events t WHERE t.tenant_id = tenant AND t.aggregate_type = of_type
             AND t.aggregate_id = of_id AND t.sequence > state_of.version ORDER BY t.sequence LOOP
        state := events.reduce(f, state, e);
        version := e.sequence;
    END LOOP;
END $$;
COMMENT ON FUNCTION events.state_of(uuid, text, uuid, text) IS 'The state and version of an aggregate, from its last snapshot on';

CREATE FUNCTION events.take_snapshot(tenant uuid, of_type text, of_id uuid, reducer text) RETURNS int
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s record;
BEGIN
    SELECT * INTO s FROM events.state_of(tenant, of_type, of_id, reducer);
    INSERT INTO events.event_snapshots (tenant_id, aggregate_type, aggregate_id, snapshot, aggregate_version)
    VALUES (tenant, of_type, of_id::text, s.state, s.version)
    ON CONFLICT (tenant_id, aggregate_type, aggregate_id, aggregate_version) DO UPDATE SET snapshot = excluded.snapshot;
    RETURN s.version;
END $$;
COMMENT ON FUNCTION events.take_snapshot(uuid, text, uuid, text) IS 'Keeps the state of an aggregate, so that reading it is short';

-- Takes in what came since a projection's last event; its state.
CREATE FUNCTION events.project(tenant uuid, projection text) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    p events.event_projections;
    f regprocedure;
    e events.tenant_events;
BEGIN
    SELECT * INTO p FROM events.event_projections o WHERE o.tenant_id = tenant AND o.name = projection AND o.deleted_at IS NULL FOR UPDATE;
    IF p.id IS NULL THEN
        RAISE EXCEPTION 'there is no projection % in this tenant', projection
            USING ERRCODE = 'no_data_found', HINT = 'Add it to events.event_projections, with its reducer.';
    END IF;
    f := events.reducer_of(p.reducer);
    FOR e IN SELECT * FROM events.tenant_events t WHERE t.tenant_id = tenant AND t.stream_id = coalesce(p.stream_id, tenant)
             AND t.stream_position > p.stream_position ORDER BY t.stream_position LOOP
        p.state := events.reduce(f, p.state, e);
        p.stream_position := e.stream_position;
    END LOOP;
    UPDATE events.event_projections o SET state = p.state, stream_position = p.stream_position
    WHERE o.tenant_id = tenant AND o.id = p.id;
    RETURN p.state;
END $$;
COMMENT ON FUNCTION events.project(uuid, text) IS 'Brings a projection up to date';

CREATE FUNCTION events.rebuild(tenant uuid, projection text) RETURNS jsonb
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE events.event_projections o SET state = '{}', stream_position = 0 WHERE o.tenant_id = tenant AND o.name = projection;
    RETURN events.project(tenant, projection);
END $$;
COMMENT ON FUNCTION events.rebuild(uuid, text) IS 'Computes a projection anew from the first event on';

RESET ROLE;
