-- A deal moves to another stage once somebody has approved it; and what devices ask for (the
-- policy "approval") stands among the tenant's approvals, too. Either may be decided: the other
-- follows.

SET LOCAL ROLE ferry_owner;

SELECT ferry.policy('crm.deals', 'stage_id', 'approval', '{"permission": "approvals.stage_moves"}');

-- What an approval calls the row that it is about.
CREATE FUNCTION approvals.subject_entity(of_tbl int) RETURNS text
    LANGUAGE sql STABLE
    SET search_path = pg_catalog, pg_temp
AS $$
    SELECT CASE t.relid WHEN 'crm.deals'::regclass THEN 'deal' WHEN 'inventory.units'::regclass THEN 'unit'
                        WHEN 'contracts.contracts'::regclass THEN 'contract' END
    FROM ferry.tracked t WHERE t.tbl = of_tbl
$$;

-- A request becomes an approval of the same key, and takes it along when it is decided.
CREATE FUNCTION approvals.note_request() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    entity text := approvals.subject_entity(NEW.tbl);
    outside text := coalesce(current_setting('app.user_id', true), '');
    outside_tenant text := coalesce(current_setting('app.tenant_id', true), '');
BEGIN
    PERFORM set_config('app.tenant_id', NEW.tenant_id::text, true); -- the owner, too, is held to one tenant
    IF TG_OP = 'INSERT' AND entity IS NOT NULL AND NEW.requested_by IS NOT NULL THEN
        INSERT INTO approvals.approvals (tenant_id, id, domain, subject_entity, subject_id, payload, requested_by)
        VALUES (NEW.tenant_id, NEW.id, entity || '.' || NEW.subject_column, entity, NEW.subject_id,
                jsonb_build_object('column', NEW.subject_column, 'old', NEW.old_value, 'new', NEW.new_value), NEW.requested_by);
    ELSIF TG_OP = 'UPDATE' AND entity IS NOT NULL THEN
        PERFORM set_config('app.user_id', coalesce(NEW.decided_by::text, outside), true);
        IF NEW.status = 'approved' THEN
            UPDATE approvals.approvals a SET state = 'approved', level = a.required_levels
            WHERE a.tenant_id = NEW.tenant_id AND a.id = NEW.id AND a.state = 'pending' AND a.level = a.required_levels;
            UPDATE approvals.approvals a SET state = 'applied'
            WHERE a.tenant_id = NEW.tenant_id AND a.id = NEW.id AND a.state = 'approved';
        ELSIF NEW.status = 'refused' THEN
            UPDATE approvals.approvals a SET state = 'rejected'
            WHERE a.tenant_id = NEW.tenant_id AND a.id = NEW.id AND a.state = 'pending';
        ELSE
            UPDATE approvals.approvals a SET state = 'cancelled'
            WHERE a.tenant_id = NEW.tenant_id AND a.id = NEW.id AND a.state IN ('pending', 'approved');
        END IF;
        PERFORM set_config('app.user_id', outside, true);
    END IF;
    PERFORM set_config('app.tenant_id', outside_tenant, true);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION approvals.note_request() IS 'Trigger: a request of a device is an approval of the tenant, too';

-- An approval that was decided decides its request. What applies it also tells the approval.
CREATE FUNCTION approvals.decide_request() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    by_user uuid := identity.author_of(TG_RELID, NEW.tenant_id, NEW.id);
    outside text := coalesce(current_setting('app.user_id', true), '');
    outside_tenant text := coalesce(current_setting('app.tenant_id', true), '');
BEGIN
    PERFORM set_config('app.tenant_id', NEW.tenant_id::text, true); -- the owner, too, is held to one tenant
    IF NOT EXISTS (SELECT FROM ferry.approval r WHERE r.tenant_id = NEW.tenant_id AND r.id = NEW.id AND r.status = 'pending') THEN
        PERFORM set_config('app.tenant_id', outside_tenant, true);
        RETURN NULL;
    ELSIF NEW.state = 'approved' AND by_user = NEW.requested_by THEN
        RAISE EXCEPTION 'nobody approves what he asked for himself' USING ERRCODE = 'FE314';
    END IF;
    PERFORM set_config('app.user_id', coalesce(by_user::text, outside), true);
    UPDATE ferry.approval r SET status = CASE NEW.state WHEN 'approved' THEN 'approved' WHEN 'rejected' THEN 'refused' ELSE 'withdrawn' END
    WHERE r.tenant_id = NEW.tenant_id AND r.id = NEW.id AND r.status = 'pending';
    PERFORM set_config('app.user_id', outside, true), set_config('app.tenant_id', outside_tenant, true);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION approvals.decide_request() IS 'Trigger: a decided approval decides the request that it stands for';
REVOKE EXECUTE ON FUNCTION approvals.note_request(), approvals.decide_request() FROM PUBLIC;

CREATE TRIGGER request AFTER UPDATE OF state ON approvals.approvals FOR EACH ROW
    WHEN (OLD.state = 'pending' AND NEW.state IN ('approved', 'rejected', 'cancelled'))
    EXECUTE FUNCTION approvals.decide_request();

-- Each set of schemas has its own, on the one table of requests.
DO $$
BEGIN
    EXECUTE format('CREATE TRIGGER %I AFTER INSERT OR UPDATE OF status ON ferry.approval FOR EACH ROW EXECUTE FUNCTION approvals.note_request()',
                   'approvals_' || 'approvals'::regnamespace::oid);
END $$;

GRANT SELECT, UPDATE (status, note) ON ferry.approval TO ferry_app;

-- A deleted tenant takes along what was kept of its rows.
CREATE FUNCTION approvals.forget_requests() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
    PERFORM ferry.forget_kept(OLD.id);
    RETURN NULL;
END $$;
COMMENT ON FUNCTION approvals.forget_requests() IS 'Trigger: requests and kept rows of a deleted tenant go at the end of its transaction';
REVOKE EXECUTE ON FUNCTION approvals.forget_requests() FROM PUBLIC;
CREATE CONSTRAINT TRIGGER forget_requests AFTER DELETE ON identity.tenants DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION approvals.forget_requests();

RESET ROLE;
