/* Refused and parked change-sets are kept whole (ferry.rejected), so that a device
 * could fill the database with them. What is kept of each device is counted
 * (ferry.kept); where it is at its limit, or its tenant is, a change-set that would
 * have to be kept is not settled. It stays in its device's outbox, which is told so and
 * offers it again later; what is accepted needs no room and goes on. Those judged
 * anew are kept already, and parts of large ones were counted when they came. */
#include <stdio.h>

#include "hub/pg_merge.h"

static bool needs_room(const struct merge_entry *e)
{
	return e->state == ITEM_REJECTED && e->item->set && !e->item->again;
}

bool pg_room_ask(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;
	struct uuid *devices = arena_array(&b->arena, m->device_count, sizeof(*devices));
	uint32_t n = 0;

	m->room_call = UINT32_MAX;
	for (uint32_t i = 0; i < m->entry_count; i++)
		n += needs_room(&m->entries[i]);
	if (n == 0)
		return false;
	if (!devices) {
		b->full = true;
		return true;
	}
	for (uint32_t i = 0; i < m->device_count; i++)
		devices[i] = m->devices[i].id;
	m->room_call = pg_call(b, "SELECT r.device_id FROM ferry.kept_room($1, $2, $3, $4) r WHERE r.room <= 0");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuids(b, devices, m->device_count);
	pg_arg_int8(b, m->op.store->config.kept_device_bytes_max);
	pg_arg_int8(b, m->op.store->config.kept_tenant_bytes_max);
	return true;
}

static void leave_on_device(struct merge_op *m, const struct uuid *device)
{
	char sentence[FERRY_WHY_MAX];

	for (uint32_t i = 0; i < m->entry_count; i++) {
		struct merge_entry *e = &m->entries[i];

		if (!needs_room(e) || !uuid_equal(&e->item->device, device))
			continue;
		snprintf(sentence, sizeof(sentence), "the hub has no room to keep it, and it waits on the device; it would be %s: %.300s",
			 e->verdict == VERDICT_PARKED ? "parked" : "refused", e->sentence);
		pg_run_park(m, e, FERRY_KEPT_FULL, sentence);
		m->op.store->stats.kept_full++;
	}
}

void pg_room_read(struct merge_op *m)
{
	const struct pg_batch *b = &m->op.batch;

	for (uint32_t row = 0; m->room_call != UINT32_MAX && row < pg_rows(b, m->room_call); row++) {
		struct uuid device = pg_uuid(b, m->room_call, row, 0);

		leave_on_device(m, &device);
	}
}
