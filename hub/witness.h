/* The witness (R19): a file beside the hub that says how far its home database
 * had come. A database that lacks that position, or has another mark there,
 * went back in time: the operator is told at once, and numbers that may have
 * been leased since are skipped before any device comes.
 *
 * Written every WITNESS_INTERVAL_US while devices sync; a hub whose state
 * folder was restored together with the database has nothing to tell. */
#ifndef FERRY_HUB_WITNESS_H
#define FERRY_HUB_WITNESS_H

#include "hub/core.h"
#include "hub/pg_admin.h"

#define WITNESS_INTERVAL_US INT64_C(5000000)

/* Compares the file, if there is one, with the database; out_lost: the
 * position that the database has lost, 0: none. Notes a rewind there. */
FERRY_CHECK enum ferry_error witness_check(const char *state_dir, struct pg_admin *db, int64_t *out_lost, struct ferry_why *why);
/* FERRY_OK also when the core has seen nothing yet. */
FERRY_CHECK enum ferry_error witness_write(const char *state_dir, const struct hub_newest *newest, struct ferry_why *why);

#endif
