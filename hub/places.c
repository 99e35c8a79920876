#include "hub/places.h"

#include <stdlib.h>
#include <string.h>

#include "hub/pg_conninfo.h"

#define CONNINFO_BYTES_MAX 4096
#define PLACES_MAX	   1000 /* stores open at a time */

struct place {
	struct place *next;
	struct places *places;
	char *conninfo;     /* as its tenants' rows say it; "": the home database */
	struct uuid set;    /* whose set of schemas; zero: the shared one */
	struct pg_store *store;
	int64_t used_at;
	bool polling;
	bool swept;         /* looked for parked change-sets since it was used last: their place is noted */
	bool noted;         /* as having some */
	int64_t position;   /* as polled last; -1: not yet */
};

struct places {
	struct places_config config;
	const struct pg_io *io;
	struct place *first; /* without the home store */
	uint32_t count;
	struct place home;
	struct lookup *lookups;
	struct poll *polls;
	void *timer;
};

/* ---------------------------------------------------------------- stores */

static void place_free(struct place *place)
{
	pg_store_close(place->store);
	free(place->conninfo);
	free(place);
}

/* A place that does not answer may be closed as well: its note stays. */
static void parked_found(void *arg, enum ferry_error e, bool some)
{
	struct place *place = arg;

	place->swept = true;
	if (e != FERRY_OK || (!some && !place->noted))
		return;
	place->noted = some;
	pg_store_note_parked(place->places->config.home, place->conninfo, &place->set, some);
}

static struct pg_store *open_store(const struct places *p, struct place *place, const char *conninfo, const struct uuid *set)
{
	struct pg_store_config config = p->config.store;
	char merged[CONNINFO_BYTES_MAX];

	if (pg_conninfo_merge(config.conninfo, conninfo, merged, sizeof(merged), NULL) != FERRY_OK)
		return NULL;
	config.conninfo = merged; /* the store keeps a copy */
	config.set = *set;
	config.parked_found = parked_found;
	config.parked_ctx = place;
	return pg_store_open(&config, p->io);
}

static struct place *place_new(struct places *p, const char *conninfo, const struct uuid *set)
{
	struct place *place = p->count < PLACES_MAX ? calloc(1, sizeof(*place)) : NULL;

	if (!place)
		return NULL;
	*place = (struct place){.places = p, .conninfo = strdup(conninfo), .set = *set, .noted = true, .position = -1};
	place->store = place->conninfo ? open_store(p, place, conninfo, set) : NULL;
	if (!place->store) {
		free(place->conninfo);
		free(place);
		return NULL;
	}
	place->next = p->first;
	p->first = place;
	p->count++;
	return place;
}

static void close_idle(void *arg)
{
	struct places *p = arg;
	int64_t now = p->io->wall(p->io->ctx);
	struct place **at = &p->first;

	while (*at) {
		struct place *place = *at;
		struct pg_store_stats stats;

		pg_store_stats(place->store, &stats);
		if (place->polling || !place->swept || stats.operations > 0 || now - place->used_at < p->config.idle_us) {
			at = &place->next;
			continue;
		}
		*at = place->next;
		p->count--;
		place_free(place);
	}
	if (p->first)
		p->io->timer_set(p->io->ctx, p->timer, p->config.idle_us / 4 + 1);
}

/* The place of a tenant; opened when it is not yet. NULL: nobody knows it
 * (then the registry looks again), or no memory. */
static struct place *place_of(struct places *p, const struct uuid *tenant)
{
	const struct registry_tenant *t = registry_tenant(p->config.registry, tenant);
	struct uuid set = {{0}};
	struct place *place;

	if (!t) {
		registry_refresh(p->config.registry);
		return NULL;
	}
	if (t->own_schema)
		set = t->id;
	else if (t->conninfo[0] == 0)
		return &p->home;
	for (place = p->first; place; place = place->next) {
		if (uuid_equal(&place->set, &set) && strcmp(place->conninfo, t->conninfo) == 0)
			break;
	}
	if (!place) {
		place = place_new(p, t->conninfo, &set);
		p->io->timer_set(p->io->ctx, p->timer, p->config.idle_us / 4 + 1);
	}
	if (place) {
		place->used_at = p->io->wall(p->io->ctx);
		place->swept = false;
	}
	return place;
}

/* --------------------------------------------------------------- devices */

/* A hello: home is asked for the device's card, its place takes that over,
 * then the place is asked as any store is. */
struct lookup {
	struct lookup *next, **at;
	struct places *places;
	struct uuid tenant;
	uint8_t fingerprint[32];
	struct message_hello hello; /* its texts are not looked at */
	uint64_t look; /* of the registry, that it waits for; 0: none */
	hub_device_cb cb;
	void *ctx;
};

static void lookup_end(struct lookup *l, enum ferry_error e, const struct hub_device *device)
{
	hub_device_cb cb = l->cb;
	void *ctx = l->ctx;

	*l->at = l->next;
	if (l->next)
		l->next->at = l->at;
	free(l);
	cb(ctx, e, device);
}

static void device_came(void *arg, enum ferry_error e, const struct hub_device *device)
{
	struct lookup *l = arg;
	const struct registry_tenant *t = registry_tenant(l->places->config.registry, &l->tenant);
	struct hub_device found;

	if (e != FERRY_OK || !device) {
		lookup_end(l, e, device);
		return;
	}
	found = *device;
	found.shut = t ? t->shut : FERRY_OK;
	found.held = t ? t->held : FERRY_OK;
	if (found.shut == FERRY_OK)
		registry_count_call(l->places->config.registry, &l->tenant);
	lookup_end(l, e, &found);
}

static void ask_place(struct lookup *l)
{
	struct place *place = place_of(l->places, &l->tenant);

	if (!place)
		lookup_end(l, FERRY_DATABASE, NULL);
	else
		pg_store_ops.device(place->store, l->fingerprint, &l->hello, device_came, l);
}

static void adopted(void *arg, enum ferry_error e)
{
	struct lookup *l = arg;

	if (e == FERRY_OK)
		ask_place(l);
	else
		lookup_end(l, e, NULL);
}

static void card_came(void *arg, enum ferry_error e, const char *card)
{
	struct lookup *l = arg;
	struct place *place = place_of(l->places, &l->tenant);

	if (!place)
		lookup_end(l, FERRY_DATABASE, NULL);
	else if (e != FERRY_OK)
		ask_place(l); /* home is away: what was taken over before serves */
	else if (!card)
		lookup_end(l, FERRY_UNKNOWN_DEVICE, NULL);
	else
		pg_store_adopt(place->store, card, adopted, l);
}

static struct lookup *lookup_new(struct places *p, const uint8_t fingerprint[32], const struct message_hello *hello,
				 hub_device_cb cb, void *ctx)
{
	struct lookup *l = calloc(1, sizeof(*l));

	if (!l)
		return NULL;
	*l = (struct lookup){.next = p->lookups, .at = &p->lookups, .places = p, .hello = *hello, .cb = cb, .ctx = ctx};
	memcpy(l->fingerprint, fingerprint, sizeof(l->fingerprint));
	if (p->lookups)
		p->lookups->at = &l->next;
	p->lookups = l;
	return l;
}

/* A tenant that is shut needs no database to be told so, and one that is
 * deleted may have none any more. */
static void answer_shut(struct lookup *l, int shut)
{
	struct hub_device device = {.tenant = l->tenant, .shut = shut};

	lookup_end(l, FERRY_OK, &device);
}

static void look_up(struct lookup *l)
{
	const struct registry_tenant *t = registry_tenant(l->places->config.registry, &l->tenant);
	struct place *place;

	if (t && t->shut != FERRY_OK) {
		answer_shut(l, t->shut);
		return;
	}
	place = place_of(l->places, &l->tenant);
	if (place && place->conninfo && place->conninfo[0])
		pg_store_card(l->places->config.home, l->fingerprint, card_came, l);
	else
		ask_place(l);
}

void places_looked(struct places *p, uint64_t look)
{
	struct lookup *l, *next;

	for (l = p->lookups; l; l = next) {
		next = l->next;
		if (l->look == 0 || l->look > look)
			continue;
		l->look = 0;
		look_up(l);
	}
}

/* Nobody is turned away for what was so a moment ago: a tenant may just have
 * been made, or resumed. */
static void places_device(void *store, const uint8_t fingerprint[32], const struct message_hello *hello,
			  hub_device_cb cb, void *ctx)
{
	struct places *p = store;
	struct lookup *l = lookup_new(p, fingerprint, hello, cb, ctx);
	const struct registry_tenant *t;

	if (!l) {
		cb(ctx, FERRY_NO_MEMORY, NULL);
		return;
	}
	if (!registry_tenant_of(p->config.registry, fingerprint, &l->tenant)) {
		lookup_end(l, FERRY_UNKNOWN_DEVICE, NULL);
		return;
	}
	t = registry_tenant(p->config.registry, &l->tenant);
	if (!t || t->shut != FERRY_OK)
		l->look = registry_refresh(p->config.registry);
	if (l->look == 0)
		look_up(l);
}

/* -------------------------------------------------------- the other calls */

static void places_schema(void *store, const struct uuid *tenant, hub_schema_cb cb, void *ctx)
{
	struct place *place = place_of(store, tenant);

	if (place)
		pg_store_ops.schema(place->store, tenant, cb, ctx);
	else
		cb(ctx, FERRY_DATABASE, NULL);
}

static void places_merge(void *store, const struct uuid *tenant, const struct merge_item *items, uint32_t count,
			 hub_merge_cb cb, void *ctx)
{
	struct place *place = place_of(store, tenant);

	if (place)
		pg_store_ops.merge(place->store, tenant, items, count, cb, ctx);
	else
		cb(ctx, FERRY_DATABASE, NULL, 0);
}

static void places_stage(void *store, const struct uuid *tenant, const struct uuid *device, int64_t staging,
			 const struct change_set *part, hub_stage_cb cb, void *ctx)
{
	struct place *place = place_of(store, tenant);

	if (place)
		pg_store_ops.stage(place->store, tenant, device, staging, part, cb, ctx);
	else
		cb(ctx, FERRY_DATABASE);
}

static void places_feed(void *store, const struct uuid *tenant, int64_t from, const char *const *scopes,
			uint32_t scope_count, const struct uuid *device, hub_feed_cb cb, void *ctx)
{
	struct place *place = place_of(store, tenant);

	if (place)
		pg_store_ops.feed(place->store, tenant, from, scopes, scope_count, device, cb, ctx);
	else
		cb(ctx, FERRY_DATABASE, NULL);
}

static void places_compare(void *store, const struct uuid *tenant, int64_t from, const char *const *scopes,
			   uint32_t scope_count, const struct uuid *device, const struct message_compare *question,
			   hub_feed_cb cb, void *ctx)
{
	struct place *place = place_of(store, tenant);

	if (place)
		pg_store_ops.compare(place->store, tenant, from, scopes, scope_count, device, question, cb, ctx);
	else
		cb(ctx, FERRY_DATABASE, NULL);
}

static void places_lease(void *store, const struct uuid *tenant, const struct uuid *device,
			 const struct message_lease_ask *which, hub_lease_cb cb, void *ctx)
{
	struct place *place = place_of(store, tenant);

	if (place)
		pg_store_ops.lease(place->store, tenant, device, which, cb, ctx);
	else
		cb(ctx, FERRY_DATABASE, NULL, 0);
}

static void places_fill(void *store, const struct fill_request *request, hub_fill_cb cb, void *ctx)
{
	struct place *place = place_of(store, &request->tenant);

	if (place)
		pg_store_ops.fill(place->store, request, cb, ctx);
	else
		cb(ctx, FERRY_DATABASE, NULL);
}

static void places_applied(void *store, const struct uuid *tenant, const struct uuid *device, int64_t position)
{
	struct place *place = place_of(store, tenant);

	if (place)
		pg_store_ops.applied(place->store, tenant, device, position);
}

static void places_rights(void *store, const struct uuid *tenant, int64_t after, hub_rights_cb cb, void *ctx)
{
	struct place *place = place_of(store, tenant);

	if (place)
		pg_store_ops.rights(place->store, tenant, after, cb, ctx);
	else
		cb(ctx, FERRY_DATABASE, NULL, 0);
}

static void nobody_asked(void *ctx, enum ferry_error e)
{
	(void)ctx;
	(void)e;
}

/* Closed ones that have some, as it was noted. */
static void noted_came(void *arg, const struct uuid *tenants, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		struct place *place = place_of(arg, &tenants[i]);

		if (place && place->conninfo)
			pg_store_ops.parked(place->store, NULL, nobody_asked, NULL);
	}
}

/* Of all tenants: at home, where a place is open anyway, and in a few of those where some are parked. */
static void all_parked(struct places *p, hub_stage_cb cb, void *ctx)
{
	if (registry_is_loaded(p->config.registry)) /* else nobody knows yet where they are */
		pg_store_parked_places(p->config.home, noted_came, p);
	for (struct place *place = p->first; place; place = place->next)
		pg_store_ops.parked(place->store, NULL, nobody_asked, NULL);
	pg_store_ops.parked(p->home.store, NULL, cb, ctx);
}

static void places_parked(void *store, const struct uuid *tenant, hub_stage_cb cb, void *ctx)
{
	struct place *place = tenant ? place_of(store, tenant) : NULL;

	if (!tenant)
		all_parked(store, cb, ctx);
	else if (place)
		pg_store_ops.parked(place->store, tenant, cb, ctx);
	else
		cb(ctx, FERRY_DATABASE);
}

/* ------------------------------------------------------------------ polls */

/* One question to one database. Each answer that is news is told, so that a
 * slow database makes nobody wait. */
struct poll {
	struct poll *next, **at;
	struct place *place;
	hub_poll_cb cb;
	void *ctx;
};

static void polled(void *arg, enum ferry_error e, int64_t position)
{
	struct poll *q = arg;
	struct place *place = q->place;
	hub_poll_cb cb = q->cb;
	void *ctx = q->ctx;

	*q->at = q->next;
	if (q->next)
		q->next->at = q->at;
	free(q);
	place->polling = false;
	if (e == FERRY_OK)
		place->position = position;
	cb(ctx, e, position);
}

static bool poll_place(struct places *p, struct place *place, hub_poll_cb cb, void *ctx)
{
	struct poll *q = place->polling ? NULL : calloc(1, sizeof(*q));

	if (!q)
		return false;
	*q = (struct poll){.next = p->polls, .at = &p->polls, .place = place, .cb = cb, .ctx = ctx};
	if (p->polls)
		p->polls->at = &q->next;
	p->polls = q;
	place->polling = true;
	pg_store_ops.poll(place->store, polled, q);
	return true;
}

static void places_poll(void *store, hub_poll_cb cb, void *ctx)
{
	struct places *p = store;
	bool asked = poll_place(p, &p->home, cb, ctx);

	for (struct place *place = p->first; place; place = place->next)
		asked |= poll_place(p, place, cb, ctx);
	if (!asked)
		cb(ctx, FERRY_DATABASE, 0);
}

static int64_t places_position(void *store, const struct uuid *tenant, int64_t polled_position)
{
	struct places *p = store;
	const struct registry_tenant *t = registry_tenant(p->config.registry, tenant);

	(void)polled_position;
	if (!t || t->conninfo[0] == 0)
		return p->home.position; /* a set of schemas shares its database's positions */
	for (const struct place *place = p->first; place; place = place->next) {
		if (strcmp(place->conninfo, t->conninfo) == 0)
			return place->position;
	}
	return -1;
}

/* ------------------------------------------------------------------- life */

struct places *places_open(const struct places_config *config, const struct pg_io *io)
{
	struct places *p = calloc(1, sizeof(*p));

	if (!p)
		return NULL;
	p->config = *config;
	p->io = io;
	p->home = (struct place){.places = p, .store = config->home, .position = -1};
	p->timer = io->timer(io->ctx, close_idle, p);
	if (!p->timer) {
		free(p);
		return NULL;
	}
	return p;
}

void places_close(struct places *p)
{
	if (!p)
		return;
	while (p->first) {
		struct place *place = p->first;

		p->first = place->next;
		place_free(place);
	}
	while (p->lookups) {
		struct lookup *l = p->lookups;

		p->lookups = l->next;
		free(l);
	}
	while (p->polls) {
		struct poll *q = p->polls;

		p->polls = q->next;
		free(q);
	}
	p->io->timer_free(p->io->ctx, p->timer);
	free(p);
}

void places_each(const struct places *p,
		 void (*each)(void *ctx, const char *conninfo, const struct uuid *tenant, const struct pg_store *store),
		 void *ctx)
{
	for (const struct place *place = p->first; place; place = place->next)
		each(ctx, place->conninfo, &place->set, place->store);
}

const struct hub_store_ops places_ops = {
	.device = places_device,
	.schema = places_schema,
	.merge = places_merge,
	.stage = places_stage,
	.feed = places_feed,
	.compare = places_compare,
	.fill = places_fill,
	.poll = places_poll,
	.applied = places_applied,
	.rights = places_rights,
	.parked = places_parked,
	.lease = places_lease,
	.position = places_position,
};
