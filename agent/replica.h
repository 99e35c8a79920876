/* The replica: struct agent_store_ops over a SQLite file. agent/REPLICA.md
 * is the file's layout, table by table, and the algorithm; this header is
 * what the agent's shell and command line call.
 *
 * One struct replica is one connection with the rights of the agent: capture
 * does not see what it writes. Not thread-safe. Limits: REPLICA_* below. */
#ifndef FERRY_AGENT_REPLICA_H
#define FERRY_AGENT_REPLICA_H

#include "agent/store.h"

#define REPLICA_BATCH_ENTRIES 20000        /* captured entries turned into change-sets per transaction */
#define REPLICA_FRAMES_BYTES_MAX (4u << 20) /* frames kept in memory; more is spilled to ferry_frame */
#define REPLICA_HISTORY_BYTES_MAX (INT64_C(256) << 20)
#define REPLICA_HISTORY_AGE_US INT64_C(2592000000000) /* 30 days */
#define REPLICA_WORK_BYTES_MAX (256u << 20) /* working memory of one row at a time, with its pending edits */

struct replica;

struct replica_options {
	bool create;          /* make the file when there is none */
	bool full;            /* synchronous=FULL instead of NORMAL */
	bool compare_only;    /* what differs from the hub is noted and not repaired */
	int busy_timeout_ms;  /* how long a call waits for another program's lock; then FERRY_BUSY */
	size_t frames_bytes_max; /* 0: REPLICA_FRAMES_BYTES_MAX */
	int64_t history_bytes_max; /* of confirmed change-sets that no backup holds yet; 0: REPLICA_HISTORY_BYTES_MAX */
	int64_t history_age_us;    /* how long they are kept; 0: REPLICA_HISTORY_AGE_US */
	int64_t (*wall)(void *ctx); /* microseconds since 1970; NULL: the machine's clock */
	void *wall_ctx;
	uint64_t (*random)(void *ctx); /* marks and names of lives come of it; NULL: the kernel's generator */
	void *random_ctx;
};

extern const struct agent_store_ops replica_store_ops; /* `store` is a struct replica * */

/* FERRY_NOT_FOUND: no file (and not create); FERRY_CORRUPT: not a replica, or
 * damaged; FERRY_IO. A new file gets a random incarnation. */
FERRY_CHECK enum ferry_error replica_open(const char *path, const struct replica_options *options,
					  struct replica **out_replica, struct ferry_why *why);
void replica_close(struct replica *r);

/* After enrolment: who this replica belongs to, and a new incarnation. A
 * replica of another device or tenant is refused with FERRY_EXISTS. */
FERRY_CHECK enum ferry_error replica_enrol(struct replica *r, const struct uuid *tenant, const struct uuid *device,
					   const char *hub, struct ferry_why *why);

/* Has another connection committed since the last call? (PRAGMA data_version:
 * no lock, no I/O when nothing happened.) The first call says yes. */
bool replica_changed(struct replica *r);
/* Gives back the memory that a quiet replica does not need: cached pages, statements and the
 * parsed schema. The next call that reads rows loads them again. */
void replica_rest(struct replica *r);
/* The hub's time as it was heard last, microseconds since 1970; 0: never. */
int64_t replica_hub_time(const struct replica *r);
/* How often this connection has written. */
int64_t replica_commits(const struct replica *r);

/* Tables whose capture triggers some program had dropped; replica_open made them anew. What was
 * written there in between is unknown to the outbox: the full proof (`ferry-agent verify`) finds it. */
uint32_t replica_triggers_restored(const struct replica *r);

/* ---- for those who watch (agent/local_news.h) ---- */

struct replica_verdict {
	int64_t number;
	int verdict; /* enum verdict */
	int code;    /* 0: none */
	const char *sentence;
	bool again;  /* refused joined, and offered again in parts: no last word */
};

struct replica_conflict {
	int64_t number;
	const char *table, *key, *column; /* column NULL: the row */
	bool device_won;
};

/* What a transaction of this connection does to what apps see. The first four
 * come within it, `end` when it stands or has failed, also for one that did
 * nothing of the kind. Texts are borrowed; no call may use the replica but
 * from `end`. */
struct replica_news {
	void (*row)(void *ctx, const char *table, const char *key);
	void (*filled)(void *ctx); /* all tables were replaced */
	void (*settled)(void *ctx, const struct replica_verdict *v);
	void (*conflict)(void *ctx, const struct replica_conflict *c);
	void (*end)(void *ctx, bool committed, int64_t position);
};
void replica_watch(struct replica *r, const struct replica_news *news, void *ctx); /* borrowed; NULL: nobody */

/* A mark behind everything that is committed now, and the last refusal. */
void replica_mark(struct replica *r, int64_t *out_mark, int64_t *out_refused);
/* Is every edit up to the mark settled at the hub, and its verdict applied? */
bool replica_confirmed(struct replica *r, int64_t mark);
/* What the hub made of the newest transaction that was marked with this note (ferry_tx). */
enum replica_known {
	REPLICA_UNKNOWN, /* there is none, or it is forgotten */
	REPLICA_WAITS,   /* it has no verdict yet */
	REPLICA_TOLD,    /* out says which; a parked one is kept whole at the hub */
};
struct replica_told {
	int64_t number, position;
	char verdict[16], name[40], sentence[1000]; /* as in ferry_verdict; "": none */
};
enum replica_known replica_told(struct replica *r, const char *note, struct replica_told *out);
/* Change-sets refused after such a refusal, those that wait at the hub now, and where the replica stands. */
struct replica_outcome {
	int64_t refused, parked, position;
};
struct replica_outcome replica_outcome(struct replica *r, int64_t refused);

/* The schema in force; table_count 0 before the first. Borrowed until the
 * next call that may apply a state. */
const struct schema *replica_schema(const struct replica *r);

/* R21, the proof behind the running sums: computes the checksums of all
 * confirmed values anew, in one write transaction. detail names the first
 * difference, "" when none; ferry_mismatch keeps each, for the next contact
 * with the hub to heal. Nobody else may hold the replica open as its agent. */
FERRY_CHECK enum ferry_error replica_checksum_recompute(struct replica *r, bool *out_match, char detail[160],
							struct ferry_why *why);

/* At the next contact, and at once for what was tried lately, the sums of all
 * that is held are compared with the hub's, and rows that differ are repaired alone: ferry_repaired keeps what stood
 * here, with this reason (e.g. that the hub was restored) behind what was found
 * to differ. */
FERRY_CHECK enum ferry_error replica_verify_soon(struct replica *r, const char *reason, struct ferry_why *why);

/* One column of one row; text is NULL for SQL NULL, else terminated (bytes
 * as hexadecimal digits). */
struct replica_field {
	const char *name;
	const char *text;
	bool number; /* text is an INTEGER or REAL: JSON needs no quotes */
};

/* Runs SQL on a connection of its own, as any app would: what it writes is
 * captured. `row` (may be NULL) is called for each row of each statement;
 * false ends the query. Fields are borrowed for the call. */
FERRY_CHECK enum ferry_error replica_query(const char *path, const char *sql, bool read_only,
					   bool (*row)(void *ctx, const struct replica_field *fields, int count),
					   void *ctx, struct ferry_why *why);

#endif
