/* The place of a tenant, for commands that work on its rows. */
#ifndef FERRY_HUB_CLI_PLACE_H
#define FERRY_HUB_CLI_PLACE_H

#include "hub/cli.h"

struct cli_place {
	char tenant[UUID_TEXT], slug[64], status[32], isolation[32];
	char prefix[34];      /* before the names of the model's schemas; "" */
	struct pg_admin *db;  /* the home connection, or one of its own */
};

/* By slug or uuid. False: *out_exit is the exit code, and it is printed why. */
bool cli_place_open(const struct cli *c, const struct cli_setting *s, struct pg_admin *home, const char *given,
		    struct cli_place *out, int *out_exit);
void cli_place_close(struct cli_place *p, const struct pg_admin *home);
/* The administration's connection string for what a placement says; "": home. */
FERRY_CHECK enum ferry_error cli_place_conninfo(const struct cli_setting *s, const char *conninfo, char *out, size_t max,
						struct ferry_why *why);
#define CLI_CONNINFO_MAX 4096

/* A database, or a set of schemas in one. tenant: whose set; NULL: the shared one. */
typedef bool cli_place_fn(void *ctx, struct pg_admin *db, const char *conninfo, const char *prefix, const char *tenant,
			  int *out_exit);
/* Each place once: the home database's shared schemas first. False, with
 * *out_exit: one could not be reached, or `each` ended it. */
bool cli_each_place(const struct cli *c, const struct cli_setting *s, struct pg_admin *home, cli_place_fn *each, void *ctx,
		    int *out_exit);

#endif
