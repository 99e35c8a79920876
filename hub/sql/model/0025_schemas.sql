-- Documents checked against JSON schemas.
--
-- The keywords that are understood, as JSON Schema 2020-12 defines them: type, enum, const,
-- properties, required, additionalProperties, minProperties, maxProperties, items, minItems,
-- maxItems, uniqueItems, minimum, maximum, exclusiveMinimum, exclusiveMaximum, multipleOf,
-- minLength, maxLength, pattern, format (uuid, date, date-time, email), anyOf, oneOf, allOf,
-- not, and $ref to #/$defs/<name>. Annotations ($schema, $id, title, description, default,
-- examples, $comment, deprecated, readOnly, writeOnly) are passed over. A schema with any
-- other keyword is refused when it is stored: a rule that is not checked must not look as if
-- it were. Patterns are PostgreSQL's regular expressions, which agree with JSON Schema's in
-- what is commonly used.

SET LOCAL ROLE ferry_owner;

CREATE FUNCTION integration.json_type_fits(doc jsonb, type text) RETURNS boolean
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE type
        WHEN 'integer' THEN CASE WHEN jsonb_typeof(doc) = 'number' THEN (doc #>> '{}')::numeric % 1 = 0 ELSE false END
        WHEN 'number' THEN jsonb_typeof(doc) = 'number'
        ELSE jsonb_typeof(doc) = type END;

CREATE FUNCTION integration.json_format_fits(value text, format text) RETURNS boolean
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
BEGIN
    CASE format
        WHEN 'uuid' THEN RETURN value ~* '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$';
        WHEN 'email' THEN RETURN value ~ '^[^@[:space:]]+@[^@[:space:]]+$';
        WHEN 'date' THEN
            RETURN value ~ '^[0-9]{4}-[0-9]{2}-[0-9]{2}$' AND make_date(left(value, 4)::int, substr(value, 6, 2)::int, right(value, 2)::int) IS NOT NULL;
        WHEN 'date-time' THEN
            RETURN value ~* '^[0-9]{4}-[0-9]{2}-[0-9]{2}t([01][0-9]|2[0-3]):[0-5][0-9]:([0-5][0-9]|60)(\.[0-9]+)?(z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$'
               AND make_date(left(value, 4)::int, substr(value, 6, 2)::int, substr(value, 9, 2)::int) IS NOT NULL;
        ELSE RETURN true;
    END CASE;
EXCEPTION WHEN datetime_field_overflow OR invalid_datetime_format THEN
    RETURN false;
END $$;

-- A member's path: $.items[3].price, and $["odd name"] where a name is not plain.
CREATE FUNCTION integration.json_member(path text, name text) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
    RETURN CASE WHEN name ~ '^[A-Za-z_][A-Za-z0-9_]*$' THEN path || '.' || name ELSE path || '[' || to_json(name)::text || ']' END;

-- What the scalar keywords of a schema say against a value.
CREATE FUNCTION integration.check_scalar(schema jsonb, doc jsonb) RETURNS SETOF text
    LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
    kind text := jsonb_typeof(doc);
    t text := doc #>> '{}';
    n numeric;
BEGIN
    IF kind = 'number' THEN
        n := t::numeric;
        IF n < (schema ->> 'minimum')::numeric THEN RETURN NEXT format('must be at least %s', schema ->> 'minimum'); END IF;
        IF n > (schema ->> 'maximum')::numeric THEN RETURN NEXT format('must be at most %s', schema ->> 'maximum'); END IF;
        IF n <= (schema ->> 'exclusiveMinimum')::numeric THEN RETURN NEXT format('must be more than %s', schema ->> 'exclusiveMinimum'); END IF;
        IF n >= (schema ->> 'exclusiveMaximum')::numeric THEN RETURN NEXT format('must be less than %s', schema ->> 'exclusiveMaximum'); END IF;
        IF n % (schema ->> 'multipleOf')::numeric <> 0 THEN RETURN NEXT format('must be a multiple of %s', schema ->> 'multipleOf'); END IF;
    ELSIF kind = 'string' THEN
        IF length(t) < (schema ->> 'minLength')::numeric THEN RETURN NEXT format('must have at least %s characters', schema ->> 'minLength'); END IF;
        IF length(t) > (schema ->> 'maxLength')::numeric THEN RETURN NEXT format('must have at most %s characters', schema ->> 'maxLength'); END IF;
        IF t !~ (schema ->> 'pattern') THEN RETURN NEXT format('must match %s', schema ->> 'pattern'); END IF;
        IF NOT integration.json_format_fits(t, schema ->> 'format') THEN RETURN NEXT format('must be of the form %s', schema ->> 'format'); END IF;
    END IF;
END $$;

-- All that a document has against it: rows of where and why; no rows when it fits. root is the
-- schema that $ref looks into. Recursion is bounded, since a schema may refer to itself.
CREATE FUNCTION integration.json_errors(schema jsonb, doc jsonb, root jsonb, path text, depth int)
RETURNS TABLE (at text, error text)
    LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
    kind text := jsonb_typeof(doc);
    k text;
    s jsonb;
    e text;
    i int;
    n bigint;
BEGIN
    IF depth > 64 THEN
        RETURN QUERY SELECT path, 'is nested too deeply (64 levels)';
        RETURN;
    END IF;
    IF schema = 'true' THEN
        RETURN;
    ELSIF schema = 'false' THEN
        RETURN QUERY SELECT path, 'is not allowed';
        RETURN;
    END IF;

    IF schema ? '$ref' THEN
        s := root #> string_to_array(substr(schema ->> '$ref', 3), '/');
        RETURN QUERY SELECT * FROM integration.json_errors(s, doc, root, path, depth + 1);
    END IF;
    IF schema ? 'type' AND NOT EXISTS (
            SELECT FROM jsonb_array_elements_text(CASE jsonb_typeof(schema -> 'type') WHEN 'array' THEN schema -> 'type'
                                                  ELSE jsonb_build_array(schema -> 'type') END) AS w(type)
            WHERE integration.json_type_fits(doc, w.type)) THEN
        RETURN QUERY SELECT path, format('must be of type %s, not %s',
            CASE jsonb_typeof(schema -> 'type') WHEN 'array'
                THEN (SELECT string_agg(w, ' or ') FROM jsonb_array_elements_text(schema -> 'type') w) ELSE schema ->> 'type' END, kind);
        RETURN;
    END IF;
    IF schema ? 'enum' AND NOT EXISTS (SELECT FROM jsonb_array_elements(schema -> 'enum') v WHERE v = doc) THEN
        RETURN QUERY SELECT path, format('must be one of %s', schema -> 'enum');
    END IF;
    IF schema ? 'const' AND schema -> 'const' <> doc THEN
        RETURN QUERY SELECT path, format('must be %s', schema -> 'const');
    END IF;
    RETURN QUERY SELECT path, c FROM integration.check_scalar(schema, doc) c;

    IF kind = 'object' THEN
        n := (SELECT count(*) FROM jsonb_object_keys(doc));
        IF n < (schema ->> 'minProperties')::numeric THEN RETURN QUERY SELECT path, format('must have at least %s members', schema ->> 'minProperties'); END IF;
        IF n > (schema ->> 'maxProperties')::numeric THEN RETURN QUERY SELECT path, format('must have at most %s members', schema ->> 'maxProperties'); END IF;
        RETURN QUERY SELECT integration.json_member(path, r), 'is missing'
                     FROM jsonb_array_elements_text(coalesce(schema -> 'required', '[]')) r WHERE NOT doc ? r;
        FOR k IN SELECT jsonb_object_keys(doc) LOOP
            IF coalesce(schema -> 'properties', '{}') ? k THEN
                RETURN QUERY SELECT * FROM integration.json_errors(schema -> 'properties' -> k, doc -> k, root,
                                                                   integration.json_member(path, k), depth + 1);
            ELSIF schema -> 'additionalProperties' = 'false' THEN
                RETURN QUERY SELECT integration.json_member(path, k), 'is not a known member';
            ELSIF schema ? 'additionalProperties' THEN
                RETURN QUERY SELECT * FROM integration.json_errors(schema -> 'additionalProperties', doc -> k, root,
                                                                   integration.json_member(path, k), depth + 1);
            END IF;
        END LOOP;
    ELSIF kind = 'array' THEN
        n := jsonb_array_length(doc);
        IF n < (schema ->> 'minItems')::numeric THEN RETURN QUERY SELECT path, format('must have at least %s elements', schema ->> 'minItems'); END IF;
        IF n > (schema ->> 'maxItems')::numeric THEN RETURN QUERY SELECT path, format('must have at most %s elements', schema ->> 'maxItems'); END IF;
        IF schema -> 'uniqueItems' = 'true' AND n <> (SELECT count(DISTINCT v) FROM jsonb_array_elements(doc) v) THEN
            RETURN QUERY SELECT path, 'must not hold an element twice';
        END IF;
        IF schema ? 'items' THEN
            FOR i IN 0 .. n - 1 LOOP
                RETURN QUERY SELECT * FROM integration.json_errors(schema -> 'items', doc -> i, root, format('%s[%s]', path, i), depth + 1);
            END LOOP;
        END IF;
    END IF;

    FOR s IN SELECT jsonb_array_elements(coalesce(schema -> 'allOf', '[]')) LOOP
        RETURN QUERY SELECT * FROM integration.json_errors(s, doc, root, path, depth + 1);
    END LOOP;
    FOREACH k IN ARRAY ARRAY['anyOf', 'oneOf'] LOOP
        IF schema ? k THEN
            n := (SELECT count(*) FROM jsonb_array_elements(schema -> k) w(sub)
                  WHERE NOT EXISTS (SELECT FROM integration.json_errors(w.sub, doc, root, path, depth + 1)));
            IF n = 0 THEN
                RETURN QUERY SELECT path, format('fits none of %s', k);
            ELSIF n > 1 AND k = 'oneOf' THEN
                RETURN QUERY SELECT path, format('fits %s of oneOf, not one', n);
            END IF;
        END IF;
    END LOOP;
    IF schema ? 'not' AND NOT EXISTS (SELECT FROM integration.json_errors(schema -> 'not', doc, root, path, depth + 1)) THEN
        RETURN QUERY SELECT path, 'fits what it must not';
    END IF;
END $$;

CREATE FUNCTION integration.validate_json(schema jsonb, doc jsonb) RETURNS TABLE (at text, error text)
    LANGUAGE sql IMMUTABLE
AS $$
    SELECT e.at, e.error FROM integration.json_errors(schema, doc, schema, '$', 0) e ORDER BY e.at, e.error
$$;
COMMENT ON FUNCTION integration.validate_json(jsonb, jsonb) IS
    'What a document has against it by a JSON schema: paths and reasons; no row when it fits';

-- ---------------------------------------------------------------- schemas that can be checked

-- What is wrong with a schema itself: a keyword that is not understood, or one with a value
-- that makes no sense.
CREATE FUNCTION integration.schema_errors(schema jsonb, root jsonb, path text, depth int) RETURNS TABLE (at text, error text)
    LANGUAGE plpgsql IMMUTABLE
AS $$
DECLARE
    k text;
    v jsonb;
    sub record;
BEGIN
    IF jsonb_typeof(schema) = 'boolean' THEN
        RETURN;
    ELSIF jsonb_typeof(schema) <> 'object' OR depth > 64 THEN
        RETURN QUERY SELECT path, 'must be an object or a boolean, not nested deeper than 64 levels';
        RETURN;
    END IF;
    FOR k, v IN SELECT * FROM jsonb_each(schema) LOOP
        CASE
            WHEN k IN ('$schema', '$id', '$comment', 'title', 'description', 'default', 'examples', 'deprecated', 'readOnly', 'writeOnly', 'const') THEN
                NULL;
            WHEN k = 'type' THEN
                IF EXISTS (SELECT FROM jsonb_array_elements(CASE jsonb_typeof(v) WHEN 'array' THEN v ELSE jsonb_build_array(v) END) t
                           WHERE t #>> '{}' NOT IN ('null', 'boolean', 'object', 'array', 'number', 'string', 'integer')
                              OR jsonb_typeof(t) <> 'string') THEN
                    RETURN QUERY SELECT integration.json_member(path, k), 'names no type of JSON';
                END IF;
            WHEN k = 'format' THEN
                IF coalesce(v #>> '{}', '') NOT IN ('uuid', 'date', 'date-time', 'email') THEN
                    RETURN QUERY SELECT integration.json_member(path, k), 'is not a known format';
                END IF;
            WHEN k = 'pattern' THEN
                BEGIN
                    PERFORM '' ~ (v #>> '{}');
                EXCEPTION WHEN invalid_regular_expression THEN
                    RETURN QUERY SELECT integration.json_member(path, k), 'is not a regular expression';
                END;
            WHEN k = '$ref' THEN
                IF coalesce(v #>> '{}', '') !~ '^#/\$defs/[^/~%]+$' OR root #> string_to_array(substr(v #>> '{}', 3), '/') IS NULL THEN
                    RETURN QUERY SELECT integration.json_member(path, k), 'must be #/$defs/<name> of a definition that is there';
                END IF;
            WHEN k IN ('minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum') THEN
                IF jsonb_typeof(v) <> 'number' THEN RETURN QUERY SELECT integration.json_member(path, k), 'must be a number'; END IF;
            WHEN k IN ('minLength', 'maxLength', 'minItems', 'maxItems', 'minProperties', 'maxProperties') THEN
                IF NOT integration.json_type_fits(v, 'integer') OR v < '0' THEN
                    RETURN QUERY SELECT integration.json_member(path, k), 'must be an integer of at least 0';
                END IF;
            WHEN k = 'multipleOf' THEN
                IF jsonb_typeof(v) <> 'number' OR v <= '0' THEN RETURN QUERY SELECT integration.json_member(path, k), 'must be a number above 0'; END IF;
            WHEN k = 'uniqueItems' THEN
                IF jsonb_typeof(v) <> 'boolean' THEN RETURN QUERY SELECT integration.json_member(path, k), 'must be a boolean'; END IF;
            WHEN k = 'enum' THEN
                IF jsonb_typeof(v) <> 'array' THEN RETURN QUERY SELECT integration.json_member(path, k), 'must be an array'; END IF;
            WHEN k = 'required' THEN
                IF jsonb_typeof(v) <> 'array' OR jsonb_path_exists(v, '$[*] ? (@.type() != "string")') THEN
                    RETURN QUERY SELECT integration.json_member(path, k), 'must be an array of names';
                END IF;
            WHEN k IN ('items', 'additionalProperties', 'not') THEN
                RETURN QUERY SELECT * FROM integration.schema_errors(v, root, integration.json_member(path, k), depth + 1);
            WHEN k IN ('properties', '$defs') THEN
                IF jsonb_typeof(v) <> 'object' THEN
                    RETURN QUERY SELECT integration.json_member(path, k), 'must be an object';
                ELSE
                    FOR sub IN SELECT * FROM jsonb_each(v) LOOP
                        RETURN QUERY SELECT * FROM integration.schema_errors(sub.value, root,
                            integration.json_member(integration.json_member(path, k), sub.key), depth + 1);
                    END LOOP;
                END IF;
            WHEN k IN ('anyOf', 'oneOf', 'allOf') THEN
                IF jsonb_typeof(v) <> 'array' OR v = '[]' THEN
                    RETURN QUERY SELECT integration.json_member(path, k), 'must be an array with at least one schema';
                ELSE
                    FOR sub IN SELECT * FROM jsonb_array_elements(v) WITH ORDINALITY AS a(value, n) LOOP
                        RETURN QUERY SELECT * FROM integration.schema_errors(sub.value, root,
                            format('%s[%s]', integration.json_member(path, k), sub.n - 1), depth + 1);
                    END LOOP;
                END IF;
            ELSE
                RETURN QUERY SELECT integration.json_member(path, k), 'is a keyword that is not checked here';
        END CASE;
    END LOOP;
END $$;

CREATE FUNCTION integration.guard_schema() RETURNS trigger
    LANGUAGE plpgsql
AS $$
DECLARE
    wrong record;
BEGIN
    SELECT * INTO wrong FROM integration.schema_errors(NEW.json_schema, NEW.json_schema, '$', 0) ORDER BY 1 LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'schema %, version %: % %', NEW.subject, NEW.version, wrong.at, wrong.error
            USING ERRCODE = 'FE320', HINT = 'docs/model.md lists the keywords that are checked.';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER guard BEFORE INSERT ON integration.schema_definitions
    FOR EACH ROW EXECUTE FUNCTION integration.guard_schema();

-- A version that others were promised stays as it is; one more is a new row.
CREATE FUNCTION integration.refuse_schema_change() RETURNS trigger
    LANGUAGE plpgsql
AS $$
BEGIN
    RAISE EXCEPTION 'version % of schema % is fixed', OLD.version, OLD.subject
        USING ERRCODE = 'FE319', HINT = 'Insert the next version.';
END $$;
CREATE TRIGGER fixed BEFORE UPDATE ON integration.schema_definitions
    FOR EACH ROW WHEN ((OLD.subject, OLD.version, OLD.json_schema) IS DISTINCT FROM (NEW.subject, NEW.version, NEW.json_schema))
    EXECUTE FUNCTION integration.refuse_schema_change();

-- The schema of a subject for a tenant: its own before the global one; NULL: there is none.
-- Without a version, the newest.
CREATE FUNCTION integration.schema_of(tenant uuid, of_subject text, of_version int DEFAULT NULL) RETURNS jsonb
    LANGUAGE sql STABLE SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT d.json_schema FROM integration.schema_definitions d
    WHERE d.tenant_id IN (tenant, ferry.nobody()) AND d.subject = of_subject AND (of_version IS NULL OR d.version = of_version)
    ORDER BY d.tenant_id = tenant DESC, d.version DESC LIMIT 1
$$;
COMMENT ON FUNCTION integration.schema_of(uuid, text, int) IS 'The JSON schema of a subject: a tenant''s own, else the global one; NULL: none';

-- Refuses a payload that does not fit. A version that is asked for must be there; without
-- one, a subject without a schema is free.
CREATE FUNCTION integration.check_payload(tenant uuid, of_subject text, payload jsonb, of_version int DEFAULT NULL) RETURNS void
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    schema jsonb := integration.schema_of(tenant, of_subject, of_version);
    why text;
BEGIN
    IF schema IS NULL THEN
        IF of_version IS NOT NULL THEN
            RAISE EXCEPTION 'there is no version % of the schema %', of_version, of_subject
                USING ERRCODE = 'FE320', HINT = 'See integration.schema_definitions.';
        END IF;
        RETURN;
    END IF;
    SELECT string_agg(w.at || ' ' || w.error, '; ') INTO why
    FROM (SELECT e.at, e.error FROM integration.validate_json(schema, payload) e LIMIT 5) w;
    IF why IS NOT NULL THEN
        RAISE EXCEPTION 'the payload of % does not fit its schema: %', of_subject, why
            USING ERRCODE = 'FE320', HINT = 'Mend the payload, or store a new version of the schema.';
    END IF;
END $$;
COMMENT ON FUNCTION integration.check_payload(uuid, text, jsonb, int) IS 'Refuses (FE320) a payload that does not fit the schema of its subject';
CREATE POLICY owner ON integration.schema_definitions TO ferry_owner USING (true) WITH CHECK (true);

RESET ROLE;
