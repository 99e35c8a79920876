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

static void keep_block(struct merge_op *m, const struct merge_entry *e, const struct change_set *s, const struct block *b)
{
	struct pg_batch *batch = &m->op.batch;
	struct uuid *keys = arena_array(&batch->arena, b->row_count + 1u, sizeof(*keys));
	uint32_t n = 0;

	if (!keys) {
		batch->full = true;
		return;
	}
	for (uint32_t r = 0; r < b->row_count; r++) {
		if (merge_takes_away(m->merge, b->table, &b->keys[r]))
			keys[n++] = b->keys[r];
	}
	if (n == 0)
		return;
	pg_call(batch, "SELECT ferry.keep_cascaded($1, $2, $3, $4, $5, $6, $7, $8, $9)");
	pg_arg_uuid(batch, &m->op.tenant);
	pg_arg_int8(batch, m->tx);
	pg_arg_uuid(batch, &e->item->device);
	pg_arg_int8(batch, e->item->number);
	pg_arg_int8(batch, e->device->apart);
	pg_arg_int8(batch, s->base_position);
	pg_arg_int8(batch, s->lost_from);
	pg_arg_int4(batch, (int32_t)b->table);
	pg_arg_uuids(batch, keys, n);
}

void pg_write_cascades(struct merge_op *m, const struct merge_entry *e, const struct change_set *s)
{
	for (uint32_t i = 0; i < s->block_count; i++) {
		if (s->blocks[i].op == ROW_DELETE && is_referred_to(m->op.catalog, s->blocks[i].table))
			keep_block(m, e, s, &s->blocks[i]);
	}
}
