/* What ferry-hub conflict and ferry-hub rejected share: the places of tenants
 * asked one after the other, and the hub's row as it stands. */
#ifndef FERRY_HUB_CLI_REPAIR_H
#define FERRY_HUB_CLI_REPAIR_H

#include "hub/cli.h"

struct cli_repair {
	struct cli *c;
	const struct cli_setting *s;
	struct pg_admin *home;
};

/* Settings and the home database around `run`; the exit code. */
int cli_repair_run(struct cli *c, int (*run)(struct cli_repair *r));
/* Rows of one query in every place, or only in that of --tenant, whose uuid
 * becomes $1 (NULL else). Owned by the caller; NULL: *out_exit, printed. */
struct json *cli_repair_query(struct cli_repair *r, const char *sql, const char **params, int count, int *out_exit);
const char *cli_repair_limit(const struct cli *c); /* of --limit */
/* A copy of an object of texts, with the row that its members table (as
 * schema.table), tenant_id and key name, as it stands, in "row" (NULL: there
 * is none). NULL: *out_exit, printed. */
struct json *cli_repair_with_row(struct cli_repair *r, const struct json *o, int *out_exit);
/* As cli_fail_database, but for what SQL of ours refuses with a code of its own. */
int cli_repair_fail(const struct cli *c, struct pg_admin *db, enum ferry_error e, const struct ferry_why *why);

#endif
