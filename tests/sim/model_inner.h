/* Inside the model of the hub's storage: what model_db.c (the database), model_merge.c
 * (merges), model_feed.c (states for devices), model_compare.c (what differs) and model_store.c (calls in virtual time) share. */
#ifndef FERRY_TESTS_MODEL_INNER_H
#define FERRY_TESTS_MODEL_INNER_H

#include "hub/translate.h"
#include "tests/sim/model_store.h"

#define MESSAGE_BYTES (1u << 20)
#define MERGE_BYTES (16u << 20)
#define NO_MARK INT64_MIN /* marks are odd */
#define STAGED_MAX 512 /* also what sessions have left behind */

struct row_meta { /* beside state.rows */
	bool known;
	struct version row, columns[CELLS_MAX];
	int64_t born, born_old_position, born_last_position;
	struct uuid born_author;
	int64_t born_number;
};

struct database { /* what one transaction works on */
	unsigned changes; /* of the schema */
	struct sim_state state;
	struct row_meta meta[KEYS_MAX];
};

struct verdict_row {
	struct verdict_row *next;
	int device;
	int line; /* of the judge's: whose life had pushed it */
	struct settled settled;
};

struct past_commit {
	struct past_commit *previous;
	int64_t position, mark;
	unsigned changes; /* of the schema */
	struct sim_state state;
};

struct staged {
	int device;
	int64_t number, staging;
	uint32_t part;
	struct buffer body;
};

struct lives { /* of a device: ferry.greet and ferry.release_device of hub/sql/README.md */
	int64_t count, mark; /* mark 0: whoever comes next is taken */
	int64_t adopt_mark;  /* NO_MARK: no copy was released, or it has understood */
	int64_t refused_mark; /* of the copy that was turned away last; NO_MARK: none */
	int64_t apart;       /* numbers up to here may be another copy's */
};

struct device_row {
	struct uuid incarnation; /* zero until its first contact */
	struct lives lives;
	bool scopes[SCOPES];
	int64_t rights; /* the database's count when it got them */
};

struct backup {
	int64_t position;
	struct lives lives[DEVICES_MAX];
	struct database database;
};

struct model_db {
	struct sim *sim;
	struct checker *checker;
	int devices;
	struct device_row device[DEVICES_MAX];
	struct database now;
	struct past_commit *head;
	struct verdict_row *verdicts; /* newest first */
	struct staged staged[STAGED_MAX];
	int64_t stagings;             /* names given to sessions */
	int64_t locked_until[KEYS_MAX];
	int64_t fill_us;              /* a page of a fill takes up to this; 0: as any answer */
	int64_t rights;               /* how often a device got other scopes */
	struct backup *backup;        /* the last one; NULL: none */
	uint8_t epoch;                /* how often it was restored */
	int64_t restored_at;
	int64_t steps[CHANGES];       /* with which step each change came */
	int64_t pruned;               /* bookmarks below are too old */
	struct model_faults faults;
};

struct model_store {
	struct model_db *db;
	const uint64_t *generation;
};

/* model_db.c */
enum ferry_error model_constraints(const struct sim_state *s);
void model_commit_state(struct model_db *db, const struct database *next, int64_t position);
int64_t model_next_position(struct model_db *db);
/* What translate_set() needs to know: at most CHANGES of them; how many. */
uint32_t model_past(const struct model_db *db, struct past_column *out);
void model_write_row(struct database *d, int key, const struct sim_row *to, const struct version *v);
const struct past_commit *model_commit_at(const struct model_db *db, int64_t position);
const struct verdict_row *model_verdict_of(const struct model_db *db, int device, int64_t number);
bool model_db_fails(struct model_db *db);

/* Calls: each is a small struct that travels through the event queue, first
 * to the moment of its effect, then to that of its answer. */

struct model_range {
	struct uuid after, upto;
};

struct model_question {
	bool asked;
	int scope;
	uint32_t table, range_count;
	struct model_range ranges[FERRY_COMPARE_RANGES_MAX];
	bool wanted[KEYS_MAX];
};

struct call {
	struct model_store *store;
	void *ctx;
	union {
		hub_device_cb device;
		hub_merge_cb merge;
		hub_stage_cb stage;
		hub_feed_cb feed;
		hub_fill_cb fill;
		hub_schema_cb schema;
		hub_poll_cb poll;
		hub_rights_cb rights;
	} cb;
	enum ferry_error error;
	int device;
	int64_t number, position, mark; /* of hello, feed, fill */
	struct uuid incarnation;
	const struct message_hello *hello; /* stays until the answer */
	bool all_scopes;
	bool scopes[SCOPES];
	struct model_question question; /* of compare */
	const struct merge_item *items; /* merge: the core's, valid until the answer */
	uint32_t count;
	struct merge_result results[];  /* merge */
};

/* model_merge.c: one transaction. */
void model_merge_run(struct call *c);

/* model_store.c: calls fn(NULL, copy of c) later, unless the hub crashes before. */
void model_later(struct call *c, sim_event_fn fn);

/* model_feed.c */
void model_feed(void *store, const struct uuid *tenant, int64_t from, const char *const *scopes, uint32_t scope_count,
		const struct uuid *device, hub_feed_cb cb, void *ctx);
void model_compare(void *store, const struct uuid *tenant, int64_t from, const char *const *scopes, uint32_t scope_count,
		   const struct uuid *device, const struct message_compare *question, hub_feed_cb cb, void *ctx);
/* Adds a frame with the row, or that it is not there (NULL). */
void model_wanted_row(struct model_db *db, struct arena *arena, struct feed_result *r, int scope, uint32_t table, int key,
		      const struct sim_row *row);
void model_fill(void *store, const struct fill_request *q, hub_fill_cb cb, void *ctx);

/* model_compare.c */
bool model_question_copy(const struct message_compare *from, struct model_question *to);
void model_compare_answer(const struct call *call, struct arena *arena, const struct past_commit *at, struct feed_result *r);

#endif
