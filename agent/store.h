/* What the agent's core needs from its replica. Two implementations:
 * replica.c (SQLite) and the simulator's model. All calls are synchronous
 * and short; none waits for the network. A call that returns FERRY_BUSY
 * (another program holds the write lock) has changed nothing: the core comes
 * back later. Everything a call reports as done is durable as SQLite
 * promises (WAL, synchronous=NORMAL keeps order, FULL keeps all). */
#ifndef FERRY_AGENT_STORE_H
#define FERRY_AGENT_STORE_H

#include "protocol/message.h"

/* Where the push stands within the outbox: one connection's progress. Starts
 * zeroed at each connect; the store advances it. Not durable. */
struct push_cursor {
	int64_t number;   /* change-set last handed out whole, or being handed out */
	uint32_t part;    /* next part of a change-set in parts */
	int64_t after_seq; /* store's own: where in it */
	uint16_t column;   /* store's own: where in a row that goes on [P 6.6] */
	uint32_t offset;
	bool begun;
	bool inside;      /* a change-set in parts is under way */
};

struct store_commit_report {
	uint32_t rows_applied;
	uint32_t settled;      /* change-sets removed from the outbox */
	uint32_t rejected;
	uint32_t conflicts;
	uint32_t restored;     /* rows that differed after a rewind (R17), and were replaced */
	uint32_t forgotten;    /* confirmed change-sets that fell out of the kept history before a backup held them (R18) */
	bool sums_match;       /* R21; false: the first difference stands in mismatch, the store keeps all */
	bool sums_checked;
	char mismatch[160];
};

struct store_status {
	int64_t position;         /* -1: nothing yet */
	uint64_t outbox_sets;     /* unsettled, whole */
	uint64_t outbox_rows;
	int64_t oldest_unsent_at; /* microseconds since 1970; 0: none */
	uint64_t rejected, conflicts;
};

#define LEASE_ASKS_MAX 8

struct agent_store_ops {
	/* Fills the stored fields of hello: incarnation, epoch, schema hash,
	 * bookmark, last number, unfinished fill. Its texts are borrowed until
	 * the next call. */
	enum ferry_error (*hello)(void *store, struct message_hello *out, struct ferry_why *why);
	/* The fields of hello that tell copies of one device apart: a new life
	 * begins, over a link. What was proposed is durable. NULL: none do. */
	enum ferry_error (*live)(void *store, struct message_hello *out, struct ferry_why *why);
	/* The hub's answer: scopes, identity, mode. A fill starts (staging is
	 * emptied) or goes on. Numbers settled at the hub stay in the outbox
	 * until commit says so (R3). */
	enum ferry_error (*welcome)(void *store, const struct message_welcome *w, struct ferry_why *why);
	enum ferry_error (*schema)(void *store, const struct schema *schema, struct ferry_why *why);
	/* A look (R5): turns what was captured since the last look into
	 * change-sets. Bounded work per call; out_more: call again. */
	enum ferry_error (*cut)(void *store, bool *out_more, struct ferry_why *why);
	/* The next unsettled change-sets (or part) after the cursor, up to about
	 * budget_bytes; set_count 0: nothing more. Data lives in the arena. */
	enum ferry_error (*next_push)(void *store, struct push_cursor *cursor, size_t budget_bytes,
				      struct arena *arena, struct message_push *out, struct ferry_why *why);
	/* The hub has these durably; the outbox keeps them until commit (R3). */
	enum ferry_error (*ack)(void *store, const struct message_ack *ack, struct ferry_why *why);
	/* Keeps a frame until its commit (memory first, spilled to a staging
	 * table beyond a bound). */
	enum ferry_error (*delta)(void *store, const struct message_delta *delta, struct ferry_why *why);
	/* Applies all kept frames and the settled numbers in one transaction,
	 * beneath pending edits, and moves the bookmark. */
	enum ferry_error (*commit)(void *store, const struct message_commit *c, struct store_commit_report *report,
				   struct ferry_why *why);
	/* Stages rows of a fill in a short transaction. */
	enum ferry_error (*fill)(void *store, const struct message_fill *fill, struct ferry_why *why);
	enum ferry_error (*status)(void *store, struct store_status *out, struct ferry_why *why);
	/* How far the hub's clock is ahead of this device's, as measured; edits
	 * are stamped with it. NULL: not wanted. */
	void (*clock)(void *store, int64_t offset_us);
	/* A checksum differed (R21) and may be healed now by a fill, for which
	 * the next hello asks: where the hub cannot compare. Cheap. NULL: never. */
	bool (*heal_due)(void *store);
	/* The next question to the hub, while something is to be compared or
	 * repaired; out_any false: nothing is. Borrowed until the next call.
	 * Cheap while there is nothing. NULL: never. */
	enum ferry_error (*compare)(void *store, struct message_compare *out, bool *out_any, struct ferry_why *why);
	/* Its answer, right behind its commit. Bounded work; out_more: the same
	 * answer again, before anything else is applied. FERRY_MISMATCH: so much
	 * differs that the next hello asks for a fill instead. */
	enum ferry_error (*ranges)(void *store, const struct message_ranges *m, bool *out_more, struct ferry_why *why);
	/* Columns that have few numbers left (policy `sequence`), at most
	 * LEASE_ASKS_MAX; how many. Cheap. NULL: never any. */
	uint32_t (*leases_due)(void *store, struct message_lease_ask *out);
	/* Keeps a range of numbers. Where leases_due is not NULL. */
	enum ferry_error (*lease)(void *store, const struct message_lease *lease, struct ferry_why *why);
	/* The link is gone: kept frames without a commit are dropped. */
	void (*disconnected)(void *store);
};

#endif
