#include "hub/migrate.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "hub/migrate_rewrite.h"
#include "shared/sha256.h"

#define REWRITTEN_BYTES_MAX ((size_t)16 << 20)
#define LOCK_KEY "5062315540174721" /* any constant; the same in every version */

static const char *const parts[] = {"engine", "model"};

static bool is_folder(const char *path)
{
	struct stat s;
	return stat(path, &s) == 0 && S_ISDIR(s.st_mode);
}

static bool has_parts(const char *folder)
{
	char path[FILES_PATH_MAX + 16];
	snprintf(path, sizeof(path), "%s/engine", folder);
	return is_folder(path);
}

enum ferry_error migrate_find(const char *wanted, char out[FILES_PATH_MAX], struct ferry_why *why)
{
	static const char *const beside[] = {"/../share/ferry/sql", "/../../../hub/sql"};
	char program[PATH_MAX];
	if (wanted) {
		if (!has_parts(wanted))
			return ferry_fail(why, FERRY_NOT_FOUND, "the folder %s has no migrations (engine/*.sql)", wanted);
		snprintf(out, FILES_PATH_MAX, "%s", wanted);
		return FERRY_OK;
	}
	ssize_t n = readlink("/proc/self/exe", program, sizeof(program) - 1);
	program[n > 0 ? n : 0] = '\0';
	char *slash = strrchr(program, '/');
	if (slash)
		*slash = '\0';
	for (size_t i = 0; i < sizeof(beside) / sizeof(*beside); i++) {
		int length = snprintf(out, FILES_PATH_MAX, "%s%s", program, beside[i]);
		if (length > 0 && length < FILES_PATH_MAX && has_parts(out))
			return FERRY_OK;
	}
	return ferry_fail(why, FERRY_NOT_FOUND, "the migrations are not beside the program; name their folder with --sql");
}

/* "0012_name.sql" */
static bool parse_name(const char *name, int *out_number)
{
	size_t n = strlen(name);
	if (n < 10 || n >= sizeof(((struct migration *)0)->name) || strcmp(name + n - 4, ".sql") != 0 || name[4] != '_')
		return false;
	int number = 0;
	for (int i = 0; i < 4; i++) {
		if (name[i] < '0' || name[i] > '9')
			return false;
		number = number * 10 + (name[i] - '0');
	}
	*out_number = number;
	return true;
}

static struct migration *add(struct migrations *m, struct ferry_why *why, enum ferry_error *e)
{
	if (m->count == MIGRATIONS_MAX) {
		*e = ferry_fail(why, FERRY_LIMIT, "there are more than %d migrations", MIGRATIONS_MAX);
		return NULL;
	}
	struct migration *one = &m->list[m->count++];
	memset(one, 0, sizeof(*one));
	return one;
}

static enum ferry_error hash_file(struct migration *one, struct ferry_why *why)
{
	char *text;
	size_t n;
	uint8_t digest[SHA256_BYTES];
	enum ferry_error e = files_read(one->path, &text, &n, why);
	if (e != FERRY_OK)
		return e;
	sha256_of(text, n, digest);
	hex_of(digest, sizeof(digest), one->sha256);
	free(text);
	return FERRY_OK;
}

static enum ferry_error read_part(struct migrations *m, const char *folder, const char *part, struct ferry_why *why)
{
	char path[FILES_PATH_MAX];
	enum ferry_error e = files_join(path, folder, part, why);
	struct dirent **found;
	if (e != FERRY_OK)
		return e;
	int n = scandir(path, &found, NULL, alphasort);
	if (n < 0 && errno == ENOENT)
		return FERRY_OK;
	if (n < 0)
		return ferry_fail(why, FERRY_IO, "%s cannot be read: %s", path, strerror(errno));
	for (int i = 0; i < n; i++) {
		int number;
		if (e == FERRY_OK && parse_name(found[i]->d_name, &number)) {
			struct migration *one = add(m, why, &e);
			if (one) {
				one->number = number;
				snprintf(one->part, sizeof(one->part), "%s", part);
				snprintf(one->name, sizeof(one->name), "%s", found[i]->d_name);
				e = files_join(one->path, path, one->name, why);
			}
			if (e == FERRY_OK)
				e = hash_file(one, why);
		}
		free(found[i]);
	}
	free(found);
	return e;
}

static struct migration *find(struct migrations *m, const char *part, int number)
{
	for (int i = 0; i < m->count; i++)
		if (m->list[i].number == number && strcmp(m->list[i].part, part) == 0)
			return &m->list[i];
	return NULL;
}

static enum ferry_error compare_with_ledger(struct migrations *m, const struct pg_rows *ledger, struct ferry_why *why)
{
	enum ferry_error e = FERRY_OK;
	for (int i = 0; i < pg_rows_count(ledger) && e == FERRY_OK; i++) {
		int number = (int)strtol(pg_rows_text(ledger, i, 1), NULL, 10);
		struct migration *one = find(m, pg_rows_text(ledger, i, 0), number);
		if (one) {
			bool same = strcmp(one->sha256, pg_rows_text(ledger, i, 3)) == 0;
			one->state = same ? MIGRATION_APPLIED : MIGRATION_CHANGED;
			m->changed += !same;
			continue;
		}
		one = add(m, why, &e);
		if (one) {
			snprintf(one->part, sizeof(one->part), "%s", pg_rows_text(ledger, i, 0));
			snprintf(one->name, sizeof(one->name), "%s", pg_rows_text(ledger, i, 2));
			one->number = number;
			one->state = MIGRATION_MISSING;
			m->missing++;
		}
	}
	for (int i = 0; i < m->count; i++)
		m->pending += m->list[i].state == MIGRATION_PENDING;
	return e;
}

/* The ledger's name of a set's part. */
static void set_part(const struct migrate_set *set, char out[64])
{
	snprintf(out, 64, "model:%s", set->prefix);
}

static enum ferry_error read_ledger(struct pg_admin *db, const struct migrate_set *set, struct pg_rows **out,
				    struct ferry_why *why)
{
	char part[64] = "";
	const char *params[] = {part};
	if (set)
		set_part(set, part);
	struct pg_rows *there;
	enum ferry_error e = pg_admin_query(db, "SELECT 1 WHERE to_regclass('ferry.migration') IS NOT NULL", NULL, 0,
					    &there, why);
	if (e != FERRY_OK)
		return e;
	bool is_there = pg_rows_count(there) > 0;
	pg_rows_free(there);
	return pg_admin_query(db,
			      is_there ? "SELECT part, number, name, encode(sha256, 'hex') FROM ferry.migration "
					 "WHERE CASE WHEN $1 = '' THEN part IN ('engine', 'model') ELSE part = $1 END "
					 "ORDER BY part, number"
				       : "SELECT '', 0, '', $1 WHERE false",
			      params, 1, out, why);
}

static enum ferry_error read_parts(struct migrations *m, const char *folder, const struct migrate_set *set,
				   struct ferry_why *why)
{
	enum ferry_error e = FERRY_OK;
	if (!set) {
		for (size_t i = 0; i < sizeof(parts) / sizeof(*parts) && e == FERRY_OK; i++)
			e = read_part(m, folder, parts[i], why);
		return e;
	}
	e = read_part(m, folder, "model", why);
	for (int i = 0; i < m->count; i++)
		set_part(set, m->list[i].part);
	return e;
}

enum ferry_error migrate_plan(struct pg_admin *db, const char *folder, const struct migrate_set *set,
			      struct migrations *out, struct ferry_why *why)
{
	struct migrations m = {.list = calloc(MIGRATIONS_MAX, sizeof(struct migration))};
	struct pg_rows *ledger = NULL;
	enum ferry_error e = m.list ? FERRY_OK : FERRY_NO_MEMORY;
	if (e == FERRY_OK)
		e = read_parts(&m, folder, set, why);
	if (e == FERRY_OK)
		e = read_ledger(db, set, &ledger, why);
	if (e == FERRY_OK)
		e = compare_with_ledger(&m, ledger, why);
	pg_rows_free(ledger);
	if (e != FERRY_OK) {
		free(m.list);
		return e;
	}
	*out = m;
	return FERRY_OK;
}

void migrations_free(struct migrations *m)
{
	free(m->list);
	m->list = NULL;
}

static enum ferry_error refuse_changed(const struct migrations *m, struct ferry_why *why)
{
	for (int i = 0; i < m->count; i++)
		if (m->list[i].state == MIGRATION_CHANGED)
			return ferry_fail(why, FERRY_CORRUPT,
					  "the migration %s/%s was applied with a different content: put the file back "
					  "as it was and write a new one for the change",
					  m->list[i].part, m->list[i].name);
	return FERRY_OK;
}

/* ---- a set of schemas ---- */

static enum ferry_error gather(struct rewrite_names *names, const struct migrations *m, struct ferry_why *why)
{
	enum ferry_error e = FERRY_OK;
	for (int i = 0; i < 2 * m->count && e == FERRY_OK; i++) {
		char *text;
		size_t n;
		if (m->list[i % m->count].state == MIGRATION_MISSING)
			continue;
		e = files_read(m->list[i % m->count].path, &text, &n, why);
		if (e != FERRY_OK)
			break;
		e = i < m->count ? rewrite_gather_schemas(names, text) : rewrite_gather_objects(names, text);
		free(text);
	}
	rewrite_sort(names);
	return e;
}

static enum ferry_error exec_rewritten(struct pg_admin *db, const struct migration *one, const struct migrate_set *set,
				       const struct rewrite_names *names, struct ferry_why *why)
{
	struct buffer sql;
	char *text;
	size_t n;
	const char *params[] = {set->tenant};
	enum ferry_error e = files_read(one->path, &text, &n, why);
	if (e != FERRY_OK)
		return e;
	buffer_init(&sql, REWRITTEN_BYTES_MAX);
	e = rewrite_text(names, set->prefix, text, &sql);
	free(text);
	if (e == FERRY_OK)
		e = pg_admin_query(db, "SELECT set_config('ferry.placing', $1, true)", params, 1, NULL, why);
	if (e == FERRY_OK)
		e = pg_admin_exec(db, (const char *)sql.p, why);
	buffer_deinit(&sql);
	if (e == FERRY_USAGE) {
		struct ferry_why cause = *why;
		ferry_why_set(why, "%s for %s: %.250s", one->name, set->prefix, cause.text);
	}
	return e;
}

static enum ferry_error apply_one(struct pg_admin *db, const struct migration *one, const struct migrate_set *set,
				  const struct rewrite_names *names, struct ferry_why *why)
{
	char number[16];
	snprintf(number, sizeof(number), "%d", one->number);
	const char *params[] = {one->part, number, one->name, one->sha256};
	enum ferry_error e = pg_admin_exec(db, "BEGIN", why);
	if (e == FERRY_OK)
		e = set ? exec_rewritten(db, one, set, names, why) : pg_admin_exec_file(db, one->path, why);
	if (e == FERRY_OK)
		e = pg_admin_query(db,
				   "INSERT INTO ferry.migration (part, number, name, sha256) "
				   "VALUES ($1, $2::int, $3, decode($4, 'hex'))",
				   params, 4, NULL, why);
	if (e == FERRY_OK)
		return pg_admin_exec(db, "COMMIT", why);
	struct ferry_why ignored;
	(void)!pg_admin_exec(db, "ROLLBACK", &ignored);
	return e;
}

static enum ferry_error apply_all(struct pg_admin *db, const char *folder, const struct migrate_set *set,
				  void (*each)(void *ctx, const struct migration *m), void *ctx, int *out_count,
				  struct ferry_why *why)
{
	struct migrations m;
	struct rewrite_names *names = NULL;
	int done = 0;
	enum ferry_error e = migrate_plan(db, folder, set, &m, why);
	if (e != FERRY_OK)
		return e;
	e = refuse_changed(&m, why);
	if (e == FERRY_OK && set && m.pending) {
		names = calloc(1, sizeof(*names));
		e = names ? gather(names, &m, why) : FERRY_NO_MEMORY;
	}
	for (int i = 0; i < m.count && e == FERRY_OK; i++) {
		if (m.list[i].state != MIGRATION_PENDING)
			continue;
		e = apply_one(db, &m.list[i], set, names, why);
		if (e != FERRY_OK)
			break;
		m.list[i].state = MIGRATION_APPLIED;
		done++;
		if (each)
			each(ctx, &m.list[i]);
	}
	free(names);
	migrations_free(&m);
	if (e == FERRY_OK)
		*out_count = done;
	return e;
}

enum ferry_error migrate_apply(struct pg_admin *db, const char *folder, const struct migrate_set *set,
			       void (*each)(void *ctx, const struct migration *m), void *ctx, int *out_count,
			       struct ferry_why *why)
{
	struct ferry_why ignored;
	enum ferry_error e = pg_admin_exec(db, "SELECT pg_advisory_lock(" LOCK_KEY ")", why);
	if (e != FERRY_OK)
		return e;
	e = apply_all(db, folder, set, each, ctx, out_count, why);
	(void)!pg_admin_exec(db, "SELECT pg_advisory_unlock(" LOCK_KEY ")", &ignored);
	return e;
}

enum ferry_error migrate_check(struct pg_admin *db, const char *folder, struct ferry_why *why)
{
	struct migrations m;
	enum ferry_error e = migrate_plan(db, folder, NULL, &m, why);
	if (e != FERRY_OK)
		return e;
	e = refuse_changed(&m, why);
	if (e == FERRY_OK && m.pending)
		e = ferry_fail(why, FERRY_CONFIG, "%d of %d migrations are not applied: run ferry-hub migrate first",
			       m.pending, m.count);
	migrations_free(&m);
	return e;
}
