/* The messages of ferry.v1 as C structs, and their codec.
 *
 * protocol/README.md is the authority ([P n.n] below are its clauses),
 * ferry.cddl its grammar, vectors/ its examples. This header is the same
 * thing for C. A message is a CBOR map with integer keys; key 0 is the type.
 *
 * Decoding: message_decode() reads the whole message into an arena; pointers
 * in the struct live as long as the arena and the input bytes. A decoder
 * never allocates more than a small multiple of its input.
 * Encoding: message_encode() appends to a buffer with a hard maximum; what
 * breaks a limit or does not fit gives MESSAGE_TOO_LARGE and leaves the buffer
 * as it was. It asserts the rest of what the decoder checks, for that is ours:
 * text must be UTF-8 (utf8_valid()), lists in order, numbers in range. */
#ifndef FERRY_PROTOCOL_MESSAGE_H
#define FERRY_PROTOCOL_MESSAGE_H

#include "protocol/arena.h"
#include "protocol/errors.h"
#include "protocol/value.h"

/* [P 1] A program speaks every version from the lowest to the highest. */
#define FERRY_PROTOCOL_LOWEST 1
#define FERRY_PROTOCOL_HIGHEST 2
#define FERRY_SUBPROTOCOL "ferry.v1"
#define FERRY_MESSAGE_BYTES_MAX (1u << 20) /* default; of the unpacked message */
#define FERRY_COLUMNS_MAX 62               /* synced columns of a table */
#define FERRY_CHANGE_SET_ROWS_MAX 4000000  /* rows of one change-set, over all its parts */
#define FERRY_DECODE_BYTES_MAX (4u << 20)  /* arena that decodes every message within these limits */

/* [P 10] Limits of a message. A sender splits its work by them, as it does by
 * FERRY_MESSAGE_BYTES_MAX; a receiver answers more with MESSAGE_TOO_LARGE. */
#define FERRY_ROW_BYTES_MAX (64u << 20) /* text and bytes of a row over all the messages it goes through [P 6.6] */
#define FERRY_CELLS_MAX 131072u         /* cells in all blocks together */
#define FERRY_BLOCKS_MAX 4096           /* blocks */
#define FERRY_BASES_MAX 16384u          /* exceptional bases */
#define FERRY_CHANGE_SETS_MAX 4096      /* change-sets of a push */
#define FERRY_DEPENDS_MAX 1024          /* change-sets that one depends on, and that it comes after */
#define FERRY_GAPS_MAX 128              /* positions: two for each gap of a change-set's history */
#define FERRY_PARTS_MAX 1000000         /* parts of a change-set */
#define FERRY_SETTLED_MAX 4096          /* verdicts of an ack or a commit */
#define FERRY_SETTLED_ABOVE_MAX 65536   /* settled numbers above the watermark */
#define FERRY_CONFLICTS_MAX 4096        /* conflicts of a change-set */
#define FERRY_SUMS_MAX 4096             /* scope sums of a commit */
#define FERRY_SCOPES_MAX 4096           /* scopes of a device */
#define FERRY_LIFE_MARKS_MAX 17         /* marks of lives in a hello */
#define FERRY_PAST_MAX 64               /* bookmarks of the past in a hello */
#define FERRY_TABLES_MAX 1024           /* tables of a schema */
#define FERRY_LABELS_MAX 1024           /* labels of a column */
#define FERRY_COMPARE_RANGES_MAX 8      /* ranges asked about in a compare */
#define FERRY_COMPARE_KEYS_MAX 1024     /* rows that it asks for */
#define FERRY_RANGES_MAX 512            /* ranges of the answer */
#define FERRY_CREDIT_BYTES_MAX (1ll << 40) /* credit given at once */
#define FERRY_RETRY_AFTER_MS_MAX 86400000  /* a day */
#define FERRY_LEASE_MAX 10000              /* numbers of a lease */
#define FERRY_CODE_MAX 65535               /* error codes */
#define FERRY_CLOCK_MAX (INT64_MAX / 2)    /* times of edits: 0 up to this, so that sums stay in range */

enum message_type {
	MESSAGE_HELLO = 1,   /* agent: who I am, where I stand */
	MESSAGE_WELCOME = 2, /* hub: who you are to me, what comes next */
	MESSAGE_SCHEMA = 3,  /* hub: the tables this device gets */
	MESSAGE_PUSH = 4,    /* agent: change-sets, or a part of one */
	MESSAGE_ACK = 5,     /* hub: settled change-sets (durable; removes nothing, R3) */
	MESSAGE_DELTA = 6,   /* hub: a frame of a scope's feed */
	MESSAGE_COMMIT = 7,  /* hub: the frames since the last commit are one state */
	MESSAGE_CREDIT = 8,  /* both: so many more bytes may be sent */
	MESSAGE_ERROR = 9,   /* both: a registered code, a sentence */
	MESSAGE_PING = 10,   /* both: clock probe */
	MESSAGE_PONG = 11,
	MESSAGE_FILL = 12,   /* hub: rows of a fill, in key order */
	MESSAGE_FILL_ACK = 13, /* agent: this far is staged durably */
	MESSAGE_COMPARE = 14, /* agent: hash these ranges, send these rows */
	MESSAGE_RANGES = 15,  /* hub: the hashes, at the state that the commit before it made */
	MESSAGE_LEASE_ASK = 16, /* agent: few numbers of a column are left */
	MESSAGE_LEASE = 17,     /* hub: a range of numbers to give */
	MESSAGE_UNKNOWN = 18,   /* both: an optional message of this type means nothing here */
};

/* Credit, both ways: hello and welcome grant the first bytes, message credit
 * more, as the receiver has dealt with what came. Counted are the bytes of
 * whole messages in their envelope, of these types only; a sender never goes
 * below zero, and control messages always pass. */
static inline bool message_takes_credit(enum message_type type)
{
	return type == MESSAGE_PUSH || type == MESSAGE_DELTA || type == MESSAGE_COMMIT || type == MESSAGE_FILL ||
	       type == MESSAGE_RANGES;
}

/* [P 6] Rows of one table that share an operation and a list of columns.
 * Column-major, since that compresses far better. */
enum row_op {
	ROW_INSERT = 1, /* push: a new row; delta/fill: the whole row as it stands */
	ROW_UPDATE = 2, /* only the listed columns */
	ROW_DELETE = 3, /* the row is deleted; no columns */
	ROW_LEFT = 4,   /* delta only: left the scope, not deleted; no columns */
};

struct row_base { /* R1: a cell whose author saw less than the change-set's base */
	uint32_t row; /* index in the block */
	uint16_t num; /* column number; 0 = the whole row (delete, re-insert) */
	int64_t position;
};

struct block {
	uint32_t table; /* number from the schema message */
	enum row_op op;
	uint16_t column_count;
	uint32_t row_count;
	const uint16_t *nums;     /* column numbers, ascending, without the key column */
	const struct uuid *keys;  /* row_count keys */
	const struct value *cells; /* cell of column c, row r: cells[c * row_count + r] */
	const int64_t *at;        /* push: microseconds after the change-set's `at`, per row; NULL = all 0 */
	const struct row_base *bases; /* push: exceptions, ordered by (row, num) */
	uint32_t base_count;
	const uint16_t *old_nums; /* push, update: columns whose old values come along, ascending, all in nums [P 6.7] */
	const struct value *olds; /* what the author saw before: of old column o, row r: olds[o * row_count + r] */
	uint16_t old_count;
	uint32_t part_of;         /* hub: an update of what is, or was, a part of this table's row [translate.h]; 0: it is no such */
	bool goes_on;             /* [P 6.6] of one row: its last cell goes on in the next message's first block */
};

/* [P 7.1] A change-set. Rows are net changes: one entry per row at most. */
struct change_set {
	struct uuid author;      /* zero: the device at the other end of this link */
	int64_t number;          /* the author's own count, from 1, no gaps */
	int64_t base_position;   /* the bookmark its edits were made at */
	int64_t lost_from;       /* bases from this position on are of a history that the hub has lost; 0: none are */
	int64_t at;              /* hybrid clock of its first edit, microseconds since 1970 */
	bool joined;             /* R5: may hold several transactions of the app */
	uint32_t part;           /* R7: number of this part from 0 */
	bool more;               /* another part follows */
	const int64_t *depends;  /* R6: earlier own numbers it builds on, ascending */
	uint32_t depends_count;
	const int64_t *after;    /* R18: earlier own replays of its rows, ascending: it waits for their verdicts, whatever they are */
	uint32_t after_count;
	const int64_t *gaps;     /* with lost_from: what lies above the first and below the second of a pair is of */
	uint32_t gap_count;      /* histories that its author never saw; numbers, not pairs */
	/* R18: it was settled by a history that the hub has lost, and is offered
	 * again: where and how. old_position 0: no, it is new. */
	int64_t old_position;
	int64_t last_position;   /* where it was settled last, when it had come back before; 0: old_position */
	int old_verdict;         /* enum verdict */
	int old_code;            /* of a rejected one */
	const char *old_sentence;
	const struct block *blocks;
	uint32_t block_count;
	int64_t step;            /* of the schema that it was made under; 0: the one that the session began with */
};

enum verdict {
	VERDICT_ACCEPTED = 1,   /* all of it stands */
	VERDICT_SUPERSEDED = 2, /* applied, but a policy decided against a part: see conflicts */
	VERDICT_REJECTED = 3,   /* none of it stands: code and sentence say why */
	VERDICT_PARKED = 4,     /* waits at the hub */
};

enum conflict_kind {
	CONFLICT_UPDATE_UPDATE = 1, /* two edits of one column */
	CONFLICT_UPDATE_DELETE = 2, /* this device updated what another deleted */
	CONFLICT_DELETE_UPDATE = 3, /* this device deleted what another updated */
};

struct conflict { /* [P 7.3] */
	uint32_t table;
	struct uuid key;
	uint16_t num;           /* 0: the whole row */
	enum conflict_kind kind;
	bool device_won;        /* the pushing device's value stands */
	struct value device_value; /* as pushed; NULL value for a delete */
	struct value hub_value;    /* what it met */
	bool left_out;             /* the values were too large for the message: the hub keeps them */
	struct uuid other;         /* device that wrote what it met; zero: the hub itself (SQL there, or a merge) */
};

struct settled {
	int64_t number;
	enum verdict verdict;
	int64_t position;   /* of the transaction that settled it */
	int code;           /* enum ferry_error; 0 unless rejected or parked */
	const char *sentence; /* NULL or NUL-terminated */
	const struct conflict *conflicts;
	uint32_t conflict_count;
	struct uuid mine, other; /* a unique value: this row may be merged into that one; zero: it is not offered */
};

struct scope_sum { /* R21: xor of the cell hashes of each column, in order of num, the key column left out */
	const char *scope;
	uint32_t table;
	int64_t rows;
	const uint64_t *sums;
	uint32_t sum_count;
};

struct schema_column {
	uint16_t num;
	const char *name;
	enum column_kind kind;
	bool not_null;
	bool read_only;         /* devices cannot write it */
	bool has_default;       /* the hub fills it when an insert leaves it out */
	const char *default_sql; /* a default SQLite can state too (literal), or NULL */
	const char *const *labels; /* enum or CHECK list, or NULL */
	uint32_t label_count;
	uint32_t ref_table;     /* 0, or the table its foreign key points to */
	enum column_policy policy; /* may hold a number that this version does not know */
	uint32_t lease;         /* numbers of a range that devices may ask for; 0: none */
	const char *policy_options; /* the hub's own, as compact JSON or NULL; not on the wire */
	struct value filled;    /* what rows got that were there when the column came; null: nothing */
};

struct schema_table {
	uint32_t table;
	const char *name;     /* name in the replica */
	const char *key;      /* name of the key column */
	uint16_t key_num;
	bool writable;
	uint32_t rank;        /* parents have lower ranks */
	const struct schema_column *columns; /* ordered by num, without the key column */
	uint16_t column_count;
};

struct schema {
	uint64_t hash;
	const struct schema_table *tables; /* ordered by table */
	uint32_t table_count;
	int64_t step;         /* only rises while the hub's schema changes; 0: not told */
};

/* [P 1.3] What only some programs of a version can do, a bit each. */
#define FEATURE_COMPARE UINT64_C(1) /* compare and ranges [P 9.11] */
#define FEATURE_REWIND UINT64_C(2)  /* after a rewind a replica is compared [P 9.16] */

/* [P 1.4] Types that a receiver may pass over. */
#define MESSAGE_OPTIONAL_MIN 128
#define MESSAGE_OPTIONAL_MAX 255

struct message_hello {
	int version_min, version_max;
	const char *agent_version;
	struct uuid incarnation;   /* of the replica file; new after enrolment */
	struct uuid epoch;         /* history of the bookmark; zero: none */
	uint64_t schema_hash;      /* 0: none */
	int64_t position;          /* bookmark; -1: none (empty replica) */
	int64_t mark;
	int64_t last_number;       /* highest change-set number that may have been pushed */
	int64_t clock;             /* device wall clock, microseconds since 1970 */
	uint64_t credit_bytes;     /* the hub may send so many bytes */
	/* An unfinished fill, to go on with: position it was started at, and
	 * where it stands; table 0: none. fill_scope NULL: the last key's scope
	 * is not known, and the table is begun again. */
	int64_t fill_position;
	uint32_t fill_table;
	struct uuid fill_after;
	const char *fill_scope;
	bool refill; /* the checksums differ: the replica asks to be filled anew */
	const char *const *scopes; /* whose rows the replica holds, at its bookmark */
	uint32_t scope_count;
	const char *const *fill_scopes; /* that the unfinished fill brings */
	uint32_t fill_scope_count;
	bool fill_beside; /* it adds them to a replica in force, instead of filling it anew */
	int64_t step; /* of the schema in force; 0: none, or the replica cannot go from there to another in place */
	/* Bookmarks of the past, ascending and spaced: a hub that was restored to
	 * an earlier state finds the last one among them that it has, too. */
	const int64_t *past, *past_marks;
	uint32_t past_count, past_mark_count;
	/* Copies of one device are told apart: how many lives (contacts) it had,
	 * the mark it was taken with last and those it has proposed since, and
	 * the one of this life; 0: an agent without them. */
	int64_t life;
	const int64_t *life_marks;
	uint32_t life_mark_count;
	int64_t next_mark;
	uint64_t features; /* FEATURE_* that the agent has */
	bool comparable; /* its rows can be compared after a rewind, instead of filled anew [P 9.16] */
	bool rewound;    /* they are of a history that the hub has lost */
};

enum welcome_mode {
	WELCOME_DELTA = 1, /* deltas from the bookmark follow */
	WELCOME_FILL = 2,  /* the replica is filled anew (staged, then swapped) */
	WELCOME_RESUME = 3, /* the fill goes on where it stopped */
};

struct message_welcome {
	int version;
	const char *hub_version;
	struct uuid tenant;
	struct uuid device;
	struct uuid epoch;
	uint64_t schema_hash;
	enum welcome_mode mode;
	int code;                /* why a fill: PRUNED, OTHER_HISTORY, SCHEMA or OK */
	int64_t settled;         /* watermark: all own numbers up to it are settled */
	const int64_t *settled_above;
	uint32_t settled_above_count;
	const char *const *scopes;
	uint32_t scope_count;
	uint64_t credit_bytes;
	uint32_t message_bytes_max;
	int64_t clock;
	int held;                /* why no credit is given and changes wait: TENANT_ARCHIVED ...; or OK */
	bool compares;           /* version 1: compare is answered */
	int64_t common;          /* with OTHER_HISTORY: the newest position that both have; 0: none */
	int64_t common_mark;
	int64_t backed_up;       /* a backup of the hub surely holds all up to here; 0: not known */
	int64_t life;            /* lives of this device, this one included */
	bool adopted;            /* this copy was turned away and is released: others have used its numbers */
	/* With deltas: scopes that the replica lacks. Their rows come by a fill
	 * beside the deltas of the others, until a commit with fill_done. */
	const char *const *adding;
	uint32_t adding_count;
	bool adding_goes_on;     /* where the unfinished fill of the same scopes stopped */
	uint64_t features;       /* from version 2: FEATURE_* that both have; others are not used */
	bool compared;           /* mode fill: the device finds what differs by comparing [P 9.16] */
	int64_t since;           /* positions of this history, since the hub was restored last, begin there */
};

struct message_push {
	const struct change_set *sets;
	uint32_t set_count;
};

struct message_ack {
	const struct settled *settled; /* conflicts are left out here */
	uint32_t settled_count;
};

struct message_delta { /* encoded once for all subscribers: holds nothing of a device */
	const char *scope;
	int64_t from;    /* position the frame starts after */
	int64_t to;
	const struct block *blocks;
	uint32_t block_count;
};

struct message_commit {
	int64_t position;
	int64_t mark;
	const struct settled *settled; /* this device's, settled at or below position (R3) */
	uint32_t settled_count;
	const struct scope_sum *sums;
	uint32_t sum_count;
	int64_t clock;
	bool fill_done; /* the staged fill becomes visible with this commit */
	int64_t backed_up; /* as in welcome, when it has moved */
};

struct message_credit {
	uint64_t bytes;
};

struct message_error {
	int code;
	const char *sentence;
	bool retry;
	int64_t retry_after_ms;
};

struct message_ping {
	int64_t id;
	int64_t sent;     /* sender's clock */
	int64_t received; /* pong: clock of the answering side when the ping came */
	int64_t answered; /* pong: and when the pong left */
};

struct message_fill {
	const char *scope;
	struct block block;  /* op ROW_INSERT, keys ascending; no rows at all where a table ends with none */
	int64_t position;    /* the fill was started at this position */
	bool table_done;     /* no more rows of this table in this scope */
};

struct message_fill_ack { /* lets the hub send more; also the place to resume at */
	uint32_t table;
	struct uuid after;
};

/* [P 9.11] Keys above `after` up to and with `upto`; zero: from the first, to
 * the last. rows and hash only in an answer. */
struct key_range {
	struct uuid after, upto;
	int64_t rows;
	uint64_t hash; /* [P 8.4] */
};

struct wanted_key {
	struct uuid key;
};

struct message_compare { /* one at a time: the next one after the answer */
	const char *scope;
	uint32_t table;
	const struct key_range *ranges;
	uint32_t range_count;
	const struct wanted_key *keys; /* rows that come with the answer's state, whole or as left */
	uint32_t key_count;
	bool sums; /* after a rewind, first of all: those of every scope and table [P 9.16] */
};

struct message_ranges {
	const char *scope;
	uint32_t table;
	int64_t position; /* of the commit that stands right before it */
	const struct key_range *ranges; /* the asked ones, each cut into adjoining ones */
	uint32_t range_count;
	const struct scope_sum *sums;   /* after a rewind, where they were asked for */
	uint32_t sum_count;
	bool all_sums;                  /* where none is given the hub has no rows */
};

struct message_lease_ask {
	uint32_t table;
	uint16_t num;
};

/* A number reads head, then its digits with zeros up to `padding`, then tail. */
struct message_lease {
	uint32_t table;
	uint16_t num;
	int64_t first, last;
	int64_t step;
	uint32_t padding;
	const char *head, *tail; /* NULL: empty */
	int64_t until;           /* microseconds; given out no more from then on; 0: no end */
};

/* [P 9.15] A message of a type that may mean nothing to its receiver. */
struct message_unknown {
	uint32_t message_type;
};

struct message {
	enum message_type type;
	union {
		struct message_hello hello;
		struct message_welcome welcome;
		struct schema schema;
		struct message_push push;
		struct message_ack ack;
		struct message_delta delta;
		struct message_commit commit;
		struct message_credit credit;
		struct message_error error;
		struct message_ping ping; /* and pong */
		struct message_fill fill;
		struct message_fill_ack fill_ack;
		struct message_compare compare;
		struct message_ranges ranges;
		struct message_lease_ask lease_ask;
		struct message_lease lease;
		struct message_unknown unknown;
	};
};

FERRY_CHECK enum ferry_error message_decode(struct arena *arena, const uint8_t *bytes, size_t n, struct message *out,
					    struct ferry_why *why);
FERRY_CHECK enum ferry_error message_encode(const struct message *m, struct buffer *out);
const char *message_type_name(int type);

/* [P 1.4] Is this a message that its receiver may pass over: of an optional
 * type that is unknown here, and sound CBOR? Asked when message_decode() gave
 * UNKNOWN_MESSAGE. */
bool message_optional(const uint8_t *bytes, size_t n, uint32_t *out_type);

/* [P 1.1] The highest version that both ranges have; 0: none. */
int protocol_version_common(int min, int max, int other_min, int other_max);

/* [P 7.1] A change-set alone, as kept in ferry.stage and ferry.rejected. */
FERRY_CHECK enum ferry_error change_set_encode(const struct change_set *s, struct buffer *out);
FERRY_CHECK enum ferry_error change_set_decode(struct arena *arena, const uint8_t *bytes, size_t n,
					       struct change_set *out, struct ferry_why *why);
size_t block_encoded_bytes(const struct block *b); /* an upper bound, for splitting */

#endif
