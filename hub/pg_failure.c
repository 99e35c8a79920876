/* What PostgreSQL's refusals mean here: classes for the caller, codes and
 * sentences for the device. A sentence names rules, never values: the
 * server's details quote rows. */
#include "hub/pg_batch.h"

#include <string.h>

struct state_class {
	const char *prefix; /* of the SQLSTATE; the first that fits counts */
	enum pg_failure_class class;
};

static const struct state_class state_classes[] = {
	{"08", PG_LOST},     /* connection exception */
	{"57P", PG_LOST},    /* the server is going down, or ended this session */
	{"25P03", PG_LOST},  /* idle in transaction for too long: ended */
	{"40003", PG_LOST},  /* completion unknown */
	{"40", PG_RETRY},    /* serialization, deadlock */
	{"55P03", PG_RETRY}, /* lock timeout */
	{"57014", PG_RETRY}, /* statement timeout */
	{"53", PG_RETRY},    /* no memory, disk, connections */
	{"55006", PG_RETRY}, /* in use */
	{"58", PG_RETRY},    /* the server's own input and output */
	{"0A000", PG_STALE}, /* a cached plan's result changed */
	{"26000", PG_STALE}, /* no such prepared statement */
	{"42501", PG_REFUSED},
	{"42", PG_STALE},    /* no such table or column: the catalogue moved on */
	{"XX", PG_STALE},    /* "cache lookup failed": dropped under us */
};

enum pg_failure_class pg_class_of_sqlstate(const char *sqlstate)
{
	for (size_t i = 0; i < sizeof(state_classes) / sizeof(*state_classes); i++) {
		if (strncmp(sqlstate, state_classes[i].prefix, strlen(state_classes[i].prefix)) == 0)
			return state_classes[i].class;
	}
	return PG_REFUSED;
}

/* "FE316": a rule in SQL that says itself which code of [P 11] it means. */
static int own_code(const char *sqlstate)
{
	int code = 0;

	if (strncmp(sqlstate, "FE", 2) != 0)
		return FERRY_OK;
	for (const char *p = sqlstate + 2; *p; p++) {
		if (*p < '0' || *p > '9')
			return FERRY_OK;
		code = code * 10 + (*p - '0');
	}
	return ferry_error_class(code) == FERRY_CLASS_REFUSE ? code : FERRY_OK;
}

int pg_code_of_failure(const struct pg_failure *f)
{
	int own = own_code(f->sqlstate);

	if (own != FERRY_OK)
		return own;
	if (strcmp(f->sqlstate, "23505") == 0 || strcmp(f->sqlstate, "23P01") == 0)
		return FERRY_UNIQUE;
	if (strcmp(f->sqlstate, "23503") == 0)
		return FERRY_FOREIGN_KEY;
	if (strcmp(f->sqlstate, "23502") == 0)
		return FERRY_NOT_NULL;
	if (strcmp(f->sqlstate, "42501") == 0)
		return FERRY_OUT_OF_SCOPE;
	if (strncmp(f->sqlstate, "22", 2) == 0)
		return FERRY_BAD_VALUE;
	return FERRY_CONSTRAINT;
}

void pg_sentence_of_failure(const struct pg_failure *f, struct ferry_why *why)
{
	enum ferry_error ignored = FERRY_OK;

	if (own_code(f->sqlstate) != FERRY_OK) {
		ferry_why_set(why, "%s", f->message);
		return;
	}
	switch (pg_code_of_failure(f)) {
	case FERRY_UNIQUE:
		ignored = ferry_fail(why, FERRY_UNIQUE, "another row of %s has this value already (rule %s)", f->table,
				     f->constraint);
		break;
	case FERRY_FOREIGN_KEY:
		ignored = ferry_fail(why, FERRY_FOREIGN_KEY,
				     "a row of %s refers to a row that does not exist, or is still referred to (rule %s)",
				     f->table, f->constraint);
		break;
	case FERRY_NOT_NULL:
		ignored = ferry_fail(why, FERRY_NOT_NULL, "%s.%s must have a value", f->table, f->column);
		break;
	case FERRY_OUT_OF_SCOPE:
		ignored = ferry_fail(why, FERRY_OUT_OF_SCOPE, "%s", f->message);
		break;
	case FERRY_PERMISSION:
		ignored = ferry_fail(why, FERRY_PERMISSION, "%s", f->message);
		break;
	case FERRY_POLICY:
		ignored = ferry_fail(why, FERRY_POLICY, "%s", f->message);
		break;
	case FERRY_BAD_VALUE: /* the message may quote the value: it is this device's own */
		ignored = ferry_fail(why, FERRY_BAD_VALUE, "a value does not fit its column: %s", f->message);
		break;
	default:
		if (f->constraint[0])
			ignored = ferry_fail(why, FERRY_CONSTRAINT, "%s does not allow this row (rule %s)", f->table,
					     f->constraint);
		else
			ignored = ferry_fail(why, FERRY_CONSTRAINT, "%s", f->message);
	}
	(void)ignored;
}
