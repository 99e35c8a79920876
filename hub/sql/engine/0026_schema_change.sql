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

RESET ROLE;
