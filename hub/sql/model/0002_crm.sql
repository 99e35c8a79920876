-- Companies, contacts, leads, deals, activities.

CREATE SCHEMA crm AUTHORIZATION ferry_owner;
SET LOCAL ROLE ferry_owner;
COMMENT ON SCHEMA crm IS 'Whom a tenant sells to, and how that goes';

CREATE TABLE crm.companies (
    tenant_id     uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id            uuid NOT NULL DEFAULT gen_random_uuid(),
    name          text NOT NULL,
    industry_code text,
    city          text,
    country       text,
    website       text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);
CREATE INDEX companies_tenant_name_ix ON crm.companies (tenant_id, name);
COMMENT ON TABLE crm.companies IS 'Organisations that contacts work for';

CREATE TABLE crm.contacts (
    tenant_id       uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id              uuid NOT NULL DEFAULT gen_random_uuid(),
    company_id      uuid,
    full_name       text NOT NULL,
    email           citext,
    phone_e164      text,
    role_title_code text,
    tags            text[] DEFAULT '{}',
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, company_id) REFERENCES crm.companies ON DELETE SET NULL (company_id)
);
CREATE UNIQUE INDEX contacts_email_per_tenant_uq ON crm.contacts (tenant_id, email) WHERE email IS NOT NULL;
CREATE INDEX contacts_phone_ix ON crm.contacts (tenant_id, phone_e164);
COMMENT ON TABLE crm.contacts IS 'People a tenant knows';
COMMENT ON COLUMN crm.contacts.email IS 'Unique within the tenant, whatever its case';

CREATE TABLE crm.leads (
    tenant_id   uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id          uuid NOT NULL DEFAULT gen_random_uuid(),
    contact_id  uuid,
    company_id  uuid,
    source_code text,
    status_code text NOT NULL DEFAULT 'new',
    score       int,
    attributes  jsonb,
    assigned_to uuid,
    tags        text[] DEFAULT '{}',
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, contact_id) REFERENCES crm.contacts ON DELETE SET NULL (contact_id),
    FOREIGN KEY (tenant_id, company_id) REFERENCES crm.companies ON DELETE SET NULL (company_id),
    FOREIGN KEY (tenant_id, assigned_to) REFERENCES identity.users ON DELETE SET NULL (assigned_to)
);
CREATE INDEX leads_status_time_ix ON crm.leads (tenant_id, status_code, created_at DESC);
CREATE INDEX leads_assignee_ix ON crm.leads (tenant_id, assigned_to);
COMMENT ON TABLE crm.leads IS 'Interest that may become a deal';
COMMENT ON COLUMN crm.leads.assigned_to IS 'The user who follows it up';
COMMENT ON COLUMN crm.leads.attributes IS 'What the source of the lead gave besides';

CREATE TABLE crm.deal_pipelines (
    tenant_id uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id        uuid NOT NULL DEFAULT gen_random_uuid(),
    name      text NOT NULL,
    PRIMARY KEY (tenant_id, id)
);
COMMENT ON TABLE crm.deal_pipelines IS 'Ways a deal can go';

CREATE TABLE crm.deal_stages (
    tenant_id   uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id          uuid NOT NULL DEFAULT gen_random_uuid(),
    pipeline_id uuid NOT NULL,
    code        text NOT NULL,
    order_index int NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, pipeline_id) REFERENCES crm.deal_pipelines ON DELETE CASCADE
);
CREATE UNIQUE INDEX stage_code_uq ON crm.deal_stages (tenant_id, pipeline_id, code);
COMMENT ON TABLE crm.deal_stages IS 'Steps of a pipeline, by order_index';

CREATE TABLE crm.deals (
    tenant_id         uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                uuid NOT NULL DEFAULT gen_random_uuid(),
    pipeline_id       uuid NOT NULL,
    stage_id          uuid NOT NULL,
    contact_id        uuid,
    company_id        uuid,
    name              text NOT NULL,
    amount_minor      bigint,
    currency          char(3),
    status            text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'won', 'lost')),
    expected_close_at date,
    tags              text[] DEFAULT '{}',
    created_at        timestamptz NOT NULL DEFAULT now(),
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, pipeline_id) REFERENCES crm.deal_pipelines ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, stage_id) REFERENCES crm.deal_stages,
    FOREIGN KEY (tenant_id, contact_id) REFERENCES crm.contacts ON DELETE SET NULL (contact_id),
    FOREIGN KEY (tenant_id, company_id) REFERENCES crm.companies ON DELETE SET NULL (company_id)
);
CREATE INDEX deals_stage_time_ix ON crm.deals (tenant_id, pipeline_id, stage_id, updated_at DESC);
COMMENT ON TABLE crm.deals IS 'Sales under way and done';
COMMENT ON COLUMN crm.deals.amount_minor IS 'In the minor unit of the currency (cents, piastres)';

CREATE TABLE crm.activities (
    tenant_id     uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id            uuid NOT NULL DEFAULT gen_random_uuid(),
    type_code     text NOT NULL CHECK (type_code IN ('call', 'email', 'meeting', 'task')),
    contact_id    uuid,
    company_id    uuid,
    deal_id       uuid,
    owner_user_id uuid,
    subject       text,
    description   text,
    due_at        timestamptz,
    status        text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'done', 'cancelled')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, contact_id) REFERENCES crm.contacts ON DELETE SET NULL (contact_id),
    FOREIGN KEY (tenant_id, company_id) REFERENCES crm.companies ON DELETE SET NULL (company_id),
    FOREIGN KEY (tenant_id, deal_id) REFERENCES crm.deals ON DELETE SET NULL (deal_id),
    FOREIGN KEY (tenant_id, owner_user_id) REFERENCES identity.users ON DELETE SET NULL (owner_user_id)
);
CREATE INDEX activities_owner_due_ix ON crm.activities (tenant_id, owner_user_id, due_at);
COMMENT ON TABLE crm.activities IS 'What users did or have to do';

SELECT identity.open_schema('crm');
SELECT identity.keep_updated_at('crm.companies', 'crm.contacts', 'crm.leads', 'crm.deals', 'crm.activities');

RESET ROLE;
