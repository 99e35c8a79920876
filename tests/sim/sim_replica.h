/* A replica as the simulator sees it: the store that the agent's core works
 * on, and what an app does to it. Two kinds: the model (model_replica.c) and
 * the product's own on SQLite (real_replica.c). */
#ifndef FERRY_TESTS_SIM_REPLICA_H
#define FERRY_TESTS_SIM_REPLICA_H

#include "agent/store.h"
#include "tests/sim/sim.h"
#include "tests/sim/checker.h"
#include "tests/sim/sim_data.h"

struct replica_faults { /* planted bugs of the model */
	bool forget_on_ack;        /* R3: an ack takes the change-set out of the outbox */
	bool frames_without_commit; /* a frame shows before its commit */
	bool bookmark_first;       /* a commit moves the bookmark, a crash may lose the rows */
	bool scopes_early;         /* scopes that are still to be filled are said to be here */
	bool ignore_offset;        /* P10: edits are stamped with the device's own clock */
	bool trust_hub_clock;      /* a state whose hub's clock has gone back waits until that catches up */
	bool numbers_again;        /* a copy goes on with numbers that another copy has used */
	bool keep_old_schema;      /* a changed schema is taken only with a fill */
	bool strange_vanish;       /* what stands under such a number is dropped instead of kept */
	bool forget_refused;       /* what is refused since the schema has no place for it is dropped */
	bool hide_beneath;         /* R2: a pending value hides the hub's instead of being laid over it */
	bool old_is_hubs;          /* R2: what its author saw is forgotten, and the hub's value sent for it */
	bool base_is_now;          /* R1: an edit over a pending edit claims to have seen the hub's value */
};

struct sim_replica {
	const struct agent_store_ops *ops;
	void **handle; /* what ops work on: another one after a crash */
	void *store;   /* what the calls below get */
	/* An app's statement, committed: the row becomes `after`. False: the
	 * replica refuses it; nothing has changed. */
	bool (*edit)(void *store, int key, const struct sim_row *after);
	void (*visible)(void *store, struct sim_state *out);
	int (*changes)(void *store); /* of the schema it shows; -1: none yet */
	void (*crash)(void *store); /* kill -9, then opened again */
	/* A copy of its files as they are, as a replica of its own: of what is
	 * durable. skew: of the machine that it is for. */
	struct sim_replica (*copy)(void *store, const int64_t *skew);
	void (*kept)(void *store, struct sim_kept *out); /* as refused since another copy used the number; adds to *out */
	void (*refused)(void *store, struct sim_kept *out); /* for whatever reason; adds to *out */
	int64_t (*last_number)(void *store); /* given to a change-set */
	void (*free)(void *store);
};

struct sim_replica model_replica_new(struct sim *sim, int device, const int64_t *skew, const struct replica_faults *faults);

#endif
