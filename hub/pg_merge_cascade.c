/* What a foreign key takes along with rows that devices delete is kept where others changed it and the device
 * had not seen that (R4): the merge knows only the rows that change-sets name. Asked just before a statement
 * that deletes: what was moved away from there, or is deleted by itself, is so by then. */
#include "hub/pg_merge.h"

struct lists { /* of the rows that go: whose change-set deletes them, and what it had seen */
	struct uuid *devices;
	int64_t *numbers, *apart, *bases, *lost_from;
};

static void add(struct merge_op *m, struct lists *l, uint32_t i, const struct merge_stamp *by)
{
	const struct merge_entry *e = m->staged ? &m->entries[0] : pg_run_find(m, &by->author, by->number);
	const struct change_set *s = m->staged ? &m->parts[0] : e ? e->set : NULL;

	l->devices[i] = by->author;
	l->numbers[i] = by->number;
	l->apart[i] = e ? e->device->apart : 0;
	l->bases[i] = s ? s->base_position : 0;
	l->lost_from[i] = s ? s->lost_from : 0;
}

bool pg_write_cascades(struct merge_op *m, const struct merge_write *w, const struct merge_writes *all)
{
	struct pg_batch *b = &m->op.batch;
	struct lists l = {.devices = arena_array(&b->arena, w->row_count + 1u, sizeof(*l.devices)),
			  .numbers = arena_array(&b->arena, w->row_count + 1u, sizeof(*l.numbers)),
			  .apart = arena_array(&b->arena, w->row_count + 1u, sizeof(*l.apart)),
			  .bases = arena_array(&b->arena, w->row_count + 1u, sizeof(*l.bases)),
			  .lost_from = arena_array(&b->arena, w->row_count + 1u, sizeof(*l.lost_from))};

	if (!pg_catalog_above(m->op.catalog, w->table))
		return true;
	if (!l.devices || !l.numbers || !l.apart || !l.bases || !l.lost_from)
		return false;
	for (uint32_t i = 0; i < w->row_count; i++)
		add(m, &l, i, &all->stamps[w->stamps[i]]);
	pg_call(b, "SELECT ferry.keep_cascades($1, $2, $3, $4, $5, $6, $7, $8, $9)");
	pg_arg_uuid(b, &m->op.tenant);
	pg_arg_int8(b, m->tx);
	pg_arg_int4(b, (int32_t)w->table);
	pg_arg_uuids(b, w->keys, w->row_count);
	pg_arg_uuids(b, l.devices, w->row_count);
	pg_arg_int8s(b, l.numbers, w->row_count);
	pg_arg_int8s(b, l.apart, w->row_count);
	pg_arg_int8s(b, l.bases, w->row_count);
	pg_arg_int8s(b, l.lost_from, w->row_count);
	return true;
}

void pg_write_expect(struct merge_op *m, const struct merge_writes *w)
{
	struct pg_batch *b = &m->op.batch;

	for (uint32_t i = 0; i < w->write_count; i++) {
		if (w->writes[i].op != ROW_UPDATE)
			continue;
		pg_call(b, "SELECT ferry.expect_rows($1, $2, $3)");
		pg_arg_uuid(b, &m->op.tenant);
		pg_arg_int4(b, (int32_t)w->writes[i].table);
		pg_arg_uuids(b, w->writes[i].keys, w->writes[i].row_count);
	}
}
