#include "hub/cli_kept.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "protocol/row_pieces.h"

#define PART_BYTES_MAX ((size_t)64 << 20) /* of one part: its bytes, and what they are decoded to */

static const char part_sql[] =
	"SELECT encode(CASE WHEN r.staging IS NULL THEN r.body ELSE g.body END, 'hex') FROM ferry.rejected r "
	"LEFT JOIN ferry.stage g ON g.tenant_id = r.tenant_id AND g.device_id = r.device_id AND g.number = r.number "
	"AND g.staging = r.staging AND g.part = $4::int "
	"WHERE r.tenant_id = $1::uuid AND r.device_id = $2::uuid AND r.number = $3::bigint";

static int hex_of_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum ferry_error decode_part(struct kept *k, const char *hex, struct ferry_why *why)
{
	size_t n = hex ? strlen(hex) / 2 : 0;
	uint8_t *bytes = arena_alloc(&k->arena, n + 1);
	if (!bytes)
		return FERRY_NO_MEMORY;
	for (size_t i = 0; i < n; i++) {
		int high = hex_of_digit(hex[2 * i]), low = hex_of_digit(hex[2 * i + 1]);
		if (high < 0 || low < 0)
			return FERRY_CORRUPT;
		bytes[i] = (uint8_t)(high << 4 | low);
	}
	k->stored = n > 0;
	return n > 0 ? change_set_decode(&k->arena, bytes, n, &k->set, why) : FERRY_OK;
}

static enum ferry_error read_part(struct kept *k, uint32_t part, struct ferry_why *why)
{
	char number[24], place[16];
	const char *params[] = {k->tenant, k->device, number, place};
	struct pg_rows *rows = NULL;
	snprintf(number, sizeof(number), "%" PRId64, k->number);
	snprintf(place, sizeof(place), "%u", (unsigned)part);
	arena_reset(&k->arena);
	enum ferry_error e = pg_admin_query(k->db, part_sql, params, 4, &rows, why);
	if (e == FERRY_OK && pg_rows_count(rows) != 1)
		e = ferry_fail(why, FERRY_NOT_FOUND, "it was settled anew while it was read");
	if (e == FERRY_OK)
		e = decode_part(k, pg_rows_text(rows, 0, 0), why);
	pg_rows_free(rows);
	return e;
}

enum ferry_error kept_open(struct kept *k, struct ferry_why *why)
{
	arena_init(&k->arena, PART_BYTES_MAX);
	enum ferry_error e = read_part(k, 0, why);
	if (e == FERRY_OK && k->stored) {
		k->base = k->set.base_position;
		k->joined = k->set.joined;
	}
	return e;
}

void kept_deinit(struct kept *k)
{
	arena_deinit(&k->arena);
}

/* A row in pieces: told when its last one has come. */
static enum ferry_error join_piece(struct row_joiner *j, const struct block *piece, kept_row_fn *each, void *ctx, bool *go)
{
	bool whole = false;
	enum ferry_error e = row_join(j, piece, &whole);
	if (e != FERRY_OK || !whole)
		return e;
	struct block row = j->row;
	row.nums = j->nums;
	row.keys = &j->key;
	row.cells = j->cells;
	*go = each(ctx, &row, 0);
	row_joiner_deinit(j);
	return FERRY_OK;
}

static enum ferry_error each_of_part(const struct kept *k, struct row_joiner *j, kept_row_fn *each, void *ctx, bool *go)
{
	enum ferry_error e = FERRY_OK;
	for (uint32_t i = 0; e == FERRY_OK && *go && i < k->set.block_count; i++) {
		const struct block *b = &k->set.blocks[i];
		if (j->open || b->goes_on)
			e = join_piece(j, b, each, ctx, go);
		else
			for (uint32_t row = 0; *go && row < b->row_count; row++)
				*go = each(ctx, b, row);
	}
	return e;
}

enum ferry_error kept_each(struct kept *k, kept_row_fn *each, void *ctx, struct ferry_why *why)
{
	struct row_joiner joiner;
	bool go = true;
	enum ferry_error e = FERRY_OK;
	row_joiner_init(&joiner);
	for (uint32_t part = 0; e == FERRY_OK && go && part < k->parts; part++) {
		if (part > 0 || k->parts > 1)
			e = read_part(k, part, why);
		if (e == FERRY_OK)
			e = each_of_part(k, &joiner, each, ctx, &go);
	}
	row_joiner_deinit(&joiner);
	return e;
}
