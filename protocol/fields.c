#include "protocol/fields.h"

#include <assert.h>
#include <string.h>

static void fail_memory(struct decoder *d)
{
	if (d->arena->full)
		reader_fail(&d->reader, FERRY_MESSAGE_TOO_LARGE, "the message takes more memory than its limit");
	else
		reader_fail(&d->reader, FERRY_NO_MEMORY, "no memory is left");
}

void *decoder_array(struct decoder *d, size_t count, size_t size)
{
	void *p = arena_array(d->arena, count, size);

	if (p == NULL)
		fail_memory(d);
	return p;
}

const char *check_ascending(const int64_t *numbers, uint32_t count, int64_t min, int64_t max)
{
	for (uint32_t i = 0; i < count; i++) {
		if (numbers[i] < min || numbers[i] > max)
			return "a number in a list is out of range";
		if (i > 0 && numbers[i] <= numbers[i - 1])
			return "a list of numbers is not ascending";
	}
	return NULL;
}

uint32_t field_count(const struct field *f, const void *p)
{
	uint32_t count;
	uint16_t count16;

	if (!f->count16) {
		memcpy(&count, (const char *)p + f->count_offset, sizeof(count));
		return count;
	}
	memcpy(&count16, (const char *)p + f->count_offset, sizeof(count16));
	return count16;
}

static void set_count(const struct field *f, void *p, uint32_t count)
{
	uint16_t count16 = (uint16_t)count;

	if (f->count16)
		memcpy((char *)p + f->count_offset, &count16, sizeof(count16));
	else
		memcpy((char *)p + f->count_offset, &count, sizeof(count));
}

int64_t field_number(const struct field *f, const void *p)
{
	const char *member = (const char *)p + f->offset;
	uint16_t u16;
	uint32_t u32;
	int64_t i64;
	int i;

	switch (f->type) {
	case FIELD_BOOL:
		return *(const bool *)member;
	case FIELD_U16:
		memcpy(&u16, member, sizeof(u16));
		return u16;
	case FIELD_U32:
		memcpy(&u32, member, sizeof(u32));
		return u32;
	case FIELD_INT:
		memcpy(&i, member, sizeof(i));
		return i;
	default:
		memcpy(&i64, member, sizeof(i64));
		return i64;
	}
}

static void set_number(const struct field *f, void *member, int64_t v)
{
	uint16_t u16 = (uint16_t)v;
	uint32_t u32 = (uint32_t)v;
	int i = (int)v;

	switch (f->type) {
	case FIELD_U16:
		memcpy(member, &u16, sizeof(u16));
		break;
	case FIELD_U32:
		memcpy(member, &u32, sizeof(u32));
		break;
	case FIELD_INT:
		memcpy(member, &i, sizeof(i));
		break;
	default:
		memcpy(member, &v, sizeof(v));
		break;
	}
}

static bool in_range(const struct field *f, int64_t v)
{
	static const struct {
		int64_t min, max;
	} natural[] = {
		[FIELD_U16] = {0, UINT16_MAX},
		[FIELD_U32] = {0, UINT32_MAX},
		[FIELD_INT] = {INT32_MIN, INT32_MAX},
		[FIELD_I64] = {INT64_MIN, INT64_MAX},
	};

	if (v < natural[f->type].min || v > natural[f->type].max)
		return false;
	return (f->min == 0 && f->max == 0) || (v >= f->min && v <= f->max);
}

static void decode_number(struct decoder *d, const struct field *f, void *member)
{
	int64_t v = reader_int(&d->reader);

	if (in_range(f, v))
		set_number(f, member, v);
	else
		reader_fail(&d->reader, FERRY_BAD_MESSAGE, "a number is out of range");
}

static void decode_u64(struct decoder *d, const struct field *f, void *member)
{
	uint64_t v = reader_uint(&d->reader);

	if (f->max != 0 && v > (uint64_t)f->max)
		reader_fail(&d->reader, FERRY_BAD_MESSAGE, "a number is out of range");
	memcpy(member, &v, sizeof(v));
}

static const char *decode_text(struct decoder *d)
{
	uint32_t n;
	const uint8_t *p = reader_text(&d->reader, &n);
	char *text;

	if (d->reader.error != FERRY_OK)
		return NULL;
	if (n > 0 && memchr(p, 0, n) != NULL) {
		reader_fail(&d->reader, FERRY_BAD_MESSAGE, "a NUL in text that is no cell");
		return NULL;
	}
	text = arena_text(d->arena, p, n);
	if (text == NULL)
		fail_memory(d);
	return text;
}

static void decode_uuid(struct decoder *d, struct uuid *out)
{
	uint32_t n;
	const uint8_t *p = reader_bytes(&d->reader, &n);

	if (d->reader.error != FERRY_OK)
		return;
	if (n == sizeof(*out))
		memcpy(out, p, sizeof(*out));
	else
		reader_fail(&d->reader, FERRY_BAD_MESSAGE, "a UUID that is not 16 bytes");
}

static void decode_u64s(struct decoder *d, const struct field *f, void *out)
{
	uint32_t n;
	const uint8_t *p = reader_bytes(&d->reader, &n);
	uint64_t *numbers;

	if (n % 8 != 0 || (f->max != 0 && n / 8 > f->max))
		reader_fail(&d->reader, FERRY_BAD_MESSAGE, "a list of sums of a wrong length");
	if (d->reader.error != FERRY_OK)
		return;
	numbers = decoder_array(d, n / 8, sizeof(*numbers));
	if (numbers == NULL)
		return;
	for (uint32_t i = 0; i < n; i++)
		numbers[i / 8] = numbers[i / 8] << 8 | p[i];
	memcpy((char *)out + f->offset, &numbers, sizeof(numbers));
	set_count(f, out, n / 8);
}

static void decode_element(struct decoder *d, const struct field *f, char *to)
{
	int64_t number;
	const char *text;

	if (f->type == FIELD_LIST) {
		shape_decode(d, f->shape, to);
	} else if (f->type == FIELD_I64S) {
		number = reader_int(&d->reader);
		memcpy(to, &number, sizeof(number));
	} else {
		text = decode_text(d);
		memcpy(to, &text, sizeof(text));
	}
}

static size_t element_size(const struct field *f)
{
	if (f->type == FIELD_LIST)
		return f->shape->size;
	return f->type == FIELD_I64S ? sizeof(int64_t) : sizeof(char *);
}

static void decode_list(struct decoder *d, const struct field *f, void *out)
{
	uint32_t count = reader_array(&d->reader);
	size_t size = element_size(f);
	char *list;

	if (count > (f->count16 ? UINT16_MAX : UINT32_MAX) || (f->max != 0 && count > f->max))
		reader_fail(&d->reader, FERRY_MESSAGE_TOO_LARGE, "a list is longer than its limit");
	if (d->reader.error != FERRY_OK)
		return;
	list = decoder_array(d, count, size);
	for (uint32_t i = 0; i < count && d->reader.error == FERRY_OK; i++)
		decode_element(d, f, list + i * size);
	reader_leave(&d->reader);
	memcpy((char *)out + f->offset, &list, sizeof(list));
	set_count(f, out, count);
}

static void decode_field(struct decoder *d, const struct field *f, void *out)
{
	char *member = (char *)out + f->offset;
	const char *text;

	switch (f->type) {
	case FIELD_BOOL:
		*(bool *)member = reader_bool(&d->reader);
		break;
	case FIELD_U16:
	case FIELD_U32:
	case FIELD_INT:
	case FIELD_I64:
		decode_number(d, f, member);
		break;
	case FIELD_U64:
		decode_u64(d, f, member);
		break;
	case FIELD_TEXT:
		text = decode_text(d);
		memcpy(member, &text, sizeof(text));
		break;
	case FIELD_UUID:
		decode_uuid(d, (struct uuid *)member);
		break;
	case FIELD_VALUE:
		reader_value(&d->reader, (struct value *)(void *)member);
		break;
	case FIELD_U64S:
		decode_u64s(d, f, out);
		break;
	case FIELD_I64S:
	case FIELD_TEXTS:
	case FIELD_LIST:
		decode_list(d, f, out);
		break;
	case FIELD_ONE:
		shape_decode(d, f->shape, member);
		break;
	}
}

static uint32_t required_fields(const struct shape *s)
{
	uint32_t required = 0;

	for (size_t i = 0; i < s->field_count; i++)
		required |= (uint32_t)s->fields[i].required << i;
	return required;
}

void shape_decode_rest(struct decoder *d, const struct shape *s, struct reader_map *m, void *out)
{
	uint32_t missing = required_fields(s);
	const char *complaint;
	uint64_t key;
	size_t i = 0;

	while (reader_key(&d->reader, m, &key)) {
		while (i < s->field_count && s->fields[i].key < key) /* both ascend */
			i++;
		if (i == s->field_count || s->fields[i].key != key) {
			reader_skip(&d->reader);
			continue;
		}
		missing &= ~(1u << i);
		decode_field(d, &s->fields[i], out);
	}
	if (missing != 0)
		reader_fail(&d->reader, FERRY_BAD_MESSAGE, "a required field is missing");
	if (d->reader.error != FERRY_OK || s->check == NULL)
		return;
	complaint = s->check(out);
	if (complaint != NULL)
		reader_fail(&d->reader, FERRY_BAD_MESSAGE, complaint);
}

void shape_decode(struct decoder *d, const struct shape *s, void *out)
{
	struct reader_map m;

	if (s->decode != NULL) {
		s->decode(d, out);
		return;
	}
	reader_map(&d->reader, &m);
	shape_decode_rest(d, s, &m, out);
}

bool field_is_default(const struct field *f, const void *p)
{
	const char *member = (const char *)p + f->offset;
	const char *text;
	uint64_t u64;

	switch (f->type) {
	case FIELD_BOOL:
	case FIELD_U16:
	case FIELD_U32:
	case FIELD_INT:
	case FIELD_I64:
		return field_number(f, p) == 0;
	case FIELD_U64:
		memcpy(&u64, member, sizeof(u64));
		return u64 == 0;
	case FIELD_TEXT:
		memcpy(&text, member, sizeof(text));
		return text == NULL;
	case FIELD_UUID:
		return uuid_is_zero((const struct uuid *)member);
	case FIELD_VALUE:
		return ((const struct value *)(const void *)member)->kind == VALUE_NULL;
	case FIELD_I64S:
	case FIELD_U64S:
	case FIELD_TEXTS:
	case FIELD_LIST:
		return field_count(f, p) == 0;
	case FIELD_ONE:
		return false;
	}
	return false;
}

static void encode_u64s(const uint64_t *numbers, uint32_t count, struct buffer *b)
{
	writer_bytes_head(b, (size_t)count * 8);
	for (uint32_t i = 0; i < count; i++) {
		uint8_t big_endian[8];

		for (unsigned k = 0; k < sizeof(big_endian); k++)
			big_endian[k] = (uint8_t)(numbers[i] >> (56 - 8 * k));
		buffer_append(b, big_endian, sizeof(big_endian));
	}
}

static void encode_element(const struct field *f, const char *from, struct buffer *b)
{
	int64_t number;
	const char *text;

	if (f->type == FIELD_LIST) {
		shape_encode(f->shape, from, b);
	} else if (f->type == FIELD_I64S) {
		memcpy(&number, from, sizeof(number));
		writer_int(b, number);
	} else {
		memcpy(&text, from, sizeof(text));
		writer_text(b, text, strlen(text));
	}
}

static void encode_list(const struct field *f, const void *p, struct buffer *b)
{
	uint32_t count = field_count(f, p);
	size_t size = element_size(f);
	const char *list;

	if (f->max != 0 && count > f->max) {
		b->overflowed = true;
		return;
	}
	memcpy(&list, (const char *)p + f->offset, sizeof(list));
	writer_array(b, count);
	for (uint32_t i = 0; i < count && !b->overflowed; i++)
		encode_element(f, list + i * size, b);
}

static void encode_field(const struct field *f, const void *p, struct buffer *b)
{
	const char *member = (const char *)p + f->offset;
	const uint64_t *numbers;
	const char *text;
	uint64_t u64;

	switch (f->type) {
	case FIELD_BOOL:
		writer_bool(b, *(const bool *)member);
		break;
	case FIELD_U16:
	case FIELD_U32:
	case FIELD_INT:
	case FIELD_I64:
		assert(in_range(f, field_number(f, p)));
		writer_int(b, field_number(f, p));
		break;
	case FIELD_U64:
		memcpy(&u64, member, sizeof(u64));
		writer_uint(b, u64);
		break;
	case FIELD_TEXT:
		memcpy(&text, member, sizeof(text));
		assert(text != NULL);
		writer_text(b, text, strlen(text));
		break;
	case FIELD_UUID:
		writer_bytes(b, member, sizeof(struct uuid));
		break;
	case FIELD_VALUE:
		writer_value(b, (const struct value *)(const void *)member);
		break;
	case FIELD_U64S:
		memcpy(&numbers, member, sizeof(numbers));
		encode_u64s(numbers, field_count(f, p), b);
		break;
	case FIELD_I64S:
	case FIELD_TEXTS:
	case FIELD_LIST:
		encode_list(f, p, b);
		break;
	case FIELD_ONE:
		shape_encode(f->shape, member, b);
		break;
	}
}

size_t shape_count_fields(const struct shape *s, const void *p)
{
	size_t count = 0;

	for (size_t i = 0; i < s->field_count; i++)
		count += s->fields[i].required || !field_is_default(&s->fields[i], p);
	return count;
}

void shape_encode_fields(const struct shape *s, const void *p, struct buffer *b)
{
	for (size_t i = 0; i < s->field_count; i++) {
		if (!s->fields[i].required && field_is_default(&s->fields[i], p))
			continue;
		writer_uint(b, s->fields[i].key);
		encode_field(&s->fields[i], p, b);
	}
}

void shape_encode(const struct shape *s, const void *p, struct buffer *b)
{
	if (s->encode != NULL) {
		s->encode(p, b);
		return;
	}
	writer_map(b, shape_count_fields(s, p));
	shape_encode_fields(s, p, b);
}
