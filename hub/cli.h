/* The commands of ferry-hub (shared/cli.h makes help and parsing of them). */
#ifndef FERRY_HUB_CLI_H
#define FERRY_HUB_CLI_H

#include "hub/pg_admin.h"
#include "hub/settings.h"
#include "protocol/value.h"
#include "shared/cli.h"

extern const struct cli_command hub_commands[];
extern const struct cli_option hub_options[];

int cli_serve(struct cli *c);
int cli_init(struct cli *c);
int cli_migrate(struct cli *c);
int cli_token_create(struct cli *c);
int cli_device_list(struct cli *c);
int cli_device_revoke(struct cli *c);
int cli_device_release(struct cli *c);
int cli_tenant_create(struct cli *c);
int cli_tenant_list(struct cli *c);
int cli_tenant_suspend(struct cli *c);
int cli_tenant_resume(struct cli *c);
int cli_tenant_archive(struct cli *c);
int cli_tenant_delete(struct cli *c);
int cli_tenant_limit(struct cli *c);
int cli_maintain(struct cli *c);
int cli_verify(struct cli *c);
int cli_bundle_import(struct cli *c);
int cli_bundle_export(struct cli *c);
int cli_backup_mark(struct cli *c);
int cli_secret_set(struct cli *c);
int cli_secret_list(struct cli *c);
int cli_secret_rotate(struct cli *c);
int cli_secret_check(struct cli *c);
int cli_flags(struct cli *c);
int cli_audit_verify(struct cli *c);
int cli_model(struct cli *c);
int cli_webhooks_deliver(struct cli *c);
int cli_conflict_list(struct cli *c);
int cli_conflict_show(struct cli *c);
int cli_conflict_resolve(struct cli *c);
int cli_rejected_list(struct cli *c);
int cli_rejected_show(struct cli *c);
int cli_rejected_requeue(struct cli *c);
int cli_status(struct cli *c);
int cli_sessions(struct cli *c);
int cli_log_level(struct cli *c);
int cli_config(struct cli *c);

struct cli_setting {
	struct arena arena;
	struct hub_settings settings;
};

/* False: *out_exit is the exit code to end with; what is wrong is printed. */
bool cli_setting_init(const struct cli *c, struct cli_setting *s, int *out_exit);
void cli_setting_deinit(struct cli_setting *s);

/* The database as the role of the administration. False as above. */
bool cli_database(const struct cli *c, const struct cli_setting *s, struct pg_admin **out, int *out_exit);
/* Prints a failed statement. */
int cli_fail_database(const struct cli *c, struct pg_admin *db, enum ferry_error e, const struct ferry_why *why);
/* Rows as an array of objects of texts; integers where the column says so
 * with a name that ends in "::int", booleans with "::bool". */
struct json *cli_rows(const struct pg_rows *rows);
/* A tenant's uuid by its slug or uuid. False as above. */
bool cli_tenant(const struct cli *c, struct pg_admin *db, const char *given, char out[UUID_TEXT], int *out_exit);

/* 30min, 24h, 7d, 90s as seconds, from least to most. */
bool cli_duration(const char *text, int64_t least_s, int64_t most_s, int64_t *out_s);

/* The running hub's answer (owned by the caller), or NULL: it does not run. */
struct json *cli_ask_hub(const struct cli_setting *s, const char *path, struct json *body, struct ferry_why *why);

#endif
