/* Times as text in a replica, and as numbers on the wire.
 *
 *   timestamptz  2026-03-01T12:34:56.123456Z     int: microseconds since 1970 UTC
 *   date         2026-03-01                      int: days since 1970-01-01
 *   both         infinity, -infinity             float: +-Infinity
 *
 * The calendar is the proleptic Gregorian one. Years have four digits or as
 * many as they need; a year before 1 is written as PostgreSQL does: its
 * number BC and " BC" at the end (0044-03-15T00:00:00.000000Z BC). Text of
 * years 1 to 9999 sorts by time. PostgreSQL accepts all of it as input.
 *
 * Range: from 4714-11-24 BC; dates to 5874897-12-31; timestamps to
 * 294247-01-10T04:00:54.775807Z, where 64 bits of microseconds end (29 years
 * before PostgreSQL's own end).
 *
 * Reading is wider, for what apps write: a space or `t` for the `T`, no
 * seconds, 0 to 9 digits of a second (rounded to microseconds), a date alone
 * (midnight), and as zone Z, +hh, +hhmm, +hh:mm or nothing (UTC), any case. */
#ifndef FERRY_SHARED_TIME_TEXT_H
#define FERRY_SHARED_TIME_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "protocol/value.h"

#define TIME_TEXT_MAX 40 /* bytes, with the NUL */

/* Wire value to text; false: not of the kind's form or out of its range. */
bool timestamp_to_text(const struct value *v, char out[TIME_TEXT_MAX]);
bool date_to_text(const struct value *v, char out[TIME_TEXT_MAX]);

/* Text to wire value; false: no such time, and *out stays as it was. */
bool timestamp_from_text(const char *text, size_t n, struct value *out);
bool date_from_text(const char *text, size_t n, struct value *out);

#endif
