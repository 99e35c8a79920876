#include "agent/wipe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "agent/replica_wipe.h"
#include "protocol/describe.h"

#define LINE_BYTES_MAX	 ((size_t)64 << 20)
#define ARENA_BYTES_MAX	 ((size_t)256 << 20)
#define PUSH_BYTES	 ((size_t)256 << 10)
#define CUTS_MAX	 100000

/* What was captured and not yet cut is work, too. */
static enum ferry_error cut_all(struct replica *r, struct ferry_why *why)
{
	bool more = true;
	enum ferry_error e = FERRY_OK;
	for (int i = 0; more && e == FERRY_OK && i < CUTS_MAX; i++)
		e = replica_store_ops.cut(r, &more, why);
	return e;
}

static enum ferry_error write_line(FILE *f, const struct message *m, struct ferry_why *why)
{
	struct buffer line;
	buffer_init(&line, LINE_BYTES_MAX);
	message_describe(m, &line);
	describe_text(&line, "\n");
	bool written = !line.overflowed && fwrite(line.p, 1, line.n, f) == line.n;
	buffer_deinit(&line);
	return written ? FERRY_OK : ferry_fail(why, FERRY_IO, "unsent changes cannot be written: %s", strerror(errno));
}

static enum ferry_error write_pushes(FILE *f, struct replica *r, int64_t *out_sets, struct ferry_why *why)
{
	struct push_cursor cursor = {0};
	struct message m = {.type = MESSAGE_PUSH};
	struct arena arena;
	enum ferry_error e;
	arena_init(&arena, ARENA_BYTES_MAX);
	do {
		arena_reset(&arena);
		m.push.set_count = 0;
		e = replica_store_ops.next_push(r, &cursor, PUSH_BYTES, &arena, &m.push, why);
		if (e == FERRY_OK && m.push.set_count > 0)
			e = write_line(f, &m, why);
		*out_sets += m.push.set_count;
	} while (e == FERRY_OK && m.push.set_count > 0);
	arena_deinit(&arena);
	return e;
}

static enum ferry_error write_all(FILE *f, struct replica *r, int64_t *out_sets, struct ferry_why *why)
{
	struct message m = {.type = MESSAGE_SCHEMA, .schema = *replica_schema(r)};
	enum ferry_error e = write_line(f, &m, why);
	if (e == FERRY_OK)
		e = write_pushes(f, r, out_sets, why);
	if (e == FERRY_OK && (fflush(f) != 0 || fsync(fileno(f)) != 0))
		e = ferry_fail(why, FERRY_IO, "unsent changes cannot be written: %s", strerror(errno));
	return e;
}

static enum ferry_error export_unsent(struct replica *r, struct wipe_report *out, struct ferry_why *why)
{
	FILE *f = fopen(out->unsent, "wxe");
	if (!f)
		return ferry_fail(why, FERRY_IO, "%s cannot be made: %s", out->unsent, strerror(errno));
	enum ferry_error e = write_all(f, r, &out->sets, why);
	fclose(f);
	if (e != FERRY_OK || out->sets == 0) {
		(void)unlink(out->unsent);
		out->unsent[0] = '\0';
	}
	return e;
}

enum ferry_error wipe_keep_unsent(struct replica *r, const struct agent_paths *paths, int64_t wall_us,
				  struct wipe_report *out, struct ferry_why *why)
{
	*out = (struct wipe_report){.sets = 0};
	enum ferry_error e = cut_all(r, why);
	if (e != FERRY_OK || replica_schema(r)->table_count == 0)
		return e; /* never filled: nothing can have been captured */
	int n = snprintf(out->unsent, sizeof(out->unsent), "%s.unsent-%lld.jsonl", paths->replica, (long long)wall_us);
	if (n < 0 || (size_t)n >= sizeof(out->unsent))
		return ferry_fail(why, FERRY_CONFIG, "the state folder's path is too long");
	mode_t before = umask(077);
	e = export_unsent(r, out, why);
	umask(before);
	return e;
}

static void remove_identity(const char *folder)
{
	static const char *const files[] = {"device.key", "device.crt", "ca.crt", "enrolment.json"};
	char path[FILES_PATH_MAX];
	for (size_t i = 0; i < sizeof(files) / sizeof(*files); i++)
		if (files_join(path, folder, files[i], NULL) == FERRY_OK)
			(void)unlink(path);
	(void)rmdir(folder);
}

/* The identity goes last: a wipe that was cut short is ordered again. */
enum ferry_error wipe_remove(const struct agent_paths *paths, struct ferry_why *why)
{
	enum ferry_error e = replica_wipe(paths->replica, why);
	remove_identity(paths->identity);
	return e;
}
