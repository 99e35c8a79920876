-- The tenant's number sequences as the policy "sequence" of synced columns asks for them.
--
-- The engine asks from a trigger, also where the session has no tenant set (a superuser's
-- SQL), so the tenant is set here for as long as it takes.

SET LOCAL ROLE ferry_owner;

-- What every tenant has as soon as it is asked for; its administrators change it afterwards.
CREATE FUNCTION governance.default_sequence(tenant uuid, of_code text) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO governance.number_sequences (tenant_id, code, name, prefix, reset_mode, format_template, gap_free)
    SELECT tenant, d.code, d.name, d.prefix, d.mode::governance.number_sequence_reset_mode, d.template, d.gap_free
    FROM (VALUES ('INVOICE', 'Invoices', 'INV', 'YEARLY', '{prefix}-{YYYY}-{number}', true),
                 ('CONTRACT', 'Contracts', 'CON', 'YEARLY', '{prefix}-{YYYY}-{number}', true),
                 ('LEAD', 'Leads', 'L', 'NEVER', '{prefix}-{number}', false),
                 ('ENGAGEMENT', 'Engagements', 'E', 'YEARLY', '{prefix}-{YY}-{number}', false))
        d(code, name, prefix, mode, template, gap_free)
    WHERE d.code = of_code
    ON CONFLICT (tenant_id, code) DO NOTHING
$$;
COMMENT ON FUNCTION governance.default_sequence(uuid, text) IS 'Makes one of the usual sequences of a tenant that has none of that code';

CREATE FUNCTION governance.assigned_number(tenant uuid, of_code text) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before text := current_setting('app.tenant_id', true);
    number text;
BEGIN
    PERFORM set_config('app.tenant_id', tenant::text, true);
    PERFORM governance.default_sequence(tenant, of_code);
    number := governance.next_number(tenant, of_code);
    PERFORM set_config('app.tenant_id', coalesce(before, ''), true);
    RETURN number;
END $$;
COMMENT ON FUNCTION governance.assigned_number(uuid, text) IS 'The next number of a sequence, for the trigger of a synced column';

-- When the period in which a sequence counts ends, in the tenant's time zone.
CREATE FUNCTION governance.period_end(mode governance.number_sequence_reset_mode, at timestamptz, zone text) RETURNS timestamptz
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (date_trunc(p.unit, at AT TIME ZONE zone) + ('1 ' || p.unit)::interval) AT TIME ZONE zone
    FROM (VALUES ('YEARLY', 'year'), ('MONTHLY', 'month'), ('WEEKLY', 'week'), ('DAILY', 'day')) p(mode, unit) WHERE p.mode = period_end.mode::text
$$;

-- Numbers of a sequence that may have gaps, as ranges: others may take numbers in between. A
-- number of a lease bears the date of its granting, as one of a block of printed forms does;
-- where the sequence starts anew, the lease ends with its period.
CREATE FUNCTION governance.lease_numbers(tenant uuid, of_code text, count int)
RETURNS TABLE (first bigint, last bigint, step int, padding int, head text, tail text, until timestamptz)
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before text := current_setting('app.tenant_id', true);
    zone text;
    s governance.number_sequences;
    local_time timestamp;
    in_period text;
    start int;
    words text[];
BEGIN
    PERFORM set_config('app.tenant_id', tenant::text, true);
    PERFORM governance.default_sequence(tenant, of_code);
    zone := coalesce((SELECT t.timezone FROM identity.tenants t WHERE t.id = tenant), 'UTC');
    local_time := now() AT TIME ZONE zone;
    SELECT * INTO s FROM governance.number_sequences q
    WHERE q.tenant_id = tenant AND q.code = of_code AND q.deleted_at IS NULL AND q.status = 'ACTIVE';
    IF s.id IS NULL OR s.gap_free THEN
        RAISE EXCEPTION 'the number sequence % gives no ranges: there is none, or it must have no gaps', of_code USING ERRCODE = 'FE321';
    END IF;
    in_period := greatest(governance.number_period(s.reset_mode, local_time), s.period);
    start := CASE WHEN s.reset_mode = 'NEVER' THEN s.min_value ELSE greatest(s.min_value, s.reset_value) END;
    -- The template with a mark in the number's place; where it stands twice the rest is unknown.
    words := string_to_array(governance.format_number(replace(replace(s.format_template, '{number}', E'\x01'), '{SEQ}', E'\x01'),
                                                      s.prefix, s.suffix, 0, 0, local_time), E'\x01');
    IF array_length(words, 1) <> 2 THEN
        RAISE EXCEPTION 'the template of the number sequence % has its number twice', of_code USING ERRCODE = 'FE321';
    END IF;
    RETURN QUERY
        WITH taken AS MATERIALIZED (
            SELECT governance.loose_value(s.id, in_period, start, s.step) AS n FROM generate_series(1, count)),
        run AS (SELECT t.n, t.n - s.step * row_number() OVER (ORDER BY t.n) AS island FROM taken t
                WHERE t.n <= coalesce(s.max_value, 2147483647))
        SELECT min(r.n), max(r.n), s.step, s.padding_length, words[1], words[2], governance.period_end(s.reset_mode, now(), zone)
        FROM run r GROUP BY r.island;
    UPDATE governance.number_sequences q SET period = in_period, last_reset_at = now()
    WHERE q.tenant_id = tenant AND q.id = s.id AND in_period > q.period;
    PERFORM set_config('app.tenant_id', coalesce(before, ''), true);
END $$;
COMMENT ON FUNCTION governance.lease_numbers(uuid, text, int) IS 'Ranges of a sequence that devices may give numbers from';

REVOKE EXECUTE ON FUNCTION governance.default_sequence(uuid, text), governance.assigned_number(uuid, text),
    governance.period_end(governance.number_sequence_reset_mode, timestamptz, text), governance.lease_numbers(uuid, text, int) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION governance.assigned_number(uuid, text), governance.lease_numbers(uuid, text, int) TO ferry_engine;
SELECT ferry.answer_numbers('governance.assigned_number', 'governance.lease_numbers');

-- ---------------------------------------------------------------- whose rows have numbers

ALTER TABLE crm.leads ADD COLUMN number text;
COMMENT ON COLUMN crm.leads.number IS 'For people, of the sequence LEAD; devices give it themselves';
CREATE UNIQUE INDEX leads_number_uq ON crm.leads (tenant_id, number) WHERE number IS NOT NULL;
SELECT ferry.policy('crm.leads', 'number', 'sequence', '{"sequence": "LEAD", "lease": 50}');
SELECT ferry.policy('contracts.contracts', 'number', 'sequence', '{"sequence": "CONTRACT"}');

-- An invoice that is only a draft has no number: drafts are thrown away, numbers are not.
CREATE FUNCTION billing.number_invoice() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    NEW.number := governance.assigned_number(NEW.tenant_id, 'INVOICE');
    RETURN NEW;
END $$;
CREATE TRIGGER number_invoice BEFORE INSERT OR UPDATE ON billing.invoices
    FOR EACH ROW WHEN (NEW.number IS NULL AND NEW.issued_at IS NOT NULL) EXECUTE FUNCTION billing.number_invoice();
REVOKE EXECUTE ON FUNCTION billing.number_invoice() FROM PUBLIC;
COMMENT ON COLUMN billing.invoices.number IS 'For people, of the gap-free sequence INVOICE: given when the invoice is issued';

RESET ROLE;
