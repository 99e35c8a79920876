-- Engagements, contracts, media; invoices and payments; soft delete where the source states it.
--
-- Leads, invoices and their lines are one table with what was there: they get the columns
-- that this source adds. A "Project" of this source is an engagement: work for a client,
-- with people assigned and hours booked.

CREATE SCHEMA engagement AUTHORIZATION ferry_owner;
CREATE SCHEMA contracts AUTHORIZATION ferry_owner;
CREATE SCHEMA media AUTHORIZATION ferry_owner;
SET LOCAL ROLE ferry_owner;
COMMENT ON SCHEMA engagement IS 'Work for clients: engagements, people, hours, services';
COMMENT ON SCHEMA contracts IS 'Agreements, with every version they had';
COMMENT ON SCHEMA media IS 'Files that are shown to people';

CREATE TABLE engagement.environments (
    tenant_id  uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id         uuid NOT NULL DEFAULT identity.uuid7(),
    name       text NOT NULL,
    kind       text NOT NULL DEFAULT 'production' CHECK (kind IN ('development', 'test', 'staging', 'production')),
    url        text,
    region     text,
    status     text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'maintenance', 'retired')),
    metadata   jsonb,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, name)
);
COMMENT ON TABLE engagement.environments IS 'Where a tenant''s systems run';

CREATE TABLE engagement.engagements (
    tenant_id            uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                   uuid NOT NULL DEFAULT identity.uuid7(),
    customer_id          uuid,
    document_group_id    uuid,
    terms_template_id    uuid,
    contract_template_id uuid,
    code                 citext,
    name                 text NOT NULL,
    description          text,
    status               text NOT NULL DEFAULT 'planned' CHECK (status IN ('planned', 'active', 'on_hold', 'completed', 'cancelled')),
    starts_on            date,
    ends_on              date,
    budget_minor         bigint,
    currency             char(3),
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    deleted_at           timestamptz,
    deleted_by           uuid,
    delete_reason        text,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES commerce.customers ON DELETE SET NULL (customer_id),
    FOREIGN KEY (tenant_id, document_group_id) REFERENCES documents.document_groups ON DELETE SET NULL (document_group_id),
    FOREIGN KEY (tenant_id, terms_template_id) REFERENCES documents.terms_templates ON DELETE SET NULL (terms_template_id),
    FOREIGN KEY (tenant_id, contract_template_id) REFERENCES documents.contract_templates ON DELETE SET NULL (contract_template_id),
    CHECK (ends_on >= starts_on)
);
CREATE UNIQUE INDEX engagements_code_uq ON engagement.engagements (tenant_id, code) WHERE code IS NOT NULL;
CREATE INDEX engagements_live_ix ON engagement.engagements (tenant_id, status, name) WHERE deleted_at IS NULL;
COMMENT ON TABLE engagement.engagements IS 'Projects in the sense of work agreed with a client';
COMMENT ON COLUMN engagement.engagements.deleted_at IS 'Set: archived, not shown unless asked for';
COMMENT ON COLUMN engagement.engagements.deleted_by IS 'The user; no reference: the note outlives the user';

CREATE TABLE engagement.assignments (
    tenant_id          uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                 uuid NOT NULL DEFAULT identity.uuid7(),
    engagement_id      uuid NOT NULL,
    user_id            uuid NOT NULL,
    role               text NOT NULL DEFAULT 'member',
    allocation_percent int NOT NULL DEFAULT 100 CHECK (allocation_percent BETWEEN 1 AND 100),
    starts_on          date,
    ends_on            date,
    created_at         timestamptz NOT NULL DEFAULT now(),
    updated_at         timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, engagement_id, user_id, role),
    FOREIGN KEY (tenant_id, engagement_id) REFERENCES engagement.engagements ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users ON DELETE CASCADE,
    CHECK (ends_on >= starts_on)
);
CREATE INDEX assignments_user_ix ON engagement.assignments (tenant_id, user_id);
COMMENT ON TABLE engagement.assignments IS 'Who works on what, and how much';

CREATE TABLE engagement.time_entries (
    tenant_id     uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id            uuid NOT NULL DEFAULT identity.uuid7(),
    engagement_id uuid NOT NULL,
    user_id       uuid NOT NULL,
    worked_on     date NOT NULL,
    minutes       int NOT NULL CHECK (minutes BETWEEN 1 AND 1440),
    note          text,
    is_billable   boolean NOT NULL DEFAULT true,
    status        text NOT NULL DEFAULT 'draft' CHECK (status IN ('draft', 'submitted', 'approved', 'rejected', 'invoiced')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, engagement_id) REFERENCES engagement.engagements ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users
);
CREATE INDEX time_entries_user_day_ix ON engagement.time_entries (tenant_id, user_id, worked_on);
CREATE INDEX time_entries_engagement_day_ix ON engagement.time_entries (tenant_id, engagement_id, worked_on);
COMMENT ON TABLE engagement.time_entries IS 'Minutes worked, by person, engagement and day';

CREATE TABLE engagement.services (
    tenant_id     uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id            uuid NOT NULL DEFAULT identity.uuid7(),
    code          citext NOT NULL,
    name          text NOT NULL,
    description   text,
    unit          text NOT NULL DEFAULT 'hour' CHECK (unit IN ('hour', 'day', 'month', 'piece', 'fixed')),
    price_minor   bigint CHECK (price_minor >= 0),
    currency      char(3),
    is_active     boolean NOT NULL DEFAULT true,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    deleted_at    timestamptz,
    deleted_by    uuid,
    delete_reason text,
    PRIMARY KEY (tenant_id, id)
);
CREATE UNIQUE INDEX services_code_uq ON engagement.services (tenant_id, code) WHERE deleted_at IS NULL;
COMMENT ON TABLE engagement.services IS 'What a tenant offers, with its price';
COMMENT ON COLUMN engagement.services.deleted_at IS 'Set: archived, not shown unless asked for';

-- ---------------------------------------------------------------- contracts

CREATE TABLE contracts.contracts (
    tenant_id             uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id                    uuid NOT NULL DEFAULT identity.uuid7(),
    engagement_id         uuid,
    customer_id           uuid,
    contract_template_id  uuid,
    number                text,
    title                 text NOT NULL,
    body                  text,
    terms                 jsonb,
    status                text NOT NULL DEFAULT 'draft'
                          CHECK (status IN ('draft', 'in_review', 'sent', 'active', 'expired', 'terminated')),
    signature_status      text NOT NULL DEFAULT 'none'
                          CHECK (signature_status IN ('none', 'requested', 'viewed', 'signed', 'declined', 'voided', 'expired')),
    signature_provider    text,
    signature_envelope_id text,
    signed_at             timestamptz,
    value_minor           bigint,
    currency              char(3),
    starts_on             date,
    ends_on               date,
    version               int NOT NULL DEFAULT 1,
    created_at            timestamptz NOT NULL DEFAULT now(),
    updated_at            timestamptz NOT NULL DEFAULT now(),
    deleted_at            timestamptz,
    deleted_by            uuid,
    delete_reason         text,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, engagement_id) REFERENCES engagement.engagements ON DELETE SET NULL (engagement_id),
    FOREIGN KEY (tenant_id, customer_id) REFERENCES commerce.customers ON DELETE SET NULL (customer_id),
    FOREIGN KEY (tenant_id, contract_template_id) REFERENCES documents.contract_templates ON DELETE SET NULL (contract_template_id),
    CHECK (ends_on >= starts_on),
    CHECK (signature_provider IS NULL OR signature_status = 'none' OR signature_envelope_id IS NOT NULL)
);
CREATE UNIQUE INDEX contracts_number_uq ON contracts.contracts (tenant_id, number) WHERE number IS NOT NULL;
CREATE UNIQUE INDEX contracts_envelope_uq ON contracts.contracts (tenant_id, signature_provider, signature_envelope_id)
    WHERE signature_envelope_id IS NOT NULL;
CREATE INDEX contracts_live_ix ON contracts.contracts (tenant_id, status, ends_on) WHERE deleted_at IS NULL;
CREATE INDEX contracts_engagement_ix ON contracts.contracts (tenant_id, engagement_id);
COMMENT ON TABLE contracts.contracts IS 'Agreements as they stand; each change is a row of contract_versions';
COMMENT ON COLUMN contracts.contracts.signature_envelope_id IS 'The key that the signature provider has for it';
COMMENT ON COLUMN contracts.contracts.version IS 'Counted by a trigger; nobody sets it';
COMMENT ON COLUMN contracts.contracts.deleted_at IS 'Set: archived, not shown unless asked for';

CREATE TABLE contracts.contract_versions (
    tenant_id      uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id             uuid NOT NULL DEFAULT identity.uuid7(),
    contract_id    uuid NOT NULL,
    version        int NOT NULL CHECK (version > 0),
    content        jsonb NOT NULL,
    content_hash   bytea NOT NULL,
    changed_fields text[] NOT NULL DEFAULT '{}',
    changed_by     uuid,
    created_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, contract_id, version),
    FOREIGN KEY (tenant_id, contract_id) REFERENCES contracts.contracts ON DELETE CASCADE
);
COMMENT ON TABLE contracts.contract_versions IS 'A contract as it was; written by a trigger at each change, never changed';
COMMENT ON COLUMN contracts.contract_versions.content IS 'The whole row of the contract';
COMMENT ON COLUMN contracts.contract_versions.content_hash IS 'SHA-256 of the text of content';
COMMENT ON COLUMN contracts.contract_versions.changed_by IS 'The setting app.user_id of the session, where it has one';

-- ---------------------------------------------------------------- media

CREATE TYPE media.visibility AS ENUM ('public', 'portal', 'private');
COMMENT ON TYPE media.visibility IS 'Who sees a file: everybody, clients who log in, the tenant''s own people';

CREATE TABLE media.media_assets (
    tenant_id     uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id            uuid NOT NULL DEFAULT identity.uuid7(),
    engagement_id uuid,
    unit_id       uuid,
    name          text NOT NULL,
    media_type    text NOT NULL,
    size_bytes    bigint CHECK (size_bytes >= 0),
    sha256        bytea CHECK (octet_length(sha256) = 32),
    storage_key   text,
    alt_text      text,
    visibility    media.visibility NOT NULL DEFAULT 'private',
    uploaded_by   uuid,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, engagement_id) REFERENCES engagement.engagements ON DELETE SET NULL (engagement_id),
    FOREIGN KEY (tenant_id, unit_id) REFERENCES inventory.units ON DELETE SET NULL (unit_id),
    FOREIGN KEY (tenant_id, uploaded_by) REFERENCES identity.users ON DELETE SET NULL (uploaded_by)
);
CREATE INDEX media_assets_visibility_ix ON media.media_assets (tenant_id, visibility, created_at DESC);
CREATE INDEX media_assets_sha256_ix ON media.media_assets (tenant_id, sha256);
CREATE INDEX media_assets_unit_ix ON media.media_assets (tenant_id, unit_id);
COMMENT ON TABLE media.media_assets IS 'Pictures, plans and documents, by the hash of their content';
COMMENT ON COLUMN media.media_assets.storage_key IS 'Where the bytes are, in the store of files';

-- ---------------------------------------------------------------- leads, invoices, payments

ALTER TABLE crm.leads
    ADD COLUMN deleted_at    timestamptz,
    ADD COLUMN deleted_by    uuid,
    ADD COLUMN delete_reason text;
COMMENT ON COLUMN crm.leads.deleted_at IS 'Set: archived, not shown unless asked for';
COMMENT ON COLUMN crm.leads.deleted_by IS 'The user; no reference: the note outlives the user';

-- As the superuser: row-level security would hide from the check what it has to check.
RESET ROLE;
ALTER TABLE billing.invoices
    ADD COLUMN number        text,
    ADD COLUMN customer_id   uuid,
    ADD COLUMN user_id       uuid,
    ADD COLUMN engagement_id uuid,
    ADD COLUMN document_group_id uuid,
    ADD COLUMN provider      text,
    ADD COLUMN issued_at     timestamptz,
    ADD COLUMN due_at        timestamptz,
    ADD COLUMN paid_at       timestamptz,
    ADD COLUMN updated_at    timestamptz NOT NULL DEFAULT now(),
    ADD COLUMN deleted_at    timestamptz,
    ADD COLUMN deleted_by    uuid,
    ADD COLUMN delete_reason text,
    ADD FOREIGN KEY (tenant_id, customer_id) REFERENCES commerce.customers ON DELETE SET NULL (customer_id),
    ADD FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users ON DELETE SET NULL (user_id),
    ADD FOREIGN KEY (tenant_id, engagement_id) REFERENCES engagement.engagements ON DELETE SET NULL (engagement_id),
    ADD FOREIGN KEY (tenant_id, document_group_id) REFERENCES documents.document_groups ON DELETE SET NULL (document_group_id);
SET LOCAL ROLE ferry_owner;
CREATE UNIQUE INDEX invoices_number_uq ON billing.invoices (tenant_id, number) WHERE number IS NOT NULL;
CREATE UNIQUE INDEX invoices_external_uq ON billing.invoices (tenant_id, provider, provider_invoice_id)
    WHERE provider IS NOT NULL AND provider_invoice_id IS NOT NULL;
CREATE INDEX invoices_customer_ix ON billing.invoices (tenant_id, customer_id, created_at DESC);
CREATE INDEX invoices_live_ix ON billing.invoices (tenant_id, status, created_at DESC) WHERE deleted_at IS NULL;
COMMENT ON COLUMN billing.invoices.number IS 'For people, from the tenant''s number sequence of invoices';
COMMENT ON COLUMN billing.invoices.provider_invoice_id IS 'The key that provider has for it';
COMMENT ON COLUMN billing.invoices.deleted_at IS 'Set: archived, not shown unless asked for';
COMMENT ON COLUMN billing.invoices.deleted_by IS 'The user; no reference: the note outlives the user';

-- As the superuser: row-level security would hide from the check what it has to check.
RESET ROLE;
ALTER TABLE billing.invoice_lines
    ADD COLUMN service_id uuid,
    ADD COLUMN position   int NOT NULL DEFAULT 1,
    ADD FOREIGN KEY (tenant_id, service_id) REFERENCES engagement.services ON DELETE SET NULL (service_id);
SET LOCAL ROLE ferry_owner;
CREATE INDEX invoice_lines_invoice_ix ON billing.invoice_lines (tenant_id, invoice_id, position);

CREATE TABLE billing.payments (
    tenant_id      uuid NOT NULL REFERENCES identity.tenants ON DELETE CASCADE,
    id             uuid NOT NULL DEFAULT identity.uuid7(),
    invoice_id     uuid,
    customer_id    uuid,
    user_id        uuid,
    provider       text NOT NULL,
    external_id    text,
    status         text NOT NULL DEFAULT 'pending'
                   CHECK (status IN ('pending', 'authorized', 'captured', 'failed', 'cancelled', 'refunded')),
    amount_minor   bigint NOT NULL CHECK (amount_minor >= 0),
    currency       char(3) NOT NULL,
    method_details jsonb,
    metadata       jsonb,
    created_at     timestamptz NOT NULL DEFAULT now(),
    captured_at    timestamptz,
    refunded_at    timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, invoice_id) REFERENCES billing.invoices,
    FOREIGN KEY (tenant_id, customer_id) REFERENCES commerce.customers ON DELETE SET NULL (customer_id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES identity.users ON DELETE SET NULL (user_id),
    CHECK (status <> 'captured' OR captured_at IS NOT NULL),
    CHECK (status <> 'refunded' OR refunded_at IS NOT NULL)
);
CREATE UNIQUE INDEX payments_external_uq ON billing.payments (tenant_id, provider, external_id) WHERE external_id IS NOT NULL;
CREATE INDEX payments_invoice_ix ON billing.payments (tenant_id, invoice_id);
CREATE INDEX payments_customer_ix ON billing.payments (tenant_id, customer_id, created_at DESC);
COMMENT ON TABLE billing.payments IS 'Money received; amounts in the minor unit of the currency';
COMMENT ON COLUMN billing.payments.external_id IS 'The key that provider has for it';
COMMENT ON COLUMN billing.payments.method_details IS 'What may be shown of the means of payment, never its number';

SELECT identity.open_schema('engagement');
SELECT identity.open_schema('contracts');
SELECT identity.open_schema('media');
SELECT identity.open_tables('billing.payments');
SELECT identity.keep_updated_at('engagement.environments', 'engagement.engagements', 'engagement.assignments',
                                'engagement.time_entries', 'engagement.services', 'contracts.contracts', 'media.media_assets',
                                'billing.invoices');

RESET ROLE;
