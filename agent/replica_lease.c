/* Ranges of numbers that this device may give (policy `sequence`): triggers
 * take them (replica_schema.c), here they are asked for and kept. */
#include "agent/replica_internal.h"
#include "shared/time_text.h"

/* Half a range left: time enough for the next one to come. */
uint32_t replica_leases_due(void *store, struct message_lease_ask *out)
{
	struct replica *r = store;
	sqlite3_stmt *s;
	uint32_t n = 0;

	r->g.error = FERRY_OK;
	s = q(r, Q_LEASES_DUE);
	for (bool more = gate_step(&r->g, s, ""); more && n < LEASE_ASKS_MAX; more = gate_next(&r->g, s))
		out[n++] = (struct message_lease_ask){.table = (uint32_t)sqlite3_column_int64(s, 0),
						      .num = (uint16_t)sqlite3_column_int(s, 1)};
	if (s != NULL)
		sqlite3_reset(s);
	r->g.error = FERRY_OK; /* it is asked again */
	return n;
}

enum ferry_error replica_take_lease(void *store, const struct message_lease *lease, struct ferry_why *why)
{
	struct replica *r = store;
	struct value at = value_int(lease->until);
	char until[TIME_TEXT_MAX];
	bool ends = lease->until != 0 && timestamp_to_text(&at, until);
	enum ferry_error e = replica_begin(r, why);

	if (e != FERRY_OK)
		return e;
	gate_run(&r->g, q(r, Q_LEASE_ADD), "iiiiiittt", (int64_t)lease->table, (int64_t)lease->num, lease->first, lease->last,
		 lease->step, (int64_t)lease->padding, lease->head == NULL ? "" : lease->head,
		 lease->tail == NULL ? "" : lease->tail, ends ? until : NULL);
	gate_run(&r->g, q(r, Q_LEASE_FORGET), "");
	return replica_end(r, why);
}
