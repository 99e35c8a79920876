/* Tables beneath others: what a deletion takes along by foreign keys (CASCADE, SET NULL), or what it cannot leave
 * behind, the merge does not see, since it knows the rows of change-sets alone. So it says which change-sets
 * of a batch must not be judged in one transaction with those before. */
#include <stdlib.h>
#include <string.h>

#include "hub/merge_internal.h"

static bool refers(const struct merge *m, uint32_t table, uint32_t top, const bool *beneath)
{
	const struct schema_table *t = &m->schema->tables[table];

	for (int c = 0; c < t->column_count; c++) {
		int64_t parent = t->columns[c].ref_table == 0 ? -1 : merge_table_index(m->schema, t->columns[c].ref_table);

		if (parent >= 0 && ((uint32_t)parent == top || beneath[parent]))
			return true;
	}
	return false;
}

/* For each table: do its rows refer to rows of `top`, maybe over others? NULL: no memory. */
static const bool *beneath(struct merge *m, uint32_t top)
{
	uint32_t n = m->schema->table_count;
	struct table_note *note = &m->notes[top];

	if (note->beneath != NULL)
		return note->beneath;
	note->beneath = calloc(n, sizeof(bool));
	for (bool more = note->beneath != NULL; more;) {
		more = false;
		for (uint32_t i = 0; i < n; i++) {
			if (note->beneath[i] || !refers(m, i, top, note->beneath))
				continue;
			note->beneath[i] = true;
			more = true;
		}
	}
	return note->beneath;
}

void merge_note_write(struct merge *m, uint32_t table_index, const struct uuid *author, bool deletes)
{
	struct table_note *note = &m->notes[table_index];

	if (deletes) {
		note->deleted = m->deletes = true;
		return;
	}
	note->several |= note->written && memcmp(note->writer.b, author->b, sizeof(author->b)) != 0;
	note->written = true;
	note->writer = *author;
}

bool merge_deleted_above(struct merge *m, uint32_t table)
{
	int64_t index = merge_table_index(m->schema, table);

	for (uint32_t i = 0; m->deletes && index >= 0 && i < m->schema->table_count; i++) {
		const bool *b = m->notes[i].deleted ? beneath(m, i) : NULL;

		if (b != NULL && b[index])
			return true;
	}
	return false;
}

bool merge_written_beneath(struct merge *m, uint32_t table, const struct uuid *author)
{
	int64_t index = merge_table_index(m->schema, table);
	const bool *b = index < 0 ? NULL : beneath(m, (uint32_t)index);

	for (uint32_t i = 0; b != NULL && i < m->schema->table_count; i++) {
		const struct table_note *note = &m->notes[i];

		if (b[i] && note->written && (note->several || memcmp(note->writer.b, author->b, sizeof(author->b)) != 0))
			return true;
	}
	return false;
}

void merge_notes_free(struct merge *m)
{
	for (uint32_t i = 0; m->notes != NULL && i < m->schema->table_count; i++)
		free(m->notes[i].beneath);
	free(m->notes);
}
