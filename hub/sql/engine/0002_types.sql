-- How each PostgreSQL type travels: its kind, and the templates that statements are
-- composed from. In a template %s stands for the value, once, and {seed} for the seed of
-- the row's cell hashes.

SET LOCAL ROLE ferry_engine;

-- The type beneath domains.
CREATE FUNCTION ferry.base_type(typ oid) RETURNS oid
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    WITH RECURSIVE down AS (
        SELECT typ AS id
        UNION ALL
        SELECT t.typbasetype FROM down JOIN pg_type t ON t.oid = down.id WHERE t.typtype = 'd')
    SELECT d.id FROM down d JOIN pg_type t ON t.oid = d.id WHERE t.typtype <> 'd'
$$;

CREATE FUNCTION ferry.kind_of(typ oid) RETURNS text
    LANGUAGE plpgsql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    base oid := ferry.base_type(typ);
    t pg_type;
BEGIN
    SELECT * INTO t FROM pg_type WHERE oid = base;
    IF t.typtype = 'e' THEN
        RETURN 'enum';
    ELSIF t.typname = 'citext' THEN
        RETURN 'citext';
    ELSIF t.typcategory = 'A' AND t.typelem <> 0 THEN
        -- JSON within JSON would lose which of the two a string was; composites likewise.
        RETURN CASE WHEN ferry.kind_of(t.typelem) IN ('json', 'array', 'other', 'bytes') THEN 'other' ELSE 'array' END;
    END IF;
    RETURN CASE base
        WHEN 'bool'::regtype THEN 'bool'
        WHEN 'int2'::regtype THEN 'int'
        WHEN 'int4'::regtype THEN 'int'
        WHEN 'int8'::regtype THEN 'int'
        WHEN 'float4'::regtype THEN 'float'
        WHEN 'float8'::regtype THEN 'float'
        WHEN 'text'::regtype THEN 'text'
        WHEN 'varchar'::regtype THEN 'text'
        WHEN 'bpchar'::regtype THEN 'text'
        WHEN 'uuid'::regtype THEN 'uuid'
        WHEN 'bytea'::regtype THEN 'bytes'
        WHEN 'timestamptz'::regtype THEN 'timestamptz'
        WHEN 'date'::regtype THEN 'date'
        WHEN 'numeric'::regtype THEN 'numeric'
        WHEN 'json'::regtype THEN 'json'
        WHEN 'jsonb'::regtype THEN 'json'
        ELSE 'other' END;
END $$;

-- A value as its type's output function prints it; a cast to text differs for some (inet).
CREATE FUNCTION ferry.text_of(v anyelement) RETURNS text
    LANGUAGE sql STABLE STRICT PARALLEL SAFE
AS $$ SELECT pg_catalog.format('%s', v) $$;

-- A JSON array as the text of a PostgreSQL array, of any depth.
CREATE FUNCTION ferry.array_text(j json) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    e json;
    out text := '';
BEGIN
    IF json_typeof(j) <> 'array' THEN
        RAISE EXCEPTION 'not a JSON array: %', left(j::text, 80) USING ERRCODE = 'invalid_text_representation';
    END IF;
    FOR e IN SELECT json_array_elements(j) LOOP
        out := out || CASE WHEN out = '' THEN '' ELSE ',' END || CASE json_typeof(e)
            WHEN 'array' THEN ferry.array_text(e)
            WHEN 'null' THEN 'NULL'
            ELSE '"' || replace(replace(e #>> '{}', '\', '\\'), '"', '\"') || '"' END;
    END LOOP;
    RETURN '{' || out || '}';
END $$;

-- The wire form as an expression of a type that libpq gives in binary: bool, int8, float8,
-- uuid, bytea, timestamptz, date or text.
CREATE FUNCTION ferry.wire_template(typ oid) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE ferry.kind_of(typ)
        WHEN 'bool' THEN '(%s)::bool'
        WHEN 'int' THEN '(%s)::int8'
        WHEN 'float' THEN '(%s)::float8'
        WHEN 'uuid' THEN '(%s)::uuid'
        WHEN 'bytes' THEN '(%s)::bytea'
        WHEN 'timestamptz' THEN '(%s)::timestamptz'
        WHEN 'date' THEN '(%s)::date'
        WHEN 'array' THEN 'pg_catalog.array_to_json(%s)::text'
        WHEN 'other' THEN 'ferry.text_of(%s)'
        ELSE '(%s)::text' END
$$;

-- From the wire form (an expression of the type that wire_template gives) to the column's
-- type. No length or precision: the assignment to the column applies those, and refuses
-- what a cast would cut off in silence.
CREATE FUNCTION ferry.in_template(typ oid) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE WHEN ferry.kind_of(typ) = 'array' THEN format('ferry.array_text((%%s)::json)::%s', b.name)
                WHEN b.id = 'bpchar'::regtype THEN '(%s)::text'
                ELSE format('(%%s)::%s', b.name) END
    FROM (SELECT ferry.base_type(typ) AS id, format_type(ferry.base_type(typ), NULL) AS name) b
$$;

-- The cell hash of the value. These functions of PostgreSQL are fixed for ever by hash
-- partitioning on disk; shared/cell_hash.c computes the same.
CREATE FUNCTION ferry.hash_template(typ oid) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE ferry.kind_of(typ)
        WHEN 'bool' THEN 'pg_catalog.hashint8extended((%s)::int::int8, {seed})'
        WHEN 'int' THEN 'pg_catalog.hashint8extended((%s)::int8, {seed})'
        WHEN 'float' THEN 'pg_catalog.hashfloat8extended((%s)::float8, {seed})'
        WHEN 'uuid' THEN 'pg_catalog.uuid_hash_extended((%s)::uuid, {seed})'
        WHEN 'timestamptz' THEN
            'pg_catalog.timestamp_hash_extended(pg_catalog.timezone(''UTC'', (%s)::timestamptz), {seed})'
        WHEN 'date' THEN 'pg_catalog.timestamp_hash_extended((%s)::date::timestamp, {seed})'
        WHEN 'bytes' THEN
            'pg_catalog.hashtextextended(pg_catalog.encode((%s)::bytea, ''hex'') COLLATE "C", {seed})'
        ELSE format('pg_catalog.hashtextextended(%s COLLATE "C", {seed})', ferry.wire_template(typ)) END
$$;

-- format() would trip over a % in a column's name.
CREATE FUNCTION ferry.fill(template text, v text, seed text DEFAULT '') RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT replace(substr(template, 1, strpos(template, '%s') - 1) || v
                   || substr(template, strpos(template, '%s') + 2), '{seed}', seed)
$$;
COMMENT ON FUNCTION ferry.fill(text, text, text) IS 'Puts a value expression (and a seed) into a template';

-- The values a CHECK allows, where it is the plain list that an enumerated text column has.
CREATE FUNCTION ferry.check_labels(tab regclass, num int2) RETURNS text[]
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (SELECT array_agg(replace(m[1], '''''', '''') ORDER BY n)
            FROM regexp_matches(d.def, '''((?:[^'']|'''')*)''::', 'g') WITH ORDINALITY AS r(m, n))
    FROM pg_constraint c
    CROSS JOIN LATERAL (SELECT pg_get_constraintdef(c.oid) AS def) d
    WHERE c.conrelid = tab AND c.contype = 'c' AND c.conkey = ARRAY[num] AND c.convalidated
      AND d.def ~ ('^CHECK \(\(+("[^"]+"|\w+)\)?(::text)? = (ANY \(+ARRAY\[(''([^'']|'''')*''::[a-z ]+(, )?)+\]\)?(::text\[\])?\)+'
                   || '|''([^'']|'''')*''::[a-z ]+\)+)$')
    ORDER BY c.conname
    LIMIT 1
$$;

RESET ROLE;
