/* push: change-sets come in [P 7.4]. They are decoded into a hold, checked
 * against the credit that was given, and go to the tenant's queue; the parts
 * of a large one go to the store's stage first (R7).
 *
 * Memory (P9): a session's decoded change-sets are bounded by HELD_BYTES_MAX;
 * what comes beyond it waits packed, as it came, and that is bounded by the
 * credit. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hub/core_internal.h"

static struct hold *hold_new(struct hub_session *s)
{
	struct hold *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return NULL;
	h->session = s;
	arena_init(&h->arena, (size_t)FERRY_DECODE_BYTES_MAX + s->core->limits.message_bytes_max + HOLD_BYTES_MAX);
	return h;
}

/* The hold that the next message is decoded into. */
static struct hold *open_hold(struct hub_session *s)
{
	if (s->hold != NULL && s->hold->arena.used_bytes < HOLD_BYTES_MAX)
		return s->hold;
	s->hold = hold_new(s);
	return s->hold;
}

void hold_release(struct hold *h)
{
	struct hub_session *s = h->session;

	assert(h->refs > 0);
	if (--h->refs > 0)
		return;
	if (s != NULL) {
		s->held_bytes -= h->counted;
		if (s->hold == h)
			s->hold = NULL;
		session_owe_credit(s, h->credit);
	}
	arena_deinit(&h->arena);
	free(h);
}

static uint32_t count_rows(const struct change_set *set)
{
	uint64_t rows = 0;

	for (uint32_t i = 0; i < set->block_count; i++)
		rows += set->blocks[i].row_count;
	return rows > UINT32_MAX ? UINT32_MAX : (uint32_t)rows;
}

static uint32_t item_place(const struct hub_session *s, int64_t number)
{
	uint32_t low = 0, high = s->item_count;

	if (high > 0 && s->items[high - 1]->number < number)
		return high; /* numbers ascend but for what is offered again */
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (s->items[middle]->number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct item *session_item(const struct hub_session *s, int64_t number)
{
	uint32_t place = item_place(s, number);

	return place < s->item_count && s->items[place]->number == number ? s->items[place] : NULL;
}

static bool remember_item(struct hub_session *s, struct item *item)
{
	uint32_t place = item_place(s, item->number);

	if (!vector_grow((void **)&s->items, s->item_count, &s->item_capacity, sizeof(struct item *)))
		return false;
	memmove(&s->items[place + 1], &s->items[place], (s->item_count - place) * sizeof(struct item *));
	s->items[place] = item;
	s->item_count++;
	return true;
}

static struct item *item_new(struct hub_session *s, struct hold *h, const struct change_set *set)
{
	struct item *item = arena_array(&h->arena, 1, sizeof(*item));

	if (item == NULL)
		return NULL;
	item->session = s;
	item->hold = h;
	item->device = s->device;
	item->number = set->number;
	item->life = s->found.life;
	item->staging = s->found.staging;
	item->set = set;
	item->depends = set->depends;
	item->depends_count = set->depends_count;
	item->after = set->after;
	item->after_count = set->after_count;
	item->rows = count_rows(set);
	item->old_position = set->old_position;
	item->on_lost = set->lost_from > 0 && set->base_position >= set->lost_from;
	if (set->old_position > 0) {
		item->old_code = set->old_verdict == VERDICT_REJECTED ? set->old_code : FERRY_OK;
		item->old_sentence = set->old_sentence;
		s->replays = true;
	}
	if (s->replays || item->on_lost) /* what is new may build on them, and on those of other devices, without naming them */
		item->not_before = s->healed_at;
	return item;
}

static void enqueue(struct hub_session *s, struct item *item)
{
	if (!remember_item(s, item)) {
		session_fail(s, FERRY_NO_MEMORY, RETRY_HINT_MS, "the hub has no memory for this change-set");
		return;
	}
	item->hold->refs++;
	merge_queue_add(item);
}

static struct staging **staging_of(struct hub_session *s, int64_t number)
{
	struct staging **at = &s->stagings;

	while (*at != NULL && (*at)->number != number)
		at = &(*at)->next;
	return at;
}

static void enqueue_staged(struct hub_session *s, struct staging **at)
{
	struct staging *done = *at;
	struct item *item = done->item;

	*at = done->next;
	free(done);
	enqueue(s, item);
	hold_release(item->hold); /* the staging's own */
	if (s->state != CLOSED)
		merge_queue_work(s->tenant);
}

static void note_stored(struct hub_session *s, int64_t number, enum ferry_error e)
{
	struct staging **at = staging_of(s, number);

	assert(*at != NULL && (*at)->under_way > 0);
	(*at)->under_way--;
	if (e != FERRY_OK)
		session_fail(s, (int)e, ferry_error_class((int)e) == FERRY_CLASS_PEER ? -1 : RETRY_HINT_MS,
			     "change-set %lld cannot be stored: %s", (long long)number, ferry_error_text((int)e));
	else if ((*at)->item != NULL && (*at)->under_way == 0)
		enqueue_staged(s, at);
}

static void part_stored(void *ctx, enum ferry_error e)
{
	struct stage_call *call = ctx;
	struct hub_session *s = call->session;
	struct hub_core *core = s->core;

	core_enter(core);
	if (session_up(s))
		note_stored(s, call->number, e);
	TAILQ_REMOVE(&core->stage_calls, call, link);
	hold_release(call->hold);
	session_release(s);
	free(call);
	push_backlog(s);
	core_leave(core);
}

static void stage_part(struct hub_session *s, struct hold *h, struct staging *staging, const struct change_set *set)
{
	struct stage_call *call = malloc(sizeof(*call));

	if (call == NULL) {
		session_fail(s, FERRY_NO_MEMORY, RETRY_HINT_MS, "the hub has no memory for this change-set");
		return;
	}
	*call = (struct stage_call){.session = s, .hold = h, .number = set->number};
	TAILQ_INSERT_TAIL(&s->core->stage_calls, call, link);
	staging->under_way++;
	h->refs++;
	session_hold(s);
	s->core->ops->stage(s->core->store, &s->tenant->id, &s->device, s->found.staging, set, part_stored, call);
}

/* The staging that a part belongs to; made for a first part. NULL: out of turn. */
static struct staging *staging_for(struct hub_session *s, const struct change_set *set)
{
	struct staging **at = &s->stagings;

	while (*at != NULL && (*at)->item != NULL && (*at)->number != set->number)
		at = &(*at)->next;
	if (*at == NULL && set->part == 0 && session_item(s, set->number) == NULL) {
		heal_unpark(s, set->number);
		*at = calloc(1, sizeof(**at));
		if (*at != NULL)
			(*at)->number = set->number;
		return *at;
	}
	if (*at == NULL || (*at)->number != set->number || (*at)->item != NULL || (*at)->next_part != set->part)
		return NULL;
	return *at;
}

/* Apart from its last part, which is stored: it may wait for long, and costs no credit. */
static struct item *staged_item(struct hub_session *s, const struct change_set *last)
{
	struct hold *h = hold_new(s);
	const char *sentence = last->old_sentence;
	struct change_set set = *last;
	struct item *item = NULL;

	if (h == NULL)
		return NULL;
	set.depends = arena_copy(&h->arena, last->depends, last->depends_count * sizeof(*last->depends));
	set.after = arena_copy(&h->arena, last->after, last->after_count * sizeof(*last->after));
	set.old_sentence = sentence != NULL ? arena_text(&h->arena, sentence, strlen(sentence)) : NULL;
	if (!h->arena.full)
		item = item_new(s, h, &set);
	if (item == NULL) {
		arena_deinit(&h->arena);
		free(h);
		return NULL;
	}
	item->set = NULL;
	h->refs++;
	return item;
}

/* All its parts have come: a device offers again what waits for a predecessor. */
static bool is_complete(struct hub_session *s, int64_t number)
{
	const struct staging *staging = *staging_of(s, number);

	return session_item(s, number) != NULL || (staging != NULL && staging->item != NULL);
}

static void take_part(struct hub_session *s, struct hold *h, const struct change_set *set)
{
	struct staging *staging;

	if (is_complete(s, set->number))
		return;
	staging = staging_for(s, set);
	if (staging == NULL) {
		session_fail(s, FERRY_UNEXPECTED_MESSAGE, -1, "part %u of change-set %lld comes out of turn",
			     (unsigned)set->part, (long long)set->number);
		return;
	}
	staging->next_part++;
	if (!set->more) {
		staging->item = staged_item(s, set);
		if (staging->item == NULL) {
			session_fail(s, FERRY_NO_MEMORY, RETRY_HINT_MS, "the hub has no memory for this change-set");
			return;
		}
	}
	stage_part(s, h, staging, set);
}

static void take_whole(struct hub_session *s, struct hold *h, const struct change_set *set, size_t bytes)
{
	struct item *item;

	if (session_item(s, set->number) != NULL)
		return; /* sent twice on this link: the first is on its way */
	item = item_new(s, h, set);
	if (item == NULL) {
		session_fail(s, FERRY_NO_MEMORY, RETRY_HINT_MS, "the hub has no memory for this change-set");
		return;
	}
	item->bytes = bytes;
	heal_unpark(s, set->number);
	enqueue(s, item);
}

/* From here on each says which schema it was made under, wherever it is kept. */
static void state_steps(struct hub_session *s, const struct message_push *push)
{
	struct change_set *sets = (struct change_set *)(uintptr_t)push->sets; /* in the hold's arena */

	for (uint32_t i = 0; i < push->set_count; i++) {
		if (sets[i].step == 0)
			sets[i].step = s->step;
	}
}

static void take_sets(struct hub_session *s, struct hold *h, const struct message_push *push, size_t bytes)
{
	for (uint32_t i = 0; i < push->set_count && s->state != CLOSED; i++) {
		const struct change_set *set = &push->sets[i];

		if (!uuid_is_zero(&set->author) && !uuid_equal(&set->author, &s->device))
			session_fail(s, FERRY_BAD_MESSAGE, -1, "change-set %lld was made by another device",
				     (long long)set->number);
		else if (set->number < 1)
			session_fail(s, FERRY_BAD_MESSAGE, -1, "change-set numbers begin with 1");
		else if (set->part > 0 || set->more)
			take_part(s, h, set);
		else
			take_whole(s, h, set, bytes / push->set_count + 1);
	}
}

static void decode_push(struct hub_session *s, size_t n, const uint8_t *message, size_t message_n)
{
	struct ferry_why why = {""};
	struct message m;
	struct hold *h = open_hold(s);
	const uint8_t *copy;
	enum ferry_error e = FERRY_NO_MEMORY;
	size_t before;

	if (h == NULL) {
		session_fail(s, FERRY_NO_MEMORY, RETRY_HINT_MS, "the hub has no memory for this change-set");
		return;
	}
	h->refs++; /* while we work */
	h->credit += n;
	before = h->arena.used_bytes;
	copy = arena_copy(&h->arena, message, message_n);
	if (copy != NULL)
		e = message_decode(&h->arena, copy, message_n, &m, &why);
	if (e == FERRY_OK) {
		state_steps(s, &m.push);
		take_sets(s, h, &m.push, message_n);
	} else {
		session_fail(s, (int)e, -1, "%s", why.text[0] == '\0' ? ferry_error_text((int)e) : why.text);
	}
	if (h->session != NULL) {
		s->held_bytes += h->arena.used_bytes - before;
		h->counted += h->arena.used_bytes - before;
	}
	hold_release(h);
}

static void keep_packed(struct hub_session *s, const uint8_t *bytes, size_t n)
{
	struct packed *p = malloc(sizeof(*p) + n);

	if (p == NULL) {
		session_fail(s, FERRY_NO_MEMORY, RETRY_HINT_MS, "the hub has no memory for this change-set");
		return;
	}
	p->next = NULL;
	p->n = n;
	memcpy(p->bytes, bytes, n);
	*s->backlog_end = p;
	s->backlog_end = &p->next;
}

void handle_push(struct hub_session *s, const uint8_t *bytes, size_t n, const uint8_t *message, size_t message_n)
{
	if (!session_up(s)) {
		session_fail(s, FERRY_UNEXPECTED_MESSAGE, -1, "a message push is not allowed in state %s",
			     session_state_name(s->state));
		return;
	}
	if (n > s->credit_in) {
		session_fail(s, FERRY_CREDIT, -1, "a push of %zu bytes with a credit of %llu", n,
			     (unsigned long long)s->credit_in);
		return;
	}
	s->credit_in -= n;
	if (s->backlog != NULL || s->held_bytes >= HELD_BYTES_MAX) {
		keep_packed(s, bytes, n);
		return;
	}
	decode_push(s, n, message, message_n);
	if (s->state != CLOSED)
		merge_queue_work(s->tenant);
}

/* Goes on with what waits packed, as memory has become free. */
void push_backlog(struct hub_session *s)
{
	struct hub_core *core = s->core;

	while (session_up(s) && s->backlog != NULL && s->held_bytes < HELD_BYTES_MAX) {
		struct packed *p = s->backlog;
		struct ferry_why why = {""};
		const uint8_t *plain = NULL;
		size_t plain_n = 0;
		enum ferry_error e;

		s->backlog = p->next;
		if (s->backlog == NULL)
			s->backlog_end = &s->backlog;
		e = packer_unpack(core->packer, p->bytes, p->n, &core->unpacked, &plain, &plain_n, &why);
		if (e == FERRY_OK) /* as when it came */
			decode_push(s, p->n, plain, plain_n);
		else
			session_fail(s, (int)e, RETRY_HINT_MS, "%s", ferry_error_text((int)e));
		free(p);
	}
}

void push_drop(struct hub_session *s)
{
	merge_queue_drop_session(s);
	s->hold = NULL;
	while (s->stagings != NULL) {
		struct staging *staging = s->stagings;

		s->stagings = staging->next;
		if (staging->item != NULL)
			hold_release(staging->item->hold);
		free(staging);
	}
}

void push_forget_calls(struct hub_core *core)
{
	struct stage_call *call;

	while ((call = TAILQ_FIRST(&core->stage_calls)) != NULL) {
		TAILQ_REMOVE(&core->stage_calls, call, link);
		call->hold->session = NULL;
		hold_release(call->hold);
		free(call);
	}
}
