/* Where the hub's history has gaps (R18). A restored hub goes on with positions far above all that
 * it ever gave. What lies between where a replica left the old history and where the new one
 * begins is of histories whose rows this replica did not see then:
 *
 *   ---- after |~~~ lost ~~~|       |since ---- base
 *
 * As long as that history holds it does not matter. When it is lost in turn, edits made in it meet
 * replays by their old positions, and one of the first loss that had not come back in time was
 * not seen, though its position lies below their base. So such edits go out with the gaps below
 * their base. */
#include "agent/replica_internal.h"

#define GAPS_KEPT 64 /* restores; FERRY_GAPS_MAX is twice that */

static void make_table(struct replica *r)
{
	gate_exec(&r->g, "CREATE TABLE IF NOT EXISTS ferry_gap(since INTEGER PRIMARY KEY, after INTEGER NOT NULL) STRICT");
}

void gap_note(struct replica *r, int64_t since)
{
	int64_t after = r->st.position > 0 ? r->st.position : 0;

	if (since <= after)
		return;
	make_table(r);
	gate_execf(&r->g, "INSERT OR IGNORE INTO ferry_gap(since, after) VALUES (%lld, %lld)", (long long)since, (long long)after);
	gate_execf(&r->g, "DELETE FROM ferry_gap WHERE since NOT IN (SELECT since FROM ferry_gap ORDER BY since DESC LIMIT %d)", GAPS_KEPT);
}

bool gaps_name(struct replica *r, struct arena *arena, struct change_set *set)
{
	bool lost = set->lost_from > 0 && set->base_position >= set->lost_from;
	sqlite3_stmt *s = NULL;
	int64_t *gaps;

	set->gaps = NULL;
	set->gap_count = 0;
	if (!lost)
		return true;
	make_table(r);
	gate_statement(&r->g, &s, "SELECT after, since FROM ferry_gap WHERE since <= ?1 ORDER BY since");
	gaps = arena_array(arena, FERRY_GAPS_MAX, sizeof(*gaps));
	for (bool more = gaps != NULL && gate_step(&r->g, s, "i", set->base_position); more && set->gap_count + 2 <= FERRY_GAPS_MAX;
	     more = gate_next(&r->g, s)) {
		gaps[set->gap_count++] = sqlite3_column_int64(s, 0);
		gaps[set->gap_count++] = sqlite3_column_int64(s, 1);
	}
	gate_finalize(&s);
	set->gaps = gaps;
	return gaps != NULL && r->g.error == FERRY_OK;
}
