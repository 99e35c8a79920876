/* What a foreign key takes along with rows that a device deletes is kept where others changed it and the
 * device had not seen that (R4): the merge knows only the rows that change-sets name. */
#include "hub/pg_merge.h"

static bool is_referred_to(const struct pg_catalog *c, uint32_t table)
{
	for (uint32_t i = 0; i < c->table_count; i++) {
		for (uint16_t k = 0; k < c->tables[i].column_count; k++) {
			if (c->hub.schema.tables[i].columns[k].ref_table == table)
				return true;
		}
	}
	return false;
}

/* It had not been seen as it is: its values are kept as it is. */
static bool is_kept(const struct merge_outcome *o, uint32_t table, const struct uuid *key)
{
	for (uint32_t i = 0; i < o->conflict_count; i++) {
		if (o->conflicts[i].table == table && uuid_equal(&o->conflicts[i].key, key))
			return true;
	}
	return false;
}

static void keep_block(struct merge_op *m, const struct merge_entry *e, const struct change_set *s, const struct merge_outcome *o,
		       const struct block *b)
{
	struct pg_batch *batch = &m->op.batch;
	struct uuid *keys = arena_array(&batch->arena, b->row_count + 1u, sizeof(*keys));
	struct uuid *above = arena_array(&batch->arena, b->row_count + 1u, sizeof(*above));
	uint32_t n = 0, above_count = 0;

	if (!keys || !above) {
		batch->full = true;
		return;
	}
	for (uint32_t r = 0; r < b->row_count; r++) {
		if (!merge_takes_away(m->merge, b->table, &b->keys[r]))
			continue;
		keys[n++] = b->keys[r];
		if (!is_kept(o, b->table, &b->keys[r]))
			above[above_count++] = b->keys[r];
	}
	if (n == 0)
		return;
	pg_call(batch, "SELECT ferry.keep_cascaded($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)");
	pg_arg_uuid(batch, &m->op.tenant);
	pg_arg_int8(batch, m->tx);
	pg_arg_uuid(batch, &e->item->device);
	pg_arg_int8(batch, e->item->number);
	pg_arg_int8(batch, e->device->apart);
	pg_arg_int8(batch, s->base_position);
	pg_arg_int8(batch, s->lost_from);
	pg_arg_int4(batch, (int32_t)b->table);
	pg_arg_uuids(batch, keys, n);
	pg_arg_uuids(batch, above, above_count);
}

void pg_write_cascades(struct merge_op *m, const struct merge_entry *e, const struct change_set *s,
		       const struct merge_outcome *o)
{
	for (uint32_t i = 0; i < s->block_count; i++) {
		if (s->blocks[i].op == ROW_DELETE && is_referred_to(m->op.catalog, s->blocks[i].table))
			keep_block(m, e, s, o, &s->blocks[i]);
	}
}
