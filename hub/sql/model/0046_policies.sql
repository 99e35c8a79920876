-- How concurrent edits of the model's columns merge, where the later one that stands (lww) is
-- not what people mean. docs/merge.md says what each policy does, docs/model.md why here.
--
-- Left as they are on purpose: names, amounts and dates (a person means the whole value), and
-- the status of units, whose transitions are each operator's own:
--   SELECT ferry.policy('inventory.units', 'status', 'guard', '{"available": ["reserved"], ...}');

SET LOCAL ROLE ferry_owner;

-- Lists that several people add to.
SELECT ferry.policy(t, 'tags', 'set') FROM unnest('{crm.contacts,crm.leads,crm.deals}'::regclass[]) t;

-- A person who is known already is the same person.
SELECT ferry.allow_merge('crm.contacts');

-- Documents whose keys are edited one by one.
SELECT ferry.policy('crm.leads', 'attributes', 'json');
SELECT ferry.policy('identity.user_settings', c, 'json') FROM unnest('{notifications,privacy,accessibility,product}'::text[]) c;
SELECT ferry.policy('inventory.projects', 'location', 'json');
SELECT ferry.policy('roomscan.room_plan_presets', 'settings', 'json');
SELECT ferry.policy('roomscan.room_objects', 'attributes', 'json');
SELECT ferry.policy('contracts.contracts', 'terms', 'json');
SELECT ferry.policy('assistant.conversations', 'metadata', 'json');

-- Texts that people write at together.
SELECT ferry.policy('crm.activities', 'description', 'text');
SELECT ferry.policy('inventory.projects', 'description', 'text');
SELECT ferry.policy('roomscan.room_scan_sessions', 'notes', 'text');
SELECT ferry.policy('engagement.engagements', 'description', 'text');
SELECT ferry.policy('engagement.services', 'description', 'text');
SELECT ferry.policy('engagement.time_entries', 'note', 'text');

-- States that lead from one to the next. Hours are approved and invoiced at the hub.
SELECT ferry.policy('crm.activities', 'status', 'guard', '{"open": ["done", "cancelled"], "done": ["open"], "cancelled": ["open"]}');
SELECT ferry.policy('engagement.time_entries', 'status', 'guard',
                    '{"draft": ["submitted"], "submitted": ["draft"], "rejected": ["draft", "submitted"]}');

RESET ROLE;
