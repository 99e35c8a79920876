#include "shared/policy_json.h"

#include <stdlib.h>
#include <string.h>

struct reader {
	struct arena *a;
	const uint8_t *p, *end;
	enum policy_outcome outcome;
};

static void fail(struct reader *r, enum policy_outcome outcome)
{
	if (r->outcome == POLICY_MERGED)
		r->outcome = outcome;
	r->p = r->end;
}

static void skip_space(struct reader *r)
{
	while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
		r->p++;
}

static bool take(struct reader *r, uint8_t c)
{
	skip_space(r);
	if (r->p == r->end || *r->p != c)
		return false;
	r->p++;
	return true;
}

/* ---- Atoms ---- */

static int hex4(const uint8_t *p)
{
	int n = 0;

	for (int i = 0; i < 4; i++) {
		uint8_t c = p[i];
		int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;

		if (digit < 0)
			return -1;
		n = n * 16 + digit;
	}
	return n;
}

static uint8_t *put_utf8(uint8_t *to, uint32_t c)
{
	if (c < 0x80) {
		*to++ = (uint8_t)c;
	} else if (c < 0x800) {
		*to++ = (uint8_t)(0xc0 | c >> 6);
		*to++ = (uint8_t)(0x80 | (c & 0x3f));
	} else if (c < 0x10000) {
		*to++ = (uint8_t)(0xe0 | c >> 12);
		*to++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
		*to++ = (uint8_t)(0x80 | (c & 0x3f));
	} else {
		*to++ = (uint8_t)(0xf0 | c >> 18);
		*to++ = (uint8_t)(0x80 | (c >> 12 & 0x3f));
		*to++ = (uint8_t)(0x80 | (c >> 6 & 0x3f));
		*to++ = (uint8_t)(0x80 | (c & 0x3f));
	}
	return to;
}

/* Behind "\u": the character, of two escapes where it takes two. 0: none that
 * PostgreSQL would store. */
static uint32_t read_unicode(struct reader *r)
{
	int high = r->end - r->p < 4 ? -1 : hex4(r->p), low;

	if (high < 0)
		return 0;
	r->p += 4;
	if (high < 0xd800 || high > 0xdfff)
		return (uint32_t)high;
	if (high > 0xdbff || r->end - r->p < 6 || r->p[0] != '\\' || r->p[1] != 'u')
		return 0;
	low = hex4(r->p + 2);
	r->p += 6;
	return low < 0xdc00 || low > 0xdfff ? 0 : 0x10000 + ((uint32_t)(high - 0xd800) << 10) + (uint32_t)(low - 0xdc00);
}

/* A character in the one form that PostgreSQL prints. */
static uint8_t *put_char(uint8_t *to, uint32_t c)
{
	static const char shorts[] = "\bb\ff\nn\rr\tt\"\"\\\\", hex[] = "0123456789abcdef";

	for (const char *s = shorts; *s != 0; s += 2) {
		if (c == (uint8_t)*s) {
			*to++ = '\\';
			*to++ = (uint8_t)s[1];
			return to;
		}
	}
	if (c >= 0x20)
		return put_utf8(to, c);
	memcpy(to, "\\u00", 4);
	to[4] = (uint8_t)hex[c >> 4];
	to[5] = (uint8_t)hex[c & 15];
	return to + 6;
}

static uint32_t read_escape(struct reader *r)
{
	static const char from[] = "bfnrt\"\\/", to[] = "\b\f\n\r\t\"\\/";
	const char *at;

	if (r->p == r->end)
		return 0;
	if (*r->p == 'u') {
		r->p++;
		return read_unicode(r);
	}
	at = memchr(from, *r->p, sizeof(from) - 1);
	r->p++;
	return at == NULL ? 0 : (uint8_t)to[at - from];
}

/* No escape is longer than what it stands for is in our form. */
static void read_text(struct reader *r, struct item *out)
{
	const uint8_t *close = r->p;
	uint8_t *to;

	while (close < r->end && *close != '"')
		close += *close == '\\' && close + 1 < r->end ? 2 : 1;
	if (close >= r->end) {
		fail(r, POLICY_UNFIT);
		return;
	}
	to = arena_alloc(r->a, (size_t)(close - r->p) + 3);
	if (to == NULL) {
		fail(r, POLICY_FULL);
		return;
	}
	out->text = to;
	*to++ = '"';
	while (r->p < close) {
		uint32_t c = *r->p++;

		if (c != '\\') {
			if (c < 0x20)
				fail(r, POLICY_UNFIT);
			*to++ = (uint8_t)c;
			continue;
		}
		c = read_escape(r);
		if (c == 0 || r->outcome != POLICY_MERGED) {
			fail(r, POLICY_UNFIT);
			return;
		}
		to = put_char(to, c);
	}
	*to++ = '"';
	out->n = (uint32_t)(to - out->text);
	if (r->outcome == POLICY_MERGED)
		r->p = close + 1;
}

static bool is_number(const uint8_t *p, size_t n)
{
	const uint8_t *end = p + n;
	const uint8_t *digits;

	p += p < end && *p == '-';
	digits = p;
	while (p < end && *p >= '0' && *p <= '9')
		p++;
	if (p == digits || (p - digits > 1 && *digits == '0'))
		return false;
	if (p < end && *p == '.') {
		digits = ++p;
		while (p < end && *p >= '0' && *p <= '9')
			p++;
		if (p == digits)
			return false;
	}
	if (p < end && (*p == 'e' || *p == 'E')) {
		p++;
		p += p < end && (*p == '+' || *p == '-');
		digits = p;
		while (p < end && *p >= '0' && *p <= '9')
			p++;
		if (p == digits)
			return false;
	}
	return p == end;
}

static void read_word(struct reader *r, struct item *out)
{
	const uint8_t *start = r->p;
	size_t n;

	while (r->p < r->end && strchr(" \t\n\r,]}", *r->p) == NULL)
		r->p++;
	n = (size_t)(r->p - start);
	if (!is_number(start, n) && !(n == 4 && (memcmp(start, "null", 4) == 0 || memcmp(start, "true", 4) == 0)) &&
	    !(n == 5 && memcmp(start, "false", 5) == 0))
		fail(r, POLICY_UNFIT);
	out->text = start;
	out->n = (uint32_t)n;
}

/* ---- Documents ---- */

static void read_item(struct reader *r, struct item *out, int depth);

static bool grow(struct reader *r, struct item **list, uint32_t count, uint32_t capacity)
{
	struct item *grown;

	if (count < capacity)
		return true;
	grown = arena_array(r->a, (size_t)capacity * 2 + 4, sizeof(*grown));
	if (grown == NULL) {
		fail(r, POLICY_FULL);
		return false;
	}
	if (count > 0)
		memcpy(grown, *list, count * sizeof(*grown));
	*list = grown;
	return true;
}

static void read_members(struct reader *r, struct item *out, uint8_t close, int depth)
{
	uint32_t capacity = 0;

	if (take(r, close))
		return;
	do {
		if (!grow(r, &out->items, out->count, capacity) ||
		    (out->kind == ITEM_OBJECT && !grow(r, &out->keys, out->count, capacity)))
			return;
		capacity = out->count < capacity ? capacity : capacity * 2 + 4;
		if (out->kind == ITEM_OBJECT) {
			if (!take(r, '"')) {
				fail(r, POLICY_UNFIT);
				return;
			}
			read_text(r, &out->keys[out->count]);
			if (!take(r, ':'))
				fail(r, POLICY_UNFIT);
		}
		read_item(r, &out->items[out->count++], depth + 1);
	} while (take(r, ','));
	if (!take(r, close))
		fail(r, POLICY_UNFIT);
}

int item_compare_keys(const struct item *x, const struct item *y)
{
	if (x->n != y->n)
		return x->n < y->n ? -1 : 1;
	return memcmp(x->text, y->text, x->n);
}

struct member {
	struct item key, value;
};

static int compare_members(const void *x, const void *y)
{
	return item_compare_keys(&((const struct member *)x)->key, &((const struct member *)y)->key);
}

static void sort_members(struct reader *r, struct item *object)
{
	struct member *m = arena_array(r->a, (size_t)object->count + 1, sizeof(*m));

	if (m == NULL) {
		fail(r, POLICY_FULL);
		return;
	}
	for (uint32_t i = 0; i < object->count; i++)
		m[i] = (struct member){object->keys[i], object->items[i]};
	qsort(m, object->count, sizeof(*m), compare_members);
	for (uint32_t i = 0; i < object->count; i++) {
		object->keys[i] = m[i].key;
		object->items[i] = m[i].value;
		if (i > 0 && compare_members(&m[i - 1], &m[i]) == 0)
			fail(r, POLICY_UNFIT);
	}
}

static void read_item(struct reader *r, struct item *out, int depth)
{
	*out = (struct item){.kind = ITEM_ATOM};
	if (depth > POLICY_DEPTH_MAX) {
		fail(r, POLICY_UNFIT);
	} else if (take(r, '[')) {
		out->kind = ITEM_ARRAY;
		read_members(r, out, ']', depth);
	} else if (take(r, '{')) {
		out->kind = ITEM_OBJECT;
		read_members(r, out, '}', depth);
		if (r->outcome == POLICY_MERGED)
			sort_members(r, out);
	} else if (take(r, '"')) {
		read_text(r, out);
	} else {
		skip_space(r);
		read_word(r, out);
	}
}

enum policy_outcome item_read(struct arena *a, const struct value *text, struct item *out)
{
	struct reader r = {.a = a, .p = text->p, .outcome = POLICY_MERGED};

	if (text->kind != VALUE_TEXT)
		return POLICY_UNFIT;
	r.end = text->p + text->n;
	read_item(&r, out, 0);
	skip_space(&r);
	if (r.p != r.end)
		fail(&r, POLICY_UNFIT);
	return r.outcome;
}

enum policy_outcome item_of_text(struct arena *a, const struct value *text, struct item *out)
{
	uint32_t n = text->kind == VALUE_TEXT ? text->n : 0;
	uint8_t *to = arena_alloc(a, (size_t)n * 6 + 2);

	*out = (struct item){.kind = ITEM_ATOM, .text = to};
	if (to == NULL)
		return POLICY_FULL;
	*to++ = '"';
	for (uint32_t i = 0; i < n; i++) { /* bytes of longer characters stand as they are */
		if (text->p[i] < 0x80)
			to = put_char(to, text->p[i]);
		else
			*to++ = text->p[i];
	}
	*to++ = '"';
	out->n = (uint32_t)(to - out->text);
	return POLICY_MERGED;
}

bool item_equal(const struct item *x, const struct item *y)
{
	if (x->kind != y->kind || x->n != y->n || x->count != y->count)
		return false;
	if (x->n > 0 && memcmp(x->text, y->text, x->n) != 0)
		return false;
	for (uint32_t i = 0; i < x->count; i++) {
		if (x->kind == ITEM_OBJECT && !item_equal(&x->keys[i], &y->keys[i]))
			return false;
		if (!item_equal(&x->items[i], &y->items[i]))
			return false;
	}
	return true;
}

/* ---- Writing ---- */

struct writer {
	uint8_t *p; /* NULL: only counts */
	size_t n;
	bool spaced;
};

static void put(struct writer *w, const void *p, size_t n)
{
	if (w->p != NULL && n > 0)
		memcpy(w->p + w->n, p, n);
	w->n += n;
}

static void write_item(struct writer *w, const struct item *item)
{
	if (item->kind == ITEM_ATOM) {
		put(w, item->text, item->n);
		return;
	}
	put(w, item->kind == ITEM_ARRAY ? "[" : "{", 1);
	for (uint32_t i = 0; i < item->count; i++) {
		if (i > 0)
			put(w, ", ", w->spaced ? 2 : 1);
		if (item->kind == ITEM_OBJECT) {
			put(w, item->keys[i].text, item->keys[i].n);
			put(w, ": ", w->spaced ? 2 : 1);
		}
		write_item(w, &item->items[i]);
	}
	put(w, item->kind == ITEM_ARRAY ? "]" : "}", 1);
}

static enum policy_outcome write_document(struct arena *a, const struct item *item, bool spaced, struct value *out)
{
	struct writer w = {.spaced = spaced};

	write_item(&w, item);
	if (w.n > UINT32_MAX)
		return POLICY_RANGE;
	w.p = arena_alloc(a, w.n);
	if (w.p == NULL)
		return POLICY_FULL;
	w.n = 0;
	write_item(&w, item);
	*out = value_text(w.p, w.n);
	return POLICY_MERGED;
}

enum policy_outcome item_write(struct arena *a, const struct item *item, struct value *out)
{
	return write_document(a, item, true, out);
}

enum policy_outcome item_write_compact(struct arena *a, const struct item *item, struct value *out)
{
	return write_document(a, item, false, out);
}
