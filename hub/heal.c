/* After the database went back in time (R17, R18): devices offer again what
 * its lost history had settled. For a while, the heal window, these replays
 * are only gathered, so that those of many devices merge in their old order;
 * a replica that is filled anew for the same reason is filled after that, and
 * so has them all at once. What lacks its predecessor is parked: its device
 * keeps it and offers it again. So is what is new and was made on rows of the
 * lost history that nobody has brought back yet.
 *
 * All of it hangs on when the present epoch began, which the database tells,
 * so that any number of hubs agree and none has to remember. */
#include <stdlib.h>
#include <string.h>

#include "hub/core_internal.h"

/* Microseconds from the beginning of the session's epoch to its end by this
 * hub's clock, were it `length` long; 0: it is over. */
static int64_t left_of(const struct hub_session *s, int64_t length)
{
	int64_t left = s->found.epoch_at + length - s->core->fx.wall(s->core->shell);

	if (left < 0)
		return 0;
	return left < length ? left : length;
}

void heal_greet(struct hub_session *s, int code)
{
	s->healed_at = core_now(s->core) + left_of(s, s->core->limits.heal_window_us);
	s->rewound = code == FERRY_OTHER_HISTORY || s->fill.compared;
	if (code != FERRY_OTHER_HISTORY)
		return;
	core_log(s->core, HUB_LOG_ERROR, &s->tenant->id, &s->device,
		 "event=rewound position=%lld common=%lld sentence=\"the database is older than this device: it was "
		 "restored from a backup, and regains what its devices kept\"",
		 (long long)s->hello.position, (long long)s->found.common);
	s->hello.position = s->found.common; /* from here on the bookmark is the newest common one */
	s->hello.mark = s->found.common_mark;
}

bool heal_waits(const struct hub_session *s)
{
	if (!s->rewound || core_now(s->core) >= s->healed_at)
		return false;
	core_wake(s->core, s->healed_at);
	return true;
}

bool heal_parks(const struct item *item)
{
	return (item->old_position > 0 || item->on_lost) && item->session != NULL &&
	       left_of(item->session, item->session->core->limits.heal_park_us) > 0;
}

/* ---- Parked numbers of a session, ascending ---- */

static uint32_t parked_place(const struct hub_session *s, int64_t number)
{
	uint32_t place = s->parked_count;

	while (place > 0 && s->parked[place - 1] >= number)
		place--;
	return place;
}

static bool is_parked(const struct hub_session *s, int64_t number)
{
	uint32_t place = parked_place(s, number);

	return place < s->parked_count && s->parked[place] == number;
}

void heal_park(struct hub_session *s, int64_t number)
{
	uint32_t place = parked_place(s, number);

	if (is_parked(s, number) || !vector_grow((void **)&s->parked, s->parked_count, &s->parked_capacity, sizeof(*s->parked)))
		return; /* what builds on it waits as long as the session lives */
	memmove(s->parked + place + 1, s->parked + place, (s->parked_count - place) * sizeof(*s->parked));
	s->parked[place] = number;
	s->parked_count++;
}

void heal_unpark(struct hub_session *s, int64_t number)
{
	uint32_t place = parked_place(s, number);

	if (!is_parked(s, number))
		return;
	s->parked_count--;
	memmove(s->parked + place, s->parked + place + 1, (s->parked_count - place) * sizeof(*s->parked));
}

static bool any_parked(const struct hub_session *s, const int64_t *numbers, uint32_t count)
{
	for (uint32_t i = 0; i < count && s->parked_count > 0; i++) {
		if (is_parked(s, numbers[i]))
			return true;
	}
	return false;
}

bool heal_builds_on_parked(const struct item *item)
{
	return any_parked(item->session, item->depends, item->depends_count) ||
	       any_parked(item->session, item->after, item->after_count);
}

/* Replicas that waited for the end of the heal window. */
void heal_tick(struct hub_core *core)
{
	struct hub_session *s;

	for (s = TAILQ_FIRST(&core->sessions); s != NULL; s = TAILQ_NEXT(s, all)) {
		if (s->rewound && session_up(s) && !heal_waits(s)) {
			s->rewound = false;
			session_pump(s);
		}
	}
}

/* ---- Order ---- */

static int compare_replays(const void *pa, const void *pb)
{
	const struct item *a = *(struct item *const *)pa, *b = *(struct item *const *)pb;
	int order;

	if (a->old_position != b->old_position)
		return a->old_position < b->old_position ? -1 : 1;
	order = uuid_compare(&a->device, &b->device);
	if (order != 0)
		return order;
	return a->number < b->number ? -1 : a->number > b->number;
}

/* The replays of the queue go first, in their old order: what is new may
 * build on them. Without the memory for it they merge as they came. */
void heal_sort(struct tenant *t)
{
	struct item **replays = calloc(t->queue_count + 1u, sizeof(struct item *)), *item;
	uint32_t n = 0;

	t->replays_came = false;
	if (replays == NULL)
		return;
	for (item = TAILQ_FIRST(&t->queue); item != NULL; item = TAILQ_NEXT(item, link)) {
		if (item->old_position > 0)
			replays[n++] = item;
	}
	qsort(replays, n, sizeof(struct item *), compare_replays);
	while (n > 0) {
		item = replays[--n];
		TAILQ_REMOVE(&t->queue, item, link);
		TAILQ_INSERT_HEAD(&t->queue, item, link);
	}
	free(replays);
}
