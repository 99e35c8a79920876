#include "protocol/message.h"

#include <assert.h>
#include <string.h>

#include "protocol/fields.h"

struct kind {
	const char *name;
	const struct shape *shape;
};

static const struct kind kinds[] = {
	[MESSAGE_HELLO] = {"hello", &hello_shape},
	[MESSAGE_WELCOME] = {"welcome", &welcome_shape},
	[MESSAGE_SCHEMA] = {"schema", &schema_shape},
	[MESSAGE_PUSH] = {"push", &push_shape},
	[MESSAGE_ACK] = {"ack", &ack_shape},
	[MESSAGE_DELTA] = {"delta", &delta_shape},
	[MESSAGE_COMMIT] = {"commit", &commit_shape},
	[MESSAGE_CREDIT] = {"credit", &credit_shape},
	[MESSAGE_ERROR] = {"error", &error_shape},
	[MESSAGE_PING] = {"ping", &ping_shape},
	[MESSAGE_PONG] = {"pong", &pong_shape},
	[MESSAGE_FILL] = {"fill", &fill_shape},
	[MESSAGE_FILL_ACK] = {"fill-ack", &fill_ack_shape},
	[MESSAGE_COMPARE] = {"compare", &compare_shape},
	[MESSAGE_RANGES] = {"ranges", &ranges_shape},
	[MESSAGE_LEASE_ASK] = {"lease-ask", &lease_ask_shape},
	[MESSAGE_LEASE] = {"lease", &lease_shape},
	[MESSAGE_UNKNOWN] = {"unknown", &unknown_shape},
};

static const struct kind *kind_of(uint64_t type)
{
	if (type >= sizeof(kinds) / sizeof(kinds[0]) || kinds[type].shape == NULL)
		return NULL;
	return &kinds[type];
}

const char *message_type_name(int type)
{
	const struct kind *k = type < 0 ? NULL : kind_of((uint64_t)type);

	return k == NULL ? "unknown" : k->name;
}

const struct shape *message_shape(int type)
{
	const struct kind *k = type < 0 ? NULL : kind_of((uint64_t)type);

	return k == NULL ? NULL : k->shape;
}

/* Where the type's struct lies: all of them begin where the union does. */
static void *message_body(struct message *m)
{
	return &m->hello;
}

static void decoder_init(struct decoder *d, struct arena *arena, const uint8_t *bytes, size_t n)
{
	*d = (struct decoder){
		.arena = arena,
		.cells_left = FERRY_CELLS_MAX,
		.bases_left = FERRY_BASES_MAX,
		.blocks_left = FERRY_BLOCKS_MAX,
	};
	reader_init(&d->reader, bytes, n);
}

static enum ferry_error decoder_end(struct decoder *d, const char *what, struct ferry_why *why)
{
	reader_finish(&d->reader);
	if (d->reader.error == FERRY_OK)
		return FERRY_OK;
	return ferry_fail(why, d->reader.error, "%s: %s at byte %zu", what, d->reader.complaint,
			  reader_offset(&d->reader));
}

static const struct kind *decode_type(struct decoder *d, struct reader_map *map, struct message *out)
{
	const struct kind *k;
	uint64_t key, type;

	reader_map(&d->reader, map);
	if (!reader_key(&d->reader, map, &key) || key != 0) {
		reader_fail(&d->reader, FERRY_BAD_MESSAGE, "the message has no type");
		return NULL;
	}
	type = reader_uint(&d->reader);
	k = kind_of(type);
	if (k == NULL)
		reader_fail(&d->reader, FERRY_UNKNOWN_MESSAGE, "the message type is unknown");
	else
		out->type = (enum message_type)type;
	return k;
}

enum ferry_error message_decode(struct arena *arena, const uint8_t *bytes, size_t n, struct message *out,
				struct ferry_why *why)
{
	struct message m;
	struct decoder d;
	struct reader_map map;
	const struct kind *k;
	enum ferry_error error;

	memset(&m, 0, sizeof(m));
	decoder_init(&d, arena, bytes, n);
	k = decode_type(&d, &map, &m);
	if (d.reader.error == FERRY_OK)
		shape_decode_rest(&d, k->shape, &map, message_body(&m));
	error = decoder_end(&d, k == NULL ? "message" : k->name, why);
	if (error == FERRY_OK)
		*out = m;
	return error;
}

bool message_optional(const uint8_t *bytes, size_t n, uint32_t *out_type)
{
	struct reader_map map;
	struct reader r;
	uint64_t key, type;

	reader_init(&r, bytes, n);
	reader_map(&r, &map);
	if (!reader_key(&r, &map, &key) || key != 0)
		return false;
	type = reader_uint(&r);
	if (r.error != FERRY_OK || type < MESSAGE_OPTIONAL_MIN || type > MESSAGE_OPTIONAL_MAX || kind_of(type) != NULL)
		return false;
	while (reader_key(&r, &map, &key))
		reader_skip(&r);
	reader_finish(&r);
	if (r.error != FERRY_OK)
		return false;
	*out_type = (uint32_t)type;
	return true;
}

int protocol_version_common(int min, int max, int other_min, int other_max)
{
	int highest = max < other_max ? max : other_max;

	return highest >= min && highest >= other_min ? highest : 0;
}

/* All or nothing: what did not fit is taken back, and the buffer serves on. */
static enum ferry_error encoded(struct buffer *out, size_t start)
{
	if (!out->overflowed)
		return FERRY_OK;
	out->n = start;
	out->overflowed = false;
	return FERRY_MESSAGE_TOO_LARGE;
}

struct totals {
	uint64_t blocks, cells, bases;
};

static void add_blocks(struct totals *t, const struct block *blocks, uint32_t count)
{
	t->blocks += count;
	for (uint32_t i = 0; i < count; i++) {
		t->cells += ((uint64_t)blocks[i].column_count + blocks[i].old_count) * blocks[i].row_count;
		t->bases += blocks[i].base_count;
	}
}

static bool within_limits(const struct totals *t)
{
	return t->blocks <= FERRY_BLOCKS_MAX && t->cells <= FERRY_CELLS_MAX && t->bases <= FERRY_BASES_MAX;
}

static bool message_within_limits(const struct message *m)
{
	struct totals t = {0};

	if (m->type == MESSAGE_DELTA)
		add_blocks(&t, m->delta.blocks, m->delta.block_count);
	if (m->type == MESSAGE_FILL)
		add_blocks(&t, &m->fill.block, 1);
	for (uint32_t i = 0; m->type == MESSAGE_PUSH && i < m->push.set_count; i++)
		add_blocks(&t, m->push.sets[i].blocks, m->push.sets[i].block_count);
	return within_limits(&t);
}

enum ferry_error message_encode(const struct message *m, struct buffer *out)
{
	const struct kind *k = kind_of(m->type);
	const void *body = &m->hello;
	size_t start = out->n;

	assert(k != NULL);
	assert(k->shape->check == NULL || k->shape->check(body) == NULL);
	if (!message_within_limits(m))
		return FERRY_MESSAGE_TOO_LARGE;
	writer_map(out, 1 + shape_count_fields(k->shape, body));
	writer_uint(out, 0);
	writer_uint(out, m->type);
	shape_encode_fields(k->shape, body, out);
	return encoded(out, start);
}

enum ferry_error change_set_encode(const struct change_set *s, struct buffer *out)
{
	struct totals t = {0};
	size_t start = out->n;

	add_blocks(&t, s->blocks, s->block_count);
	if (!within_limits(&t))
		return FERRY_MESSAGE_TOO_LARGE;
	shape_encode(&change_set_shape, s, out);
	return encoded(out, start);
}

enum ferry_error change_set_decode(struct arena *arena, const uint8_t *bytes, size_t n, struct change_set *out,
				   struct ferry_why *why)
{
	struct change_set s;
	struct decoder d;
	enum ferry_error error;

	memset(&s, 0, sizeof(s));
	decoder_init(&d, arena, bytes, n);
	shape_decode(&d, &change_set_shape, &s);
	error = decoder_end(&d, "change-set", why);
	if (error == FERRY_OK)
		*out = s;
	return error;
}
