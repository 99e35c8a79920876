/* What a refusal tells of whom it met: names, which the merge does not know.
 * Asked once a run's fate is clear, and only where something was refused. */
#include "hub/pg_merge.h"

#include <stdio.h>
#include <string.h>

static bool names_holder(const struct merge_entry *e)
{
	return e->state == ITEM_REJECTED && !uuid_is_zero(&e->holder);
}

static uint32_t count_holders(const struct merge_op *m)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < m->entry_count; i++)
		n += names_holder(&m->entries[i]);
	return n;
}

bool pg_tell_ask(struct merge_op *m)
{
	struct pg_batch *b = &m->op.batch;
	uint32_t count = count_holders(m), n = 0;
	struct uuid *holders = arena_array(&b->arena, count + 1u, sizeof(*holders));

	if (count == 0 || !holders)
		return false;
	for (uint32_t i = 0; i < m->entry_count; i++) {
		if (names_holder(&m->entries[i]))
			holders[n++] = m->entries[i].holder;
	}
	m->tell_call = pg_call(b, "SELECT ferry.device_label($1, u.device) FROM unnest($2::uuid[]) WITH ORDINALITY AS u(device, n) "
				  "ORDER BY u.n");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_uuids(b, holders, count);
	return true;
}

/* "set by device 0192..." becomes "set by Anna Berg's tablet". */
static void name_holder(struct merge_op *m, struct merge_entry *e, const char *label)
{
	char id[UUID_TEXT], device[UUID_TEXT + 8];
	struct ferry_why why;
	const char *at;

	uuid_format(&e->holder, id);
	snprintf(device, sizeof(device), "device %s", id);
	at = strstr(e->sentence, device);
	if (!at)
		return;
	ferry_why_set(&why, "%.*s%s%s", (int)(at - e->sentence), e->sentence, label, at + strlen(device));
	pg_run_reject(m, e, e->code, why.text);
}

void pg_tell_read(struct merge_op *m)
{
	uint32_t row = 0;

	for (uint32_t i = 0; i < m->entry_count; i++) {
		struct merge_entry *e = &m->entries[i];

		if (!names_holder(e) || row == pg_rows(&m->op.batch, m->tell_call))
			continue;
		name_holder(m, e, pg_text(&m->op.batch, m->tell_call, row++, 0));
		e->holder = (struct uuid){{0}};
	}
}
