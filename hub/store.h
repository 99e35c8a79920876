/* What the hub's core needs from storage. Two implementations: pg_store.c
 * (PostgreSQL, non-blocking) and tests/sim/model_store.c (memory, virtual
 * time). Every call returns at once; the answer comes by its callback, later
 * and exactly once, also on failure, unless the store is closed. Data in
 * callbacks is borrowed until the callback returns, unless said otherwise.
 *
 * Errors: FERRY_DATABASE is temporary (connection lost, deadlock after
 * retries); the core answers it by trying again or by ending the session
 * with a retry hint, never by losing a change-set: nothing is acknowledged
 * before its transaction is committed. */
#ifndef FERRY_HUB_STORE_H
#define FERRY_HUB_STORE_H

#include "hub/merge.h"
#include "protocol/message.h"

struct hub_device { /* a row of ferry.device, with what a session needs */
	struct uuid id;
	struct uuid tenant;
	bool revoked;
	int shut;                    /* why the tenant's devices are not let in: TENANT_SUSPENDED ...; or OK */
	int held;                    /* why nothing is taken from them: TENANT_ARCHIVED ...; or OK */
	struct uuid incarnation;     /* zero: none yet */
	bool clone;                  /* what came is a copy with a mark of the past: quarantined */
	bool adopted;                /* such a copy that was released */
	int64_t life;                /* how many there were, this one included; 0: not counted */
	int64_t staging;             /* names what this session stages; never given twice */
	int64_t settled;
	const int64_t *settled_above;
	uint32_t settled_above_count;
	const char *const *scopes;
	uint32_t scope_count;
	int64_t rights;              /* the tenant's count of changed rights that the scopes belong to */
	struct uuid epoch;           /* ferry.history */
	int64_t epoch_at;            /* since when it holds, microseconds since 1970 */
	int64_t since;               /* positions since the database was restored begin there; 0: it never was */
	int64_t head;                /* the tenant's (and global) last position */
	int64_t backed_up;           /* a backup surely holds the tenant up to here; 0: not known */
	/* Answer to the bookmark that was asked about: */
	int bookmark_code;           /* OK, PRUNED, OTHER_HISTORY */
	int64_t common, common_mark; /* with OTHER_HISTORY: the newest of its past bookmarks that is good; 0: none */
};

struct hub_schema {              /* what a tenant's devices get; owned by the store until the next schema change */
	struct schema schema;
	int64_t refill; /* replicas with a schema of an earlier step are filled anew */
};

/* One change-set to merge. Small ones come whole; a staged one by number. */
struct merge_item {
	struct uuid device;
	int64_t number;
	int64_t life;                 /* of its device, in which it was pushed (struct hub_device); 0: not counted */
	const struct change_set *set; /* NULL: its parts were staged */
	int64_t staging;              /* under this name */
	bool again; /* its number was settled as rejected or parked: judged anew if that still stands */
	bool expired; /* parked for long enough: refused if what it lacks is still missing */
	/* A replay, or made on a history that is lost (R18). One that was refused is refused again with its old code
	 * and sentence; others that lack their predecessor are parked. */
	int refused;          /* old code; OK: it was not */
	const char *sentence;
	bool park;
};

struct merge_result { /* one for each item, in the order of the items */
	struct uuid device;
	struct settled settled; /* verdict etc.; position of the transaction; for a number settled before, the stored verdict */
	bool repeated;          /* it was settled before */
	bool retry;             /* not settled: rows are locked by someone; offer it again */
	bool next;              /* retry: at once, and those behind it of its device after it */
	bool elsewhere;         /* retry: its device has begun another life, maybe at another hub */
	bool parked;            /* not settled: it lacks its predecessor, as settled.code and sentence say */
};

/* [P 6] A frame, already encoded as message delta (CBOR without envelope):
 * shared by all subscribers of the scope. */
struct feed_frame {
	const char *scope;
	const uint8_t *message;
	size_t message_bytes;
};

struct feed_settled {
	struct uuid device;
	int64_t life; /* how many its device had when this was read; 0: not counted */
	struct settled settled; /* with conflicts */
};

struct feed_result {
	int64_t from, to;  /* positions (from, to]; from == to: nothing new */
	int64_t mark;      /* of `to`; also when from == to */
	int64_t backed_up; /* a backup surely holds the tenant up to here; 0: not known */
	const struct feed_frame *frames; /* only scopes with changes; several per scope when large */
	uint32_t frame_count;
	const struct feed_settled *settled; /* of all devices of the tenant */
	uint32_t settled_count;
	/* Running sums (R21) at `to`: of the scopes with changes, and when scopes
	 * were asked for by name, of all tables in all of these. */
	const struct scope_sum *sums;
	uint32_t sum_count;
	/* Of compare: the asked ranges with their hashes at `to`. */
	const struct key_range *ranges;
	uint32_t range_count;
	/* The schema that frames and sums are of, as hub_schema has it; hash 0: not told. */
	uint64_t schema_hash;
	int64_t step;
};

struct fill_request {
	struct uuid tenant;
	const char *scope;
	uint32_t table;
	struct uuid after;   /* zero: from the start */
	int64_t position;    /* the fill was started at: goes into the message */
	size_t bytes_max;    /* about so many bytes of message */
};

struct fill_result {
	const uint8_t *message; /* message fill, CBOR without envelope */
	size_t message_bytes;
	/* A row that goes on [P 6.6]: the messages of its pieces stand one behind
	 * the other and end at these places. 0: it is one message. */
	const size_t *piece_ends;
	uint32_t piece_count;
	uint32_t row_count;
	struct uuid last;
	bool table_done;
};

struct hub_rescoped { /* a device whose scopes have changed */
	struct uuid device;
	int64_t rights;    /* with this count */
};

typedef void (*hub_device_cb)(void *ctx, enum ferry_error e, const struct hub_device *device);
typedef void (*hub_schema_cb)(void *ctx, enum ferry_error e, const struct hub_schema *schema);
typedef void (*hub_merge_cb)(void *ctx, enum ferry_error e, const struct merge_result *results, uint32_t count);
typedef void (*hub_stage_cb)(void *ctx, enum ferry_error e);
typedef void (*hub_feed_cb)(void *ctx, enum ferry_error e, const struct feed_result *result);
typedef void (*hub_fill_cb)(void *ctx, enum ferry_error e, const struct fill_result *result);
typedef void (*hub_rights_cb)(void *ctx, enum ferry_error e, const struct hub_rescoped *devices, uint32_t count);
typedef void (*hub_lease_cb)(void *ctx, enum ferry_error e, const struct message_lease *leases, uint32_t count);
typedef void (*hub_poll_cb)(void *ctx, enum ferry_error e, int64_t last_position);

struct hub_store_ops {
	/* Looks a device up by the SHA-256 of its certificate, checks its
	 * bookmark (position -1: none) and notes its contact. FERRY_UNKNOWN_DEVICE,
	 * FERRY_REVOKED are answers, not failures. hello stays valid until the
	 * callback, but for the agent's version. A bookmark of a history that the
	 * store has lost makes a new epoch. */
	void (*device)(void *store, const uint8_t fingerprint[32], const struct message_hello *hello,
		       hub_device_cb cb, void *ctx);
	void (*schema)(void *store, const struct uuid *tenant, hub_schema_cb cb, void *ctx);
	/* Merges change-sets of one tenant in one transaction (R8-R12): set-wise;
	 * one that fails is settled as rejected and costs the others nothing.
	 * The items and what they point to stay valid until the callback. */
	void (*merge)(void *store, const struct uuid *tenant, const struct merge_item *items, uint32_t count,
		      hub_merge_cb cb, void *ctx);
	/* Stores a part of a large change-set; durable when the callback comes.
	 * A session offers all parts of one again, or none: what stands under
	 * its name is replaced. The first part takes away what earlier sessions
	 * of the device have left behind. */
	void (*stage)(void *store, const struct uuid *tenant, const struct uuid *device, int64_t staging,
		      const struct change_set *part, hub_stage_cb cb, void *ctx);
	/* One state of the tenant after `from` (R20: from a snapshot). scopes
	 * NULL: all scopes, for the shared ring; else only these (catch-up of
	 * one device, may be large: then frames come in several) and only the
	 * verdicts of `device`.
	 * Positions come from one sequence over all tenants, and the changes of
	 * the reserved tenant (scope `global`) are folded in: `to` must not pass
	 * a position of either that is handed out but not committed yet, since
	 * the next call starts there. Each frame holds rows as they stand at
	 * `to`, so a frame that is sent again, or one that overlaps, does no
	 * harm. */
	void (*feed)(void *store, const struct uuid *tenant, int64_t from, const char *const *scopes,
		     uint32_t scope_count, const struct uuid *device, hub_feed_cb cb, void *ctx);
	/* A range of a fill: rows of a table in a scope, in key order (R15). */
	void (*fill)(void *store, const struct fill_request *request, hub_fill_cb cb, void *ctx);
	/* The highest position handed out in this database: a cheap look. */
	void (*poll)(void *store, hub_poll_cb cb, void *ctx);
	/* A store over several databases answers a poll once for each, and this
	 * with the highest position of the tenant's; -1: not known yet. NULL:
	 * what was polled holds for all tenants. */
	int64_t (*position)(void *store, const struct uuid *tenant, int64_t polled);
	/* The device is there and has applied everything up to position; its
	 * settled verdicts up to there need not be kept. Fire and forget. */
	void (*applied)(void *store, const struct uuid *tenant, const struct uuid *device, int64_t position);
	/* Ranges of numbers for a column with the policy `sequence`, durably the
	 * device's when the callback comes; none: it gets none now. NULL: no
	 * numbers are leased here. */
	void (*lease)(void *store, const struct uuid *tenant, const struct uuid *device, const struct message_lease_ask *ask,
		      hub_lease_cb cb, void *ctx);
	/* Devices of the tenant whose scopes changed after a count of rights.
	 * NULL: scopes never change here. */
	void (*rights)(void *store, const struct uuid *tenant, int64_t after, hub_rights_cb cb, void *ctx);
	/* As feed with scopes, and from the same snapshot what the question asks
	 * [P 9.11]: the wanted rows stand in the frames, and ranges is set. The
	 * question stays valid until the callback. NULL: not known here, and
	 * devices are told so. */
	void (*compare)(void *store, const struct uuid *tenant, int64_t from, const char *const *scopes,
			uint32_t scope_count, const struct uuid *device, const struct message_compare *question,
			hub_feed_cb cb, void *ctx);
	/* Merges the tenant's parked change-sets whose time has come; their
	 * verdicts come by the feed. Tenant NULL: of whichever tenants have some,
	 * a few at a time; the callback comes once these are found. NULL: nothing
	 * is ever parked here. */
	void (*parked)(void *store, const struct uuid *tenant, hub_stage_cb cb, void *ctx);
};

#endif
