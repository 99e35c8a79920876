-- Human-readable numbers: EST-000001, 2026/INV/0007 ...
--
-- A sequence counts in periods of the tenant's time zone. Where it is gap-free its row is
-- locked by the transaction that takes a number, until that one ends: a number that was taken
-- and rolled back is taken again, and takers wait for each other. Where gaps are allowed the
-- numbers come from a sequence of the database, beside the row, and nobody waits.

SET LOCAL ROLE ferry_owner;

ALTER TABLE governance.number_sequences
    ADD COLUMN period text NOT NULL DEFAULT '',
    ADD CHECK (format_template ~ '\{(number|SEQ)\}'),
    ADD CHECK (current_value >= 0 AND min_value >= 0 AND reset_value >= 0),
    ADD CHECK (max_value >= min_value);
COMMENT ON COLUMN governance.number_sequences.period IS 'The period that current_value counts in, as 2026, 2026-11, 2026-W47, 2026-11-21';

-- The period of a time in which a sequence counts, and so what its numbers are unique in.
CREATE FUNCTION governance.number_period(mode governance.number_sequence_reset_mode, local_time timestamp) RETURNS text
    LANGUAGE sql IMMUTABLE
AS $$
    SELECT CASE mode WHEN 'NEVER' THEN '' WHEN 'YEARLY' THEN to_char(local_time, 'YYYY') WHEN 'MONTHLY' THEN to_char(local_time, 'YYYY-MM')
                     WHEN 'WEEKLY' THEN to_char(local_time, 'IYYY-"W"IW') ELSE to_char(local_time, 'YYYY-MM-DD') END
$$;

CREATE FUNCTION governance.format_number(template text, prefix text, suffix text, padding int, value bigint, local_time timestamp)
RETURNS text
    LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
    padded text := CASE WHEN length(value::text) >= padding THEN value::text ELSE lpad(value::text, padding, '0') END;
    w record;
BEGIN
    FOR w IN SELECT * FROM (VALUES
        ('{YYYY}', to_char(local_time, 'YYYY')), ('{YY}', to_char(local_time, 'YY')), ('{MM}', to_char(local_time, 'MM')),
        ('{DD}', to_char(local_time, 'DD')), ('{WW}', to_char(local_time, 'IW')), ('{SEQ}', padded), ('{number}', padded),
        ('{suffix}', coalesce(suffix, '')), ('{prefix}', prefix)) v(word, text) LOOP
        template := replace(template, w.word, w.text);
    END LOOP;
    RETURN template;
END $$;
COMMENT ON FUNCTION governance.format_number(text, text, text, int, bigint, timestamp) IS 'A number as people read it';

-- The next value of a sequence that may have gaps: from a sequence of the database for its
-- period, which the first taker makes. Older ones go, but for the last, where somebody may be.
CREATE FUNCTION governance.loose_value(of_id uuid, of_period text, first int, step int) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    stem text := 'number_' || replace(of_id::text, '-', '') || '_';
    name text := stem || translate(of_period, '-', '');
    old text;
BEGIN
    IF to_regclass(format('governance.%I', name)) IS NULL THEN
        PERFORM pg_advisory_xact_lock(uuid_hash_extended(of_id, 4021958317));
        IF to_regclass(format('governance.%I', name)) IS NULL THEN
            EXECUTE format('CREATE SEQUENCE governance.%I MINVALUE 0 START %s INCREMENT %s', name, first, step);
            FOR old IN SELECT c.relname FROM pg_class c WHERE c.relkind = 'S' AND c.relnamespace = 'governance'::regnamespace
                       AND starts_with(c.relname, stem) ORDER BY c.relname DESC OFFSET 2 LOOP
                EXECUTE format('DROP SEQUENCE governance.%I', old);
            END LOOP;
        END IF;
    END IF;
    RETURN nextval(format('governance.%I', name));
END $$;
REVOKE EXECUTE ON FUNCTION governance.loose_value(uuid, text, int, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION governance.loose_value(uuid, text, int, int) TO ferry_app, ferry_hub;

-- The next number of a tenant's sequence. at: the time whose period counts, for tests and late
-- bookings; now otherwise. A clock that went back, or a late booking, goes on in the period
-- that has begun.
CREATE FUNCTION governance.next_number(tenant uuid, of_code text, at timestamptz DEFAULT now()) RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    s governance.number_sequences;
    local_time timestamp := at AT TIME ZONE coalesce((SELECT t.timezone FROM identity.tenants t WHERE t.id = tenant), 'UTC');
    in_period text;
    first int;
    next bigint;
BEGIN
    SELECT * INTO s FROM governance.number_sequences q
    WHERE q.tenant_id = tenant AND q.code = of_code AND q.deleted_at IS NULL AND q.status = 'ACTIVE';
    IF s.gap_free THEN
        SELECT * INTO s FROM governance.number_sequences q WHERE q.tenant_id = tenant AND q.id = s.id FOR UPDATE;
    END IF;
    IF s.id IS NULL THEN
        RAISE EXCEPTION 'there is no active number sequence % in this tenant', of_code
            USING ERRCODE = 'FE321', HINT = 'Add it to governance.number_sequences.';
    END IF;
    in_period := greatest(governance.number_period(s.reset_mode, local_time), s.period);
    first := CASE WHEN s.reset_mode = 'NEVER' THEN s.min_value ELSE greatest(s.min_value, s.reset_value) END;
    IF NOT s.gap_free THEN
        next := governance.loose_value(s.id, in_period, first, s.step);
    ELSIF s.current_value = 0 OR in_period > s.period AND s.period <> '' THEN
        next := first;
    ELSE
        next := s.current_value::bigint + s.step;
    END IF;
    IF next > coalesce(s.max_value, 2147483647) THEN
        RAISE EXCEPTION 'the number sequence % is used up: % is beyond its highest value %', of_code, next, coalesce(s.max_value, 2147483647)
            USING ERRCODE = 'FE321', HINT = 'Raise max_value, or let it start anew with reset_mode.';
    END IF;
    IF s.gap_free OR in_period > s.period THEN
        UPDATE governance.number_sequences q
        SET current_value = CASE WHEN s.gap_free THEN next ELSE q.current_value END, period = greatest(in_period, q.period),
            last_reset_at = CASE WHEN in_period > q.period THEN at ELSE q.last_reset_at END
        WHERE q.tenant_id = tenant AND q.id = s.id;
    END IF;
    RETURN governance.format_number(s.format_template, s.prefix, s.suffix, s.padding_length, next, local_time);
END $$;
COMMENT ON FUNCTION governance.next_number(uuid, text, timestamptz) IS
    'Takes the next number of a sequence; where it is gap-free, a rollback gives it back';

-- Invoices count by year and without gaps; a tenant that has no sequence for them gets one.
CREATE FUNCTION governance.next_invoice_number(tenant uuid, at timestamptz DEFAULT now()) RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    INSERT INTO governance.number_sequences (tenant_id, code, name, prefix, reset_mode, format_template, gap_free)
    VALUES (tenant, 'INVOICE', 'Invoices', 'INV', 'YEARLY', '{prefix}-{YYYY}-{number}', true)
    ON CONFLICT (tenant_id, code) DO NOTHING;
    RETURN governance.next_number(tenant, 'INVOICE', at);
END $$;
COMMENT ON FUNCTION governance.next_invoice_number(uuid, timestamptz) IS 'Takes the next invoice number of the year';

RESET ROLE;
