/* Verdicts as apps read them: ferry_verdict holds what became of the newest
 * change-sets, by number and by the note of their mark. It outlives the kept
 * history, which ends with the hub's next backup. */
#include <stdio.h>

#include "agent/replica_internal.h"

static const char *const names[] = {"", "accepted", "superseded", "rejected", "parked"};

static const char *name_of(const struct settled *v)
{
	return v->verdict == VERDICT_REJECTED || v->verdict == VERDICT_PARKED ? ferry_error_name(v->code) : NULL;
}

/* sentence: what the replica adds to the hub's; NULL: the hub's alone. */
void verdict_keep(struct replica *r, const struct set *set, const struct settled *v, const char *sentence)
{
	char now[TIME_TEXT_MAX];
	int64_t position = v->position;

	if (sentence == NULL && name_of(v) != NULL)
		sentence = v->sentence != NULL ? v->sentence : ferry_error_text(v->code);
	time_now(r, now);
	gate_run(&r->g, q(r, Q_VERDICT_ADD), "itttt" "iit", set->number, set->note, names[v->verdict], name_of(v), sentence, position,
		 set->origin, now);
}

/* A later word of the hub on a number that is out of the outbox. */
void verdict_change(struct replica *r, const struct settled *v)
{
	char now[TIME_TEXT_MAX];
	const char *sentence = v->sentence != NULL || name_of(v) == NULL ? v->sentence : ferry_error_text(v->code);

	time_now(r, now);
	gate_run(&r->g, q(r, Q_VERDICT_CHANGE), "itttit", v->number, names[v->verdict], name_of(v), sentence, v->position, now);
}

void verdicts_trim(struct replica *r)
{
	gate_run(&r->g, q(r, Q_VERDICTS_TRIM), "i", r->st.last_number - REPLICA_VERDICTS_MAX);
}

static bool finds(struct replica *r, enum query which, const char *note, int64_t *out)
{
	sqlite3_stmt *s = q(r, which);
	bool found = which == Q_NOTE_UNCUT ? gate_step(&r->g, s, "ti", note, r->st.ingested) : gate_step(&r->g, s, "t", note);

	if (found)
		*out = sqlite3_column_int64(s, 0);
	if (s != NULL)
		sqlite3_reset(s);
	return found;
}

static void copy_text(char *to, size_t size, sqlite3_stmt *s, int column)
{
	const unsigned char *text = sqlite3_column_text(s, column);

	(void)snprintf(to, size, "%s", text == NULL ? "" : (const char *)text);
}

static void read_told(struct replica *r, const char *note, struct replica_told *out)
{
	sqlite3_stmt *s = q(r, Q_NOTE_VERDICT);

	if (gate_step(&r->g, s, "t", note)) {
		out->number = sqlite3_column_int64(s, 0);
		copy_text(out->verdict, sizeof(out->verdict), s, 1);
		copy_text(out->name, sizeof(out->name), s, 2);
		copy_text(out->sentence, sizeof(out->sentence), s, 3);
		out->position = sqlite3_column_int64(s, 4);
	}
	if (s != NULL)
		sqlite3_reset(s);
}

enum replica_known replica_told(struct replica *r, const char *note, struct replica_told *out)
{
	int64_t waiting = 0;
	bool waits;

	r->g.error = FERRY_OK;
	*out = (struct replica_told){.number = 0};
	read_told(r, note, out);
	/* A parked one stands in the outbox, too; a later transaction with that note counts. */
	waits = finds(r, Q_NOTE_UNCUT, note, &waiting) || (finds(r, Q_NOTE_WAITS, note, &waiting) && waiting > out->number);
	if (r->g.error != FERRY_OK || waits) {
		r->g.error = FERRY_OK; /* a busy file is asked again with the next commit */
		return REPLICA_WAITS;
	}
	return out->number > 0 ? REPLICA_TOLD : REPLICA_UNKNOWN;
}
