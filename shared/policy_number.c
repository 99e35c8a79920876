/* Counters, and the order of numbers. Numerics are added digit by digit, so
 * that no sum is ever rounded. */
#include <math.h>
#include <string.h>

#include "shared/policy.h"

struct decimal { /* borrowed from a numeric's text */
	int sign;
	const uint8_t *whole, *fraction;
	uint32_t whole_digits, scale;
};

static bool digits(const uint8_t *p, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
	}
	return true;
}

/* False: NaN, an infinity, or not a number at all. */
static bool decimal_read(const struct value *v, struct decimal *out)
{
	const uint8_t *p = v->p, *end = v->p + v->n, *point;

	if (v->kind != VALUE_TEXT || v->n == 0 || v->n > POLICY_DIGITS_MAX)
		return false;
	*out = (struct decimal){.sign = *p == '-' ? -1 : 1};
	p += *p == '-' || *p == '+';
	point = memchr(p, '.', (size_t)(end - p));
	out->whole = p;
	out->whole_digits = (uint32_t)((point == NULL ? end : point) - p);
	out->fraction = point == NULL ? end : point + 1;
	out->scale = (uint32_t)(end - out->fraction);
	return out->whole_digits + out->scale > 0 && digits(out->whole, out->whole_digits) &&
	       digits(out->fraction, out->scale);
}

/* Digits of a sum, the lowest first: each may be anything until it is carried. */
struct sum {
	int *digit;
	uint32_t count, scale;
	int sign;
};

static void sum_add(struct sum *s, const struct decimal *d, int sign)
{
	for (uint32_t i = 0; i < d->scale; i++)
		s->digit[s->scale - 1 - i] += sign * d->sign * (d->fraction[i] - '0');
	for (uint32_t i = 0; i < d->whole_digits; i++)
		s->digit[s->scale + i] += sign * d->sign * (d->whole[d->whole_digits - 1 - i] - '0');
}

/* To digits 0 to 9 and what is left over at the top. */
static int carry(struct sum *s)
{
	int over = 0;

	for (uint32_t i = 0; i < s->count; i++) {
		int n = s->digit[i] + over;
		int low = ((n % 10) + 10) % 10;

		over = (n - low) / 10;
		s->digit[i] = low;
	}
	return over;
}

static void settle(struct sum *s)
{
	bool zero = true;

	s->sign = 1;
	if (carry(s) < 0) { /* ten's complement */
		s->sign = -1;
		for (uint32_t i = 0; i < s->count; i++)
			s->digit[i] = -s->digit[i];
		(void)carry(s);
	}
	for (uint32_t i = 0; i < s->count; i++)
		zero = zero && s->digit[i] == 0;
	s->sign = zero ? 0 : s->sign;
}

/* The sum of three with their signs; a sign of 0 leaves one out. Two digits
 * more than the longest have room for every carry. */
static bool sum_of(struct arena *a, const struct decimal d[3], const int signs[3], struct sum *out)
{
	uint32_t whole = 1;

	*out = (struct sum){.scale = 0};
	for (int i = 0; i < 3; i++) {
		if (signs[i] == 0)
			continue;
		out->scale = d[i].scale > out->scale ? d[i].scale : out->scale;
		whole = d[i].whole_digits > whole ? d[i].whole_digits : whole;
	}
	out->count = whole + 2 + out->scale;
	out->digit = arena_array(a, out->count, sizeof(*out->digit));
	if (out->digit == NULL)
		return false;
	for (int i = 0; i < 3; i++) {
		if (signs[i] != 0)
			sum_add(out, &d[i], signs[i]);
	}
	settle(out);
	return true;
}

static bool sum_print(struct arena *a, const struct sum *s, struct value *out)
{
	uint32_t top = s->count - 1, n = 0;
	char *p = arena_alloc(a, (size_t)s->count + 3);

	if (p == NULL)
		return false;
	while (top > s->scale && s->digit[top] == 0)
		top--;
	if (s->sign < 0)
		p[n++] = '-';
	for (uint32_t i = top + 1; i-- > 0;) {
		p[n++] = (char)('0' + s->digit[i]);
		if (i == s->scale && s->scale > 0)
			p[n++] = '.';
	}
	*out = value_text(p, n);
	return true;
}

/* NULL counts as nothing; but to set NULL is no difference. */
static enum policy_outcome count_numeric(struct arena *a, const struct policy_edit *e, struct value *out)
{
	const struct value *v[3] = {&e->theirs, &e->mine, &e->old};
	int signs[3] = {1, 1, -1};
	struct decimal d[3] = {{0}};
	struct sum s;

	for (int i = 0; i < 3; i++) {
		if (v[i]->kind == VALUE_NULL)
			signs[i] = 0;
		else if (!decimal_read(v[i], &d[i]))
			return POLICY_UNFIT;
	}
	return sum_of(a, d, signs, &s) && sum_print(a, &s, out) ? POLICY_MERGED : POLICY_FULL;
}

static bool int_of(const struct value *v, int64_t *out)
{
	*out = v->kind == VALUE_INT ? v->i : 0;
	return v->kind == VALUE_INT || v->kind == VALUE_NULL;
}

static enum policy_outcome count_int(const struct policy_edit *e, struct value *out)
{
	__extension__ typedef __int128 wide;
	int64_t theirs, mine, old;
	wide sum;

	if (!int_of(&e->theirs, &theirs) || !int_of(&e->mine, &mine) || !int_of(&e->old, &old))
		return POLICY_UNFIT;
	sum = (wide)theirs + mine - old;
	if (sum < INT64_MIN || sum > INT64_MAX)
		return POLICY_RANGE;
	*out = value_int((int64_t)sum);
	return POLICY_MERGED;
}

enum policy_outcome policy_counter(struct arena *a, enum column_kind kind, const struct policy_edit *e, struct value *out)
{
	if (e->mine.kind == VALUE_NULL)
		return POLICY_UNFIT;
	return kind == KIND_INT ? count_int(e, out) : kind == KIND_NUMERIC ? count_numeric(a, e, out) : POLICY_UNFIT;
}

/* ---- Order ---- */

static int order_of(double x, double y)
{
	if (isnan(x) || isnan(y)) /* NaN is above all numbers */
		return isnan(x) - isnan(y);
	return x < y ? -1 : x > y;
}

/* Infinities of times are floats; all else are integers. */
static bool compare_ints(const struct value *x, const struct value *y, int *out)
{
	bool plain = x->kind == VALUE_INT && y->kind == VALUE_INT;

	if ((x->kind != VALUE_INT && x->kind != VALUE_FLOAT) || (y->kind != VALUE_INT && y->kind != VALUE_FLOAT))
		return false;
	if (plain)
		*out = x->i < y->i ? -1 : x->i > y->i;
	else
		*out = order_of(x->kind == VALUE_FLOAT ? x->f : 0, y->kind == VALUE_FLOAT ? y->f : 0);
	return true;
}

static bool text_is(const struct value *v, const char *text)
{
	return v->kind == VALUE_TEXT && v->n == strlen(text) && memcmp(v->p, text, v->n) == 0;
}

/* -1 and 1: an infinity; 2: NaN; 0: a number. */
static int special(const struct value *v)
{
	return text_is(v, "NaN") ? 2 : text_is(v, "Infinity") ? 1 : text_is(v, "-Infinity") ? -1 : 0;
}

static bool compare_numerics(struct arena *a, const struct value *x, const struct value *y, int *out)
{
	static const int signs[3] = {1, -1, 0};
	int sx = special(x), sy = special(y);
	struct decimal d[3] = {{0}};
	struct sum s;

	if (sx != 0 || sy != 0) {
		if ((sx == 0 && !decimal_read(x, &d[0])) || (sy == 0 && !decimal_read(y, &d[1])))
			return false;
		*out = sx < sy ? -1 : sx > sy;
		return true;
	}
	if (!decimal_read(x, &d[0]) || !decimal_read(y, &d[1]) || !sum_of(a, d, signs, &s))
		return false;
	*out = s.sign;
	return true;
}

bool policy_compare(struct arena *a, enum column_kind kind, const struct value *x, const struct value *y, int *out_order)
{
	switch (kind) {
	case KIND_INT:
	case KIND_TIMESTAMPTZ:
	case KIND_DATE:
		return compare_ints(x, y, out_order);
	case KIND_FLOAT:
		if (x->kind != VALUE_FLOAT || y->kind != VALUE_FLOAT)
			return false;
		*out_order = order_of(x->f, y->f);
		return true;
	case KIND_NUMERIC:
		return compare_numerics(a, x, y, out_order);
	default:
		return false;
	}
}
