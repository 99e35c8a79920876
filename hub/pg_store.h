/* The hub's store on PostgreSQL: struct hub_store_ops (hub/store.h), without
 * blocking, over a few pipelined connections.
 *
 * Every operation is one transaction (a merge: one for each run of
 * change-sets, see pg_merge.h). Deadlocks, serialization failures and lock
 * timeouts are retried whole with a short random pause, up to a bound. No
 * state of a tenant is kept here but the catalogue, so several hubs may work
 * on one database. */
#ifndef FERRY_HUB_PG_STORE_H
#define FERRY_HUB_PG_STORE_H

#include "hub/pg_io.h"
#include "hub/store.h"

struct pg_store;

struct pg_store_config {
	const char *conninfo;      /* of the role ferry_hub; copied */
	struct uuid set;           /* the tenant whose own set of schemas it serves; zero: the shared set */
	uint32_t connections;      /* 0: 4 */
	uint32_t lock_timeout_ms;  /* a merge waits so long for a row; 0: 300 */
	uint32_t message_bytes_max; /* of a frame; 0: FERRY_MESSAGE_BYTES_MAX */
	size_t merge_bytes_max;    /* working memory of a merge; 0: 256 MiB */
	size_t feed_bytes_max;     /* frames of one feed; more is answered PRUNED (fill anew); 0: 64 MiB */
	uint32_t feed_rows_max;    /* the same in rows; 0: 200000 */
	int64_t kept_device_bytes_max; /* refused and parked change-sets and parts of large ones, of a device; 0: 2 GiB */
	int64_t kept_tenant_bytes_max; /* of a tenant; 0: 32 GiB */
	/* After each look for parked change-sets of all tenants: are there any? NULL: nobody wants to know. */
	void (*parked_found)(void *ctx, enum ferry_error e, bool some);
	void *parked_ctx;
	void (*log)(void *ctx, const char *text); /* NULL: none; one sentence, no row data */
	void *log_ctx;
};

/* io is borrowed until close. Connects in the background. NULL: no memory. */
struct pg_store *pg_store_open(const struct pg_store_config *config, const struct pg_io *io);
/* Operations under way are dropped; their callbacks do not come. */
void pg_store_close(struct pg_store *s);

extern const struct hub_store_ops pg_store_ops;

/* What the database knows of a device (NULL: nothing), as text for another
 * store that takes it over (hub/places.h). The answer comes as with
 * hub_store_ops. */
void pg_store_card(struct pg_store *s, const uint8_t fingerprint[32],
		   void (*came)(void *ctx, enum ferry_error e, const char *card), void *ctx);
void pg_store_adopt(struct pg_store *s, const char *card, void (*adopted)(void *ctx, enum ferry_error e), void *ctx);

/* At home: notes whether the place of these tenants has parked change-sets; no answer. And tenants of places
 * that were noted and not looked at for long, a few; they count as looked at. (hub/pg_parked_places.c) */
#define PARKED_PLACES_MAX 4
void pg_store_note_parked(struct pg_store *s, const char *conninfo, const struct uuid *set, bool some);
void pg_store_parked_places(struct pg_store *s, void (*came)(void *ctx, const struct uuid *tenants, uint32_t count), void *ctx);

struct pg_store_stats {
	uint32_t links_ready, links, waiting, operations;
	uint64_t lost;          /* connections lost */
	uint64_t merges;        /* merge transactions committed */
	uint64_t merge_retries; /* 40P01, 40001, 55P03 and other passing failures (R10) */
	uint64_t narrowings;    /* failed savepoints: a batch was split (P6) */
	uint64_t held_back;     /* change-sets told to come again: rows locked by others (R12) */
	uint64_t kept_full;     /* change-sets left on their devices, as there was no room to keep them */
	uint64_t oversized;     /* rows left out of a feed or fill: larger than a row may be [P 6.6] */
	uint64_t feeds, fills;
};
void pg_store_stats(const struct pg_store *s, struct pg_store_stats *out);

#endif
