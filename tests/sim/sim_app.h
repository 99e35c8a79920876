/* An app on a device: plain SQL on a connection of its own, which it keeps, as apps do. */
#ifndef FERRY_TESTS_SIM_APP_H
#define FERRY_TESTS_SIM_APP_H

#include "agent/replica.h"

#define APP_STATEMENTS_MAX 12 /* kept prepared; the others are prepared anew */

struct sim_app {
	struct sqlite3 *db; /* NULL: not open */
	struct {
		char *sql;
		struct sqlite3_stmt *statement;
	} kept[APP_STATEMENTS_MAX];
	int next; /* the place of the next one */
};

/* One statement; opens the file when it must. Fields are borrowed within row(), and bytes not shown in
 * them. False: it is refused, and *why says how. */
bool sim_app_run(struct sim_app *a, const char *path, const char *sql,
		 bool (*row)(void *ctx, const struct replica_field *fields, int count), void *ctx, struct ferry_why *why);
void sim_app_close(struct sim_app *a);

#endif
