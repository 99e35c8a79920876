-- What was left without a word.
COMMENT ON TABLE ferry.tracked_part IS 'The tables with capture triggers, partitions among them, and the tracked table that each belongs to';
COMMENT ON VIEW ferry.scope_kind IS 'The scopes that rows can be in: the word they begin with, the permission they ask for, live or archived';
COMMENT ON VIEW ferry.known_permission IS 'The permissions that some table or rule asks for';
