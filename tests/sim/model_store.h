/* The hub's storage in memory and virtual time: hub/store.h, obviously right
 * rather than fast. A model_db is the database that survives crashes of hubs
 * and may be shared by several; a model_store is one hub's connection to it.
 * Every call takes effect at one moment (its commit) and answers later; a
 * crash of the hub between the two loses the answer, not the effect. */
#ifndef FERRY_TESTS_MODEL_STORE_H
#define FERRY_TESTS_MODEL_STORE_H

#include "hub/store.h"
#include "tests/sim/checker.h"

/* Planted bugs: test_sim_planted_bugs.c shows that each is found. */
struct model_faults {
	bool ack_before_commit;      /* the answer comes before the commit */
	bool forget_settled;         /* a repeated change-set is merged again */
	bool skip_frames;            /* now and then a frame is left out of a feed */
	bool lose_verdicts;          /* now and then a feed leaves a verdict out */
	bool see_everything;         /* a merge takes what an edit met as seen */
	bool half_transactions;      /* a commit takes only a part of a change-set's rows */
	bool lock_all;               /* a locked row holds up its whole batch */
	bool hide_loss;              /* restored, it says that it still has what it has lost */
	bool forget_depends;         /* a change-set goes though one that it builds on waits */
	bool welcome_copies;         /* a copy with a mark of the past is let in */
	bool take_copies_as_own;     /* what another copy of a device wrote is taken as seen by its author */
	bool drop_untranslated;      /* a value whose column is no more is dropped, and the rest accepted */
	bool forget_renames;         /* what was written to a column before another took its place is dropped */
	bool hide_lives;             /* a feed does not say that another copy's life has begun */
	bool merge_old_lives;        /* a merge takes what a former life of the device had sent */
	bool count_again;            /* a repeated change-set's counters are added once more */
	unsigned as_lww;             /* policies that are merged as lww, a bit each */
};

struct model_db;
struct model_store;

struct model_db *model_db_new(struct sim *sim, struct checker *checker, int devices);
void model_db_free(struct model_db *db);
void model_db_faults(struct model_db *db, const struct model_faults *faults);
void model_db_slow_fills(struct model_db *db, int64_t page_us);
void model_db_device(struct model_db *db, int device, const bool scopes[SCOPES]); /* again: it gets others */
/* Lets the copy in that was turned away last, and turns the others away from now on. */
void model_db_release(struct model_db *db, int device);
/* Somebody's open transaction holds the row: merges of it wait (R12). */
void model_db_lock(struct model_db *db, int key, int64_t until);
void model_db_locked(const struct model_db *db, bool out[KEYS_MAX]);
void model_db_fingerprint(int device, uint8_t out[32]);
/* A statement of an ordinary SQL client: committed at once. False: nothing
 * to do or refused by a constraint. */
bool model_db_write(struct model_db *db, int key, const struct sim_row *row);
const struct sim_state *model_db_state(const struct model_db *db);
int64_t model_db_head(const struct model_db *db);
/* A copy of the database as it is; and back to the last one: all that was committed since is
 * lost, and so is its position, which is told. -1: there is none. Every hub has to be down. */
void model_db_backup(struct model_db *db);
int64_t model_db_restore(struct model_db *db);
/* The hub's people change the schema. False: it is so already, or cannot be. */
bool model_db_migrate(struct model_db *db, unsigned change);
unsigned model_db_changes(const struct model_db *db, int64_t position); /* of the schema then */
void model_db_prune(struct model_db *db); /* bookmarks below the head are too old from now on */

/* generation: changes when the hub crashes; late answers are dropped then. */
struct model_store *model_store_new(struct model_db *db, const uint64_t *generation);
void model_store_free(struct model_store *s);
extern const struct hub_store_ops model_store_ops;
extern const struct uuid sim_tenant;

#endif
