/* Values: what a cell of a tracked table holds, and the types that columns
 * have. Values are borrowed: text and bytes point into a message's arena, a
 * database result or a caller's buffer, and live as long as that does.
 *
 * The wire form of each column kind is clause [P 5.2] of protocol/README.md. */
#ifndef FERRY_PROTOCOL_VALUE_H
#define FERRY_PROTOCOL_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct uuid {
	uint8_t b[16];
};

enum value_kind {
	VALUE_NULL,
	VALUE_BOOL,
	VALUE_INT,
	VALUE_FLOAT,
	VALUE_TEXT,  /* UTF-8, not terminated */
	VALUE_BYTES,
};

struct value { /* 16 bytes: a block of a million cells stays small */
	enum value_kind kind : 8;
	uint32_t n; /* bytes of text or bytes */
	union {
		bool b;
		int64_t i;
		double f;
		const uint8_t *p; /* text, bytes; borrowed */
	};
};

/* What a column is. The numbers are on the wire (message schema). */
enum column_kind {
	KIND_BOOL = 0,        /* bool */
	KIND_INT = 1,         /* int: int2, int4, int8 */
	KIND_FLOAT = 2,       /* float: float4, float8 */
	KIND_TEXT = 3,        /* text: text, varchar, char(n) */
	KIND_UUID = 4,        /* bytes(16) */
	KIND_BYTES = 5,       /* bytes: bytea */
	KIND_TIMESTAMPTZ = 6, /* int: microseconds since 1970 UTC; +-inf as float */
	KIND_DATE = 7,        /* int: days since 1970-01-01; +-inf as float */
	KIND_NUMERIC = 8,     /* text as PostgreSQL prints it */
	KIND_JSON = 9,        /* text as PostgreSQL prints it */
	KIND_ARRAY = 10,      /* text: compact JSON */
	KIND_CITEXT = 11,     /* text, compared without case */
	KIND_ENUM = 12,       /* text, one of the column's labels */
	KIND_OTHER = 13,      /* text as the type's output function prints it */
	KIND_COUNT
};

/* How concurrent edits of a column merge. The numbers are on the wire (message
 * schema); who meets one that it does not know takes it for POLICY_LWW. What
 * each does stands in docs/merge.md. */
enum column_policy {
	POLICY_LWW = 0,     /* the later one stands */
	POLICY_MAX = 1,     /* the greater one stands */
	POLICY_MIN = 2,     /* the lesser one stands */
	POLICY_COUNTER = 3, /* differences add up */
	POLICY_SET = 4,     /* elements of an array come and go */
	POLICY_JSON = 5,    /* by key */
	POLICY_TEXT = 6,    /* by line, then by word */
	POLICY_REVIEW = 7,  /* the hub's stands until a person chooses */
	POLICY_GUARD = 8,   /* only transitions that the column allows */
	POLICY_APPROVAL = 9, /* an edit waits until somebody approves it */
	POLICY_SEQUENCE = 10, /* numbers, each given once */
	POLICY_COUNT
};

/* Does the policy ask for what the author saw before (R2)? Then an update says
 * it [P 6.7]. */
static inline bool policy_takes_old(enum column_policy p)
{
	return p == POLICY_COUNTER || p == POLICY_SET || p == POLICY_JSON || p == POLICY_TEXT ||
	       p == POLICY_GUARD;
}

bool value_equal(const struct value *a, const struct value *b); /* floats by bits; NULL equals NULL */
bool value_fits(enum column_kind kind, const struct value *v);  /* is this the kind's wire form? (NULL fits all) */

static inline struct value value_null(void)
{
	return (struct value){.kind = VALUE_NULL};
}
static inline struct value value_int(int64_t i)
{
	return (struct value){.kind = VALUE_INT, .i = i};
}
static inline struct value value_text(const void *p, size_t n)
{
	return (struct value){.kind = VALUE_TEXT, .n = (uint32_t)n, .p = p};
}
static inline struct value value_bytes(const void *p, size_t n)
{
	return (struct value){.kind = VALUE_BYTES, .n = (uint32_t)n, .p = p};
}

/* Text cells must be UTF-8 [RFC 3629]. SQLite and bytes from elsewhere promise
 * nothing, so whoever takes text in from there asks here before it encodes
 * it; the decoder refuses a message whose text is not. A NUL character is
 * valid UTF-8, but no PostgreSQL text: value_has_nul() finds it. */
bool utf8_valid(const void *text, size_t n);
bool value_has_nul(const struct value *v); /* a text value with a NUL character */

/* Names of kinds as in ferry.tracked_column.kind; -1 / NULL when unknown. */
int column_kind_from_name(const char *name);
const char *column_kind_name(enum column_kind kind);

/* Names of policies as in ferry.tracked_column.policy; "hub" is not among them,
 * for such a column is read-only. -1: unknown. */
int column_policy_from_name(const char *name);

/* UUIDs: 36 characters, lower case, as PostgreSQL prints them. */
#define UUID_TEXT 37
void uuid_format(const struct uuid *id, char out[UUID_TEXT]);
bool uuid_parse(const char *text, size_t n, struct uuid *out_id); /* any case, with dashes */
bool uuid_equal(const struct uuid *a, const struct uuid *b);
int uuid_compare(const struct uuid *a, const struct uuid *b);
bool uuid_is_zero(const struct uuid *id);

#endif
