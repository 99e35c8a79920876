/* What the store's operations share (private to hub/pg_*.c).
 *
 * An operation is a chain of steps. Each step fills op->batch and calls
 * pg_op_run(op, next); next runs when all results are there. A failure goes
 * to op->on_failure, or else is retried from the first step while it is
 * passing, and ends the operation with FERRY_DATABASE when it is not.
 *
 *   pg_op_start -> [link] -> [catalogue] -> first -> ... -> pg_op_end */
#ifndef FERRY_HUB_PG_OP_H
#define FERRY_HUB_PG_OP_H

#include "hub/pg_pool.h"
#include "hub/pg_schema.h"
#include "hub/pg_store.h"

#define PG_OP_ATTEMPTS_MAX 8
#define PG_CATALOGS_MAX 16 /* old ones are kept a while: callers may still look at them */

struct pg_op;
typedef void (*pg_step)(struct pg_op *op);

struct pg_op {
	struct pg_store *store;
	struct uuid tenant;
	enum pg_lane lane;
	bool wants_catalog;
	pg_step first;                             /* the first step with a link (and catalogue) */
	bool (*on_failure)(struct pg_op *op);      /* true: it has taken over; may be NULL */
	void (*answer)(struct pg_op *op, enum ferry_error e); /* calls the caller back, with e unless FERRY_OK */
	void (*release)(struct pg_op *op);         /* frees the operation's own parts; may be NULL */
	/* kept by pg_op.c */
	struct pg_waiter waiter;
	struct pg_link *link;
	struct pg_batch batch;
	struct pg_catalog *catalog;
	bool plans_for_size; /* see pg_op_plan_for_size() */
	uint32_t generation_call;
	pg_step next;
	void *timer;
	unsigned attempts;
	struct pg_op *later, **earlier; /* the store's list */
};

struct pg_catalog_slot {
	struct pg_catalog *catalog;
	int64_t generation;
};

struct pg_store {
	struct pg_store_config config;
	char *conninfo;
	const struct pg_io *io;
	struct pg_pool *pool;
	struct pg_op *ops;
	struct pg_catalog_slot current;
	struct pg_catalog *old[PG_CATALOGS_MAX];
	uint32_t old_next;
	struct pg_store_stats stats;
	/* applied bookmarks not written yet */
	struct pg_applied *applied;
	uint32_t applied_count, applied_capacity;
	void *applied_timer;
	bool applied_busy;
	uint64_t rows_written;
	uint32_t merges_since_fold;
	bool folding;
};

/* Makes an operation of `bytes` (a struct that begins with struct pg_op). */
void *pg_op_new(struct pg_store *s, size_t bytes, const struct uuid *tenant, enum pg_lane lane);
void pg_op_start(struct pg_op *op); /* acquires a link, then runs op->first */
void pg_op_run(struct pg_op *op, pg_step next);
/* From the start again, on any link, after a short random pause; ends the
 * operation with FERRY_DATABASE when it was tried too often. */
void pg_op_again(struct pg_op *op);
/* The same without counting: the work done so far stands. */
void pg_op_reacquire(struct pg_op *op);
/* Answers and frees the operation. The link goes back first, so the answer
 * may start the next one; results stay readable during the answer. */
void pg_op_end(struct pg_op *op, enum ferry_error e);

/* Begins the operation's transaction in its batch: BEGIN, tenant, and the
 * question whether the catalogue still holds. mode: "" or an isolation. */
void pg_op_begin(struct pg_op *op, const char *mode);
/* For much work: the statements of the rest of the transaction are planned for
 * their own numbers. Not by plan_cache_mode: that would also plan the check of
 * each foreign key anew for each row, which took longer than to write it. */
#define PG_PLAN_FOR_SIZE_ROWS 200
void pg_op_plan_for_size(struct pg_op *op);
/* After that batch: true when the catalogue holds; else the operation has
 * been started again and the step must return. */
bool pg_op_current(struct pg_op *op);

void pg_store_log(const struct pg_store *s, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Says that a row is larger than a row may be [P 6.6] and stays at the hub. */
void pg_store_leave_out(struct pg_store *s, const struct pg_table *t, const struct uuid *key);

/* The operations, as hub/store.h describes them. */
void pg_store_device(void *store, const uint8_t fingerprint[32], const struct message_hello *hello, hub_device_cb cb,
		     void *ctx);
void pg_store_schema(void *store, const struct uuid *tenant, hub_schema_cb cb, void *ctx);
void pg_store_merge(void *store, const struct uuid *tenant, const struct merge_item *items, uint32_t count,
		    hub_merge_cb cb, void *ctx);
void pg_store_stage(void *store, const struct uuid *tenant, const struct uuid *device, int64_t staging,
		    const struct change_set *part, hub_stage_cb cb, void *ctx);
void pg_store_feed(void *store, const struct uuid *tenant, int64_t from, const char *const *scopes,
		   uint32_t scope_count, const struct uuid *device, hub_feed_cb cb, void *ctx);
void pg_store_compare(void *store, const struct uuid *tenant, int64_t from, const char *const *scopes,
		      uint32_t scope_count, const struct uuid *device, const struct message_compare *question,
		      hub_feed_cb cb, void *ctx);
void pg_store_fill(void *store, const struct fill_request *request, hub_fill_cb cb, void *ctx);
void pg_store_poll(void *store, hub_poll_cb cb, void *ctx);
void pg_store_applied(void *store, const struct uuid *tenant, const struct uuid *device, int64_t position);
void pg_store_parked(void *store, const struct uuid *tenant, hub_stage_cb cb, void *ctx);
void pg_store_rights(void *store, const struct uuid *tenant, int64_t after, hub_rights_cb cb, void *ctx);
void pg_store_lease(void *store, const struct uuid *tenant, const struct uuid *device, const struct message_lease_ask *ask,
		    hub_lease_cb cb, void *ctx);
void pg_store_fold(struct pg_store *s); /* folds checksums now and then */

#define PG_NOBODY ((struct uuid){{0}}) /* the reserved tenant of global rows */

#endif
