-- The policy "sequence": human-readable numbers, each given once.
--
--   SELECT ferry.policy('contracts.contracts', 'number', 'sequence', '{"sequence": "CONTRACT"}');
--   SELECT ferry.policy('crm.leads', 'number', 'sequence', '{"sequence": "LEAD", "lease": 50}');
--
-- An INSERT that leaves the column NULL gets the next number of the tenant's sequence, in its
-- own transaction: from a device when its change-set is accepted, and from ordinary SQL. With
-- "lease" a device also holds ranges of so many numbers and gives them itself, offline; what
-- it gives is looked at when it comes. Where numbers come from is the tenant model's to say.

SET LOCAL ROLE ferry_engine;

-- ---------------------------------------------------------------- where numbers come from

ALTER TABLE ferry.authority ADD COLUMN next_number regproc, ADD COLUMN lease_numbers regproc;
COMMENT ON COLUMN ferry.authority.next_number IS 'A function (tenant uuid, code text) returning text: the next number of a sequence';
COMMENT ON COLUMN ferry.authority.lease_numbers IS
    'A function (tenant uuid, code text, count int) returning (first, last bigint, step, padding int, head, tail text, until timestamptz)';

--   next_number(tenant, code) -> text
--   lease_numbers(tenant, code, count) -> (first bigint, last bigint, step int, padding int, head text, tail text, until timestamptz)
--       ranges that together hold so many numbers and that nobody else gets. A number reads
--       head, then digits with zeros up to padding, then tail. until: when it must not be given any more; NULL: never
CREATE FUNCTION ferry.answer_numbers(next_number regproc, lease_numbers regproc) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE ferry.authority a SET next_number = answer_numbers.next_number, lease_numbers = answer_numbers.lease_numbers
    WHERE a.tenant_id = coalesce(nullif(current_setting('ferry.placing', true), '')::uuid, ferry.nobody())
$$;
COMMENT ON FUNCTION ferry.answer_numbers(regproc, regproc) IS 'Names the functions of the tenant model that give numbers; after ferry.answer_rights';

CREATE FUNCTION ferry.next_number(tenant uuid, code text) RETURNS text
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    asks regproc := (ferry.authority_of(tenant)).next_number;
    given text;
BEGIN
    IF asks IS NULL THEN
        RAISE EXCEPTION 'nothing gives numbers of the sequence %', code USING ERRCODE = 'FE321', HINT = 'Name a function with ferry.answer_numbers.';
    END IF;
    EXECUTE format('SELECT %s($1, $2)', asks) INTO given USING tenant, code;
    RETURN given;
END $$;

-- ---------------------------------------------------------------- leases

CREATE TABLE ferry.lease (
    tenant_id   uuid NOT NULL,
    id          uuid NOT NULL DEFAULT gen_random_uuid(),
    device_id   uuid,
    incarnation bytea,
    tbl         int NOT NULL,
    num         int NOT NULL,
    first       bigint NOT NULL,
    last        bigint NOT NULL,
    step        int NOT NULL CHECK (step > 0),
    padding     int NOT NULL CHECK (padding BETWEEN 0 AND 18),
    head        text NOT NULL,
    tail        text NOT NULL,
    until       timestamptz,
    granted_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    CHECK (first >= 0 AND last >= first)
);
CREATE INDEX lease_device_ix ON ferry.lease (tenant_id, tbl, num, device_id, granted_at);
COMMENT ON TABLE ferry.lease IS 'Ranges of numbers that devices may give';
COMMENT ON COLUMN ferry.lease.device_id IS
    'NULL: skipped, since a history that is lost may have granted it; such a number is whose it comes with first';
COMMENT ON COLUMN ferry.lease.incarnation IS 'Of the replica that asked: one restored from a copy gets ranges of its own';

CREATE TABLE ferry.lease_use (
    tenant_id uuid NOT NULL,
    tbl       int NOT NULL,
    num       int NOT NULL,
    number    text NOT NULL,
    key       uuid NOT NULL,
    PRIMARY KEY (tenant_id, tbl, num, number)
);
COMMENT ON TABLE ferry.lease_use IS 'Leased numbers that rows have had, also after their deletion';
SELECT ferry.isolate('ferry.lease'), ferry.isolate('ferry.lease_use');

-- What the lease prints for its n-th value.
CREATE FUNCTION ferry.lease_text(l ferry.lease, n bigint) RETURNS text
    LANGUAGE sql IMMUTABLE
    RETURN l.head || CASE WHEN length(n::text) >= l.padding THEN n::text ELSE lpad(n::text, l.padding, '0') END || l.tail;

-- The value in a text that one of the lease prints; NULL: it prints no such text.
CREATE FUNCTION ferry.lease_value(l ferry.lease, number text) RETURNS bigint
    LANGUAGE plpgsql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    digits text := substr(number, length(l.head) + 1, greatest(length(number) - length(l.head) - length(l.tail), 0));
BEGIN
    IF digits !~ '^[0-9]{1,18}$' OR ferry.lease_text(l, digits::bigint) <> number THEN
        RETURN NULL;
    END IF;
    RETURN CASE WHEN digits::bigint BETWEEN l.first AND l.last AND (digits::bigint - l.first) % l.step = 0 THEN digits::bigint END;
END $$;

-- Ranges for a device whose stock is low. None: the column is not leased, or the device has
-- had as many as it may have in a day, or the sequence has none: then it inserts without a
-- number and the hub assigns one.
CREATE FUNCTION ferry.lease_numbers(tenant uuid, device uuid, of_tbl int, of_num int) RETURNS SETOF ferry.lease
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    most CONSTANT int := 100; -- ranges a day
    c ferry.tracked_column;
    d ferry.device;
    asks regproc := (ferry.authority_of(tenant)).lease_numbers;
BEGIN
    SELECT o.* INTO c FROM ferry.tracked_column o JOIN ferry.tracked t ON t.tbl = o.tbl
    WHERE o.tbl = of_tbl AND o.num = of_num AND o.policy = 'sequence' AND t.write AND o.policy_options ? 'lease';
    SELECT * INTO d FROM ferry.device o WHERE o.tenant_id = tenant AND o.id = device AND o.status = 'active' FOR NO KEY UPDATE;
    IF c.tbl IS NULL OR d.id IS NULL OR asks IS NULL OR most <= (
            SELECT count(*) FROM ferry.lease l WHERE l.tenant_id = tenant AND l.tbl = of_tbl AND l.num = of_num
            AND l.device_id = device AND l.granted_at > now() - interval '1 day') THEN
        RETURN;
    END IF;
    RETURN QUERY EXECUTE format(
        'INSERT INTO ferry.lease AS l (tenant_id, device_id, incarnation, tbl, num, first, last, step, padding, head, tail, until) '
        'SELECT $1, $2, $3, $4, $5, x.first, x.last, x.step, x.padding, x.head, x.tail, x.until FROM %s($1, $6, $7) x RETURNING l.*', asks)
        USING tenant, device, d.incarnation, of_tbl, of_num, c.policy_options ->> 'sequence', (c.policy_options ->> 'lease')::int;
EXCEPTION WHEN SQLSTATE 'FE321' THEN -- used up, unknown, or gap-free: the acceptance says so where it is needed
    RETURN;
END $$;
COMMENT ON FUNCTION ferry.lease_numbers(uuid, uuid, int, int) IS 'Grants a device ranges of a column''s sequence';

-- R19: in a database that was restored, sequences stand where they stood at its backup. What
-- may have been granted since is not granted again: each leased sequence goes forward by as
-- many numbers as were ever leased in a day, ten times over and at least a thousand, or by
-- `numbers`. Rows that come with a number of that region are taken, one for each number.
CREATE FUNCTION ferry.skip_leases(numbers int DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    before text := current_setting('app.tenant_id', true);
    skipped bigint := 0;
    x record;
    n bigint;
BEGIN
    FOR x IN
        SELECT d.tenant_id, d.tbl, d.num, c.policy_options ->> 'sequence' AS code, (ferry.authority_of(d.tenant_id)).lease_numbers AS asks,
               coalesce(numbers, least(greatest(1000, 10 * max(d.n)), 100000)) AS n
        FROM (SELECT l.tenant_id, l.tbl, l.num, l.granted_at::date, sum((l.last - l.first) / l.step + 1) AS n
              FROM ferry.lease l WHERE l.device_id IS NOT NULL GROUP BY 1, 2, 3, 4) d
        JOIN ferry.tracked_column c ON c.tbl = d.tbl AND c.num = d.num AND c.policy = 'sequence'
        GROUP BY d.tenant_id, d.tbl, d.num, c.policy_options LOOP
        PERFORM set_config('app.tenant_id', x.tenant_id::text, true);
        BEGIN
            EXECUTE format(
                'INSERT INTO ferry.lease (tenant_id, tbl, num, first, last, step, padding, head, tail, until) '
                'SELECT $1, $2, $3, x.first, x.last, x.step, x.padding, x.head, x.tail, x.until FROM %s($1, $4, $5) x', x.asks)
                USING x.tenant_id, x.tbl, x.num, x.code, x.n::int;
            skipped := skipped + x.n;
        EXCEPTION WHEN SQLSTATE 'FE321' THEN -- nothing is left of it, so nothing can be given twice
            NULL;
        END;
    END LOOP;
    PERFORM set_config('app.tenant_id', coalesce(before, ''), true);
    RETURN skipped;
END $$;
COMMENT ON FUNCTION ferry.skip_leases(int) IS 'After a restore: skips numbers that the lost history may have leased; how many';

-- ---------------------------------------------------------------- giving numbers

-- The tenant and the key of a row whose table is known by its number.
CREATE FUNCTION ferry.row_identity(of_tbl int, doc jsonb, OUT tenant uuid, OUT key uuid)
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT (doc ->> t.tenant_col)::uuid, (doc ->> t.key_col)::uuid FROM ferry.tracked t WHERE t.tbl = of_tbl
$$;

CREATE FUNCTION ferry.assign_number() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    c ferry.tracked_column := (SELECT o FROM ferry.tracked_column o WHERE o.tbl = TG_ARGV[0]::int AND o.num = TG_ARGV[1]::int);
    tenant uuid := (ferry.row_identity(c.tbl, to_jsonb(NEW))).tenant;
BEGIN
    RETURN jsonb_populate_record(NEW, jsonb_build_object(c.name, ferry.next_number(tenant, c.policy_options ->> 'sequence')));
END $$;

-- A device's number is one of its own ranges (or of a skipped one), and no other row's. What
-- ordinary SQL writes is its own affair.
CREATE FUNCTION ferry.take_number() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t bigint := ferry.running_tx(pg_current_xact_id());
    c ferry.tracked_column;
    doc jsonb;
    its record;
    device uuid;
    given text;
    holder uuid;
BEGIN
    IF t IS NULL OR t = 0 OR NOT EXISTS (SELECT FROM ferry.declared d WHERE d.tx = t) THEN
        RETURN NEW;
    END IF;
    SELECT * INTO c FROM ferry.tracked_column o WHERE o.tbl = TG_ARGV[0]::int AND o.num = TG_ARGV[1]::int;
    doc := to_jsonb(NEW);
    its := ferry.row_identity(c.tbl, doc);
    given := doc ->> c.name;
    SELECT s.device_id INTO device FROM ferry.declared d JOIN ferry.stamp s ON s.id = d.stamp
    WHERE d.tx = t AND d.tbl = c.tbl AND d.key = its.key AND c.num = ANY (d.nums) ORDER BY d.stamp DESC LIMIT 1;
    IF device IS NULL THEN
        RETURN NEW;
    END IF;
    IF NOT EXISTS (SELECT FROM ferry.lease l WHERE l.tenant_id = its.tenant AND l.tbl = c.tbl AND l.num = c.num
                   AND (l.device_id = device OR l.device_id IS NULL) AND ferry.lease_value(l, given) IS NOT NULL) THEN
        RAISE EXCEPTION '%.%: "%" is none of the numbers that this device may give', TG_TABLE_NAME, c.name, left(given, 60)
            USING ERRCODE = 'FE328', HINT = 'Leave it out, and the hub assigns one.';
    END IF;
    INSERT INTO ferry.lease_use AS u (tenant_id, tbl, num, number, key) VALUES (its.tenant, c.tbl, c.num, given, its.key)
    ON CONFLICT (tenant_id, tbl, num, number) DO UPDATE SET key = u.key RETURNING u.key INTO holder;
    IF holder <> its.key THEN
        RAISE EXCEPTION '%.%: "%" was given before, to the row %', TG_TABLE_NAME, c.name, left(given, 60), holder
            USING ERRCODE = 'FE328', HINT = 'Leave it out, and the hub assigns one.';
    END IF;
    RETURN NEW;
END $$;

-- The triggers of a column, by its policy. They fire by name: what is given is looked at before
-- what is missing is assigned.
CREATE FUNCTION ferry.attach_numbers(tab regclass, c ferry.tracked_column) RETURNS void
    LANGUAGE plpgsql
    SET search_path = pg_catalog, pg_temp
    SET client_min_messages = warning
AS $$
BEGIN
    EXECUTE format('DROP TRIGGER IF EXISTS ferry_number_%s ON %s', c.num, tab);
    EXECUTE format('DROP TRIGGER IF EXISTS ferry_given_%s ON %s', c.num, tab);
    IF c.policy <> 'sequence' THEN
        RETURN;
    END IF;
    EXECUTE format('CREATE TRIGGER ferry_number_%s BEFORE INSERT ON %s FOR EACH ROW WHEN (NEW.%I IS NULL) '
                   'EXECUTE FUNCTION ferry.assign_number(%s, %s)', c.num, tab, c.name, c.tbl, c.num);
    EXECUTE format('CREATE TRIGGER ferry_given_%s BEFORE INSERT ON %s FOR EACH ROW WHEN (NEW.%I IS NOT NULL) '
                   'EXECUTE FUNCTION ferry.take_number(%s, %s)', c.num, tab, c.name, c.tbl, c.num);
    EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER ferry_number_%s, ENABLE ALWAYS TRIGGER ferry_given_%s', tab, c.num, c.num);
END $$;

-- What is wrong with the options; NULL: nothing.
CREATE FUNCTION ferry.sequence_misfit(c ferry.tracked_column, options jsonb) RETURNS text
    LANGUAGE sql IMMUTABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE
        WHEN coalesce(jsonb_typeof(options), '') <> 'object' OR coalesce(jsonb_typeof(options -> 'sequence'), '') <> 'string'
             OR options ->> 'sequence' = ''
            THEN 'its options name the sequence, as {"sequence": "LEAD"}, and {"lease": 50} besides for numbers that devices give'
        WHEN options - 'sequence' - 'lease' <> '{}' THEN 'its options are sequence and lease'
        WHEN options ? 'lease' AND NOT coalesce(jsonb_typeof(options -> 'lease') = 'number' AND options ->> 'lease' ~ '^[0-9]{1,5}$'
             AND (options ->> 'lease')::int BETWEEN 1 AND 10000, false)
            THEN 'a lease is of 1 to 10000 numbers'
    END
$$;

REVOKE EXECUTE ON FUNCTION ferry.answer_numbers(regproc, regproc), ferry.next_number(uuid, text), ferry.lease_text(ferry.lease, bigint),
    ferry.lease_value(ferry.lease, text), ferry.lease_numbers(uuid, uuid, int, int), ferry.skip_leases(int),
    ferry.row_identity(int, jsonb), ferry.assign_number(), ferry.take_number(),
    ferry.attach_numbers(regclass, ferry.tracked_column), ferry.sequence_misfit(ferry.tracked_column, jsonb) FROM PUBLIC;
GRANT SELECT ON ferry.lease TO ferry_hub;
GRANT EXECUTE ON FUNCTION ferry.lease_numbers(uuid, uuid, int, int) TO ferry_hub;
GRANT EXECUTE ON FUNCTION ferry.answer_numbers(regproc, regproc), ferry.attach_numbers(regclass, ferry.tracked_column),
    ferry.assign_number(), ferry.take_number(), ferry.sequence_misfit(ferry.tracked_column, jsonb) TO ferry_owner;

RESET ROLE;
