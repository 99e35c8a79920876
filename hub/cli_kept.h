/* A refused or parked change-set as the hub keeps it, read part by part: memory
 * holds one part, and one row that goes on over several. Used by ferry-hub
 * rejected. */
#ifndef FERRY_HUB_CLI_KEPT_H
#define FERRY_HUB_CLI_KEPT_H

#include "hub/pg_admin.h"
#include "protocol/arena.h"
#include "protocol/message.h"

struct kept {
	struct pg_admin *db; /* borrowed, as the texts are */
	const char *tenant, *device;
	int64_t number;
	uint32_t parts;
	struct arena arena;    /* of the part below */
	struct change_set set; /* the part that was read last; a small one is whole in it */
	int64_t base;
	bool joined;
	bool stored; /* the hub had room for it */
};

/* Reads its first part. Whatever it returns, deinit. */
FERRY_CHECK enum ferry_error kept_open(struct kept *k, struct ferry_why *why);
void kept_deinit(struct kept *k);

/* Each of its rows, those in pieces once they are whole; valid until the callback returns. False ends it. */
typedef bool kept_row_fn(void *ctx, const struct block *b, uint32_t row);
FERRY_CHECK enum ferry_error kept_each(struct kept *k, kept_row_fn *each, void *ctx, struct ferry_why *why);

#endif
