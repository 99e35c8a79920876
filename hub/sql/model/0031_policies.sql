-- Attribute-based policies: what devices may not write although their permissions allow it.
--
--   rule   {"effect": "deny" | "allow",            deny if left out
--           "resources": ["crm.leads", "billing.*", "*"],
--           "actions": ["insert", "update", "delete"],   all if left out
--           "when": <condition>}                    always if left out
--
--   condition   {"all": [<condition>, ...]} | {"any": [<condition>, ...]} | {"not": <condition>}
--             | {"attribute": "row.status", "is": "eq" | "ne" | "lt" | "le" | "gt" | "ge", "value": ... }
--             | {"attribute": "row.status", "is": "in", "value": [...]}
--             | {"attribute": "row.tags", "is": "has", "value": "vip"}        an array has it
--             | {"attribute": "row.price_minor", "is": "null"}
--   instead of "value", "than": "user.id" compares with another attribute
--
--   attributes  row.<column> (after the write), old.<column> (before), user.id, user.email,
--               user.roles, user.attributes.<name> (of identity.members), device.id,
--               device.name, device.class, action, time.now, time.date, time.hour (0-23),
--               time.weekday (1 Monday - 7 Sunday), the last three in the tenant's time zone
--
-- A write is refused if a deny policy for it holds, or if there are allow policies for it and
-- none of them holds. Of a code's versions the newest enabled one counts. What is missing is
-- null: null equals only null, and is neither less nor greater than anything. Numbers compare
-- as numbers, all else as text (times are ISO 8601 in UTC).

GRANT USAGE ON SCHEMA governance TO ferry_engine;
GRANT SELECT ON governance.policies TO ferry_engine;
GRANT SELECT (tenant_id, user_id, attributes) ON identity.members TO ferry_engine;
GRANT SELECT ON identity.tenants TO ferry_engine;
SET LOCAL ROLE ferry_owner;

-- ---------------------------------------------------------------- conditions

CREATE FUNCTION governance.compare(a jsonb, op text, b jsonb) RETURNS bool
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    sign int;
BEGIN
    a := nullif(a, 'null');
    b := nullif(b, 'null');
    CASE op
        WHEN 'null' THEN RETURN a IS NULL;
        WHEN 'eq' THEN RETURN a IS NOT DISTINCT FROM b;
        WHEN 'ne' THEN RETURN a IS DISTINCT FROM b;
        WHEN 'in' THEN RETURN b @> jsonb_build_array(coalesce(a, 'null')) IS TRUE;
        WHEN 'has' THEN RETURN (jsonb_typeof(a) = 'array' AND a @> jsonb_build_array(b)) IS TRUE;
        ELSE
    END CASE;
    IF a IS NULL OR b IS NULL THEN
        RETURN false;
    ELSIF jsonb_typeof(a) = 'number' AND jsonb_typeof(b) = 'number' THEN
        sign := CASE WHEN a::numeric < b::numeric THEN -1 WHEN a::numeric > b::numeric THEN 1 ELSE 0 END;
    ELSE
        sign := CASE WHEN (a #>> '{}') COLLATE "C" < (b #>> '{}') THEN -1 WHEN (a #>> '{}') COLLATE "C" > (b #>> '{}') THEN 1 ELSE 0 END;
    END IF;
    RETURN CASE op WHEN 'lt' THEN sign < 0 WHEN 'le' THEN sign <= 0 WHEN 'gt' THEN sign > 0 ELSE sign >= 0 END;
END $$;

CREATE FUNCTION governance.holds(condition jsonb, attributes jsonb) RETURNS bool
    LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    IF condition ? 'all' THEN
        RETURN NOT EXISTS (SELECT FROM jsonb_array_elements(condition -> 'all') c WHERE NOT governance.holds(c, attributes));
    ELSIF condition ? 'any' THEN
        RETURN EXISTS (SELECT FROM jsonb_array_elements(condition -> 'any') c WHERE governance.holds(c, attributes));
    ELSIF condition ? 'not' THEN
        RETURN NOT governance.holds(condition -> 'not', attributes);
    END IF;
    RETURN governance.compare(attributes #> string_to_array(condition ->> 'attribute', '.'), condition ->> 'is',
        CASE WHEN condition ? 'than' THEN attributes #> string_to_array(condition ->> 'than', '.') ELSE condition -> 'value' END);
END $$;
COMMENT ON FUNCTION governance.holds(jsonb, jsonb) IS 'Whether a condition of a policy holds for these attributes';

-- What is wrong with a condition; NULL: nothing.
CREATE FUNCTION governance.condition_fault(condition jsonb, depth int DEFAULT 1) RETURNS text
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    word text;
    op text := condition ->> 'is';
    keys text[];
BEGIN
    IF depth > 16 THEN
        RETURN 'conditions are nested more than 16 deep';
    ELSIF jsonb_typeof(condition) IS DISTINCT FROM 'object' THEN
        RETURN 'a condition is not an object';
    END IF;
    keys := ARRAY(SELECT k FROM jsonb_object_keys(condition) k ORDER BY k);
    IF keys IN ('{all}', '{any}') THEN
        word := keys[1];
        IF jsonb_typeof(condition -> word) <> 'array' THEN
            RETURN format('"%s" takes a list of conditions', word);
        END IF;
        RETURN (SELECT f FROM jsonb_array_elements(condition -> word) c, governance.condition_fault(c, depth + 1) f
                WHERE f IS NOT NULL LIMIT 1);
    ELSIF keys = '{not}' THEN
        RETURN governance.condition_fault(condition -> 'not', depth + 1);
    ELSIF keys NOT IN ('{attribute,is}', '{attribute,is,value}', '{attribute,is,than}') THEN
        RETURN format('a condition has the keys %s', array_to_string(keys, ', '));
    ELSIF op IS NULL OR op NOT IN ('eq', 'ne', 'lt', 'le', 'gt', 'ge', 'in', 'has', 'null') THEN
        RETURN format('"%s" is no comparison: eq, ne, lt, le, gt, ge, in, has, null', op);
    ELSIF (op = 'null') <> (cardinality(keys) = 2) THEN
        RETURN format('"%s" needs %s', op, CASE op WHEN 'null' THEN 'no value' ELSE 'a value, or another attribute (than)' END);
    ELSIF op = 'in' AND condition ? 'value' AND jsonb_typeof(condition -> 'value') <> 'array' THEN
        RETURN '"in" takes a list';
    END IF;
    FOREACH word IN ARRAY array_remove(ARRAY[condition ->> 'attribute', condition ->> 'than'], NULL) LOOP
        IF word !~ '^((row|old)\.[a-z_][a-z0-9_]*(\.[^.]+)*|user\.(id|email|roles|attributes\.[^.]+)|device\.(id|name|class)|action|time\.(now|date|hour|weekday))$' THEN
            RETURN format('"%s" is no attribute', word);
        END IF;
    END LOOP;
    RETURN NULL;
END $$;

CREATE FUNCTION governance.rule_fault(rule jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN octet_length(rule::text) > 65536 THEN 'the rule is larger than 64 KiB'
        WHEN EXISTS (SELECT FROM jsonb_object_keys(rule) k WHERE k NOT IN ('effect', 'resources', 'actions', 'when'))
            THEN 'a rule has effect, resources, actions and when, and nothing else'
        WHEN rule ->> 'effect' NOT IN ('deny', 'allow') THEN 'the effect is deny or allow'
        WHEN jsonb_typeof(rule -> 'resources') IS DISTINCT FROM 'array' OR EXISTS (
             SELECT FROM jsonb_array_elements_text(rule -> 'resources') r WHERE r !~ '^(\*|[a-z_]+\.(\*|[a-z0-9_]+))$')
            THEN 'resources are a list of <schema>.<table>, <schema>.* or *'
        WHEN rule ? 'actions' AND (jsonb_typeof(rule -> 'actions') <> 'array' OR NOT '["insert", "update", "delete"]' @> (rule -> 'actions'))
            THEN 'actions are a list of insert, update, delete'
        WHEN rule ? 'when' THEN governance.condition_fault(rule -> 'when')
    END
$$;

CREATE FUNCTION governance.check_policy() RETURNS trigger
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    fault text := governance.rule_fault(NEW.rule);
BEGIN
    IF fault IS NOT NULL THEN
        RAISE EXCEPTION 'the rule of policy % is not valid: %', NEW.code, fault
            USING ERRCODE = 'invalid_parameter_value', HINT = 'docs/permissions.md has the language of policies.';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER check_policy BEFORE INSERT OR UPDATE OF rule ON governance.policies
    FOR EACH ROW EXECUTE FUNCTION governance.check_policy();

-- A tenant's own set of schemas has their names with a prefix; policies name them without.
CREATE FUNCTION governance.concerns(rule jsonb, tab regclass) RETURNS bool
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT rule -> 'resources' ?| ARRAY['*', n.nsp || '.*', n.nsp || '.' || t.name]
    FROM ferry.tracked t LEFT JOIN ferry.placement p ON p.tenant_id = t.tenant_id
    CROSS JOIN LATERAL (SELECT substr(t.nsp, length(coalesce(p.schema_prefix, '')) + 1) AS nsp) n
    WHERE t.relid = tab
$$;
COMMENT ON FUNCTION governance.concerns(jsonb, regclass) IS 'Whether a policy''s rule speaks of a tracked table';

-- ---------------------------------------------------------------- at a write

CREATE FUNCTION governance.policy_attributes(tenant uuid, op text, device uuid, old jsonb, new jsonb) RETURNS jsonb
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT jsonb_build_object(
        'row', new, 'old', old, 'action', op,
        'device', jsonb_build_object('id', d.id, 'name', d.name, 'class', d.class),
        'user', jsonb_build_object('id', u.id, 'email', u.email, 'attributes', m.attributes, 'roles', (
            SELECT coalesce(jsonb_agg(DISTINCT r.code), '[]') FROM identity.role_assignments a
            JOIN identity.roles r ON r.tenant_id = a.tenant_id AND r.id = a.role_id
            WHERE a.tenant_id = tenant AND a.user_id = u.id
              AND a.starts_at <= statement_timestamp() IS NOT FALSE AND a.expires_at > statement_timestamp() IS NOT FALSE)),
        'time', jsonb_build_object('now', statement_timestamp(), 'date', z.here::date, 'hour', extract(hour FROM z.here)::int,
                                   'weekday', extract(isodow FROM z.here)::int))
    FROM ferry.device d
    LEFT JOIN identity.users u ON u.tenant_id = tenant AND u.id = d.user_id
    LEFT JOIN identity.members m ON m.tenant_id = tenant AND m.user_id = u.id
    LEFT JOIN identity.tenants t ON t.id = tenant
    CROSS JOIN LATERAL (SELECT statement_timestamp() AT TIME ZONE coalesce(t.timezone, 'UTC') AS here) z
    WHERE d.id = device
$$;
COMMENT ON FUNCTION governance.policy_attributes(uuid, text, uuid, jsonb, jsonb) IS 'What conditions of policies may ask about';

CREATE FUNCTION governance.policy_refusal(tenant uuid, tab regclass, op text, device uuid, old jsonb, new jsonb) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    attributes jsonb;
    p record;
    needed text;         -- an allow policy that did not hold
    allowed bool := false;
BEGIN
    FOR p IN SELECT n.code, n.rule
             FROM (SELECT DISTINCT ON (o.code) o.code, o.rule FROM governance.policies o
                   WHERE o.tenant_id = tenant AND o.enabled ORDER BY o.code, o.version DESC) n
             WHERE governance.concerns(n.rule, tab) AND (NOT n.rule ? 'actions' OR n.rule -> 'actions' ? op)
             ORDER BY n.code LOOP
        attributes := coalesce(attributes, governance.policy_attributes(tenant, op, device, old, new));
        IF NOT p.rule ? 'when' OR governance.holds(p.rule -> 'when', attributes) THEN
            IF coalesce(p.rule ->> 'effect', 'deny') = 'deny' THEN
                RETURN format('the policy %s forbids %s on %s', p.code, op, tab);
            END IF;
            allowed := true;
        ELSIF p.rule ->> 'effect' = 'allow' THEN
            needed := coalesce(needed, p.code);
        END IF;
    END LOOP;
    IF needed IS NOT NULL AND NOT allowed THEN
        RETURN format('the policy %s does not allow %s on %s', needed, op, tab);
    END IF;
    RETURN NULL;
END $$;

SELECT ferry.answer_rights('identity.rights_of', 'identity.rights_next', 'governance.policy_refusal');

-- What a refusal calls the person who was first.
CREATE FUNCTION identity.user_name(tenant uuid, of_user uuid) RETURNS text
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce(u.display_name, p.full_name, u.email::text) FROM identity.users u
    LEFT JOIN identity.user_profiles p ON p.tenant_id = u.tenant_id AND p.user_id = u.id
    WHERE u.tenant_id = tenant AND u.id = of_user
$$;
COMMENT ON FUNCTION identity.user_name(uuid, uuid) IS 'What people call a user';
REVOKE EXECUTE ON FUNCTION identity.user_name(uuid, uuid) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION identity.user_name(uuid, uuid) TO ferry_engine;
SELECT ferry.answer_names('identity.user_name');

-- The tables of this set of schemas that any policy speaks of: only those cost the merge a
-- question. Whoever looks waits for others who changed policies, or a flag could go that the
-- other one needs.
CREATE FUNCTION governance.note_policies() RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    own uuid := (SELECT p.tenant_id FROM ferry.placement p JOIN pg_class c ON c.oid = 'governance.policies'::regclass
                 WHERE p.schema_prefix || 'governance' = c.relnamespace::regnamespace::text);
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('governance.policies', 0));
    PERFORM ferry.police(x.relid, x.named)
    FROM (SELECT t.relid, t.policed, EXISTS (
              SELECT FROM governance.policies p WHERE p.enabled AND governance.concerns(p.rule, t.relid)) AS named
          FROM ferry.tracked t WHERE t.tenant_id IS NOT DISTINCT FROM own) x
    WHERE x.named <> x.policed AND (x.named OR current_setting('transaction_isolation') = 'read committed');
END $$;
COMMENT ON FUNCTION governance.note_policies() IS 'Brings up which tables are policed; to be called after a table was tracked';
CREATE FUNCTION governance.on_policies() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM governance.note_policies();
    RETURN NULL;
END $$;
CREATE TRIGGER note_policies AFTER INSERT OR UPDATE OR DELETE ON governance.policies
    FOR EACH STATEMENT EXECUTE FUNCTION governance.on_policies();

RESET ROLE;
-- It has to see the policies of every tenant.
ALTER FUNCTION governance.note_policies() OWNER TO ferry_engine;
REVOKE EXECUTE ON FUNCTION governance.note_policies() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION governance.note_policies() TO ferry_owner;
