/* What the files of the agent's core share, and nobody else includes:
 * core.c (life, states, timers, the level-triggered work), handle_hub.c
 * (messages from the hub), send_hub.c (messages to it). */
#ifndef FERRY_AGENT_CORE_PRIVATE_H
#define FERRY_AGENT_CORE_PRIVATE_H

#include "agent/backoff.h"
#include "agent/clock_probe.h"
#include "agent/core.h"
#include "protocol/envelope.h"
#include "shared/log.h"

#define LIVE_RESET_US 60000000        /* LIVE for so long: the back-off starts small again */
#define STORE_RETRY_MIN_US 20000      /* the replica was busy: first try after */
#define STORE_RETRY_MAX_US 1000000    /* and at most */
#define STORE_RETRY_SPACE_US 5000000  /* no space left: a person has to make some */
#define REPUSH_US 30000000            /* after so long what the hub has parked is offered again */
#define CUTS_PER_WORK 16              /* then other events get their turn */
#define PUSHES_PER_WORK 16
#define PINGS_MISSED_MAX 2
#define LEASE_ASK_US 30000000         /* a hub that has no numbers to give is asked so often */
#define ENVELOPE_SLACK_BYTES 1024     /* an envelope may be that much larger than its message */
#define DECODE_ARENA_FACTOR 24        /* a decoded message takes at most so many times its bytes */

/* A message that waits, in its envelope, until the replica can take it. */
struct inbox_item {
	struct inbox_item *next;
	size_t n;
	uint8_t bytes[];
};

struct agent_core {
	struct agent_limits limits;
	struct agent_effects fx;
	void *shell;
	const struct agent_store_ops *ops;
	void *store;

	enum agent_state state;
	bool wanted;               /* between start and stop */
	bool hello_sent, welcomed; /* on this link */
	int version;               /* of the protocol, on this link; 0: before the welcome */
	bool adding;               /* LIVE: scopes that the replica lacks are being filled beside */
	bool caught_up;            /* a commit came on it: all that was there at the welcome is here */
	bool working, work_again;  /* agent_core_work is running; asked for meanwhile */

	int not_taking;            /* why the hub takes no changes on this link; 0: it does */
	int error;                 /* of the last problem; 0 when fine */
	struct ferry_why why;

	/* Timers, monotonic microseconds; 0: not set. */
	struct backoff backoff;
	int64_t connect_at;        /* OFFLINE: next attempt */
	int64_t deadline;          /* CONNECTING, GREETING: give up */
	int64_t ping_at;
	int64_t store_retry_at;    /* the replica was busy */
	int64_t store_retry_us;
	int64_t again_at;          /* bounded work was cut short: go on */
	int64_t repush_at;         /* what the hub has parked is offered again */
	int64_t live_since;

	uint32_t pings_missed;
	struct clock_probe probe;

	/* Out. */
	struct packer *packer;
	struct arena out_arena;
	struct buffer plain, envelope;
	struct push_cursor cursor;
	bool replaying;            /* FILLING, for the hub went back in time: what it lost is pushed meanwhile */
	uint64_t hello_schema;     /* hash that hello named on this link */
	bool look_for_alarm;       /* a checksum may have differed (R21) */
	bool compares;             /* the hub answers compare */
	bool comparing;            /* a question is under way */
	bool rewinding;            /* FILLING: what differs is found by comparing (R17) */
	int64_t leases_at;         /* numbers may be asked for again from then on */
	bool look;                 /* something may be there to cut or to push */
	bool held;                 /* `envelope` holds a push that waits for credit */
	uint64_t credit;           /* bytes the hub still takes */
	uint32_t hub_message_max;

	/* In. */
	struct arena in_arena;
	struct buffer unpacked;
	struct inbox_item *inbox, **inbox_end;
	size_t inbox_bytes;
	uint64_t credit_owed;      /* dealt with, not given back yet */
};

/* core.c */
int64_t agent_now(const struct agent_core *core);
void agent_log(struct agent_core *core, int level, const char *format, ...) __attribute__((format(printf, 3, 4)));
void agent_enter(struct agent_core *core, enum agent_state state);
bool agent_linked(const struct agent_core *core); /* GREETING, FILLING or LIVE */
/* A problem ends the link; its class decides what comes next. retry_after_us:
 * not before that. */
void agent_fail(struct agent_core *core, int code, int64_t retry_after_us, const char *sentence);
/* The hub broke the protocol: it is told, then as agent_fail. */
void agent_violation(struct agent_core *core, enum ferry_error code, const char *sentence);
/* What a call to the store came to: true when the core can go on. A busy or
 * full replica sets the retry timer; anything else ends the link. */
bool agent_store_ok(struct agent_core *core, enum ferry_error e, const char *call, const struct ferry_why *why);
bool agent_store_waits(const struct agent_core *core);

/* handle_hub.c */
void agent_receive(struct agent_core *core, const uint8_t *bytes, size_t n);
void agent_drain_inbox(struct agent_core *core);
void agent_clear_inbox(struct agent_core *core);

/* send_hub.c */
void agent_send(struct agent_core *core, const struct message *m); /* control messages: no credit */
void agent_send_hello(struct agent_core *core);
void agent_send_ping(struct agent_core *core);
void agent_send_credit(struct agent_core *core, bool all); /* all: also less than a larger piece */
void agent_push(struct agent_core *core);
void agent_send_compare(struct agent_core *core); /* if there is something to ask */
void agent_ask_refill(struct agent_core *core, const char *sentence); /* ends the link; the next hello does */
void agent_ask_leases(struct agent_core *core);

#endif
