/* The commands of ferry-agent (shared/cli.h makes help and parsing of them). */
#ifndef FERRY_AGENT_CLI_H
#define FERRY_AGENT_CLI_H

#include "agent/settings.h"
#include "shared/cli.h"

extern const struct cli_command agent_commands[];
extern const struct cli_option agent_options[];

int cli_enrol(struct cli *c);
int cli_run(struct cli *c);
int cli_sync(struct cli *c);
int cli_status(struct cli *c);
int cli_outbox(struct cli *c);
int cli_conflicts(struct cli *c);
int cli_rejected(struct cli *c);
int cli_conflicts_show(struct cli *c);
int cli_conflicts_put_back(struct cli *c);
int cli_conflicts_take_theirs(struct cli *c);
int cli_conflicts_dismiss(struct cli *c);
int cli_rejected_show(struct cli *c);
int cli_rejected_retry(struct cli *c);
int cli_rejected_merge(struct cli *c);
int cli_rejected_discard(struct cli *c);
int cli_barrier(struct cli *c);
int cli_flags(struct cli *c);
int cli_sql(struct cli *c);
int cli_verify(struct cli *c);
int cli_bundle_export(struct cli *c);
int cli_bundle_import(struct cli *c);
int cli_config(struct cli *c);

/* What every command starts with: settings and paths from options, files and
 * environment. deinit also when it failed. */
struct cli_setting {
	struct arena arena;
	struct agent_settings settings;
	struct agent_paths paths;
};

/* False: *out_exit is the exit code to end with, its error is printed; also
 * for --check-config and --print-config, which end here. */
bool cli_setting_init(const struct cli *c, struct cli_setting *s, int *out_exit);
void cli_setting_deinit(struct cli_setting *s);

/* Asks the agent that runs on this state folder: a request of one line, and
 * its answer (owned by the caller). FERRY_NOT_FOUND: none runs;
 * FERRY_LINK_TIMEOUT; FERRY_LINK_CLOSED: it ended meanwhile. */
FERRY_CHECK enum ferry_error cli_local_ask(const char *socket_path, const char *request, int64_t timeout_us, struct json **out,
					   struct ferry_why *why);

/* One row of a query as an object; numbers become numbers. */
struct replica_field;
struct json *cli_row(const struct replica_field *fields, int count);

/* Rows of a query on the replica as an array of objects. False: printed. */
bool cli_query(const struct cli *c, const struct cli_setting *s, const char *sql, struct json **out_rows, int *out_exit);

#endif
