/* Connection strings: one that says where another differs. */
#ifndef FERRY_HUB_PG_CONNINFO_H
#define FERRY_HUB_PG_CONNINFO_H

#include <stddef.h>

#include "protocol/errors.h"

/* base as libpq takes it (also a postgresql:// address), with what `over`
 * states in its place, in the form keyword='value'. FERRY_CONFIG when one of
 * the two is not of its form. */
FERRY_CHECK enum ferry_error pg_conninfo_merge(const char *base, const char *over, char *out, size_t max,
					       struct ferry_why *why);
/* FERRY_USAGE with a sentence when it is not of its form, or holds what
 * belongs to the configuration (user) or to a file (password). */
FERRY_CHECK enum ferry_error pg_conninfo_check(const char *over, struct ferry_why *why);
FERRY_CHECK enum ferry_error pg_conninfo_database(const char *conninfo, char *out, size_t max, struct ferry_why *why);

#endif
