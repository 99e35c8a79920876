/* Random messages of every type from a seed, for round trips and fuzzing. All
 * memory comes from an arena. Not cryptographic: a test must replay. */
#ifndef FERRY_TESTS_RANDOM_MESSAGE_H
#define FERRY_TESTS_RANDOM_MESSAGE_H

#include <math.h>
#include <string.h>

#include "protocol/message.h"

struct rng {
	uint64_t state;
};

static inline uint64_t rng_next(struct rng *r) /* splitmix64 */
{
	uint64_t z = r->state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

static inline uint32_t rng_below(struct rng *r, uint32_t n)
{
	return n == 0 ? 0 : (uint32_t)(rng_next(r) % n);
}

static inline bool rng_bool(struct rng *r)
{
	return rng_next(r) & 1;
}

/* Non-negative, of any magnitude. */
static inline int64_t rng_number(struct rng *r)
{
	return (int64_t)(rng_next(r) >> (1 + rng_below(r, 63)));
}

static inline struct uuid rng_uuid(struct rng *r)
{
	struct uuid id;
	uint64_t a = rng_next(r), b = rng_next(r);

	memcpy(id.b, &a, 8);
	memcpy(id.b + 8, &b, 8);
	return id;
}

static inline const char *rng_text(struct rng *r, struct arena *a)
{
	static const struct {
		char bytes[5];
		uint8_t n;
	} pieces[] = {{"units", 5}, {"a", 1}, {"\xc3\xa9", 2}, {"\xe2\x82\xac", 3}, {"\xf0\x9f\x9a\xa2", 4}, {"0", 1}, {" ", 1}};
	char text[64];
	size_t n = 0;

	for (uint32_t i = rng_below(r, 8); i > 0; i--) {
		uint32_t k = rng_below(r, 7);

		memcpy(text + n, pieces[k].bytes, pieces[k].n);
		n += pieces[k].n;
	}
	return arena_text(a, text, n);
}

static inline const char *rng_name(struct rng *r, struct arena *a)
{
	const char *name = rng_text(r, a);

	return name[0] == '\0' ? "name" : name;
}

static inline struct value rng_value(struct rng *r, struct arena *a)
{
	static const double floats[] = {0.0, -0.0, 1.5, -1e300, INFINITY, -INFINITY, 5e-324};
	const char *text;
	uint8_t *bytes;
	uint32_t n;

	switch (rng_below(r, 7)) {
	case 0:
		return value_null();
	case 1:
		return (struct value){.kind = VALUE_BOOL, .b = rng_bool(r)};
	case 2:
		return value_int(rng_bool(r) ? rng_number(r) : -1 - rng_number(r));
	case 3:
		return (struct value){.kind = VALUE_FLOAT, .f = floats[rng_below(r, 7)]};
	case 4:
		n = rng_below(r, 40);
		bytes = arena_alloc(a, n);
		for (uint32_t i = 0; i < n; i++)
			bytes[i] = (uint8_t)rng_next(r);
		return value_bytes(bytes, n);
	default:
		text = rng_text(r, a);
		return value_text(text, strlen(text));
	}
}

static inline uint16_t *rng_nums(struct rng *r, struct arena *a, uint32_t count)
{
	uint16_t *nums = arena_array(a, count, sizeof(*nums));
	uint32_t num = 0;

	for (uint32_t i = 0; i < count; i++) {
		num += 1 + rng_below(r, 30);
		nums[i] = (uint16_t)num;
	}
	return nums;
}

static inline struct value *rng_cells(struct rng *r, struct arena *a, uint32_t columns, uint32_t rows)
{
	struct value *cells = arena_array(a, (size_t)columns * rows, sizeof(*cells));

	for (uint32_t c = 0; c < columns; c++) {
		bool constant = rng_below(r, 3) == 0;

		for (uint32_t i = 0; i < rows; i++)
			cells[c * rows + i] = constant && i > 0 ? cells[c * rows] : rng_value(r, a);
	}
	return cells;
}

static inline void rng_authorship(struct rng *r, struct arena *a, struct block *b)
{
	struct row_base *bases = arena_array(a, b->row_count, sizeof(*bases));
	int64_t *at = arena_array(a, b->row_count, sizeof(*at));

	for (uint32_t i = 0; i < b->row_count; i++)
		at[i] = rng_number(r) / 2;
	b->at = rng_bool(r) ? at : NULL;
	if (b->op == ROW_UPDATE && rng_bool(r)) {
		b->old_count = (uint16_t)(1 + rng_below(r, b->column_count));
		b->old_nums = b->nums;
		b->olds = rng_cells(r, a, b->old_count, b->row_count);
	}
	b->bases = bases;
	for (uint32_t i = 0; i < b->row_count; i++) {
		uint16_t num = b->column_count == 0 ? 0 : b->nums[rng_below(r, b->column_count)];

		if (rng_below(r, 4) == 0)
			bases[b->base_count++] = (struct row_base){i, rng_bool(r) ? num : 0, rng_number(r)};
	}
}

static inline struct block rng_block(struct rng *r, struct arena *a, enum row_op op, bool authorship)
{
	struct block b = {.table = 1 + rng_below(r, 1000), .op = op, .row_count = 1 + rng_below(r, 12)};
	struct uuid *keys = arena_array(a, b.row_count, sizeof(*keys));

	for (uint32_t i = 0; i < b.row_count; i++) {
		keys[i] = rng_uuid(r);
		keys[i].b[0] = (uint8_t)i; /* ascending, as a fill needs it */
	}
	b.keys = keys;
	if (op == ROW_INSERT || op == ROW_UPDATE)
		b.column_count = (uint16_t)((op == ROW_UPDATE) + rng_below(r, 10));
	b.nums = rng_nums(r, a, b.column_count);
	b.cells = rng_cells(r, a, b.column_count, b.row_count);
	if (authorship)
		rng_authorship(r, a, &b);
	return b;
}

static inline struct block *rng_blocks(struct rng *r, struct arena *a, uint32_t count, uint32_t ops, bool authorship)
{
	struct block *blocks = arena_array(a, count, sizeof(*blocks));

	for (uint32_t i = 0; i < count; i++)
		blocks[i] = rng_block(r, a, (enum row_op)(1 + rng_below(r, ops)), authorship);
	return blocks;
}

static inline int64_t *rng_ascending(struct rng *r, struct arena *a, uint32_t count, int64_t from)
{
	int64_t *numbers = arena_array(a, count, sizeof(*numbers));

	for (uint32_t i = 0; i < count; i++)
		numbers[i] = from += 1 + rng_below(r, 1000);
	return numbers;
}

static inline struct change_set rng_change_set(struct rng *r, struct arena *a, int64_t number)
{
	struct change_set s = {
		.number = number,
		.base_position = rng_number(r),
		.at = rng_number(r) / 2,
		.joined = rng_bool(r),
		.depends_count = rng_below(r, 4),
		.after_count = rng_below(r, 3),
		.block_count = rng_below(r, 4),
		.step = rng_bool(r) ? rng_number(r) : 0,
	};

	if (rng_bool(r)) { /* a replay */
		s.old_position = 1 + rng_number(r) / 2;
		s.lost_from = rng_number(r) / 2;
		s.old_verdict = 1 + (int)rng_below(r, 4);
		s.old_code = s.old_verdict == VERDICT_REJECTED ? FERRY_UNIQUE : FERRY_OK;
		s.old_sentence = rng_bool(r) ? rng_text(r, a) : NULL;
		s.last_position = rng_bool(r) ? 1 + rng_number(r) / 2 : 0;
	}
	s.depends = rng_ascending(r, a, s.depends_count, 0);
	s.after = rng_ascending(r, a, s.after_count, 0);
	s.gap_count = 2 * rng_below(r, 3);
	s.gaps = rng_ascending(r, a, s.gap_count, 0);
	s.blocks = rng_blocks(r, a, s.block_count, ROW_DELETE, true);
	return s;
}

static inline void rng_push(struct rng *r, struct arena *a, struct message_push *m)
{
	struct change_set *sets;
	int64_t number = 5000;

	m->set_count = 1 + rng_below(r, 5);
	sets = arena_array(a, m->set_count, sizeof(*sets));
	for (uint32_t i = 0; i < m->set_count; i++)
		sets[i] = rng_change_set(r, a, number += 1 + rng_below(r, 3));
	sets[m->set_count - 1].more = rng_bool(r);
	sets[0].part = rng_below(r, 3);
	m->sets = sets;
}

static inline struct conflict *rng_conflicts(struct rng *r, struct arena *a, uint32_t count)
{
	struct conflict *conflicts = arena_array(a, count, sizeof(*conflicts));

	for (uint32_t i = 0; i < count; i++)
		conflicts[i] = (struct conflict){
			.table = 1 + rng_below(r, 99),
			.key = rng_uuid(r),
			.num = (uint16_t)rng_below(r, 70),
			.kind = (enum conflict_kind)(1 + rng_below(r, 3)),
			.device_won = rng_bool(r),
			.device_value = rng_value(r, a),
			.hub_value = rng_value(r, a),
			.other = rng_bool(r) ? rng_uuid(r) : (struct uuid){{0}},
			.left_out = rng_bool(r),
		};
	return conflicts;
}

static inline struct settled *rng_settled(struct rng *r, struct arena *a, uint32_t count, int64_t position_max)
{
	struct settled *settled = arena_array(a, count, sizeof(*settled));

	for (uint32_t i = 0; i < count; i++) {
		struct settled *s = &settled[i];

		s->number = 1 + (rng_number(r) >> 1);
		s->verdict = (enum verdict)(1 + rng_below(r, 4));
		s->position = rng_number(r) % (position_max + 1);
		s->code = s->verdict >= VERDICT_REJECTED ? FERRY_UNIQUE : FERRY_OK;
		s->sentence = rng_bool(r) ? rng_text(r, a) : NULL;
		if (s->code == FERRY_UNIQUE && rng_bool(r)) {
			s->mine = rng_uuid(r);
			s->other = rng_uuid(r);
		}
		s->conflict_count = rng_below(r, 3);
		s->conflicts = rng_conflicts(r, a, s->conflict_count);
	}
	return settled;
}

static inline struct scope_sum *rng_sums(struct rng *r, struct arena *a, uint32_t count)
{
	struct scope_sum *sums = arena_array(a, count, sizeof(*sums));

	for (uint32_t i = 0; i < count; i++) {
		uint64_t *numbers = arena_array(a, 5, sizeof(*numbers));

		for (uint32_t k = 0; k < 5; k++)
			numbers[k] = rng_next(r);
		sums[i] = (struct scope_sum){rng_text(r, a), 1 + rng_below(r, 50), rng_number(r), numbers, rng_below(r, 6)};
	}
	return sums;
}

static inline void rng_commit(struct rng *r, struct arena *a, struct message_commit *m)
{
	m->position = rng_number(r) >> 1;
	m->mark = (int64_t)rng_next(r);
	m->settled_count = rng_below(r, 4);
	m->settled = rng_settled(r, a, m->settled_count, m->position);
	m->sum_count = rng_below(r, 4);
	m->sums = rng_sums(r, a, m->sum_count);
	m->clock = rng_number(r);
	m->fill_done = rng_bool(r);
	m->backed_up = rng_bool(r) ? rng_number(r) : 0;
}

static inline const char *const *rng_texts(struct rng *r, struct arena *a, uint32_t count)
{
	const char **texts = arena_array(a, count, sizeof(*texts));

	for (uint32_t i = 0; i < count; i++)
		texts[i] = rng_text(r, a);
	return texts;
}

static inline struct schema_table rng_table(struct rng *r, struct arena *a, uint32_t number)
{
	uint16_t count = (uint16_t)rng_below(r, 8);
	struct schema_column *columns = arena_array(a, count, sizeof(*columns));
	const uint16_t *nums = rng_nums(r, a, count);

	for (uint16_t i = 0; i < count; i++) {
		struct schema_column *c = &columns[i];

		c->num = nums[i];
		c->name = rng_name(r, a);
		c->kind = (enum column_kind)rng_below(r, KIND_COUNT);
		c->not_null = rng_bool(r);
		c->read_only = rng_bool(r);
		c->has_default = rng_bool(r);
		c->default_sql = rng_bool(r) ? rng_text(r, a) : NULL;
		c->label_count = rng_below(r, 4);
		c->labels = rng_texts(r, a, c->label_count);
		c->ref_table = rng_below(r, 3);
		c->filled = rng_value(r, a);
	}
	return (struct schema_table){number, rng_name(r, a), rng_name(r, a), 9999, rng_bool(r), rng_below(r, 9), columns, count};
}

static inline void rng_schema(struct rng *r, struct arena *a, struct schema *m)
{
	uint32_t count = rng_below(r, 5);
	struct schema_table *tables = arena_array(a, count, sizeof(*tables));

	for (uint32_t i = 0; i < count; i++)
		tables[i] = rng_table(r, a, i * 3 + 1);
	*m = (struct schema){rng_next(r) | 1, tables, count, rng_number(r)};
}

static inline void rng_hello(struct rng *r, struct arena *a, struct message_hello *m)
{
	m->version_min = 1;
	m->version_max = 1 + (int)rng_below(r, 3);
	m->agent_version = rng_text(r, a);
	m->incarnation = rng_uuid(r);
	m->epoch = rng_bool(r) ? rng_uuid(r) : (struct uuid){0};
	m->schema_hash = rng_next(r);
	m->position = rng_bool(r) ? rng_number(r) : -1;
	m->mark = (int64_t)rng_next(r);
	m->last_number = rng_number(r);
	m->clock = (int64_t)rng_next(r);
	m->credit_bytes = rng_below(r, 1 << 30);
	m->fill_position = rng_number(r);
	m->fill_table = rng_below(r, 3);
	m->fill_after = rng_uuid(r);
	m->fill_scope = rng_bool(r) ? rng_text(r, a) : NULL;
	m->refill = rng_bool(r);
	m->scope_count = rng_below(r, 4);
	m->scopes = rng_texts(r, a, m->scope_count);
	m->fill_scope_count = rng_below(r, 4);
	m->fill_scopes = rng_texts(r, a, m->fill_scope_count);
	m->fill_beside = rng_bool(r);
	m->step = rng_bool(r) ? rng_number(r) : 0;
	m->past_count = m->past_mark_count = rng_below(r, 5);
	m->past = rng_ascending(r, a, m->past_count, 0);
	m->past_marks = rng_ascending(r, a, m->past_count, -77);
	m->life = rng_number(r);
	m->life_mark_count = rng_below(r, 4);
	m->life_marks = rng_ascending(r, a, m->life_mark_count, -5);
	m->next_mark = (int64_t)rng_next(r);
	m->comparable = rng_bool(r);
	m->rewound = rng_bool(r);
}

static inline void rng_welcome(struct rng *r, struct arena *a, struct message_welcome *m)
{
	m->version = 1;
	m->hub_version = rng_text(r, a);
	m->tenant = rng_uuid(r);
	m->device = rng_uuid(r);
	m->epoch = rng_uuid(r);
	m->schema_hash = rng_next(r);
	m->mode = (enum welcome_mode)(1 + rng_below(r, 3));
	m->code = rng_bool(r) ? FERRY_PRUNED : FERRY_OK;
	m->settled = rng_number(r) / 2;
	m->settled_above_count = rng_below(r, 5);
	m->settled_above = rng_ascending(r, a, m->settled_above_count, m->settled);
	m->scope_count = rng_below(r, 4);
	m->scopes = rng_texts(r, a, m->scope_count);
	m->credit_bytes = rng_below(r, 1 << 30);
	m->message_bytes_max = FERRY_MESSAGE_BYTES_MAX;
	m->clock = (int64_t)rng_next(r);
	m->held = rng_bool(r) ? FERRY_TENANT_ARCHIVED : FERRY_OK;
	m->compares = rng_bool(r);
	m->compared = rng_bool(r);
	m->features = rng_bool(r) ? rng_next(r) : 0;
	m->common = rng_number(r);
	m->common_mark = (int64_t)rng_next(r);
	m->backed_up = rng_number(r);
	m->life = rng_number(r);
	m->since = rng_bool(r) ? rng_number(r) : 0;
	m->adopted = rng_bool(r);
	m->adding_count = rng_below(r, 4);
	m->adding = rng_texts(r, a, m->adding_count);
	m->adding_goes_on = rng_bool(r);
}

static inline struct key_range *rng_ranges(struct rng *r, struct arena *a, uint32_t count, bool answer)
{
	struct key_range *ranges = arena_array(a, count, sizeof(*ranges));

	for (uint32_t i = 0; i < count; i++) {
		struct uuid x = rng_uuid(r), y = rng_uuid(r);
		bool ordered = uuid_compare(&x, &y) < 0;

		ranges[i] = (struct key_range){.after = ordered ? x : y, .upto = ordered ? y : x};
		if (rng_below(r, 3) == 0)
			ranges[i].upto = (struct uuid){0};
		ranges[i].rows = answer ? rng_below(r, 3) : 0;
		ranges[i].hash = ranges[i].rows > 0 ? rng_next(r) : 0;
	}
	return ranges;
}

static inline void rng_compare(struct rng *r, struct arena *a, struct message_compare *m)
{
	struct wanted_key *keys;

	m->scope = rng_text(r, a);
	m->table = 1 + rng_below(r, 9);
	m->range_count = rng_below(r, FERRY_COMPARE_RANGES_MAX + 1);
	m->ranges = rng_ranges(r, a, m->range_count, false);
	m->key_count = rng_below(r, 5);
	keys = arena_array(a, m->key_count, sizeof(*keys));
	for (uint32_t i = 0; i < m->key_count; i++)
		keys[i].key = rng_uuid(r);
	m->keys = keys;
	m->sums = rng_bool(r);
}

static inline void rng_message(struct rng *r, struct arena *a, struct message *m)
{
	memset(m, 0, sizeof(*m));
	m->type = (enum message_type)(1 + rng_below(r, MESSAGE_UNKNOWN));
	switch (m->type) {
	case MESSAGE_HELLO:
		rng_hello(r, a, &m->hello);
		break;
	case MESSAGE_WELCOME:
		rng_welcome(r, a, &m->welcome);
		break;
	case MESSAGE_SCHEMA:
		rng_schema(r, a, &m->schema);
		break;
	case MESSAGE_PUSH:
		rng_push(r, a, &m->push);
		break;
	case MESSAGE_ACK:
		m->ack.settled_count = rng_below(r, 5);
		m->ack.settled = rng_settled(r, a, m->ack.settled_count, INT64_MAX - 1);
		break;
	case MESSAGE_DELTA:
		m->delta.scope = rng_text(r, a);
		m->delta.from = rng_number(r) / 2;
		m->delta.to = m->delta.from + rng_below(r, 100);
		m->delta.block_count = rng_below(r, 5);
		m->delta.blocks = rng_blocks(r, a, m->delta.block_count, ROW_LEFT, false);
		break;
	case MESSAGE_COMMIT:
		rng_commit(r, a, &m->commit);
		break;
	case MESSAGE_CREDIT:
		m->credit.bytes = rng_below(r, 1 << 30);
		break;
	case MESSAGE_ERROR:
		m->error = (struct message_error){FERRY_OVERLOADED, rng_text(r, a), rng_bool(r), rng_below(r, 60000)};
		break;
	case MESSAGE_PING:
		m->ping = (struct message_ping){.id = rng_number(r), .sent = (int64_t)rng_next(r)};
		break;
	case MESSAGE_PONG:
		m->ping = (struct message_ping){rng_number(r), (int64_t)rng_next(r), (int64_t)rng_next(r), rng_number(r)};
		break;
	case MESSAGE_FILL:
		m->fill.scope = rng_text(r, a);
		m->fill.block = rng_block(r, a, ROW_INSERT, false);
		m->fill.position = rng_number(r);
		m->fill.table_done = rng_bool(r);
		break;
	case MESSAGE_FILL_ACK:
		m->fill_ack = (struct message_fill_ack){1 + rng_below(r, 9), rng_uuid(r)};
		break;
	case MESSAGE_COMPARE:
		rng_compare(r, a, &m->compare);
		break;
	case MESSAGE_RANGES:
		m->ranges = (struct message_ranges){.scope = rng_text(r, a), .table = 1 + rng_below(r, 9), .position = rng_number(r),
						    .range_count = rng_below(r, 5)};
		m->ranges.ranges = rng_ranges(r, a, m->ranges.range_count, true);
		m->ranges.sum_count = rng_below(r, 3);
		m->ranges.sums = rng_sums(r, a, m->ranges.sum_count);
		m->ranges.all_sums = rng_bool(r);
		break;
	case MESSAGE_LEASE_ASK:
		m->lease_ask = (struct message_lease_ask){1 + rng_below(r, 9), (uint16_t)(1 + rng_below(r, 62))};
		break;
	case MESSAGE_LEASE:
		m->lease = (struct message_lease){.table = 1 + rng_below(r, 9), .num = (uint16_t)(1 + rng_below(r, 62)),
						  .first = rng_below(r, 1000), .last = 1000 + rng_below(r, 1000),
						  .step = 1 + rng_below(r, 9), .padding = rng_below(r, 19), .head = rng_text(r, a),
						  .tail = rng_text(r, a), .until = (int64_t)rng_next(r)};
		break;
	case MESSAGE_UNKNOWN:
		m->unknown.message_type = MESSAGE_OPTIONAL_MIN + rng_below(r, MESSAGE_OPTIONAL_MAX - MESSAGE_OPTIONAL_MIN + 1);
		break;
	}
}

#endif
