-- Tables of the store's own tests: every kind of column, a trigger that changes what was
-- written, a unique code, a foreign key checked at the commit, scopes by column and by path.
CREATE SCHEMA t AUTHORIZATION ferry_owner;
CREATE EXTENSION IF NOT EXISTS citext;
SET ROLE ferry_owner;

CREATE TABLE t.unit (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    code text NOT NULL,
    title text,
    price bigint,
    area numeric(10,2),
    status text NOT NULL DEFAULT 'free' CHECK (status IN ('free', 'reserved', 'sold')),
    attrs jsonb,
    shouted text,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT unit_code_uq UNIQUE (tenant_id, code),
    CONSTRAINT unit_price_ck CHECK (price >= 0)
);
CREATE FUNCTION t.shout() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.shouted := upper(NEW.title);
    IF NEW.title = 'tidy me' THEN NEW.title := 'Tidy Me'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER shout BEFORE INSERT OR UPDATE ON t.unit FOR EACH ROW EXECUTE FUNCTION t.shout();

CREATE TABLE t.note (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    unit_id uuid,
    body text,
    PRIMARY KEY (tenant_id, id),
    CONSTRAINT note_unit_fk FOREIGN KEY (tenant_id, unit_id) REFERENCES t.unit DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE t.room (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    project_id uuid,
    name text,
    PRIMARY KEY (tenant_id, id)
);
CREATE TABLE t.scan (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    room_id uuid,
    name text,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, room_id) REFERENCES t.room
);

CREATE TYPE t.colour AS ENUM ('red', 'green');
CREATE TABLE t.kinds (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    b bool, i2 smallint, i4 int, i8 bigint, f4 real, f8 double precision,
    t text, v varchar(20), c char(5), u uuid, y bytea,
    ts timestamptz, ts0 timestamptz(0), d date, n numeric, n2 numeric(12,2), js json, jb jsonb,
    ta text[], ia int[], ci citext, e t.colour, ip inet, iv interval,
    PRIMARY KEY (tenant_id, id)
);
CREATE TABLE t.country (
    tenant_id uuid NOT NULL,
    id uuid NOT NULL,
    name text,
    PRIMARY KEY (tenant_id, id)
);
RESET ROLE;
SET ROLE ferry_owner;
SELECT ferry.isolate('t.unit'), ferry.isolate('t.note'), ferry.isolate('t.room'), ferry.isolate('t.scan'),
       ferry.isolate('t.kinds'), ferry.isolate('t.country', true);
SELECT ferry.track('t.unit'), ferry.track('t.note'), ferry.track('t.room', 'project:project_id'),
       ferry.track('t.scan', 'project:room_id.project_id'), ferry.track('t.kinds'),
       ferry.track('t.country', 'global', false);
RESET ROLE;
