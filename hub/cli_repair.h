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
/* Whether --limit, --device and --table are right: a name that nothing has would read as
 * "there is nothing". False: *out_exit, printed. */
bool cli_repair_filters(struct cli_repair *r, int *out_exit);
/* A copy of an object of texts, with the row that its members table (as
 * schema.table), tenant_id and key name, as it stands, in "row" (NULL: there
 * is none). NULL: *out_exit, printed. */
struct json *cli_repair_with_row(struct cli_repair *r, const struct json *o, int *out_exit);
/* What a dry run says of a column (NULL: the row is deleted), for cli_print_writes; of: an object with
 * table, key and op. */
struct json *cli_repair_write(const struct json *of, const char *column, const char *before, const char *after);
/* As cli_fail_database, but for what SQL of ours refuses with a code of its own. */
int cli_repair_fail(const struct cli *c, struct pg_admin *db, enum ferry_error e, const struct ferry_why *why);

#endif
