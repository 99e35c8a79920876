#include "hub/witness.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/files.h"
#include "shared/json.h"

#define WITNESS_FILE "witness.json"

enum ferry_error witness_write(const char *state_dir, const struct hub_newest *newest, struct ferry_why *why)
{
	char path[FILES_PATH_MAX], tenant[UUID_TEXT], text[200];
	enum ferry_error e = files_join(path, state_dir, WITNESS_FILE, why);

	if (e != FERRY_OK || newest->position == 0)
		return e;
	uuid_format(&newest->tenant, tenant);
	snprintf(text, sizeof(text), "{\"tenant\": \"%s\", \"position\": \"%lld\", \"mark\": \"%lld\"}\n", tenant,
		 (long long)newest->position, (long long)newest->mark);
	return files_replace(path, text, strlen(text), 0600, true, why);
}

/* A tenant that lives elsewhere, or is gone, witnesses nothing. */
static const char lost_sql[] =
	"SELECT p.tenant_id FROM ferry.placement p WHERE p.tenant_id = $1::uuid AND p.conninfo IS NULL AND NOT EXISTS "
	"(SELECT FROM ferry.commit c WHERE c.tenant_id IN (p.tenant_id, ferry.nobody()) AND c.position = $2::bigint AND c.mark = $3::bigint)";
static const char note_sql[] =
	"SELECT ferry.note_rewind('witness', $1::uuid, NULL, h.epoch, $2::bigint, "
	"least($2::bigint - 1, coalesce((SELECT d.position FROM ferry.head($1::uuid) d), 0))) FROM ferry.history h";

static enum ferry_error compare(struct pg_admin *db, const char *const *params, bool *out_lost, struct ferry_why *why)
{
	struct pg_rows *rows;
	enum ferry_error e = pg_admin_query(db, lost_sql, params, 3, &rows, why);

	if (e != FERRY_OK)
		return e;
	*out_lost = pg_rows_count(rows) > 0;
	pg_rows_free(rows);
	return *out_lost ? pg_admin_query(db, note_sql, params, 2, NULL, why) : FERRY_OK;
}

enum ferry_error witness_check(const char *state_dir, struct pg_admin *db, int64_t *out_lost, struct ferry_why *why)
{
	char path[FILES_PATH_MAX];
	struct json *file = NULL;
	bool lost = false;
	enum ferry_error e = files_join(path, state_dir, WITNESS_FILE, why);

	*out_lost = 0;
	if (e != FERRY_OK || !files_exists(path))
		return e;
	if (json_read_file(path, &file, NULL) != FERRY_OK)
		return FERRY_OK; /* cut short by a crash: it says nothing, and is written anew */
	const char *params[] = {json_text(json_get(file, "tenant")), json_text(json_get(file, "position")),
				json_text(json_get(file, "mark"))};
	if (params[0] && params[1] && params[2])
		e = compare(db, params, &lost, why);
	if (e == FERRY_OK && lost) {
		*out_lost = strtoll(params[1], NULL, 10);
		e = files_replace(path, "{}\n", 3, 0600, true, why); /* told once */
	}
	json_release(file);
	return e;
}
