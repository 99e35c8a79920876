-- How concurrent edits of a column merge, beside the later one that stands (lww) and the hub's
-- own (hub). docs/merge.md says what each policy does; here stands which columns it fits.

SET LOCAL ROLE ferry_engine;

COMMENT ON COLUMN ferry.tracked_column.policy_options IS 'guard: which values lead to which ones; sequence: its code and the size of leases';

-- NULL: the policy fits; else the sentence that says why not.
CREATE FUNCTION ferry.policy_misfit(c ferry.tracked_column, policy text) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN policy IN ('max', 'min') AND c.kind NOT IN ('int', 'float', 'numeric', 'timestamptz', 'date')
            THEN 'it compares numbers and times'
        WHEN policy = 'counter' AND c.kind NOT IN ('int', 'numeric')
            THEN 'it adds exactly, so it needs an integer or a numeric'
        WHEN policy = 'set' AND c.kind <> 'array' THEN 'it merges the elements of an array'
        WHEN policy = 'json' AND c.pg_type <> 'jsonb' THEN 'it merges the keys of a jsonb object'
        WHEN policy = 'text' AND (c.kind <> 'text' OR c.labels IS NOT NULL) THEN 'it merges lines and words of a free text'
        WHEN policy = 'guard' AND c.kind NOT IN ('text', 'citext', 'enum')
            THEN 'it leads from one named value to another, so it needs a text or an enum'
        WHEN policy = 'sequence' AND (c.kind NOT IN ('text', 'citext') OR c.labels IS NOT NULL) THEN 'it gives formatted numbers, so it needs a text'
    END
$$;
COMMENT ON FUNCTION ferry.policy_misfit(ferry.tracked_column, text) IS 'Why a column cannot have a policy; NULL: it can';

-- {"free": ["reserved"], "reserved": ["free", "sold"]}, "" standing for NULL.
CREATE FUNCTION ferry.guard_misfit(c ferry.tracked_column, map jsonb) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    wrong text;
BEGIN
    IF coalesce(jsonb_typeof(map), '') <> 'object' OR map = '{}' THEN
        RETURN 'its options say which values lead to which ones, as {"free": ["reserved"], "reserved": ["free", "sold"]}';
    END IF;
    SELECT e.key INTO wrong FROM jsonb_each(map) e
    WHERE CASE jsonb_typeof(e.value) WHEN 'array' THEN EXISTS (SELECT FROM jsonb_array_elements(e.value) x WHERE jsonb_typeof(x) <> 'string')
          ELSE true END LIMIT 1;
    IF wrong IS NOT NULL THEN
        RETURN format('what "%s" leads to is no list of values', wrong);
    END IF;
    SELECT v INTO wrong FROM (
        SELECT jsonb_object_keys(map) AS v UNION SELECT jsonb_array_elements_text(e.value) FROM jsonb_each(map) e) x
    WHERE c.labels IS NOT NULL AND v <> '' AND v <> ALL (c.labels) ORDER BY v LIMIT 1;
    IF wrong IS NOT NULL THEN
        RETURN format('the column has no value "%s"', wrong);
    END IF;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION ferry.guard_misfit(ferry.tracked_column, jsonb) IS 'What is wrong with a guard''s options; NULL: nothing';

DROP FUNCTION ferry.policy(regclass, text, text);
CREATE FUNCTION ferry.policy(tab regclass, col text, policy text, options jsonb DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    n int := (SELECT t.tbl FROM ferry.tracked t WHERE t.relid = tab);
    c ferry.tracked_column;
    misfit text;
BEGIN
    IF n IS NULL THEN
        RAISE EXCEPTION '% is not tracked', tab USING ERRCODE = 'undefined_object';
    END IF;
    SELECT * INTO c FROM ferry.tracked_column o WHERE o.tbl = n AND o.name = col;
    IF c.tbl IS NULL THEN
        RAISE EXCEPTION '% has no synced column %', tab, col USING ERRCODE = 'undefined_column';
    ELSIF policy NOT IN ('lww', 'hub', 'max', 'min', 'counter', 'set', 'json', 'text', 'review', 'guard', 'approval', 'sequence') THEN
        RAISE EXCEPTION '"%" is no policy', policy
            USING ERRCODE = 'invalid_parameter_value', HINT = 'Policies are: lww, hub, max, min, counter, set, json, text, review, guard, approval, sequence.';
    ELSIF policy <> 'hub' AND (c.generated OR col = (SELECT t.tenant_col FROM ferry.tracked t WHERE t.tbl = n)) THEN
        RAISE EXCEPTION '%.% is set by the hub alone', tab, col USING ERRCODE = 'invalid_parameter_value';
    END IF;
    misfit := coalesce(ferry.policy_misfit(c, policy), CASE
        WHEN policy = 'guard' THEN ferry.guard_misfit(c, options)
        WHEN policy = 'approval' THEN ferry.approval_misfit(c, options)
        WHEN policy = 'sequence' THEN ferry.sequence_misfit(c, options)
        WHEN options IS NOT NULL THEN 'it takes no options' END);
    IF misfit IS NOT NULL THEN
        RAISE EXCEPTION 'the policy "%" does not fit %.%, which is %: %', policy, tab, col, c.pg_type, misfit
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    UPDATE ferry.tracked_column o SET policy = policy.policy, policy_options = policy.options WHERE o.tbl = n AND o.num = c.num;
    IF policy = 'approval' THEN
        PERFORM ferry.open_approvals(tab, col);
    END IF;
    IF 'sequence' IN (c.policy, policy.policy) THEN
        c.policy := policy.policy;
        PERFORM ferry.attach_numbers(tab, c);
    END IF;
END $$;
COMMENT ON FUNCTION ferry.policy(regclass, text, text, jsonb) IS 'Sets how concurrent edits of a column merge';

REVOKE EXECUTE ON FUNCTION ferry.policy_misfit(ferry.tracked_column, text), ferry.guard_misfit(ferry.tracked_column, jsonb),
    ferry.policy(regclass, text, text, jsonb) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.policy_misfit(ferry.tracked_column, text), ferry.guard_misfit(ferry.tracked_column, jsonb),
    ferry.policy(regclass, text, text, jsonb) TO ferry_owner;
