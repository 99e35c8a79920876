-- Schema changes: what replicas cannot take in place, and what became of columns.

SET LOCAL ROLE ferry_engine;

-- Every replica is filled anew at its next contact: for changes that the engine cannot see.
CREATE FUNCTION ferry.refill_replicas() RETURNS void
    LANGUAGE sql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
    UPDATE ferry.generation SET n = n + 1, refill = n + 1
$$;
COMMENT ON FUNCTION ferry.refill_replicas() IS 'All replicas are filled anew at their next contact, with unsent edits kept';
REVOKE EXECUTE ON FUNCTION ferry.refill_replicas() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.refill_replicas() TO ferry_owner;

-- Devices may know a column for long after it went, or had another type. Numbers are never
-- used twice, so one row a change tells what a number in a late change-set means.
CREATE TABLE ferry.past_column (
    tbl       int NOT NULL REFERENCES ferry.tracked ON DELETE CASCADE,
    num       int NOT NULL,
    n         bigint NOT NULL,
    name      text NOT NULL,
    kind      text,
    to_num    int,
    discarded bool NOT NULL DEFAULT false,
    at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tbl, num, n)
);
COMMENT ON TABLE ferry.past_column IS 'What became of columns that late devices may still know';
COMMENT ON COLUMN ferry.past_column.n IS 'The generation that the change came with; 0: declared by ferry.renamed or ferry.discard';
COMMENT ON COLUMN ferry.past_column.kind IS 'The kind of its values before, where that changed';
COMMENT ON COLUMN ferry.past_column.to_num IS 'The column that took its place';
GRANT SELECT ON ferry.past_column TO ferry_hub;

CREATE TRIGGER generation AFTER INSERT OR UPDATE OR DELETE ON ferry.past_column
    FOR EACH STATEMENT EXECUTE FUNCTION ferry.next_generation();

-- Called when a table's columns have been read again.
CREATE FUNCTION ferry.note_past(of_tbl int, was ferry.tracked_column[]) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$
    INSERT INTO ferry.past_column (tbl, num, n, name, kind)
    SELECT of_tbl, o.num, g.n, o.name, CASE WHEN c.num IS NOT NULL THEN o.kind END
    FROM unnest(was) o CROSS JOIN ferry.generation g
    LEFT JOIN ferry.tracked_column c ON c.tbl = of_tbl AND c.num = o.num
    WHERE (c.num IS NULL OR c.kind <> o.kind)
    ON CONFLICT (tbl, num, n) DO NOTHING
$$;

-- The number of a column that is there, or of the latest one of that name that was.
CREATE FUNCTION ferry.past_number(of_tbl int, col text) RETURNS int
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT coalesce((SELECT c.num FROM ferry.tracked_column c WHERE c.tbl = of_tbl AND c.name = col),
                    (SELECT p.num FROM ferry.past_column p WHERE p.tbl = of_tbl AND p.name = col AND p.n > 0 AND p.kind IS NULL
                     ORDER BY p.n DESC LIMIT 1))
$$;

CREATE FUNCTION ferry.declare_past(tab regclass, was text, now text) RETURNS void
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    t ferry.tracked := ferry.need_tracked(tab);
    from_num int := ferry.past_number(t.tbl, was);
    to_num int;
BEGIN
    IF from_num IS NULL THEN
        RAISE EXCEPTION '% never had a synced column %', tab, was USING ERRCODE = 'undefined_column';
    END IF;
    IF now IS NOT NULL THEN
        SELECT c.num INTO to_num FROM ferry.tracked_column c WHERE c.tbl = t.tbl AND c.name = now AND c.num <> from_num;
        IF to_num IS NULL THEN
            RAISE EXCEPTION '% has no other synced column %', tab, now USING ERRCODE = 'undefined_column';
        END IF;
    END IF;
    INSERT INTO ferry.past_column AS p (tbl, num, n, name, to_num, discarded)
    VALUES (t.tbl, from_num, 0, was, to_num, now IS NULL)
    ON CONFLICT (tbl, num, n) DO UPDATE SET to_num = excluded.to_num, discarded = excluded.discarded, name = excluded.name;
END $$;

-- For a column that was replaced by another one instead of ALTER TABLE ... RENAME COLUMN,
-- which needs no word.
CREATE FUNCTION ferry.renamed(tab regclass, was text, now text) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$ SELECT ferry.declare_past(tab, was, now) $$;
COMMENT ON FUNCTION ferry.renamed(regclass, text, text) IS
    'Declares that a column took the place of one that is or will be dropped: late edits of devices go there';

CREATE FUNCTION ferry.discard(tab regclass, was text) RETURNS void
    LANGUAGE sql
    SET search_path = pg_catalog, pg_temp
AS $$ SELECT ferry.declare_past(tab, was, NULL) $$;
COMMENT ON FUNCTION ferry.discard(regclass, text) IS
    'Declares that nobody wants the values of a column that is or will be dropped: late edits of devices lose them, and are not refused';

REVOKE EXECUTE ON FUNCTION ferry.declare_past(regclass, text, text), ferry.renamed(regclass, text, text),
    ferry.discard(regclass, text), ferry.note_past(int, ferry.tracked_column[]) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION ferry.declare_past(regclass, text, text), ferry.renamed(regclass, text, text),
    ferry.discard(regclass, text) TO ferry_owner;

RESET ROLE;
