/* The fixed SQL of the replica: its own tables and the statements on them. */
#include "agent/replica_internal.h"

#define AT_TEXT(column) "strftime('%Y-%m-%dT%H:%M:%fZ', " column " / 1000.0, 'unixepoch')"
#define AT_NOW "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"

#define MISMATCH_DDL \
	"CREATE TABLE ferry_mismatch(scope TEXT NOT NULL, \"table\" TEXT NOT NULL, position INTEGER NOT NULL, " \
	"at TEXT NOT NULL, what TEXT NOT NULL, tries INTEGER NOT NULL DEFAULT 0, tried_at INTEGER NOT NULL DEFAULT 0, " \
	"healed_at TEXT, PRIMARY KEY(scope, \"table\")) STRICT, WITHOUT ROWID;"
/* What apps and people decide; the agent carries it out. */
#define REPAIR_DDL \
	"CREATE TABLE ferry_repair(id INTEGER PRIMARY KEY, action TEXT NOT NULL, conflict INTEGER, rejected INTEGER, " \
	"asked_at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')), done_at TEXT, error TEXT, kept TEXT, " \
	"CHECK((conflict IS NOT NULL AND rejected IS NULL AND action IN ('put back', 'take theirs', 'dismiss')) OR " \
	"(rejected IS NOT NULL AND conflict IS NULL AND action IN ('retry', 'discard', 'merge')))) STRICT;" \
	"CREATE INDEX ferry_repair_due ON ferry_repair(id) WHERE done_at IS NULL;"
/* Rows that differed from the hub's, and were replaced: what was, and what is. */
#define REPAIRED_DDL \
	"CREATE TABLE ferry_repaired(id INTEGER PRIMARY KEY, at TEXT NOT NULL, scope TEXT NOT NULL, \"table\" TEXT NOT NULL, " \
	"key TEXT NOT NULL, what TEXT NOT NULL, before TEXT, after TEXT, reason TEXT NOT NULL, position INTEGER NOT NULL) STRICT;"
#define SEEN_DDL \
	"CREATE TABLE ferry_seen(seq INTEGER NOT NULL, num INTEGER NOT NULL, old, new, PRIMARY KEY(seq, num)) WITHOUT ROWID;"
#define REJECTED_VALUE_DDL \
	"CREATE TABLE ferry_rejected_value(rejected INTEGER NOT NULL, \"column\" TEXT NOT NULL, value ANY, " \
	"PRIMARY KEY(rejected, \"column\")) STRICT;" \
	"CREATE TRIGGER ferry_rejected_gone AFTER DELETE ON ferry_rejected BEGIN " \
	"DELETE FROM ferry_rejected_value WHERE rejected = OLD.id; END;"
/* The step of each generation of the schema; 0: none, or it cannot be left in place. */
#define SCHEMA_DDL "CREATE TABLE ferry_schema(gen INTEGER PRIMARY KEY, step INTEGER NOT NULL) STRICT;"
/* What waits for something: at the hub for a parent, or in the outbox for another change-set. */
#define WAITS_DDL \
	"CREATE TABLE ferry_parked(number INTEGER PRIMARY KEY, code INTEGER NOT NULL, name TEXT NOT NULL, " \
	"sentence TEXT NOT NULL, at TEXT NOT NULL) STRICT;" \
	"CREATE TABLE ferry_depends(number INTEGER NOT NULL, on_number INTEGER NOT NULL, PRIMARY KEY(number, on_number)) " \
	"STRICT, WITHOUT ROWID;"
/* Of settled change-sets, rows that stay in sight until their scope is there (replica_carry.c). */
#define CARRIED_DDL "CREATE INDEX ferry_change_set_carried ON ferry_change_set(number) WHERE state = 4;"
#define NOT_CARRIED "NOT EXISTS(SELECT 1 FROM ferry_change_set s WHERE s.number = p.number AND s.state = 4)"
#define ANY_CARRIED "EXISTS(SELECT 1 FROM ferry_change_set WHERE state = 4)"
#define CARRIED_ROWS \
	"iif(" ANY_CARRIED ", (SELECT count(*) FROM ferry_pending p CROSS JOIN ferry_change_set s " \
	"WHERE s.number = p.number AND s.state = 4), 0)"
#define OLDEST \
	"iif(" ANY_CARRIED ", (SELECT min(l.at) FROM ferry_log l LEFT JOIN ferry_pending p ON p.tbl = l.tbl AND p.key = l.key " \
	"AND p.seq = l.seq WHERE l.op & 7 IN (1, 2, 3) AND " NOT_CARRIED "), min(at))"
#define OUTBOX_VIEW \
	"CREATE VIEW ferry_outbox(number, \"table\", key, op, at, parked, blocked_by) AS " \
	"SELECT p.number, t.name, l.key, CASE l.op & 7 WHEN 1 THEN 'insert' WHEN 2 THEN 'update' ELSE 'delete' END, " \
	AT_TEXT("l.at") ", k.sentence, (SELECT min(coalesce(x.number, y.number)) FROM ferry_depends d " \
	"LEFT JOIN ferry_rejected x ON x.pushed = d.on_number LEFT JOIN ferry_parked y ON y.number = d.on_number " \
	"WHERE d.number = p.number) FROM ferry_log l JOIN ferry_table t ON t.gen = 0 AND t.tbl = l.tbl " \
	"LEFT JOIN ferry_pending p ON p.tbl = l.tbl AND p.key = l.key AND p.seq = l.seq " \
	"LEFT JOIN ferry_parked k ON k.number = p.number WHERE l.op & 7 IN (1, 2, 3) AND " NOT_CARRIED ";"
#define PARKED_SETS "(SELECT count(*) FROM ferry_parked)"
#define PARKED_ROWS "(SELECT count(*) FROM ferry_parked k CROSS JOIN ferry_pending p WHERE p.number = k.number)"
/* What became of change-sets, also after their bodies are forgotten. */
/* A base that is no position would be taken for none, and the edits as having seen everything. */
#define MARK_TRIGGER \
	"CREATE TRIGGER ferry_tx_insert INSTEAD OF INSERT ON ferry_tx BEGIN " \
	"SELECT RAISE(ABORT, 'base is a position as ferry_status shows it: a whole number') WHERE NEW.base IS NOT NULL AND " \
	"(CAST(CAST(NEW.base AS INTEGER) AS TEXT) <> CAST(NEW.base AS TEXT) OR CAST(NEW.base AS INTEGER) < 0); " \
	"INSERT INTO ferry_log(tbl, key, op, mask, tc, at) " \
	"VALUES (0, NEW.note, 5, CAST(NEW.base AS INTEGER), total_changes(), " AT_NOW "); END;"

#define VERDICT_DDL \
	"CREATE TABLE ferry_verdict(number INTEGER PRIMARY KEY, note TEXT, verdict TEXT NOT NULL, name TEXT, sentence TEXT, " \
	"position INTEGER, part_of INTEGER, at TEXT NOT NULL) STRICT;" \
	"CREATE INDEX ferry_verdict_note ON ferry_verdict(note, number) WHERE note IS NOT NULL;"
/* Ranges of numbers, the oldest used first; one of a former incarnation is
 * not used: the copy that this file was restored from may have gone on. */
#define LEASE_DDL \
	"CREATE TABLE ferry_lease(id INTEGER PRIMARY KEY AUTOINCREMENT, tbl INTEGER NOT NULL, num INTEGER NOT NULL, " \
	"first INTEGER NOT NULL, last INTEGER NOT NULL, step INTEGER NOT NULL, padding INTEGER NOT NULL, head TEXT NOT NULL, " \
	"tail TEXT NOT NULL, until TEXT, next INTEGER NOT NULL, incarnation BLOB NOT NULL, UNIQUE(tbl, num, head, tail, first)) STRICT;" \
	"CREATE VIEW ferry_number(tbl, num, lease, number, available) AS SELECT l.tbl, l.num, min(l.id), " \
	"l.head || substr('000000000000000000', 1, max(l.padding - length(l.next), 0)) || l.next || l.tail, " \
	"sum((l.last - l.next) / l.step + 1) FROM ferry_lease l WHERE l.next <= l.last " \
	"AND l.incarnation = (SELECT incarnation FROM ferry_state) " \
	"AND (l.until IS NULL OR l.until > strftime('%Y-%m-%dT%H:%M:%fZ', 'now')) GROUP BY l.tbl, l.num;"
/* Kept history and what goes with it (replica_kept.c, replica_lost.c). */
#define FIRST_POSITION "first_position INTEGER NOT NULL DEFAULT 0"
#define KEPT_DDL \
	"CREATE TABLE ferry_kept(number INTEGER PRIMARY KEY, position INTEGER NOT NULL, verdict INTEGER NOT NULL, " \
	"code INTEGER NOT NULL, sentence TEXT, at INTEGER NOT NULL, bytes INTEGER NOT NULL, due INTEGER NOT NULL DEFAULT 0, " \
	"lost_from INTEGER NOT NULL DEFAULT 0, body BLOB, " FIRST_POSITION ") STRICT;" \
	"CREATE INDEX ferry_kept_due ON ferry_kept(number) WHERE due = 1;" \
	"CREATE TABLE ferry_kept_part(number INTEGER NOT NULL, part INTEGER NOT NULL, body BLOB NOT NULL, " \
	"PRIMARY KEY(number, part)) STRICT;" \
	"CREATE TABLE ferry_life(id INTEGER PRIMARY KEY, mark INTEGER NOT NULL) STRICT;" \
	"CREATE TABLE ferry_bookmark(position INTEGER PRIMARY KEY, mark INTEGER NOT NULL) STRICT;" \
	"CREATE TABLE ferry_lost(id INTEGER PRIMARY KEY, \"table\" TEXT NOT NULL, key TEXT NOT NULL, what TEXT NOT NULL, " \
	"\"column\" TEXT, value ANY, at TEXT NOT NULL) STRICT;" \
	"CREATE INDEX ferry_lost_row ON ferry_lost(\"table\", key);"
#define REPLAYS "(SELECT count(*) FROM ferry_kept WHERE due = 1)"
/* Change-sets as they were written, under a former schema, and what they say of columns that went. */
#define FORMER_DDL \
	"CREATE TABLE ferry_former(number INTEGER NOT NULL, part INTEGER NOT NULL, body BLOB NOT NULL, " \
	"PRIMARY KEY(number, part)) STRICT, WITHOUT ROWID;" \
	"CREATE TABLE ferry_former_value(seq INTEGER NOT NULL, num INTEGER NOT NULL, number INTEGER NOT NULL, " \
	"name TEXT NOT NULL, value ANY, PRIMARY KEY(seq, num)) STRICT;"
#define STATUS_VIEW \
	"CREATE VIEW ferry_status(position, filling, waiting_rows, waiting_sets, oldest_at, rejected, conflicts, " \
	"mismatches, parked, replays, kept_sets, kept_bytes, forgotten, lost) AS " \
	"SELECT position, fill_active, (SELECT count(*) FROM ferry_log WHERE op & 7 IN (1, 2, 3)) - " PARKED_ROWS " - " CARRIED_ROWS ", " \
	"(SELECT count(*) FROM ferry_change_set WHERE state < 3) - " PARKED_SETS " + " \
	"EXISTS(SELECT 1 FROM ferry_log WHERE seq > ingested AND op > 0) + " REPLAYS ", " \
	"(SELECT " AT_TEXT(OLDEST) " FROM ferry_log WHERE op & 7 IN (1, 2, 3)), " \
	"(SELECT count(DISTINCT number) FROM ferry_rejected), (SELECT count(*) FROM ferry_conflict), " \
	"(SELECT count(*) FROM ferry_mismatch WHERE healed_at IS NULL), " PARKED_SETS ", " REPLAYS ", " \
	"(SELECT count(*) FROM ferry_kept), kept_bytes, forgotten, " \
	"(SELECT count(*) FROM (SELECT DISTINCT \"table\", key FROM ferry_lost)) FROM ferry_state;"

#define LOST_FROM "lost_from INTEGER NOT NULL DEFAULT 0"
#define STATE_10 \
	"kept_bytes INTEGER NOT NULL DEFAULT 0, forgotten INTEGER NOT NULL DEFAULT 0, rewound INTEGER NOT NULL DEFAULT 0, " \
	"life INTEGER NOT NULL DEFAULT 0, life_mark INTEGER NOT NULL DEFAULT 0"

#define LAYOUT "layout INTEGER NOT NULL DEFAULT 0"
#define OFFERED "offered INTEGER NOT NULL DEFAULT 0"

const char replica_ddl[] =
	"CREATE TABLE ferry_state(one INTEGER PRIMARY KEY CHECK(one = 1), incarnation BLOB NOT NULL, device BLOB, "
	"tenant BLOB, hub TEXT, epoch BLOB, position INTEGER NOT NULL DEFAULT -1, mark INTEGER NOT NULL DEFAULT 0, "
	"schema_hash INTEGER NOT NULL DEFAULT 0, next_hash INTEGER NOT NULL DEFAULT 0, last_number INTEGER NOT NULL DEFAULT 0, "
	"ingested INTEGER NOT NULL DEFAULT 0, clock_offset INTEGER NOT NULL DEFAULT 0, "
	"commit_clock INTEGER NOT NULL DEFAULT 0, fill_active INTEGER NOT NULL DEFAULT 0, "
	"fill_position INTEGER NOT NULL DEFAULT -1, fill_table INTEGER NOT NULL DEFAULT 0, fill_after BLOB, "
	"fill_scope INTEGER NOT NULL DEFAULT 0, " STATE_10 ", " OFFERED ", " LAYOUT ") STRICT;"
	"CREATE TABLE ferry_table(gen INTEGER NOT NULL, tbl INTEGER NOT NULL, name TEXT NOT NULL, key TEXT NOT NULL, "
	"key_num INTEGER NOT NULL, writable INTEGER NOT NULL, rank INTEGER NOT NULL, "
	"scope INTEGER NOT NULL DEFAULT 0, fill_scope INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(gen, tbl)) STRICT;"
	"CREATE TABLE ferry_column(gen INTEGER NOT NULL, tbl INTEGER NOT NULL, num INTEGER NOT NULL, name TEXT NOT NULL, "
	"kind INTEGER NOT NULL, not_null INTEGER NOT NULL, read_only INTEGER NOT NULL, has_default INTEGER NOT NULL, "
	"default_sql TEXT, ref_table INTEGER NOT NULL, policy INTEGER NOT NULL DEFAULT 0, filled ANY, "
	"lease INTEGER NOT NULL DEFAULT 0, PRIMARY KEY(gen, tbl, num)) STRICT;"
	"CREATE TABLE ferry_label(gen INTEGER NOT NULL, tbl INTEGER NOT NULL, num INTEGER NOT NULL, i INTEGER NOT NULL, "
	"label TEXT NOT NULL, PRIMARY KEY(gen, tbl, num, i)) STRICT;"
	"CREATE TABLE ferry_log(seq INTEGER PRIMARY KEY, tbl, key, op, mask, tc, at);"
	"CREATE TABLE ferry_pending(tbl INTEGER NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL, "
	"number INTEGER NOT NULL, base BLOB, PRIMARY KEY(tbl, key, seq)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE ferry_change_set(number INTEGER PRIMARY KEY, state INTEGER NOT NULL, first INTEGER NOT NULL, "
	"last INTEGER NOT NULL, base INTEGER NOT NULL, at INTEGER NOT NULL, joined INTEGER NOT NULL, "
	"listed INTEGER NOT NULL, level INTEGER NOT NULL, rows INTEGER NOT NULL, tc INTEGER NOT NULL, "
	"origin INTEGER NOT NULL, inserts INTEGER NOT NULL, note TEXT, depends BLOB, " LOST_FROM ") STRICT;"
	"CREATE TABLE ferry_split(number INTEGER NOT NULL, place INTEGER NOT NULL, seq INTEGER NOT NULL, "
	"PRIMARY KEY(number, place)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE ferry_scope(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, held INTEGER NOT NULL, "
	"filling INTEGER NOT NULL DEFAULT 0) STRICT;"
	"CREATE TABLE ferry_member" MEMBER_COLUMNS ";"
	"CREATE TABLE ferry_member_fill" MEMBER_COLUMNS ";"
	"CREATE TABLE ferry_sum(scope INTEGER NOT NULL, tbl INTEGER NOT NULL, fill INTEGER NOT NULL, "
	"rows INTEGER NOT NULL, sums BLOB NOT NULL, PRIMARY KEY(scope, tbl, fill)) STRICT, WITHOUT ROWID;"
	"CREATE TABLE ferry_frame(id INTEGER PRIMARY KEY, body BLOB NOT NULL) STRICT;"
	"CREATE TABLE ferry_rejected(id INTEGER PRIMARY KEY, number INTEGER NOT NULL, code INTEGER NOT NULL, "
	"name TEXT NOT NULL, sentence TEXT NOT NULL, at TEXT NOT NULL, note TEXT, \"table\" TEXT NOT NULL, "
	"key TEXT NOT NULL, op TEXT NOT NULL, \"values\" TEXT NOT NULL, pushed INTEGER, blocked_by INTEGER, other TEXT, differences TEXT) STRICT;"
	"CREATE TABLE ferry_conflict(id INTEGER PRIMARY KEY, number INTEGER NOT NULL, at TEXT NOT NULL, "
	"kind TEXT NOT NULL, winner TEXT NOT NULL, \"table\" TEXT NOT NULL, key TEXT NOT NULL, \"column\" TEXT, "
	"device_value ANY, hub_value ANY, other_device TEXT, values_at_hub INTEGER NOT NULL DEFAULT 0) STRICT;"
	REJECTED_VALUE_DDL
	"CREATE VIEW ferry_tx(note, base) AS SELECT NULL, NULL WHERE 0;"
	MARK_TRIGGER
	"CREATE VIEW ferry_uuid(id) AS WITH made(id) AS MATERIALIZED (SELECT " UUID_SQL ") SELECT id FROM made;"
	MISMATCH_DDL REPAIR_DDL SEEN_DDL REPAIRED_DDL SCHEMA_DDL LEASE_DDL WAITS_DDL KEPT_DDL FORMER_DDL VERDICT_DDL CARRIED_DDL OUTBOX_VIEW STATUS_VIEW;

/* From layout 1: who wrote what a conflict met, and what the checksums found. */
const char replica_upgrade_2[] =
	"ALTER TABLE ferry_conflict ADD COLUMN other_device TEXT;"
	MISMATCH_DDL;

/* From layout 2: repair. */
const char replica_upgrade_3[] =
	"ALTER TABLE ferry_rejected ADD COLUMN pushed INTEGER;"
	"ALTER TABLE ferry_rejected ADD COLUMN blocked_by INTEGER;"
	REPAIR_DDL;

/* From layout 3: policies, and what the authors of pending edits had seen. */
const char replica_upgrade_4[] = "ALTER TABLE ferry_column ADD COLUMN policy INTEGER NOT NULL DEFAULT 0;" SEEN_DDL;

/* From layout 4: values too large for a row, and conflicts whose values are too large for their message. */
const char replica_upgrade_5[] =
	"ALTER TABLE ferry_conflict ADD COLUMN values_at_hub INTEGER NOT NULL DEFAULT 0;"
	REJECTED_VALUE_DDL;

/* From layout 5: what was repaired. */
const char replica_upgrade_6[] = REPAIRED_DDL;

/* From layout 6: schemas that are left in place. */
const char replica_upgrade_7[] = "ALTER TABLE ferry_column ADD COLUMN filled ANY;" SCHEMA_DDL;

/* From layout 7: what waits for what. */
const char replica_upgrade_8[] =
	WAITS_DDL "DROP VIEW ferry_outbox;" OUTBOX_VIEW;

/* From layout 8: ranges of numbers. */
const char replica_upgrade_9[] = "ALTER TABLE ferry_column ADD COLUMN lease INTEGER NOT NULL DEFAULT 0;" LEASE_DDL;

/* From layout 9: kept history. */
const char replica_upgrade_10[] =
	"ALTER TABLE ferry_state ADD COLUMN kept_bytes INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE ferry_state ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE ferry_state ADD COLUMN rewound INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE ferry_state ADD COLUMN life INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE ferry_state ADD COLUMN life_mark INTEGER NOT NULL DEFAULT 0;"
	"ALTER TABLE ferry_change_set ADD COLUMN " LOST_FROM ";"
	"DROP VIEW IF EXISTS ferry_status;" KEPT_DDL STATUS_VIEW;

/* From layout 10: a refused row may be merged into another. */
const char replica_upgrade_11[] =
	"ALTER TABLE ferry_rejected ADD COLUMN other TEXT;"
	"DROP INDEX ferry_repair_due; ALTER TABLE ferry_repair RENAME TO ferry_repair_before;"
	REPAIR_DDL
	"INSERT INTO ferry_repair SELECT * FROM ferry_repair_before; DROP TABLE ferry_repair_before;";

/* From layout 11: change-sets under a former schema. */
const char replica_upgrade_12[] = FORMER_DDL;

/* From layout 12: scopes come and go by themselves. */
const char replica_upgrade_13[] = "ALTER TABLE ferry_scope ADD COLUMN filling INTEGER NOT NULL DEFAULT 0;";

/* From layout 13: where a change-set was settled first. */
const char replica_upgrade_14[] =
	"ALTER TABLE ferry_kept ADD COLUMN " FIRST_POSITION ";"
	"UPDATE ferry_kept SET first_position = position;";

/* From layout 14: what is staged of a table "member" is ferry_fill_member. */
const char replica_upgrade_15[] = "ALTER TABLE ferry_fill_member RENAME TO ferry_member_fill;";

/* From layout 15: what may have been pushed. */
const char replica_upgrade_16[] =
	"ALTER TABLE ferry_state ADD COLUMN " OFFERED "; UPDATE ferry_state SET offered = last_number;";

/* From layout 16: verdicts as a table. */
const char replica_upgrade_17[] = VERDICT_DDL;

/* From layout 17: a mark's base is looked at. */
const char replica_upgrade_18[] = "DROP TRIGGER IF EXISTS ferry_tx_insert;" MARK_TRIGGER;

/* From layout 18: settled change-sets that are carried. */
const char replica_upgrade_19[] =
	CARRIED_DDL "DROP VIEW IF EXISTS ferry_outbox; DROP VIEW IF EXISTS ferry_status;" OUTBOX_VIEW STATUS_VIEW;

/* From layout 19: the layout has a place of its own. */
const char replica_upgrade_20[] = "ALTER TABLE ferry_state ADD COLUMN " LAYOUT ";";

/* From layout 20: a refused difference is kept as one, and the age of what is kept goes by the hub's clock. */
const char replica_upgrade_21[] =
	"ALTER TABLE ferry_rejected ADD COLUMN differences TEXT; "
	"UPDATE ferry_kept SET at = (SELECT commit_clock FROM ferry_state) WHERE (SELECT commit_clock FROM ferry_state) > 0;";


#define SET_COLUMNS "number, state, first, last, base, at, joined, listed, level, rows, tc, origin, inserts, note, depends, lost_from"

/* Values of columns that no program writes, alone in what is kept of their row. */
#define LOST_CHAFF(which, kind) \
	"DELETE FROM ferry_lost WHERE " which "what = 'value' " \
	"AND NOT EXISTS(SELECT 1 FROM ferry_lost o JOIN ferry_table t ON t.gen = 0 AND t.name = o.\"table\" " \
	"JOIN ferry_column c ON c.gen = 0 AND c.tbl = t.tbl AND c.name = o.\"column\" " \
	"WHERE o.\"table\" = ferry_lost.\"table\" AND o.key = ferry_lost.key " \
	"AND NOT (c.read_only OR (c.kind = " kind " AND c.has_default)))"

const char *const replica_sql[Q_COUNT] = {
	[Q_STATE_LOAD] = "SELECT incarnation, device, tenant, epoch, position, mark, schema_hash, last_number, ingested, "
			 "clock_offset, commit_clock, fill_active, fill_position, fill_table, fill_after, fill_scope, "
			 "kept_bytes, forgotten, rewound, life, life_mark, offered FROM ferry_state",
	[Q_STATE_SAVE] = "UPDATE ferry_state SET epoch = ?1, position = ?2, mark = ?3, schema_hash = ?4, "
			 "last_number = ?5, ingested = ?6, clock_offset = ?7, commit_clock = ?8, fill_active = ?9, "
			 "fill_position = ?10, fill_table = ?11, fill_after = ?12, device = ?13, tenant = ?14, fill_scope = ?15, "
			 "kept_bytes = ?16, forgotten = ?17, rewound = ?18, life = ?19, life_mark = ?20, "
			 "offered = ?21",
	[Q_LEASES_DUE] = "SELECT c.tbl, c.num FROM ferry_column c LEFT JOIN ferry_number n ON n.tbl = c.tbl AND n.num = c.num "
			 "WHERE c.gen = 0 AND c.lease > 0 AND coalesce(n.available, 0) * 2 <= c.lease ORDER BY coalesce(n.available, 0)",
	[Q_LEASE_ADD] = "INSERT OR IGNORE INTO ferry_lease(tbl, num, first, last, step, padding, head, tail, until, next, incarnation) "
			"VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?3, (SELECT incarnation FROM ferry_state))",
	[Q_LEASE_FORGET] = "DELETE FROM ferry_lease WHERE next > last OR incarnation <> (SELECT incarnation FROM ferry_state) "
			   "OR until <= strftime('%Y-%m-%dT%H:%M:%fZ', 'now')",
	[Q_CUT_ANY] = "SELECT 1 WHERE EXISTS(SELECT 1 FROM ferry_log WHERE seq > ?1) "
		      "OR EXISTS(SELECT 1 FROM ferry_change_set WHERE state < 2)",
	[Q_LOG_ANY] = "SELECT 1 FROM ferry_log WHERE seq > ?1 LIMIT 1",
	[Q_LOG_RAW] = "SELECT * FROM ferry_log WHERE seq > ?1 ORDER BY seq",
	[Q_LOG_GET] = "SELECT * FROM ferry_log WHERE seq = ?1",
	[Q_LOG_DELETE] = "DELETE FROM ferry_log WHERE seq = ?1",
	[Q_LOG_NONE] = "REPLACE INTO ferry_log(seq, op) VALUES (?1, 0)",
	[Q_LOG_DROP_NONE] = "DELETE FROM ferry_log WHERE seq = ?1 AND op = 0",
	[Q_LOG_MAX] = "SELECT max(seq) FROM ferry_log",
	[Q_LOG_RANGE] = "SELECT *, seq FROM ferry_log WHERE seq > ?1 AND seq <= ?2 AND op & 7 IN (1, 2, 3) ORDER BY seq",
	[Q_LOG_LISTED] = "SELECT l.*, s.place FROM ferry_split s JOIN ferry_log l ON l.seq = s.seq "
			 "WHERE s.number = ?3 AND s.place > ?1 AND ?2 IS NOT NULL AND l.op & 7 IN (1, 2, 3) "
			 "ORDER BY s.place",
	[Q_LOG_KEEP] = "INSERT OR IGNORE INTO ferry_log(seq, op) VALUES (?1, 0)",
	[Q_LOG_MASK] = "UPDATE ferry_log SET mask = ?2 WHERE seq = ?1",
	[Q_LOG_MERGE] = "UPDATE ferry_log SET op = ?2, mask = ?3 WHERE seq = ?1",
	[Q_LOG_MERGED] = "SELECT seq, tbl, key FROM ferry_log WHERE seq >= ?1 AND seq <= ?2 AND op & 32 <> 0",
	[Q_PENDING_ADD] = "INSERT INTO ferry_pending(tbl, key, seq, number, base) VALUES (?1, ?2, ?3, ?4, ?5)",
	[Q_PENDING_DELETE] = "DELETE FROM ferry_pending WHERE tbl = ?1 AND key = ?2 AND seq = ?3",
	[Q_PENDING_LAST] = "SELECT seq, number FROM ferry_pending WHERE tbl = ?1 AND key = ?2 ORDER BY seq DESC LIMIT 1",
	[Q_PENDING_STACK] = "SELECT l.*, p.number FROM ferry_pending p JOIN ferry_log l ON l.seq = p.seq "
			    "WHERE p.tbl = ?1 AND p.key = ?2 ORDER BY p.seq",
	[Q_PENDING_BASE] = "SELECT l.op, l.mask, p.base, iif(c.lost_from = 0 OR c.lost_from = ?4, c.base, min(c.base, c.lost_from - 1)), p.number FROM ferry_pending p "
			   "JOIN ferry_log l ON l.seq = p.seq JOIN ferry_change_set c ON c.number = p.number "
			   "WHERE p.tbl = ?1 AND p.key = ?2 AND p.seq < ?3 ORDER BY p.seq DESC",
	[Q_PENDING_NUMBER] = "UPDATE ferry_pending SET number = ?4, base = ?5 WHERE tbl = ?1 AND key = ?2 AND seq = ?3",
	[Q_PENDING_ANY] = "SELECT 1 FROM ferry_pending WHERE tbl = ?1 AND key = ?2 LIMIT 1",
	[Q_PENDING_ROWS] = "SELECT DISTINCT tbl, key FROM ferry_pending WHERE (tbl, key) > (?1, ?2) ORDER BY tbl, key LIMIT 1",
	[Q_SET_ADD] = "INSERT INTO ferry_change_set(" SET_COLUMNS ") "
		      "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
	[Q_SET_SAVE] = "REPLACE INTO ferry_change_set(" SET_COLUMNS ") "
		       "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
	[Q_SET_GET] = "SELECT " SET_COLUMNS " FROM ferry_change_set WHERE number = ?1",
	[Q_SET_NEXT] = "SELECT " SET_COLUMNS " FROM ferry_change_set WHERE number > ?1 AND state = 2 ORDER BY number LIMIT 1",
	[Q_SET_BUILDING] = "SELECT " SET_COLUMNS " FROM ferry_change_set WHERE state = 0",
	[Q_SET_COMPLETE] = "SELECT " SET_COLUMNS " FROM ferry_change_set WHERE state = 1 ORDER BY number LIMIT 1",
	[Q_SET_FIX] = "UPDATE ferry_change_set SET state = 2, at = ?2, rows = ?3, joined = ?4, depends = ?5 "
		      "WHERE number = ?1",
	[Q_SET_AT] = "UPDATE ferry_change_set SET at = ?2 WHERE number = ?1",
	[Q_SET_DELETE] = "DELETE FROM ferry_change_set WHERE number = ?1",
	[Q_SET_FORGET] = "DELETE FROM ferry_change_set WHERE state = 3 AND NOT EXISTS("
			 "SELECT 1 FROM ferry_change_set c WHERE c.state < 3 AND c.number < ferry_change_set.last)",
	[Q_SET_CARRY] = "UPDATE ferry_change_set SET state = 4 WHERE number = ?1",
	[Q_SETS_CARRIED] = "SELECT number FROM ferry_change_set WHERE state = 4",
	[Q_SET_INSERTS] = "SELECT inserts, number FROM ferry_change_set WHERE state < 3 AND number <> ?1",
	[Q_PARK_ADD] = "REPLACE INTO ferry_parked(number, code, name, sentence, at) VALUES (?1, ?2, ?3, ?4, ?5)",
	[Q_PARK_NOTE] = "INSERT INTO ferry_parked(number, code, name, sentence, at) VALUES (?1, ?2, ?3, ?4, ?5) "
			"ON CONFLICT(number) DO NOTHING",
	[Q_PARK_DELETE] = "DELETE FROM ferry_parked WHERE number = ?1",
	[Q_DEPEND_ADD] = "INSERT OR IGNORE INTO ferry_depends(number, on_number) VALUES (?1, ?2)",
	[Q_DEPEND_DELETE] = "DELETE FROM ferry_depends WHERE number = ?1",
	[Q_SPLIT_ADD] = "INSERT INTO ferry_split(number, place, seq) VALUES (?1, ?2, ?3)",
	[Q_SPLIT_DELETE] = "DELETE FROM ferry_split WHERE number = ?1",
	[Q_PARENT] = "SELECT p.number FROM ferry_pending p JOIN ferry_log l ON l.seq = p.seq "
		     "WHERE p.tbl = ?1 AND p.key = ?2 AND l.op & 7 = 1",
	[Q_SCOPE_NAME] = "SELECT name FROM ferry_scope WHERE id = ?1",
	[Q_SCOPE_ID] = "SELECT id FROM ferry_scope WHERE name = ?1",
	[Q_SCOPE_ADD] = "INSERT INTO ferry_scope(name, held) VALUES (?1, 0)",
	[Q_SCOPES_HELD] = "SELECT name, id FROM ferry_scope WHERE held = 1 ORDER BY name",
	[Q_SCOPES_FILLING] = "SELECT name, id FROM ferry_scope WHERE filling ORDER BY name",
	[Q_REJECT_ADD] = "INSERT INTO ferry_rejected(number, code, name, sentence, at, note, \"table\", key, op, \"values\", "
			 "pushed, blocked_by, differences) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, nullif(?12, 0), ?13)",
	[Q_REJECT_OTHER] = "UPDATE ferry_rejected SET other = ?3 WHERE pushed = ?1 AND key = ?2 AND op = 'insert'",
	[Q_REJECT_OF] = "SELECT number FROM ferry_rejected WHERE pushed = ?1 LIMIT 1",
	[Q_REJECT_LIFTED] = "DELETE FROM ferry_rejected WHERE pushed = ?1",
	[Q_REJECT_VERDICT] = "UPDATE ferry_rejected SET code = ?2, name = ?3, sentence = ?4 WHERE pushed = ?1",
	[Q_REJECT_LOCAL] = "UPDATE ferry_rejected SET pushed = NULL WHERE pushed = ?1",
	[Q_WATCH_MARK] = "SELECT (SELECT coalesce(max(seq), 0) FROM ferry_log), (SELECT coalesce(max(id), 0) FROM ferry_rejected)",
	/* What is parked is at the hub, but for what it had no room to keep. */
	[Q_WATCH_LEFT] = "SELECT 1 FROM ferry_log l WHERE l.seq <= ?1 AND l.op & 7 IN (1, 2, 3) AND NOT EXISTS("
			 "SELECT 1 FROM ferry_pending p JOIN ferry_parked k ON k.number = p.number AND k.name <> 'KEPT_FULL' "
			 "WHERE p.tbl = l.tbl AND p.key = l.key AND p.seq = l.seq) AND NOT EXISTS("
			 "SELECT 1 FROM ferry_pending p JOIN ferry_change_set s ON s.number = p.number AND s.state = 4 "
			 "WHERE p.tbl = l.tbl AND p.key = l.key AND p.seq = l.seq) LIMIT 1",
	[Q_WATCH_REFUSED] = "SELECT count(DISTINCT number), " PARKED_SETS " FROM ferry_rejected WHERE id > ?1",
	/* One that was refused before it left goes out empty, and is accepted so: that is not its verdict. */
	[Q_VERDICT_ADD] = "INSERT INTO ferry_verdict(number, note, verdict, name, sentence, position, part_of, at) "
			  "VALUES (?1, ?2, ?3, ?4, ?5, nullif(?6, 0), nullif(?7, 0), ?8) ON CONFLICT(number) DO UPDATE SET verdict = excluded.verdict, name = excluded.name, "
			  "sentence = excluded.sentence, position = excluded.position, at = excluded.at WHERE ferry_verdict.verdict = 'parked'",
	[Q_VERDICT_CHANGE] = "UPDATE ferry_verdict SET verdict = ?2, name = ?3, sentence = ?4, position = ?5, at = ?6 "
			     "WHERE number = ?1 AND name IS NOT 'CLONE'",
	[Q_VERDICTS_TRIM] = "DELETE FROM ferry_verdict WHERE number <= ?1",
	[Q_NOTE_UNCUT] = "SELECT 1 FROM ferry_log WHERE seq > ?2 AND op & 7 = 5 AND tbl = 0 AND key = ?1 LIMIT 1",
	[Q_NOTE_WAITS] = "SELECT number FROM ferry_change_set WHERE note = ?1 AND state < 3 ORDER BY number DESC LIMIT 1",
	[Q_NOTE_VERDICT] = "SELECT number, verdict, name, sentence, position FROM ferry_verdict WHERE note = ?1 ORDER BY number DESC LIMIT 1",
	[Q_REPAIR_DUE] = "SELECT 1 FROM ferry_repair WHERE done_at IS NULL LIMIT 1",
	[Q_CONFLICT_ADD] = "INSERT INTO ferry_conflict(number, at, kind, winner, \"table\", key, \"column\", device_value, "
			   "hub_value, other_device, values_at_hub) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
	[Q_REJECT_VALUE] = "INSERT INTO ferry_rejected_value(rejected, \"column\", value) VALUES (?1, ?2, ?3)",
	[Q_SUM_SAVE] = "REPLACE INTO ferry_sum(scope, tbl, fill, rows, sums) VALUES (?1, ?2, ?3, ?4, ?5)",
	[Q_FRAME_ADD] = "INSERT INTO ferry_frame(body) VALUES (?1)",
	[Q_FRAME_GET] = "SELECT id, body FROM ferry_frame WHERE id > ?1 ORDER BY id LIMIT 1",
	[Q_STATUS] = "SELECT (SELECT count(*) FROM ferry_change_set WHERE state < 3) - " PARKED_SETS " + "
		     "EXISTS(SELECT 1 FROM ferry_log WHERE seq > ?1 AND op > 0) + " REPLAYS ", count(*) - " PARKED_ROWS " - " CARRIED_ROWS ", " OLDEST ", "
		     "(SELECT count(DISTINCT number) FROM ferry_rejected), (SELECT count(*) FROM ferry_conflict) "
		     "FROM ferry_log WHERE op & 7 IN (1, 2, 3)",
	[Q_PENDING_FROM] = "SELECT base FROM ferry_pending WHERE tbl = ?1 AND key = ?2 AND seq >= ?3 ORDER BY seq LIMIT 2",
	[Q_FORMER_ADD] = "REPLACE INTO ferry_former(number, part, body) VALUES (?1, ?2, ?3)",
	[Q_FORMER_GET] = "SELECT body FROM ferry_former WHERE number = ?1 AND part = ?2",
	[Q_FORMER_DUE] = "SELECT v.number FROM ferry_former_value v WHERE v.number > ?1 "
		       "AND NOT EXISTS(SELECT 1 FROM ferry_former k WHERE k.number = v.number) ORDER BY 1 LIMIT 1",
	[Q_FORMER_DELETE] = "DELETE FROM ferry_former WHERE number = ?1",
	[Q_FORMER_VALUE_ADD] = "INSERT OR IGNORE INTO ferry_former_value(seq, num, number, name, value) VALUES (?1, ?2, ?3, ?4, ?5)",
	[Q_FORMER_VALUE_GET] = "SELECT name, value FROM ferry_former_value WHERE seq = ?1 AND num > 0 ORDER BY num",
	[Q_FORMER_VALUE_DELETE] = "DELETE FROM ferry_former_value WHERE number = ?1",
	[Q_SEEN_GET] = "SELECT old, new FROM ferry_seen WHERE seq = ?1 AND num = ?2",
	[Q_SEEN_ADD] = "INSERT INTO ferry_seen(seq, num, old, new) VALUES (?1, ?2, ?3, ?4)",
	[Q_SEEN_DELETE] = "DELETE FROM ferry_seen WHERE seq = ?1",
	[Q_MISMATCH_ADD] = "INSERT INTO ferry_mismatch(scope, \"table\", position, at, what) VALUES (?1, ?2, ?3, ?4, ?5) "
			   "ON CONFLICT(scope, \"table\") DO UPDATE SET position = excluded.position, what = excluded.what, "
			   "at = iif(healed_at IS NULL, at, excluded.at), healed_at = NULL",
	[Q_MISMATCH_HEALED] = "UPDATE ferry_mismatch SET healed_at = ?1 WHERE healed_at IS NULL",
	[Q_MISMATCH_TRIED] = "UPDATE ferry_mismatch SET tries = tries + 1, tried_at = ?1 WHERE healed_at IS NULL",
	/* A time that lies ahead was written by a clock that was wrong. */
	[Q_MISMATCH_DUE] = "SELECT scope, \"table\", what FROM ferry_mismatch WHERE healed_at IS NULL "
			   "AND (tried_at <= ?1 OR tried_at > ?2) AND (?3 = 0 OR \"table\" = '') ORDER BY \"table\", scope LIMIT 1",
	[Q_MISMATCH_TRY] = "UPDATE ferry_mismatch SET tried_at = ?1, tries = tries + ?4 WHERE scope = ?2 AND \"table\" = ?3",
	[Q_MISMATCH_AGAIN] = "UPDATE ferry_mismatch SET tried_at = 0 WHERE healed_at IS NULL",
	[Q_MISMATCH_HEAL] = "UPDATE ferry_mismatch SET healed_at = ?1 WHERE scope = ?2 AND \"table\" = ?3",
	[Q_REPAIRED_ADD] = "INSERT INTO ferry_repaired(at, scope, \"table\", key, what, before, after, reason, position) "
			   "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
	[Q_REPAIRED_TRIM] = "DELETE FROM ferry_repaired WHERE id <= ?1",
	[Q_SCOPE_HELD] = "SELECT name FROM ferry_scope WHERE held <> 0 ORDER BY id LIMIT 1",
	[Q_SCOPE_IS_HELD] = "SELECT name FROM ferry_scope WHERE id = ?1 AND held <> 0",
	[Q_BOOKMARKS] = "SELECT position, mark FROM ferry_bookmark ORDER BY position DESC",
	[Q_BOOKMARK_ADD] = "REPLACE INTO ferry_bookmark(position, mark) VALUES (?1, ?2)",
	[Q_BOOKMARK_DELETE] = "DELETE FROM ferry_bookmark WHERE position = ?1",
	[Q_BOOKMARKS_CUT] = "DELETE FROM ferry_bookmark WHERE position > ?1",
	[Q_KEPT_ADD] = "REPLACE INTO ferry_kept(number, position, first_position, verdict, code, sentence, at, bytes, body) "
		       "VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
	[Q_KEPT_PART_ADD] = "REPLACE INTO ferry_kept_part(number, part, body) VALUES (?1, ?2, ?3)",
	[Q_KEPT_PART_DELETE] = "DELETE FROM ferry_kept_part WHERE number = ?1",
	[Q_KEPT_DELETE] = "DELETE FROM ferry_kept WHERE number = ?1",
	[Q_KEPT_BACKED_UP] = "SELECT number, bytes FROM ferry_kept WHERE position <= ?1 AND due = 0 ORDER BY number LIMIT ?2",
	[Q_KEPT_OLDEST] = "SELECT number, bytes FROM ferry_kept WHERE due = 0 ORDER BY number LIMIT 1",
	/* A time that lies ahead was written by a clock that was wrong. */
	[Q_KEPT_AGED] = "SELECT number, bytes FROM ferry_kept WHERE at < ?1 AND due = 0 ORDER BY number LIMIT ?2",
	[Q_KEPT_BODY] = "SELECT body FROM ferry_kept WHERE number = ?1",
	[Q_KEPT_PART] = "SELECT body FROM ferry_kept_part WHERE number = ?1 AND part = ?2",
	[Q_KEPT_GET] = "SELECT verdict FROM ferry_kept WHERE number = ?1",
	[Q_KEPT_SETTLE] = "UPDATE ferry_kept SET position = ?2, first_position = iif(first_position = 0, ?2, first_position), "
			  "verdict = ?3, code = ?4, sentence = ?5, due = 0 WHERE number = ?1",
	[Q_KEPT_GAP] = "INSERT OR IGNORE INTO ferry_kept(number, position, verdict, code, sentence, at, bytes, due) "
		       "SELECT ?1, 0, ?2, ?3, ?4, ?5, 0, 1 WHERE NOT EXISTS(SELECT 1 FROM ferry_change_set WHERE number = ?1 AND state < 3)",
	[Q_KEPT_DUE] = "UPDATE ferry_kept SET due = number > ?1 WHERE due <> (number > ?1)",
	[Q_KEPT_NOT_DUE] = "UPDATE ferry_kept SET due = 0 WHERE number = ?1",
	[Q_KEPT_ABOVE] = "SELECT count(*) FROM ferry_kept WHERE number > ?1 AND due = 1",
	[Q_KEPT_NEXT] = "SELECT number FROM ferry_kept WHERE number > ?1 AND due = 1 ORDER BY number LIMIT 1",
	[Q_KEPT_REPLAY] = "SELECT first_position, verdict, code, sentence, lost_from, body IS NOT NULL, position FROM ferry_kept WHERE number = ?1",
	[Q_AFTER_GET] = "SELECT a.number FROM temp.ferry_after a JOIN ferry_kept k ON k.number = a.number "
			"WHERE a.tbl = ?1 AND a.key = ?2 AND k.due = 1",
	[Q_AFTER_ADD] = "REPLACE INTO temp.ferry_after(tbl, key, number) VALUES (?1, ?2, ?3)",
	[Q_KEPT_LOST] = "UPDATE ferry_kept SET lost_from = ?1 WHERE lost_from = 0 OR lost_from > ?1",
	[Q_SETS_ABOVE] = "SELECT count(*) FROM ferry_change_set WHERE number > ?1 AND state < 3",
	[Q_LIFE_MARKS] = "SELECT mark FROM ferry_life ORDER BY id DESC",
	[Q_LIFE_PROPOSE] = "INSERT INTO ferry_life(mark) VALUES (?1)",
	[Q_LIFE_FORGET] = "DELETE FROM ferry_life",
	/* Values alone that the hub fills in by itself (its columns, times with a
	 * default): a replay makes new ones, and nobody misses the old. */
	[Q_LOST_CHAFF] = LOST_CHAFF("", "?1"),
	[Q_LOST_ROW_CHAFF] = LOST_CHAFF("\"table\" = ?1 AND key = ?2 AND ", "?3"), /* by its index: asked for each row that is back */
	[Q_LOST_ANY] = "SELECT EXISTS(SELECT 1 FROM ferry_lost)",
	[Q_LOST_ROW] = "SELECT id, what, \"column\", value FROM ferry_lost WHERE \"table\" = ?1 AND key = ?2",
	[Q_LOST_DELETE] = "DELETE FROM ferry_lost WHERE id = ?1",
	[Q_LOST_ROW_THERE] = "UPDATE ferry_lost SET what = 'value' WHERE \"table\" = ?1 AND key = ?2 AND what = 'row'",
	[Q_LOST_COUNT] = "SELECT count(*) FROM ferry_lost",
	[Q_LOST_ADD] = "INSERT INTO ferry_lost(\"table\", key, what, \"column\", value, at) VALUES (?1, ?2, ?3, ?4, ?6, ?5)",
	[Q_RESTORED_GET] = "SELECT max(present), max(hash) FROM ferry_restored WHERE scope = ?1 AND tbl = ?2 AND key = ?3",
	[Q_RESTORED_ADD] = "INSERT INTO ferry_restored(scope, tbl, key, present, hash, frame) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
	[Q_RESTORED_DELETE] = "DELETE FROM ferry_restored WHERE scope = ?1 AND tbl = ?2 AND key = ?3",
	[Q_RESTORED_NEXT] = "SELECT id, scope, tbl, key, frame FROM ferry_restored WHERE id > ?1 AND present = ?2 ORDER BY id LIMIT 1",
	[Q_RESTORED_COUNT] = "SELECT count(*) FROM ferry_restored",
	[Q_DATA_VERSION] = "PRAGMA data_version",
	[Q_MEMBER_GET] = "SELECT scope FROM ferry_member WHERE tbl = ?1 AND key = ?2 ORDER BY scope",
	[Q_MEMBER_ADD] = "INSERT OR IGNORE INTO ferry_member(tbl, key, scope) VALUES (?1, ?2, ?3)",
	[Q_MEMBER_DELETE] = "DELETE FROM ferry_member WHERE tbl = ?1 AND key = ?2",
	[Q_MEMBER_ANY] = "SELECT 1 FROM ferry_member WHERE tbl = ?1 LIMIT 1",
	[Q_FILL_MEMBER_GET] = "SELECT scope FROM ferry_member_fill WHERE tbl = ?1 AND key = ?2 ORDER BY scope",
	[Q_FILL_MEMBER_ADD] = "INSERT OR IGNORE INTO ferry_member_fill(tbl, key, scope) VALUES (?1, ?2, ?3)",
	[Q_FILL_MEMBER_DELETE] = "DELETE FROM ferry_member_fill WHERE tbl = ?1 AND key = ?2",
	[Q_FILL_MEMBER_ANY] = "SELECT 1 FROM ferry_member_fill WHERE tbl = ?1 LIMIT 1",
};
