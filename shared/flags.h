/* Feature flags: one pure function, the same answer on the hub and offline on a
 * device. No clock, file or database: the caller brings rows, subject and time.
 *
 * A row (of governance.feature_flags) as JSON:
 *
 *   {"id": uuid, "tenant_id": uuid, "key": text, "status": "ACTIVE" | ..., "deleted": bool,
 *    "enabled": bool, "rollout_percentage": 0..100, "scope": "GLOBAL" | "TENANT" | "USER" | "ROLE",
 *    "target_user_ids": [uuid, ...], "target_roles": [code, ...], "conditions": object or null,
 *    "start_date": time or null, "end_date": time or null, "environment": text, "priority": int}
 *
 * How a key is answered:
 *
 *  1. A row counts if its status is ACTIVE, it is not deleted, its environment is the
 *     subject's, and start_date <= now < end_date (an end that is null is open).
 *  2. Of the rows that count, one applies: GLOBAL and TENANT to everybody; USER to the
 *     users of target_user_ids; ROLE to those with a role of target_roles. Of several that
 *     apply the one of the highest priority decides; among equals the tenant's own, then
 *     the lower id. So a flag for some users may stand above one for everybody.
 *  3. The deciding row is on if it is enabled, its conditions hold, and the subject is in
 *     its rollout. No row: off.
 *  4. Conditions: {"attribute": wanted, ...}; all must hold. wanted is a value (equals), a
 *     list (equals one of them), or {"operator": value, ...}, of which all must hold: eq, ne,
 *     in, not_in, gt, gte, lt, lte, contains, starts_with, exists. Numbers compare as
 *     numbers, texts byte by byte, and a number never equals a text. An attribute that the
 *     subject lacks fails all but ne, not_in and exists: false. What is not understood
 *     fails: a flag is never on by accident. Every subject has the attributes tenant,
 *     user (if there is one) and environment.
 *  5. Rollout: users and roles that the row names are in, whatever the percentage, also of
 *     a GLOBAL or TENANT row. Others are in if flag_bucket() is below a hundred times the
 *     percentage. So whoever is in stays in while the percentage grows. */
#ifndef FERRY_SHARED_FLAGS_H
#define FERRY_SHARED_FLAGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shared/json.h"

#define FLAG_BUCKETS 10000
#define FLAG_DEFAULT_ENVIRONMENT "production"

/* Whom the flags are asked for. All borrowed. */
struct flag_subject {
	const char *tenant;	       /* uuid, lower case */
	const char *user;	       /* uuid, lower case; NULL: nobody in particular */
	const struct json *roles;      /* array of codes; NULL: none */
	const char *environment;       /* NULL: FLAG_DEFAULT_ENVIRONMENT */
	const struct json *attributes; /* object of texts, numbers and booleans; NULL: none */
	int64_t now_us;		       /* since 1970 UTC */
};

enum flag_reason {
	FLAG_UNKNOWN,	 /* off: no row has this key */
	FLAG_NOT_NOW,	 /* off: its rows are inactive, of another environment, or outside their dates */
	FLAG_NOT_MEANT,	 /* off: its rows are for other users or roles */
	FLAG_DISABLED,	 /* off: the deciding row is not enabled */
	FLAG_CONDITION,	 /* off: a condition does not hold */
	FLAG_OUTSIDE,	 /* off: not in the rollout */
	FLAG_NAMED,	 /* on: the row names the user or a role */
	FLAG_ROLLED_OUT, /* on: in the rollout */
};

struct flag_answer {
	bool on;
	enum flag_reason reason;
	const struct json *row; /* the deciding one, borrowed from the rows; NULL: none */
};

struct flag_answer flag_evaluate(const struct json *rows, const char *key, const struct flag_subject *who);

/* A word for --json and a sentence for people. */
const char *flag_reason_name(enum flag_reason reason);
const char *flag_reason_sentence(enum flag_reason reason);

/* Where a subject stands, 0 to FLAG_BUCKETS - 1: the first eight bytes, big endian, of
 * SHA-256(key "\n" subject) modulo FLAG_BUCKETS; the subject is the user, else the tenant. */
unsigned flag_bucket(const char *key, const struct flag_subject *who);

/* Does a flag's conditions object hold? NULL and null hold. */
bool flag_conditions_hold(const struct json *conditions, const struct flag_subject *who);

/* Every key of the rows once, sorted, or the one given, answered:
 * [{"key", "on", "reason", "sentence", "scope", "priority"}, ...]. Owned by the caller. */
struct json *flag_answers(const struct json *rows, const char *key, const struct flag_subject *who);

#endif
