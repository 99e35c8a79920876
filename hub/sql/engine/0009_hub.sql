-- What the hub process asks at every turn, made cheap.

SET LOCAL ROLE ferry_engine;

-- The verdicts of one transaction: the feed gives them out with its rows.
CREATE INDEX settled_tx_ix ON ferry.settled (tenant_id, tx);

-- Counts the changes of the catalogue: a hub that has read it knows by one number whether
-- what it read still holds. A row and not a sequence, so that it is seen with the change.
CREATE TABLE ferry.generation (
    one bool PRIMARY KEY DEFAULT true CHECK (one),
    n   bigint NOT NULL DEFAULT 1,
    refill bigint NOT NULL DEFAULT 0
);
INSERT INTO ferry.generation DEFAULT VALUES;
COMMENT ON TABLE ferry.generation IS 'Moves with every change of the catalogue';
COMMENT ON COLUMN ferry.generation.refill IS 'Replicas with a schema from before this generation are filled anew';
GRANT SELECT ON ferry.generation TO ferry_hub;

CREATE FUNCTION ferry.next_generation() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    UPDATE ferry.generation SET n = n + 1;
    RETURN NULL;
END $$;

CREATE TRIGGER generation AFTER INSERT OR UPDATE OR DELETE ON ferry.tracked
    FOR EACH STATEMENT EXECUTE FUNCTION ferry.next_generation();
CREATE TRIGGER generation AFTER INSERT OR UPDATE OR DELETE ON ferry.tracked_column
    FOR EACH STATEMENT EXECUTE FUNCTION ferry.next_generation();
CREATE TRIGGER generation AFTER INSERT OR UPDATE OR DELETE ON ferry.scope_hop
    FOR EACH STATEMENT EXECUTE FUNCTION ferry.next_generation();

RESET ROLE;
