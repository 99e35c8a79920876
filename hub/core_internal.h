/* What the files of the hub's core share; nobody else includes it.
 *
 *   core.c          life of the core, timers, the public calls
 *   session.c       life of a session: errors, credit, sending
 *   handle_hello.c  hello -> store lookups -> welcome, schema
 *   handle_push.c   push -> items in the tenant's queue, staging of parts
 *   merge_queue.c   queue -> batches -> store -> verdicts
 *   ring.c          a tenant's feed: one entry for each state, shared
 *   send_state.c    ring or catch-up -> delta messages and one commit
 *   send_fill.c     the filling of a replica
 *   handle_compare.c  a device looks for what differs, and wants rows again
 *   handle_lease.c  ranges of numbers for devices
 *   rights.c        scopes that change while devices are connected
 *   parked.c        change-sets that wait at the hub for what they lack
 *   heal.c          replays, after the database went back in time
 *   scope_list.c    sorted lists of scopes
 *
 * A store call outlives the session that asked for it: it holds a reference,
 * and what is gone or CLOSED is skipped when the answer comes. Sessions and
 * tenants are freed when the outermost call into the core ends (core_leave),
 * so no function has to fear that an effect took its session away. */
#ifndef FERRY_HUB_CORE_INTERNAL_H
#define FERRY_HUB_CORE_INTERNAL_H

#include <sys/queue.h>

#include "hub/core.h"
#include "protocol/arena.h"
#include "protocol/envelope.h"

#define NEVER INT64_MAX
#define HUB_VERSION FERRY_PROGRAM_VERSION

#define ENVELOPE_SLACK_BYTES 1024        /* an envelope may be so much larger than its message */
#define HELD_BYTES_MAX ((size_t)8 << 20) /* decoded and not settled, of a session; more waits packed */
#define HOLD_BYTES_MAX ((size_t)64 << 10) /* small messages share a hold up to this */
#define LINK_QUEUE_BYTES_MAX ((size_t)128 << 10) /* no new state for a link that has so much to take */
#define IDLE_TIMEOUT_US INT64_C(120000000)
#define IDLE_COMMIT_US INT64_C(2000000)  /* a bookmark with nothing new for it moves on so often */
#define FAILED_APART_US INT64_C(10000000) /* R11: so long a device that failed merges alone */
#define LOCKED_RETRY_US INT64_C(50000)   /* R12: first try again after; doubles */
#define LOCKED_RETRY_MAX_US INT64_C(5000000)
#define LOCKED_ATTEMPTS_MAX 100
#define PARKED_RETRY_US INT64_C(1000000) /* R18: a large replay that waits is tried again after; doubles */
#define PARKED_RETRY_MAX_US INT64_C(600000000)
#define BATCH_RETRY_US INT64_C(50000)    /* the database did not answer; doubles */
#define BATCH_ATTEMPTS_MAX 6
#define RECHECK_US INT64_C(5000)         /* a position that is known but not in the feed yet; doubles */
#define RECHECK_MAX_US INT64_C(5000000)
#define CONTACT_US INT64_C(60000000)     /* a device that pings is noted as seen so often */
#define SCHEMA_CHECK_US INT64_C(5000000)
#define RIGHTS_CHECK_US INT64_C(1000000)
#define PARKED_CHECK_US INT64_C(1000000)
#define PARKED_OTHERS_US INT64_C(30000000) /* of tenants without a connected device */
#define RETRY_HINT_MS 1000
#define FILL_CHUNKS_MAX 2                /* under way at once */
#define LEASES_MAX 8                     /* of a session, asked for at once */
#define LOG_LINES_PER_SECOND 20          /* that peers can cause */

enum { HUB_LOG_ERROR = 0, HUB_LOG_WARNING = 1, HUB_LOG_INFO = 2, HUB_LOG_DEBUG = 3 };

enum session_state { GREETING, LOOKUP, FILLING, LIVE, CLOSED };

struct tenant;
struct batch;

/* The memory of decoded push messages: lives until all that came in them is
 * settled or staged; then their bytes are given back as credit. */
struct hold {
	struct hub_session *session; /* NULL: gone */
	uint32_t refs;
	uint64_t credit;
	size_t counted; /* bytes counted in session->held_bytes */
	struct arena arena;
};

/* A change-set that waits for its merge. In its hold's arena. */
struct item {
	TAILQ_ENTRY(item) link; /* in the tenant's queue */
	struct hub_session *session; /* NULL: gone while the merge is under way */
	struct hold *hold;
	struct uuid device;
	int64_t number;
	const struct change_set *set; /* NULL: staged */
	int64_t staging;
	const int64_t *depends;
	uint32_t depends_count;
	const int64_t *after;
	uint32_t after_count;
	uint32_t rows;
	size_t bytes;
	uint32_t attempts;
	int64_t not_before;
	int64_t life;     /* its session's, of the device */
	uint64_t batch;   /* serial of the batch it was taken into last */
	bool alone;       /* the batch it was in failed whole */
	bool under_way;
	bool settled;
	int64_t old_position; /* of a replay (R18); 0: it is none */
	bool on_lost;         /* it was made on rows of a history that the hub has lost */
	int old_code;         /* as which it was refused; OK: it was not */
	const char *old_sentence;
};
TAILQ_HEAD(item_list, item);

struct packed { /* a message that waits packed */
	struct packed *next;
	size_t n;
	uint8_t bytes[];
};

struct ring_frame {
	const char *scope;
	uint8_t *bytes; /* CBOR; once somebody needed it: in its envelope */
	size_t n;
	bool in_envelope;
};

struct stage_call { /* a part on its way to the stage */
	TAILQ_ENTRY(stage_call) link; /* in the core */
	struct hub_session *session;
	struct hold *hold;
	int64_t number;
};
TAILQ_HEAD(stage_list, stage_call);

/* One state: what changed in (from, to]. */
struct ring_entry {
	TAILQ_ENTRY(ring_entry) link;
	int64_t from, to, mark;
	struct ring_frame *frames;
	uint32_t frame_count;
	const struct feed_settled *settled;
	uint32_t settled_count;
	const struct scope_sum *sums;
	uint32_t sum_count;
	size_t bytes;
	struct arena arena;
};
TAILQ_HEAD(entry_list, ring_entry);

struct staging { /* R7: a change-set that comes in parts */
	struct staging *next;
	int64_t number;
	uint32_t next_part;
	uint32_t under_way; /* parts that are being stored */
	struct item *item;  /* its last part came: enqueued when all are stored */
};

struct scope_list { /* sorted; in the session's arena */
	const char **names;
	uint32_t count;
};

struct filling {
	struct scope_list scopes; /* whose rows it brings */
	bool beside;            /* the session is LIVE in the others meanwhile */
	bool closing;           /* beside: the catch-up that brings them up to the present is under way */
	const uint32_t *tables; /* by rank */
	uint32_t table_count;
	uint32_t table, scope;  /* where it stands: indexes */
	struct uuid after;
	int64_t position;       /* it was started at */
	bool asked;             /* a store call is under way */
	bool pumping;
	uint32_t unacked;
	struct packed *chunk;   /* waits for credit */
	bool compared;          /* the device finds by comparing what it lacks (R17): no rows go out unasked */
	bool begun;             /* compared: a first answer is made, and `position` is its */
	bool done;              /* all rows are sent, or all is compared; the catch-up follows */
	bool verdicts_known;    /* those from before the fill, since the bookmark */
};

TAILQ_HEAD(session_list, hub_session);
TAILQ_HEAD(tenant_list, tenant);

struct hub_session {
	TAILQ_ENTRY(hub_session) all;
	TAILQ_ENTRY(hub_session) peers; /* of its tenant, from LOOKUP's end on */
	struct hub_core *core;
	void *link; /* NULL: gone */
	uint8_t fingerprint[32];
	enum session_state state;
	uint32_t refs; /* store calls under way */
	int64_t opened_at, heard_at;
	struct tenant *tenant;
	struct uuid device;
	struct arena arena; /* scopes, tables */
	struct scope_list owned;  /* scopes that the device holds */
	struct scope_list scopes; /* of these, those that it is fed */
	struct scope_list here;   /* hello: whose rows the replica holds */
	bool scopes_wait;         /* new scopes come with the next session: a change of the schema goes first */
	struct scope_list staged; /* hello: that its unfinished fill brings */
	struct message_hello hello; /* without its lists */
	/* What the lookup found, until the welcome. */
	struct hub_device found;
	int64_t step; /* of the schema of change-sets that state none */
	int version;       /* of the protocol; 0: before the hello */
	uint64_t features; /* FEATURE_* that both have */

	uint32_t leasing; /* store calls for numbers under way */

	/* Credit. */
	uint64_t credit_in, credit_owed, credit_out;
	uint64_t sent_total, returned_total;
	uint64_t applied_at_total; /* when so much has come back, applied_position is applied; 0: none */
	int64_t applied_position;
	int64_t contact_at; /* monotonic: its contact was noted last; 0: not yet */

	/* In. */
	struct hold *hold;
	size_t held_bytes;
	struct packed *backlog, **backlog_end;
	struct item **items; /* queued or under way, by number */
	uint32_t item_count, item_capacity;
	bool items_settled; /* some of them are */
	bool told_kept_full; /* the log says that its device holds what the hub had no room to keep */
	int64_t *parked; /* numbers, ascending: offered again on another link */
	uint32_t parked_count, parked_capacity;
	bool rewound;       /* its bookmark is of a history that the database has lost */
	int64_t healed_at;  /* monotonic: the heal window ends */
	bool replays;          /* it has offered some (R18) */
	int64_t settled; /* watermark, and the numbers above it, ascending */
	int64_t *settled_above;
	uint32_t settled_above_count, settled_above_capacity;
	struct staging *stagings; /* oldest first; only the last may lack parts */
	int64_t failed_until;
	struct settled *acks; /* being gathered */
	uint32_t ack_count, ack_capacity;

	/* Out. Everything up to `position` is committed at the device, or held
	 * nothing for it; `cursor` runs ahead while a state is being sent. */
	int64_t position, mark;
	int64_t cursor, cursor_mark;
	int64_t bookmark;     /* position of the last commit sent */
	int64_t committed_at; /* monotonic */
	bool in_state;        /* something was sent that no commit closes yet */
	int64_t backed_up;    /* as it was told */
	bool schema_waits;    /* at the device, for its next commit: that has to be of a feed, which sees both in one look */
	bool greeted;         /* a commit was sent at or beyond the head that hello met */
	uint32_t frame_index;
	uint32_t verdicts_sent; /* of a commit that takes several messages */
	struct ring_entry *own; /* catch-up */
	bool own_passed;        /* its frames are sent, the commit follows */
	bool catching;
	struct comparing *comparing; /* a question of the device; NULL: none */
	struct owed *owed;    /* verdicts from before `position` that the device asked for again */
	struct filling fill;
};

struct owed {
	struct owed *next;
	struct settled settled;
	struct arena arena;
};

struct tenant {
	TAILQ_ENTRY(tenant) link;
	struct hub_core *core;
	struct uuid id;
	struct session_list sessions;
	uint32_t session_count;
	uint32_t refs; /* sessions, also those not up, and store calls under way */

	struct item_list queue;
	uint32_t queue_count;
	uint32_t queue_rows;
	bool replays_came;   /* since the queue was sorted */
	struct batch *batch; /* under way, or to be tried again */
	uint64_t batch_serial;
	int64_t merged_at; /* when the last merge began */

	struct entry_list ring;
	size_t ring_bytes;
	int64_t head;  /* end of the ring */
	int64_t known; /* a position that exists somewhere in the database */
	bool feeding;
	int64_t fed_at, feed_not_before, recheck_us;

	uint64_t schema_hash; /* that its sessions and its ring are of; 0: none yet */
	int64_t schema_step;
	bool schema_asked;
	int64_t schema_checked_at;

	int64_t backed_up; /* as the feed said last */

	int64_t rights_seen;  /* changed rights are known up to this count */
	int64_t rights_after; /* what was asked for last */
	bool rights_asked;
	int64_t rights_checked_at;

	bool parked_asked;
	int64_t parked_checked_at;
};

#define TOO_FAR_MAX 256

struct hub_core {
	struct hub_limits limits;
	struct hub_effects fx;
	void *shell;
	const struct hub_store_ops *ops;
	void *store;
	struct session_list sessions;
	struct tenant_list tenants;
	struct stage_list stage_calls;
	uint32_t tenant_count;
	uint32_t depth; /* of calls into the core */
	bool sweep;     /* something is to be freed */
	bool draining;
	bool polling, parked_asked;
	int64_t poll_at, parked_at;
	int64_t wake; /* asked for; NEVER: none */
	struct packer *packer;
	struct arena arena;
	struct buffer unpacked, plain, envelope;
	struct settled *settled; /* scratch of a commit */
	uint32_t settled_capacity;
	struct scope_sum *sums;
	uint32_t sum_capacity;
	/* Devices whose catch-up was more than a feed may hold: greeted with a
	 * fill at their next hello. Forgotten with the process, found again. */
	struct uuid too_far[TOO_FAR_MAX];
	uint32_t too_far_next;
	int64_t log_second;
	uint32_t log_lines, log_dropped;
	struct hub_core_stats stats;
	struct hub_newest newest;
};

/* core.c */
void core_enter(struct hub_core *core);
void core_leave(struct hub_core *core);
int64_t core_now(const struct hub_core *core);
void core_wake(struct hub_core *core, int64_t at);
void core_log(struct hub_core *core, int level, const struct uuid *tenant, const struct uuid *device,
	      const char *format, ...) __attribute__((format(printf, 5, 6)));
struct tenant *core_tenant(struct hub_core *core, const struct uuid *id); /* found or made; NULL: no memory */
void tenant_work(struct tenant *t); /* starts what can be started */
/* A schema was met. A new one ends the tenant's sessions, and what was made
 * under the former one is forgotten. False: it is an older one, met late. */
bool core_schema_met(struct tenant *t, uint64_t hash, int64_t step);
void core_note_too_far(struct hub_core *core, const struct uuid *device);
bool core_take_too_far(struct hub_core *core, const struct uuid *device); /* true once for each note */

/* scope_list.c */
bool scope_list_copy(struct arena *a, const char *const *names, uint32_t count, struct scope_list *out);
bool scope_list_has(const struct scope_list *l, const char *name);
bool scope_list_equal(const struct scope_list *a, const struct scope_list *b);
/* Those of a that are in b, or are not; out has room for all of a. */
void scope_list_pick(const struct scope_list *a, const struct scope_list *b, bool in, struct scope_list *out);

/* session.c */
const char *session_state_name(enum session_state state);
void session_enter(struct hub_session *s, enum session_state to);
/* Ends it with a message error. retry_after_ms < 0: no retry. */
void session_fail(struct hub_session *s, int code, int64_t retry_after_ms, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void session_turn_away(struct hub_session *s, int code); /* the device or its tenant may not come in */
bool session_has(const struct hub_session *s, uint64_t feature);
bool session_up(const struct hub_session *s); /* FILLING or LIVE, with its link */
void session_send(struct hub_session *s, const struct message *m); /* takes no credit */
/* False: the credit does not cover it. */
bool session_send_packed(struct hub_session *s, const uint8_t *bytes, size_t n);
void session_credit(struct hub_session *s, uint64_t bytes); /* the device gave some back */
void session_owe_credit(struct hub_session *s, uint64_t bytes);
void session_pump(struct hub_session *s); /* sends what can be sent */
void session_free(struct hub_session *s);
void session_hold(struct hub_session *s); /* a store call begins */
void session_release(struct hub_session *s);

/* handle_hello.c */
void handle_hello(struct hub_session *s, const struct message_hello *hello);

/* handle_push.c */
void handle_push(struct hub_session *s, const uint8_t *bytes, size_t n, const uint8_t *message, size_t message_n);
void hold_release(struct hold *h);
void push_drop(struct hub_session *s); /* the session ends: nothing of it is queued any more */
void push_backlog(struct hub_session *s);
void push_forget_calls(struct hub_core *core); /* the store is closed */

/* merge_queue.c */
void merge_queue_add(struct item *item);
void merge_queue_work(struct tenant *t);
void merge_queue_drop_session(struct hub_session *s);
void merge_queue_free(struct tenant *t);
bool session_number_settled(const struct hub_session *s, int64_t number);
struct item *session_item(const struct hub_session *s, int64_t number); /* NULL: none queued */

/* ring.c */
struct ring_entry *ring_entry_new(const struct feed_result *r); /* deep copy; NULL: no memory */
void ring_entry_free(struct ring_entry *e);
bool settled_copy(struct arena *a, const struct settled *from, struct settled *out);
void ring_free(struct tenant *t);
bool ring_covers(const struct tenant *t, int64_t position);
struct ring_entry *ring_after(const struct tenant *t, int64_t position); /* the entry to send next; NULL: at the end */
void ring_know(struct tenant *t, int64_t position);
void ring_work(struct tenant *t);
/* Sends those of an entry's frames that the session has the scope for. False:
 * it stopped for want of credit. */
bool ring_send_frames(struct hub_session *s, struct ring_entry *e);

/* handle_compare.c */
void handle_compare(struct hub_session *s, const struct message_compare *m);
void compare_pump(struct hub_session *s); /* asks the store once no other state is under way */
void compare_pump_rewound(struct hub_session *s); /* the same of a session that compares instead of a fill (R17) */
/* Sends what has to stand right behind the commit just sent. False: credit is short. */
bool compare_send(struct hub_session *s);
void compare_free(struct hub_session *s);

/* send_state.c */
void state_pump(struct hub_session *s);
void state_begin_own(struct hub_session *s); /* before a store call for a state of its own */
bool state_take_own(struct hub_session *s, const struct feed_result *r); /* false: no memory */
void state_idle_commit(struct hub_session *s);
void state_owe(struct hub_session *s, const struct settled *settled);
void state_free(struct hub_session *s);
void state_catch_up(struct hub_session *s); /* asks the store for all after `position` */

/* parked.c */
void parked_work(struct tenant *t, int64_t now);
void parked_work_others(struct hub_core *core, int64_t now);

/* heal.c */
void heal_greet(struct hub_session *s, int code); /* code: of its welcome */
bool heal_waits(const struct hub_session *s);     /* its replica is filled later */
bool heal_parks(const struct item *item);         /* rather than refused, if its predecessor is missing */
void heal_park(struct hub_session *s, int64_t number);
void heal_unpark(struct hub_session *s, int64_t number); /* it is offered again */
bool heal_builds_on_parked(const struct item *item);
void heal_tick(struct hub_core *core);
void heal_sort(struct tenant *t);

/* rights.c */
void rights_work(struct tenant *t, int64_t now); /* asks whose scopes have changed, now and then */
void rights_note(struct hub_session *s); /* a session begins with the rights that its lookup met */

/* send_fill.c */
void fill_pump(struct hub_session *s);
void handle_fill_ack(struct hub_session *s);
void fill_end(struct hub_session *s); /* the commit that closes it is sent */

/* handle_lease.c */
void handle_lease_ask(struct hub_session *s, const struct message_lease_ask *ask);

#endif
