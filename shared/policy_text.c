/* Texts, three-way: by lines, and where both changed the same lines, by words.
 *
 * A text is cut into tokens that cover it: lines and their ends, or words and
 * the spaces between them. The longest common subsequences of old and mine, and
 * of old and theirs, say what each changed; what stands in all three holds the
 * text together, and between such places one of the two has changed, or both. */
#include <stdlib.h>
#include <string.h>

#include "shared/policy.h"

#define CELLS_MAX 1000000u /* of a table of common subsequences; more: UNFIT */

struct token {
	const uint8_t *p;
	uint32_t n;
};

struct tokens {
	struct token *t;
	uint32_t count;
	struct token whole;
};

struct merging {
	struct arena *a;
	uint8_t *out;
	size_t n;
	bool mine_wins, overlap;
	enum policy_outcome outcome;
};

struct span { /* of tokens */
	uint32_t from, to;
};

static bool is_space(uint8_t c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static uint32_t token_length(const uint8_t *p, uint32_t n, bool words)
{
	uint32_t i = 1;

	if (words) {
		while (i < n && is_space(p[i]) == is_space(p[0]))
			i++;
	} else if (p[0] != '\n') {
		while (i < n && p[i] != '\n')
			i++;
	}
	return i;
}

static bool cut(struct merging *m, struct token whole, bool words, struct tokens *out)
{
	uint32_t count = 0;

	*out = (struct tokens){.whole = whole};
	for (uint32_t i = 0; i < whole.n; i += token_length(whole.p + i, whole.n - i, words))
		count++;
	out->t = arena_array(m->a, (size_t)count + 1, sizeof(*out->t));
	if (out->t == NULL) {
		m->outcome = POLICY_FULL;
		return false;
	}
	for (uint32_t i = 0; i < whole.n;) {
		uint32_t n = token_length(whole.p + i, whole.n - i, words);

		out->t[out->count++] = (struct token){whole.p + i, n};
		i += n;
	}
	return true;
}

static bool equal(const struct token *x, const struct token *y)
{
	return x->n == y->n && (x->n == 0 || memcmp(x->p, y->p, x->n) == 0);
}

/* match[i]: where token i of x stands in y, or -1. */
static void follow(const struct tokens *x, const struct tokens *y, struct span rx, struct span ry, const uint16_t *table,
		   int32_t *match)
{
	size_t width = ry.to - ry.from + 1u;
	uint32_t i = 0, k = 0;

	while (rx.from + i < rx.to && ry.from + k < ry.to) {
		if (equal(&x->t[rx.from + i], &y->t[ry.from + k])) {
			match[rx.from + i++] = (int32_t)(ry.from + k++);
		} else if (table[(i + 1) * width + k] >= table[i * width + k + 1]) {
			i++;
		} else {
			k++;
		}
	}
}

/* The lengths of the common subsequences of what is left behind (i, k). */
static bool fill_table(struct merging *m, const struct tokens *x, const struct tokens *y, struct span rx, struct span ry,
		       int32_t *match)
{
	size_t rows = rx.to - rx.from, width = ry.to - ry.from + 1u;
	uint16_t *table;

	if ((rows + 1) * width > CELLS_MAX || rows > UINT16_MAX || width > UINT16_MAX) {
		m->outcome = POLICY_UNFIT;
		return false;
	}
	table = calloc((rows + 1) * width, sizeof(*table));
	if (table == NULL) {
		m->outcome = POLICY_FULL;
		return false;
	}
	for (size_t i = rows; i-- > 0;) {
		for (size_t k = width - 1; k-- > 0;) {
			uint16_t down = table[(i + 1) * width + k], right = table[i * width + k + 1];

			if (equal(&x->t[rx.from + i], &y->t[ry.from + k]))
				table[i * width + k] = (uint16_t)(table[(i + 1) * width + k + 1] + 1);
			else
				table[i * width + k] = down > right ? down : right;
		}
	}
	follow(x, y, rx, ry, table, match);
	free(table);
	return true;
}

/* Most of a text is as it was: only what lies between the common beginning
 * and the common end is compared. */
static int32_t *match_tokens(struct merging *m, const struct tokens *x, const struct tokens *y)
{
	struct span rx = {0, x->count}, ry = {0, y->count};
	int32_t *match = arena_array(m->a, (size_t)x->count + 1, sizeof(*match));

	if (match == NULL) {
		m->outcome = POLICY_FULL;
		return NULL;
	}
	memset(match, 0xff, ((size_t)x->count + 1) * sizeof(*match));
	while (rx.from < rx.to && ry.from < ry.to && equal(&x->t[rx.from], &y->t[ry.from]))
		match[rx.from++] = (int32_t)ry.from++;
	while (rx.from < rx.to && ry.from < ry.to && equal(&x->t[rx.to - 1], &y->t[ry.to - 1]))
		match[--rx.to] = (int32_t)--ry.to;
	return fill_table(m, x, y, rx, ry, match) ? match : NULL;
}

/* Tokens cover their text, so that some of them in a row are a piece of it. */
static struct token piece(const struct tokens *t, struct span s)
{
	const uint8_t *end = t->whole.p + t->whole.n, *from = s.from < t->count ? t->t[s.from].p : end;
	const uint8_t *to = s.to < t->count ? t->t[s.to].p : end;

	return (struct token){from, (uint32_t)(to - from)};
}

static void emit(struct merging *m, struct token t)
{
	if (t.n > 0)
		memcpy(m->out + m->n, t.p, t.n);
	m->n += t.n;
}

static void merge_texts(struct merging *m, struct token old, struct token mine, struct token theirs, bool words);

static void merge_piece(struct merging *m, struct token old, struct token mine, struct token theirs, bool words)
{
	if (equal(&mine, &old)) {
		emit(m, theirs);
	} else if (equal(&theirs, &old) || equal(&mine, &theirs)) {
		emit(m, mine);
	} else if (!words && old.n == 0) { /* both put something in there: first what was there first */
		emit(m, theirs);
		if (theirs.p[theirs.n - 1] != '\n' && mine.p[0] != '\n')
			emit(m, (struct token){(const uint8_t *)"\n", 1}); /* where no line was, or an empty one */
		emit(m, mine);
	} else if (!words) {
		merge_texts(m, old, mine, theirs, true);
	} else {
		m->overlap = true;
		emit(m, m->mine_wins ? mine : theirs);
	}
}

static void merge_texts(struct merging *m, struct token old, struct token mine, struct token theirs, bool words)
{
	struct tokens o, i, t;
	uint32_t at_o = 0, at_i = 0, at_t = 0;
	int32_t *in_mine, *in_theirs;

	if (!cut(m, old, words, &o) || !cut(m, mine, words, &i) || !cut(m, theirs, words, &t))
		return;
	in_mine = match_tokens(m, &o, &i);
	in_theirs = in_mine == NULL ? NULL : match_tokens(m, &o, &t);
	for (uint32_t k = 0; in_theirs != NULL && k <= o.count && m->outcome == POLICY_MERGED; k++) {
		bool last = k == o.count;
		uint32_t k_i = last ? i.count : (uint32_t)in_mine[k], k_t = last ? t.count : (uint32_t)in_theirs[k];

		if (!last && (in_mine[k] < 0 || in_theirs[k] < 0))
			continue;
		merge_piece(m, piece(&o, (struct span){at_o, k}), piece(&i, (struct span){at_i, k_i}),
			    piece(&t, (struct span){at_t, k_t}), words);
		if (last)
			break;
		emit(m, (struct token){o.t[k].p, o.t[k].n});
		at_o = k + 1;
		at_i = k_i + 1;
		at_t = k_t + 1;
	}
}

static struct token token_of(const struct value *v)
{
	static const uint8_t none[1];

	return v->kind == VALUE_TEXT && v->n > 0 ? (struct token){v->p, v->n} : (struct token){none, 0};
}

/* NULL is the empty text; but to set NULL is no difference. */
enum policy_outcome policy_text(struct arena *a, const struct policy_edit *e, struct value *out)
{
	struct merging m = {.a = a, .mine_wins = e->mine_wins, .outcome = POLICY_MERGED};
	struct token old = token_of(&e->old), mine = token_of(&e->mine), theirs = token_of(&e->theirs);

	if (e->mine.kind != VALUE_TEXT)
		return POLICY_UNFIT;
	*out = e->mine;
	if (value_equal(&e->old, &e->theirs))
		return POLICY_MERGED;
	/* Nothing is written twice: each piece of mine and theirs once at most, and what all three share; and where both
	 * put something in, the end of a line between the two. */
	m.out = arena_alloc(a, (size_t)mine.n + theirs.n + (mine.n < theirs.n ? mine.n : theirs.n) + 1);
	if (m.out == NULL)
		return POLICY_FULL;
	merge_texts(&m, old, mine, theirs, false);
	if (m.outcome != POLICY_MERGED)
		return m.outcome;
	if (m.n > UINT32_MAX)
		return POLICY_RANGE;
	*out = value_text(m.out, m.n);
	return m.overlap ? POLICY_OVERLAP : POLICY_MERGED;
}
