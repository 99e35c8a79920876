/* A tenant's queue of change-sets, and the batches that go to the store: all
 * that is queued at the moment the merge becomes free, up to the limits.
 *
 * Who is in a batch:
 *   - the order of arrival, within a device always (R6);
 *   - one that names an earlier change-set which is neither settled nor
 *     before it in the batch waits, and others overtake it (R6);
 *   - one whose rows were locked waits until its time has come (R12);
 *   - a device that failed lately is in a batch of its own (R11), and so is
 *     one staged in parts, or one whose batch failed whole. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "hub/core_internal.h"

#define MERGE_PACE_SESSIONS 8u            /* with more sessions merges keep a distance, */
#define MERGE_PACE_US_EACH INT64_C(500)   /* so long for each of them, */
#define MERGE_PACE_MAX_US INT64_C(60000)  /* and at most this, */
#define MERGE_PACE_ROWS 500u              /* unless so many rows are waiting */

struct batch {
	struct tenant *tenant;
	struct item **items;
	struct merge_item *sets;
	uint32_t count;
	uint32_t attempts;
	bool asked;
	int64_t retry_at;
};

struct filling_batch {
	struct batch *batch;
	uint32_t capacity;
	uint64_t rows;
	size_t bytes;
	bool alone;             /* holds one that allows no other */
	const struct uuid *only; /* a device that merges by itself */
};

void merge_queue_add(struct item *item)
{
	struct tenant *t = item->session->tenant;

	TAILQ_INSERT_TAIL(&t->queue, item, link);
	t->queue_count++;
	t->queue_rows += item->rows;
	t->replays_came |= item->old_position > 0;
}

static void unqueue(struct tenant *t, struct item *item)
{
	TAILQ_REMOVE(&t->queue, item, link);
	t->queue_count--;
	t->queue_rows -= item->rows;
}

static bool in_numbers(const int64_t *numbers, uint32_t count, int64_t number)
{
	uint32_t low = 0, high = count;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (numbers[middle] < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < count && numbers[low] == number;
}

bool session_number_settled(const struct hub_session *s, int64_t number)
{
	return number <= s->settled || in_numbers(s->settled_above, s->settled_above_count, number);
}

/* Keeps the numbers above the watermark ascending, and moves the watermark. */
static void note_settled(struct hub_session *s, int64_t number)
{
	uint32_t at, taken = 0;

	if (session_number_settled(s, number))
		return;
	if (!vector_grow((void **)&s->settled_above, s->settled_above_count, &s->settled_above_capacity,
		       sizeof(*s->settled_above)))
		return; /* a dependant waits longer; nothing is lost */
	for (at = s->settled_above_count; at > 0 && s->settled_above[at - 1] > number; at--)
		s->settled_above[at] = s->settled_above[at - 1];
	s->settled_above[at] = number;
	s->settled_above_count++;
	while (taken < s->settled_above_count && s->settled_above[taken] == s->settled + 1) {
		s->settled++;
		taken++;
	}
	s->settled_above_count -= taken;
	memmove(s->settled_above, s->settled_above + taken, s->settled_above_count * sizeof(*s->settled_above));
}

/* Are all of them settled, or before the item in this batch? */
static bool are_before(const struct item *item, const int64_t *numbers, uint32_t count, uint64_t batch)
{
	for (uint32_t i = 0; i < count; i++) {
		const struct item *earlier;

		if (session_number_settled(item->session, numbers[i]))
			continue;
		earlier = session_item(item->session, numbers[i]);
		if (earlier == NULL || earlier == item || earlier->batch != batch)
			return false;
	}
	return true;
}

/* R6, R18 */
static bool may_go(const struct item *item, uint64_t batch)
{
	return are_before(item, item->depends, item->depends_count, batch) && are_before(item, item->after, item->after_count, batch);
}

static bool apart(const struct item *item, int64_t now)
{
	return now < item->session->failed_until;
}

static bool fits(const struct filling_batch *f, const struct item *item, int64_t now)
{
	const struct hub_limits *limits = &item->session->core->limits;

	if (f->batch->count == 0)
		return true;
	if (f->alone || item->alone || item->set == NULL)
		return false;
	if (f->only != NULL)
		return uuid_equal(f->only, &item->device);
	if (apart(item, now))
		return false;
	return f->rows + item->rows <= limits->batch_rows_max && f->bytes + item->bytes <= limits->batch_bytes_max;
}

static bool put(struct filling_batch *f, struct item *item, int64_t now)
{
	struct tenant *t = f->batch->tenant;

	if (!vector_grow((void **)&f->batch->items, f->batch->count, &f->capacity, sizeof(struct item *)))
		return false;
	f->batch->items[f->batch->count++] = item;
	f->rows += item->rows;
	f->bytes += item->bytes;
	f->alone |= item->alone || item->set == NULL;
	if (f->only == NULL && apart(item, now))
		f->only = &item->device;
	unqueue(t, item);
	item->under_way = true;
	item->batch = t->batch_serial;
	return true;
}

static void gather_ack(struct hub_session *s, const struct settled *settled)
{
	if (!vector_grow((void **)&s->acks, s->ack_count, &s->ack_capacity, sizeof(struct settled)))
		return; /* an ack alone removes nothing (R3): the commit will tell */
	s->acks[s->ack_count] = *settled;
	s->acks[s->ack_count].conflicts = NULL;
	s->acks[s->ack_count].conflict_count = 0;
	s->ack_count++;
}

/* Once a batch and session, not once a change-set: there may be thousands. */
static void forget_settled(struct hub_session *s)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < s->item_count; i++) {
		if (!s->items[i]->settled)
			s->items[kept++] = s->items[i];
	}
	s->item_count = kept;
	s->items_settled = false;
}

/* Once a session: its device may bring many. */
static void tell_kept_full(struct hub_session *s, const struct settled *parked)
{
	if (parked->code != FERRY_KEPT_FULL || s->told_kept_full)
		return;
	s->told_kept_full = true;
	core_log(s->core, HUB_LOG_WARNING, &s->tenant->id, &s->device, "event=kept-full number=%lld sentence=\"%s\"",
		 (long long)parked->number, parked->sentence);
}

/* R18, and what the hub has no room to keep: the device keeps it and offers it again. */
static void park_item(struct item *item, int code, const char *sentence)
{
	struct hub_session *s = item->session;
	const struct settled parked = {.number = item->number, .verdict = VERDICT_PARKED, .code = code, .sentence = sentence};

	item->under_way = false;
	item->settled = true;
	if (s == NULL)
		return;
	s->items_settled = true;
	tell_kept_full(s, &parked);
	heal_park(s, item->number);
	gather_ack(s, &parked);
}

static void park_queued(struct item *item)
{
	struct hub_session *s = item->session;

	unqueue(s->tenant, item);
	park_item(item, FERRY_DEPENDS, "it builds on a change-set that is parked");
	forget_settled(s);
	hold_release(item->hold);
}

/* R18: a large one stays here, since to offer it again would be much to send; what
 * builds on it is parked as if it were. The longer it waits, the less often it is tried. */
static void park_staged(struct tenant *t, struct item *item, int code, const char *sentence)
{
	struct hub_session *s = item->session;
	int64_t delay = PARKED_RETRY_US << (item->attempts < 10 ? item->attempts : 10);

	item->under_way = false;
	if (s == NULL) {
		hold_release(item->hold);
		return;
	}
	if (item->attempts++ == 0)
		core_log(t->core, HUB_LOG_WARNING, &t->id, &s->device, "event=replay-waits number=%lld code=%s sentence=\"%s\"",
			 (long long)item->number, ferry_error_name(code), sentence);
	heal_park(s, item->number);
	item->not_before = core_now(t->core) + (delay < PARKED_RETRY_MAX_US ? delay : PARKED_RETRY_MAX_US);
	core_wake(t->core, item->not_before);
	TAILQ_INSERT_HEAD(&t->queue, item, link);
	t->queue_count++;
	t->queue_rows += item->rows;
}

/* Takes from the queue what goes together now. out_next: when the first of
 * those that wait for their time may go. */
static void take_batch(struct batch *b, int64_t now, int64_t *out_next)
{
	struct filling_batch f = {.batch = b};
	struct tenant *t = b->tenant;
	struct item *item, *next;

	t->batch_serial++;
	if (t->replays_came)
		heal_sort(t);
	for (item = TAILQ_FIRST(&t->queue); item != NULL; item = next) {
		next = TAILQ_NEXT(item, link);
		if (item->not_before > now) {
			if (item->not_before < *out_next)
				*out_next = item->not_before;
			continue;
		}
		if (heal_builds_on_parked(item)) {
			park_queued(item);
			continue;
		}
		if (!may_go(item, t->batch_serial))
			continue;
		if (!fits(&f, item, now)) {
			if (f.only == NULL && !f.alone && !item->alone && item->set != NULL && !apart(item, now))
				break; /* full */
			continue;
		}
		if (!put(&f, item, now) || f.alone)
			break;
	}
}

static void batch_free(struct batch *b)
{
	if (b == NULL)
		return;
	free(b->items);
	free(b->sets);
	free(b);
}

static void batch_merged(void *ctx, enum ferry_error e, const struct merge_result *results, uint32_t count);

static void batch_ask(struct batch *b)
{
	struct tenant *t = b->tenant;

	b->asked = true;
	b->attempts++;
	t->refs++;
	t->merged_at = core_now(t->core);
	t->core->stats.merges++;
	t->core->ops->merge(t->core->store, &t->id, b->sets, b->count, batch_merged, t);
}

static struct batch *batch_new(struct tenant *t)
{
	int64_t now = core_now(t->core), next = NEVER;
	struct batch *b = calloc(1, sizeof(*b));

	if (b == NULL)
		return NULL;
	b->tenant = t;
	take_batch(b, now, &next);
	if (next != NEVER)
		core_wake(t->core, next);
	if (b->count == 0) {
		batch_free(b);
		return NULL;
	}
	return b;
}

static bool batch_list(struct batch *b)
{
	b->sets = calloc(b->count, sizeof(*b->sets));
	if (b->sets == NULL)
		return false;
	for (uint32_t i = 0; i < b->count; i++)
		b->sets[i] = (struct merge_item){.device = b->items[i]->device, .number = b->items[i]->number,
						 .life = b->items[i]->life, .set = b->items[i]->set,
						 .staging = b->items[i]->staging, .refused = b->items[i]->old_code,
						 .sentence = b->items[i]->old_sentence, .park = heal_parks(b->items[i])};
	return true;
}

static void return_item(struct tenant *t, struct item *item)
{
	TAILQ_INSERT_HEAD(&t->queue, item, link);
	t->queue_count++;
	t->queue_rows += item->rows;
}

/* Back to the queue's front, in the old order. Those whose session is gone
 * are forgotten: the device offers them again. */
static void put_back(struct tenant *t, struct batch *b, bool alone)
{
	for (uint32_t i = b->count; i > 0; i--) {
		struct item *item = b->items[i - 1];

		item->under_way = false;
		if (item->session == NULL) {
			hold_release(item->hold);
			continue;
		}
		item->alone |= alone;
		return_item(t, item);
	}
	b->count = 0;
}

/* Many sessions: a little distance between merges makes fewer, larger ones. */
static int64_t pace(const struct tenant *t)
{
	int64_t us = (int64_t)t->session_count * MERGE_PACE_US_EACH;

	if (t->session_count <= MERGE_PACE_SESSIONS || t->queue_rows >= MERGE_PACE_ROWS)
		return 0;
	return us < MERGE_PACE_MAX_US ? us : MERGE_PACE_MAX_US;
}

void merge_queue_work(struct tenant *t)
{
	int64_t now = core_now(t->core);
	int64_t due = t->merged_at + pace(t);

	if (t->batch != NULL) {
		if (!t->batch->asked && now >= t->batch->retry_at)
			batch_ask(t->batch);
		else if (!t->batch->asked)
			core_wake(t->core, t->batch->retry_at);
		return;
	}
	if (TAILQ_EMPTY(&t->queue) || t->core->draining)
		return;
	if (now < due) {
		core_wake(t->core, due);
		return;
	}
	t->batch = batch_new(t);
	if (t->batch == NULL)
		return;
	if (batch_list(t->batch)) {
		batch_ask(t->batch);
		return;
	}
	put_back(t, t->batch, false);
	batch_free(t->batch);
	t->batch = NULL;
	core_wake(t->core, now + BATCH_RETRY_US);
}

static void send_acks(struct hub_session *s)
{
	struct message m = {.type = MESSAGE_ACK};

	for (uint32_t i = 0; i < s->ack_count && session_up(s); i += m.ack.settled_count) {
		uint32_t left = s->ack_count - i;
		/* A sentence has an upper bound, so a message of so many fits. */
		uint32_t most = s->core->limits.message_bytes_max / (FERRY_WHY_MAX + 64);

		m.ack.settled = s->acks + i;
		m.ack.settled_count = left < most ? left : most;
		if (m.ack.settled_count > FERRY_SETTLED_MAX)
			m.ack.settled_count = FERRY_SETTLED_MAX;
		if (m.ack.settled_count == 0)
			m.ack.settled_count = 1;
		session_send(s, &m);
	}
	s->ack_count = 0;
}

static void count_verdict(struct hub_core *core, const struct merge_result *r)
{
	if (r->repeated)
		return;
	core->stats.change_sets++;
	if (r->settled.verdict == VERDICT_SUPERSEDED)
		core->stats.superseded++;
	if (r->settled.verdict == VERDICT_REJECTED)
		core->stats.rejected++;
}

static void settle_item(struct tenant *t, struct item *item, const struct merge_result *r)
{
	struct hub_session *s = item->session;

	count_verdict(t->core, r);
	item->under_way = false;
	item->settled = true;
	if (!r->repeated)
		ring_know(t, r->settled.position);
	if (s != NULL) {
		s->items_settled = true;
		heal_unpark(s, item->number);
		note_settled(s, item->number);
		gather_ack(s, &r->settled);
		if (r->repeated)
			state_owe(s, &r->settled);
		if (!r->repeated && r->settled.verdict == VERDICT_REJECTED && r->settled.code != FERRY_DEPENDS)
			s->failed_until = core_now(t->core) + FAILED_APART_US;
	}
}

/* R12: its rows are locked by somebody's open transaction. Or it waits for the end of the one that it came with. */
static void try_item_later(struct tenant *t, struct item *item, bool next)
{
	int64_t delay = LOCKED_RETRY_US << (item->attempts < 7 ? item->attempts : 7);
	struct hub_session *s = item->session;

	item->under_way = false;
	if (s == NULL) {
		hold_release(item->hold);
		return;
	}
	if (next) {
		return_item(t, item);
		return;
	}
	item->attempts++;
	item->not_before = core_now(t->core) + (delay < LOCKED_RETRY_MAX_US ? delay : LOCKED_RETRY_MAX_US);
	core_wake(t->core, item->not_before);
	return_item(t, item);
	if (item->attempts >= LOCKED_ATTEMPTS_MAX)
		session_fail(s, FERRY_ROW_LOCKED, 30 * RETRY_HINT_MS,
			     "change-set %lld waits for a row that another transaction holds", (long long)item->number);
}

/* Not settled, and still the queue's. */
static bool stays(const struct batch *b, uint32_t i, const struct merge_result *r)
{
	return r->retry || (r->parked && b->sets[i].set == NULL);
}

/* Where nothing went on, nothing is gained by trying again at once. */
static bool goes_on(const struct batch *b, const struct merge_result *results, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		if (!stays(b, i, &results[i]))
			return true;
	}
	return false;
}

static void settle_batch(struct tenant *t, struct batch *b, const struct merge_result *results, uint32_t count)
{
	bool at_once = goes_on(b, results, count);

	assert(count == b->count);
	/* From the last to the first: those to be tried later return to the
	 * queue's front in their old order. */
	for (uint32_t i = count; i > 0; i--) {
		const struct merge_result *r = &results[i - 1];
		struct item *item = b->items[i - 1];

		assert(uuid_equal(&r->device, &item->device) && r->settled.number == item->number);
		if (r->elsewhere && item->session != NULL)
			session_fail(item->session, FERRY_LINK_CLOSED, 0, "a newer session of this device has begun");
		if (r->retry)
			try_item_later(t, item, r->next && at_once);
		else if (stays(b, i - 1, r))
			park_staged(t, item, r->settled.code, r->settled.sentence);
	}
	for (uint32_t i = 0; i < count; i++) {
		if (stays(b, i, &results[i]))
			continue;
		if (results[i].parked)
			park_item(b->items[i], results[i].settled.code, results[i].settled.sentence);
		else
			settle_item(t, b->items[i], &results[i]);
	}
	for (uint32_t i = 0; i < count; i++) {
		if (!stays(b, i, &results[i]) && b->items[i]->session != NULL && b->items[i]->session->items_settled)
			forget_settled(b->items[i]->session);
	}
	for (uint32_t i = 0; i < count; i++) {
		if (!stays(b, i, &results[i]))
			hold_release(b->items[i]->hold); /* and with the last of them the items */
	}
}

static void end_sessions(struct batch *b, int code)
{
	for (uint32_t i = 0; i < b->count; i++) {
		if (b->items[i]->session != NULL)
			session_fail(b->items[i]->session, code, 5 * RETRY_HINT_MS, "the hub cannot merge now: %s",
				     ferry_error_text(code));
	}
}

/* The transaction did not happen. What is temporary is tried again as it is;
 * else each change-set by itself, so that only the guilty one's session ends. */
static bool batch_failed(struct tenant *t, struct batch *b, enum ferry_error e)
{
	bool temporary = ferry_error_class((int)e) == FERRY_CLASS_RETRY;

	core_log(t->core, HUB_LOG_WARNING, &t->id, NULL, "event=merge-failed code=%s change_sets=%u attempt=%u",
		 ferry_error_name((int)e), b->count, b->attempts);
	if (temporary && b->attempts < BATCH_ATTEMPTS_MAX && !t->core->draining) {
		b->retry_at = core_now(t->core) + (BATCH_RETRY_US << (b->attempts - 1));
		core_wake(t->core, b->retry_at);
		return false;
	}
	if (temporary || b->count == 1)
		end_sessions(b, (int)e);
	put_back(t, b, true);
	return true;
}

static void after_batch(struct tenant *t)
{
	struct hub_session *s, *next;

	for (s = TAILQ_FIRST(&t->sessions); s != NULL; s = next) {
		next = TAILQ_NEXT(s, peers);
		if (s->ack_count > 0)
			send_acks(s);
		if (s->backlog != NULL)
			push_backlog(s);
	}
	if (t->core->draining)
		hub_core_drain(t->core);
	tenant_work(t);
	for (s = TAILQ_FIRST(&t->sessions); s != NULL; s = next) {
		next = TAILQ_NEXT(s, peers);
		if (s->owed != NULL)
			session_pump(s);
	}
}

static void batch_merged(void *ctx, enum ferry_error e, const struct merge_result *results, uint32_t count)
{
	struct tenant *t = ctx;
	struct hub_core *core = t->core;
	struct batch *b = t->batch;
	bool over = true;

	core_enter(core);
	assert(b != NULL && b->asked);
	b->asked = false;
	if (e == FERRY_OK)
		settle_batch(t, b, results, count);
	else
		over = batch_failed(t, b, e);
	if (over) {
		batch_free(b);
		t->batch = NULL;
		after_batch(t);
	}
	t->refs--;
	core->sweep = true;
	core_leave(core);
}

/* What is being merged goes on without its session; the rest is forgotten,
 * since the device keeps it until a commit names it (R3). */
void merge_queue_drop_session(struct hub_session *s)
{
	while (s->item_count > 0) {
		struct item *item = s->items[--s->item_count];

		if (item->under_way) {
			item->session = NULL;
			item->hold->session = NULL;
			continue;
		}
		unqueue(s->tenant, item);
		hold_release(item->hold);
	}
}

void merge_queue_free(struct tenant *t)
{
	if (t->batch != NULL) {
		for (uint32_t i = 0; i < t->batch->count; i++)
			hold_release(t->batch->items[i]->hold);
		batch_free(t->batch);
	}
	assert(TAILQ_EMPTY(&t->queue)); /* sessions are gone, and took theirs along */
}
