/* The wire's maps as tables: which key holds which member of a C struct.
 *
 * A message, a change-set, a verdict and so on is one table of `struct field`
 * (its shape); one encoder and one decoder walk any of them. What they see to,
 * for all alike [P 4.5]:
 *   - a member that is zero, false, empty or NULL is left out unless required;
 *   - a key that the table does not have is skipped;
 *   - a missing required key, a wrong type or a number out of range is refused;
 *   - lists are allocated in the arena only after their count was checked.
 * Only protocol/ uses this header. */
#ifndef FERRY_PROTOCOL_FIELDS_H
#define FERRY_PROTOCOL_FIELDS_H

#include "protocol/cbor.h"
#include "protocol/message.h"

enum field_type {    /* C member                        wire */
	FIELD_BOOL,  /* bool                            bool */
	FIELD_U16,   /* uint16_t                        uint */
	FIELD_U32,   /* uint32_t or an enum             uint */
	FIELD_U64,   /* uint64_t                        uint */
	FIELD_INT,   /* int                             int */
	FIELD_I64,   /* int64_t                         int */
	FIELD_TEXT,  /* const char *                    text without NUL */
	FIELD_UUID,  /* struct uuid                     16 bytes */
	FIELD_VALUE, /* struct value                    any cell */
	FIELD_I64S,  /* const int64_t *, count          array of int */
	FIELD_U64S,  /* const uint64_t *, count         bytes, 8 each, big-endian */
	FIELD_TEXTS, /* const char *const *, count      array of text without NUL */
	FIELD_LIST,  /* pointer to structs, count       array of the shape's maps */
	FIELD_ONE,   /* the struct itself               the shape's map */
};

struct field {
	const char *name; /* the member's, for people */
	size_t offset;
	size_t count_offset; /* lists: of the uint32_t count (uint16_t with count16) */
	int64_t min; /* numbers (not U64): the allowed range, none if both are 0 */
	int64_t max; /* U64 and lists: the largest value or count, none if 0 */
	const struct shape *shape;
	enum field_type type;
	uint8_t key;
	bool required;
	bool count16;
};

struct decoder {
	struct reader reader;
	struct arena *arena;
	uint32_t cells_left;
	uint32_t bases_left;
	uint32_t blocks_left;
};

struct shape {
	size_t size; /* of the C struct */
	const struct field *fields; /* keys ascending, at most 32 */
	size_t field_count;
	/* What the fields alone cannot say; NULL: nothing. Gives a complaint or NULL. */
	const char *(*check)(const void *p);
	/* In the place of fields: a codec of its own. */
	void (*decode)(struct decoder *d, void *out);
	void (*encode)(const void *p, struct buffer *b);
	void (*describe)(const void *p, struct buffer *out);
};

/* Entries of a table: REQUIRED(key, type, struct, member, more...). */
#define REQUIRED(k, t, s, m, ...) {.name = #m, .key = (k), .type = FIELD_##t, .required = true, .offset = offsetof(struct s, m), __VA_ARGS__}
#define OPTIONAL(k, t, s, m, ...) {.name = #m, .key = (k), .type = FIELD_##t, .offset = offsetof(struct s, m), __VA_ARGS__}
#define COUNT(s, m) .count_offset = offsetof(struct s, m)
#define FIELDS(table) .fields = (table), .field_count = sizeof(table) / sizeof((table)[0])

extern const struct shape block_shape;      /* block.c */
extern const struct shape change_set_shape; /* change_set.c */
extern const struct shape settled_shape;    /* settled.c */
extern const struct shape sum_shape;        /* msg_delta.c */
extern const struct shape hello_shape, welcome_shape, schema_shape, push_shape, ack_shape, delta_shape,
	commit_shape, credit_shape, error_shape, ping_shape, pong_shape, fill_shape, fill_ack_shape, compare_shape, ranges_shape,
	lease_ask_shape, lease_shape, unknown_shape;

/* Decodes the map that comes next. Errors stick in d->reader. */
void shape_decode(struct decoder *d, const struct shape *s, void *out);
/* The same, when the map has been entered and its first keys were read. */
void shape_decode_rest(struct decoder *d, const struct shape *s, struct reader_map *m, void *out);
void shape_encode(const struct shape *s, const void *p, struct buffer *b);
/* The fields without the map's head, and how many there will be. */
size_t shape_count_fields(const struct shape *s, const void *p);
void shape_encode_fields(const struct shape *s, const void *p, struct buffer *b);

/* Appends what the struct holds as JSON with the members' names [describe.h]. */
void shape_describe(const struct shape *s, const void *p, struct buffer *out);
const struct shape *message_shape(int type); /* NULL: unknown */
uint32_t field_count(const struct field *f, const void *p);
bool field_is_default(const struct field *f, const void *p);
int64_t field_number(const struct field *f, const void *p); /* any number but U64 */

/* From the message's arena, or an error that sticks. */
void *decoder_array(struct decoder *d, size_t count, size_t size);

/* NULL when the numbers are ascending without repetition, all in min..max. */
const char *check_ascending(const int64_t *numbers, uint32_t count, int64_t min, int64_t max);

#endif
