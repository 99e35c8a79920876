/* The independent judge. It is told what people did on devices and at the
 * hub, what the hub's database committed, what was acknowledged, and what
 * each replica shows; it uses no product code but the codec, and says so by
 * sim_fail when a promise is broken:
 *
 *   P2  a change-set is settled once, and its values appear in that commit only
 *   P3  a replica shows a committed state of its scopes plus its own pending edits
 *   P4  when all is quiet every replica equals the hub's rows in its scopes
 *   P5  no value goes without its author's knowledge unless a conflict or a
 *       refusal keeps it
 *       and a replica keeps all values of what was refused
 *   P6  what touches no locked row is settled though others wait
 *   P10 of concurrent edits the truly later stands, whatever the clocks say, once
 *       their authors have measured how wrong they are
 *   R2  merging policies apply what accepted edits changed, each once, and nothing else
 *   R6  no change-set is settled before an earlier one that it builds on
 *   --  a number means one content: what a copy of a device wrote under a number that another
 *       copy used is kept there, and nobody takes the other's verdict for it
 *   P8  what was settled before the hub went back in time is settled anew, or parked
 *       because what it builds on is gone for good
 *   --  nothing is acknowledged that is not committed; nothing stays behind */
#ifndef FERRY_TESTS_SIM_CHECKER_H
#define FERRY_TESTS_SIM_CHECKER_H

#include "tests/sim/sim.h"
#include "tests/sim/sim_data.h"

struct checker;

/* A line is what one replica file was used for. Each device begins with the line of its number;
 * a copy of its replica is a line of its own, which shares what was before. */
#define LINES_MAX (DEVICES_MAX + 200)
#define KEPT_TALLIES_MAX 4000

/* What a replica keeps as refused: all of it, or what was since another copy of its device used the number. */
struct sim_kept {
	bool cells[TOKENS_MAX];
	int deletions[KEYS_MAX]; /* how many */
	bool pending[TOKENS_MAX]; /* what its outbox holds still (for checker_kept) */
	int64_t last_number;      /* that it has given to a change-set */
	struct {
		int key;
		int64_t cell;
	} tallies[KEPT_TALLIES_MAX]; /* what refused edits of tallies held, whatever the column */
	int tally_count;
};
void checker_keep_tally(struct sim_kept *kept, int key, int64_t cell); /* adds one */

struct checker *checker_new(struct sim *sim, int devices);
void checker_free(struct checker *c);
/* From now on the hub holds these for it; the first before anything else. */
void checker_scopes(struct checker *c, int device, const bool scopes[SCOPES]);

/* A replica was copied as it is: the copy's line, which is shut until somebody uses it. */
int checker_copied(struct checker *c, int line);
/* Nobody has this replica any more; what it had not sent is gone with it. */
void checker_gone(struct checker *c, int line);
/* It was turned away by the hub, and shows this; it, or a new copy, may come again. */
void checker_shut(struct checker *c, int line, const struct sim_state *visible);
void checker_open(struct checker *c, int line);
/* It proposes a mark for its next life; the hub took a mark, and counts so many lives. */
void checker_proposed(struct checker *c, int line, int64_t next_mark);
void checker_life(struct checker *c, int device, int64_t next_mark, int64_t life);
/* Whose life that is; 0: lives are not counted. */
int checker_line(const struct checker *c, int device, int64_t life);
/* How many of its change-sets the hub parked: some for good, since what they build on is lost. */
uint64_t checker_parked(const struct checker *c, int line);
void checker_kept(struct checker *c, int line, const struct sim_kept *kept);
/* All is quiet, and this is all that it keeps as refused: the values of every change-set that was,
 * for whatever reason, also where the schema has no place for them any more. */
void checker_refused(struct checker *c, int line, const struct sim_kept *refused);
/* A replica that was turned away: it is as it was then, with what was written to it since. */
void checker_untouched(struct checker *c, int line, const struct sim_state *visible);

/* What follows from checker_edit belongs to one transaction. timely: its agent looks at
 * once, so that its change-set is not joined with an older one, nor stamped by it (R5). */
void checker_group(struct checker *c, bool timely);
/* The device has measured its clock against the hub's; it was killed, and has not any more. */
void checker_clock_known(struct checker *c, int line);
void checker_clock_unknown(struct checker *c, int line);
/* A hub's clock was set: by it devices correct theirs, so from now on nobody knows which of two
 * edits was the later one. All else holds as ever. */
void checker_hub_clock(struct checker *c);
/* The hub's database is what it was at position: later commits never were. */
void checker_rewind(struct checker *c, int64_t position);
/* All can reach the hub since minutes, where only these rows are locked. */
void checker_no_jam(struct checker *c, const bool locked[KEYS_MAX]);

/* A person's statement: what the row showed before, and after. line -1: at the hub. */
void checker_edit(struct checker *c, int line, int key, const struct sim_row *before, const struct sim_row *after);
/* The hub's store got a change-set (or a part) to merge. */
void checker_offered(struct checker *c, int line, const struct change_set *set);
/* The outbox of a replica of which there is a copy holds it, offered or not: that may settle it, too. */
void checker_held(struct checker *c, int line, const struct change_set *set);
/* The hub's database committed. settled[i] belongs to lines[i]. */
void checker_commit(struct checker *c, int64_t position, const struct sim_state *after, const int *lines,
		    const struct settled *settled, uint32_t settled_count);
void checker_acked(struct checker *c, int line, const struct settled *s); /* the hub sent it */
/* The schema that the replica shows from now on; what the hub has at a position is told with it. */
void checker_schema(struct checker *c, int line, unsigned changes);
/* The replica stands at position and shows this. */
void checker_replica(struct checker *c, int line, int64_t position, const struct sim_state *visible);
/* All is quiet: P4, and everything that was written has been dealt with. */
void checker_quiet(struct checker *c, int line, int64_t position, const struct sim_state *visible);

struct checker_counts {
	int edits, commits, settled, rejected, conflicts, states_compared, clocks_compared, regained, tallies;
};
struct checker_counts checker_counts(const struct checker *c);

#endif
