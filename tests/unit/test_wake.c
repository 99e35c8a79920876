/* The agent's ear for commits: none is missed, none is found by the slow
 * safety look alone while inotify works. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "agent/wake.h"
#include "tests/lib/temp_folder.h"

/* Of this program: under valgrind /proc/self/exe is valgrind. */
static const char *own_path;

static int64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

struct scene {
	char folder[64];
	char path[128];
	sqlite3 *db;
	sqlite3_stmt *version;
	struct wake *wake;
	int changes;
	bool fake;
	bool busy;
	int64_t own;
	int64_t fake_version;
};

static int64_t own_commits(void *ctx)
{
	return ((struct scene *)ctx)->own;
}

static bool read_version(void *ctx, int64_t *out)
{
	struct scene *s = ctx;
	if (s->busy)
		return false;
	if (s->fake) {
		*out = s->fake_version;
		return true;
	}
	bool good = sqlite3_step(s->version) == SQLITE_ROW;
	*out = good ? sqlite3_column_int64(s->version, 0) : 0;
	sqlite3_reset(s->version);
	return good;
}

static void on_changed(void *ctx)
{
	((struct scene *)ctx)->changes++;
}

static const struct wake_effects effects = {read_version, own_commits, on_changed};

static void run_sql(sqlite3 *db, const char *sql)
{
	char *message = NULL;
	if (sqlite3_exec(db, sql, NULL, NULL, &message) != SQLITE_OK)
		fail_msg("%s: %s", sql, message);
}

static sqlite3 *open_db(const char *path)
{
	sqlite3 *db;
	assert_int_equal(SQLITE_OK, sqlite3_open(path, &db));
	sqlite3_busy_timeout(db, 20000);
	return db;
}

static int setup(void **state)
{
	struct scene *s = calloc(1, sizeof(*s));
	if (!s)
		return -1;
	if (!temp_folder("wake", s->folder, sizeof(s->folder))) {
		free(s);
		return -1;
	}
	snprintf(s->path, sizeof(s->path), "%s/replica.db", s->folder);
	s->db = open_db(s->path);
	run_sql(s->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; CREATE TABLE t(n INTEGER)");
	sqlite3_prepare_v2(s->db, "PRAGMA data_version", -1, &s->version, NULL);
	*state = s;
	return 0;
}

static int teardown(void **state)
{
	struct scene *s = *state;
	char command[128];
	wake_close(s->wake);
	sqlite3_finalize(s->version);
	sqlite3_close(s->db);
	snprintf(command, sizeof(command), "rm -rf '%s'", s->folder);
	int failed = system(command);
	free(s);
	return failed;
}

static void open_wake(struct scene *s, int64_t now)
{
	struct ferry_why why;
	assert_int_equal(FERRY_OK, wake_open(s->path, &effects, s, now, &s->wake, &why));
}

/* Serves the wake as a loop would, until `done` or the deadline. */
static bool serve(struct scene *s, bool (*done)(struct scene *s, void *ctx), void *ctx, int extra_fd, int64_t seconds)
{
	int64_t end = now_us() + seconds * 1000000;
	while (!done(s, ctx)) {
		int64_t now = now_us(), left = wake_at(s->wake) - now;
		if (now > end)
			return false;
		struct pollfd fds[2] = {{.fd = wake_fd(s->wake), .events = POLLIN}, {.fd = extra_fd, .events = POLLIN}};
		struct timespec timeout = {.tv_sec = 0, .tv_nsec = left < 0 ? 0 : (left > 500000 ? 500000 : left) * 1000};
		ppoll(fds, 2, &timeout, NULL);
		if (fds[0].revents)
			wake_readable(s->wake, now_us());
		wake_tick(s->wake, now_us());
	}
	return true;
}

static bool something_changed(struct scene *s, void *ctx)
{
	(void)ctx;
	return s->changes > 0;
}

/* ---- with a real writer ---- */

/* One commit at a time: the writer waits for our answer before the next, so
 * that each commit must be noticed for itself. It is a program of its own:
 * SQLite must not be carried through a fork. */
static void write_one_by_one(const char *path, int tell, int answer, int count, const char *setting, bool reopen)
{
	sqlite3 *db = open_db(path);
	run_sql(db, setting);
	for (int i = 0; i < count; i++) {
		char byte = 'c';
		if (reopen) {
			sqlite3_close(db);
			db = open_db(path);
			run_sql(db, setting);
		}
		run_sql(db, "INSERT INTO t VALUES(1)");
		if (write(tell, &byte, 1) != 1 || read(answer, &byte, 1) != 1)
			break;
	}
	sqlite3_close(db);
}

static int writer_main(char **argv)
{
	write_one_by_one(argv[2], 3, 4, (int)strtol(argv[3], NULL, 10), argv[4], argv[5][0] == '1');
	return 0;
}

static pid_t start_writer(const char *path, int tell, int answer, int count, const char *setting, bool reopen)
{
	char number[16];
	snprintf(number, sizeof(number), "%d", count);
	pid_t pid = fork();
	if (pid)
		return pid;
	/* Through high numbers, so that neither overwrites the other. */
	int high_tell = fcntl(tell, F_DUPFD, 100), high_answer = fcntl(answer, F_DUPFD, 100);
	for (int fd = 3; fd < 100; fd++)
		close(fd);
	dup2(high_tell, 3);
	dup2(high_answer, 4);
	close(high_tell);
	close(high_answer);
	execl(own_path, "test-unit-wake", "writer", path, number, setting, reopen ? "1" : "0", (char *)NULL);
	_exit(127);
}

static void each_commit_is_noticed(struct scene *s, int count, const char *setting, bool reopen)
{
	int tell[2], answer[2], status;
	assert_int_equal(0, pipe(tell));
	assert_int_equal(0, pipe(answer));
	open_wake(s, now_us());
	pid_t writer = start_writer(s->path, tell[1], answer[0], count, setting, reopen);
	close(tell[1]);
	close(answer[0]);
	for (int i = 0; i < count; i++) {
		char byte = 'a';
		if (!serve(s, something_changed, NULL, -1, 10))
			fail_msg("commit %d of %d was not noticed (%s)", i, count, setting);
		s->changes = 0;
		/* Told after the commit: whatever is noticed later is of the next one. */
		assert_int_equal(1, read(tell[0], &byte, 1));
		assert_int_equal(1, write(answer[1], &byte, 1));
	}
	assert_int_equal(writer, waitpid(writer, &status, 0));
	close(tell[0]);
	close(answer[1]);
	struct wake_stats stats;
	wake_stats(s->wake, &stats);
	print_message("%s: %d commits, %llu events, %llu looks, by safety %llu\n", setting, count,
		      (unsigned long long)stats.events, (unsigned long long)stats.looks,
		      (unsigned long long)stats.by_safety);
	if (!getenv("FERRY_VALGRIND"))
		assert_true(stats.by_safety == 0);
}

static int rounds(int n)
{
	return getenv("FERRY_VALGRIND") ? n / 20 : n;
}

static void every_commit_of_another_process_is_noticed(void **state)
{
	each_commit_is_noticed(*state, rounds(4000), "PRAGMA synchronous=NORMAL", false);
}

static void every_commit_with_fsync_is_noticed(void **state)
{
	each_commit_is_noticed(*state, rounds(600), "PRAGMA synchronous=FULL", false);
}

static void every_commit_of_a_connection_of_its_own_is_noticed(void **state)
{
	each_commit_is_noticed(*state, rounds(600), "PRAGMA synchronous=NORMAL", true);
}

static void every_commit_is_noticed_while_the_wal_is_reset_all_the_time(void **state)
{
	each_commit_is_noticed(*state, rounds(600), "PRAGMA wal_autocheckpoint=1", false);
}

/* ---- with a clock and a version of our own ---- */

static void touch_wal(struct scene *s)
{
	char path[160];
	snprintf(path, sizeof(path), "%s-wal", s->path);
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_true(fd >= 0);
	assert_int_equal(1, pwrite(fd, "x", 1, 0));
	close(fd);
}

static void read_events(struct scene *s, int64_t now)
{
	struct pollfd fd = {.fd = wake_fd(s->wake), .events = POLLIN};
	assert_int_equal(1, poll(&fd, 1, 5000));
	wake_readable(s->wake, now);
}

/* Virtual time: jumps from look to look. */
static int64_t run_until(struct scene *s, int64_t from, int64_t to, int *out_looks)
{
	int looks = 0;
	int64_t now = from;
	while (wake_at(s->wake) <= to && s->changes == 0) {
		now = wake_at(s->wake) > now ? wake_at(s->wake) : now;
		wake_tick(s->wake, now);
		looks++;
	}
	*out_looks = looks;
	return now;
}

static void commit_that_becomes_visible_late_is_found_by_the_ladder(void **state)
{
	struct scene *s = *state;
	int looks;
	for (int64_t late = 100; late < 1500000; late = late * 3 + 77) {
		s->fake = true;
		s->fake_version = 1;
		s->changes = 0;
		open_wake(s, 0);
		touch_wal(s);
		read_events(s, 1000);
		run_until(s, 1000, 1000 + late, &looks);
		assert_int_equal(0, s->changes);
		s->fake_version = 2;
		int64_t seen = run_until(s, 1000 + late, 10000000, &looks);
		assert_int_equal(1, s->changes);
		/* Growing pauses: never later than about so many times as late. */
		assert_true(seen - 1000 <= late * WAKE_GROWTH + WAKE_GROWTH * WAKE_FIRST_US);
		wake_close(s->wake);
		s->wake = NULL;
	}
}

/* What we write ourselves raises events, too. They cost one look at once and few later ones,
 * and hide nobody else's commit. */
static void events_of_our_own_commits_begin_the_ladder_higher_up(void **state)
{
	struct scene *s = *state;
	int looks;
	s->fake = true;
	s->fake_version = 1;
	open_wake(s, 0);
	touch_wal(s);
	s->own++;
	read_events(s, 1000);
	run_until(s, 1000, 1000 + WAKE_OWN_US - 1, &looks);
	assert_int_equal(0, looks);
	s->fake_version = 2;
	int64_t seen = run_until(s, 1000 + WAKE_OWN_US - 1, 10000000, &looks);
	assert_int_equal(1, s->changes);
	assert_true(seen <= 1000 + WAKE_OWN_US);
	s->changes = 0;
	touch_wal(s); /* without a commit of ours: somebody else's */
	read_events(s, 20000000);
	run_until(s, 20000000, 20000000 + WAKE_OWN_US - 1, &looks);
	assert_true(looks > 0);
}

static void second_commit_behind_the_same_event_is_found(void **state)
{
	struct scene *s = *state;
	int looks;
	s->fake = true;
	s->fake_version = 1;
	open_wake(s, 0);
	touch_wal(s);
	s->fake_version = 2;
	read_events(s, 1000);
	assert_int_equal(1, s->changes);
	s->changes = 0;
	s->fake_version = 3;
	int64_t seen = run_until(s, 1000, 10000000, &looks);
	assert_int_equal(1, s->changes);
	assert_true(seen <= 1000 + 2 * WAKE_FIRST_US);
}

static void change_without_any_event_is_found_by_the_safety_look(void **state)
{
	struct scene *s = *state;
	int looks;
	s->fake = true;
	s->fake_version = 1;
	open_wake(s, 0);
	run_until(s, 0, 60000000, &looks);
	/* Quiet: the first ladder, then a look every two seconds. */
	assert_true(looks < 60);
	s->fake_version = 2;
	int64_t seen = run_until(s, 60000000, 80000000, &looks);
	assert_int_equal(1, s->changes);
	assert_true(seen <= 60000000 + WAKE_SAFETY_US);
}

static void busy_database_is_looked_at_again_soon(void **state)
{
	struct scene *s = *state;
	int looks;
	s->fake = true;
	s->fake_version = 1;
	open_wake(s, 0);
	touch_wal(s);
	s->busy = true;
	s->fake_version = 2;
	read_events(s, 1000);
	run_until(s, 1000, 5000, &looks);
	assert_true(looks > 5);
	assert_int_equal(0, s->changes);
	s->busy = false;
	run_until(s, 5000, 6000, &looks);
	assert_int_equal(1, s->changes);
}

static void other_files_in_the_folder_wake_nobody(void **state)
{
	struct scene *s = *state;
	char path[160];
	struct wake_stats before, after;
	s->fake = true;
	open_wake(s, 0);
	wake_stats(s->wake, &before);
	snprintf(path, sizeof(path), "%s/status.json", s->folder);
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	assert_int_equal(1, write(fd, "x", 1));
	close(fd);
	read_events(s, 1000);
	wake_stats(s->wake, &after);
	assert_int_equal(before.events, after.events);
	assert_int_equal(before.looks, after.looks);
}

static void missing_database_is_refused(void **state)
{
	struct scene *s = *state;
	struct ferry_why why = {0};
	struct wake *w;
	assert_int_equal(FERRY_NOT_FOUND, wake_open("/nowhere/replica.db", &effects, s, 0, &w, &why));
	assert_non_null(strstr(why.text, "/nowhere/replica.db"));
}

int main(int argc, char **argv)
{
	own_path = argv[0];
	if (argc == 6 && strcmp(argv[1], "writer") == 0)
		return writer_main(argv);
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(every_commit_of_another_process_is_noticed, setup, teardown),
		cmocka_unit_test_setup_teardown(every_commit_with_fsync_is_noticed, setup, teardown),
		cmocka_unit_test_setup_teardown(every_commit_of_a_connection_of_its_own_is_noticed, setup, teardown),
		cmocka_unit_test_setup_teardown(every_commit_is_noticed_while_the_wal_is_reset_all_the_time, setup,
						teardown),
		cmocka_unit_test_setup_teardown(commit_that_becomes_visible_late_is_found_by_the_ladder, setup,
						teardown),
		cmocka_unit_test_setup_teardown(events_of_our_own_commits_begin_the_ladder_higher_up, setup, teardown),
		cmocka_unit_test_setup_teardown(second_commit_behind_the_same_event_is_found, setup, teardown),
		cmocka_unit_test_setup_teardown(change_without_any_event_is_found_by_the_safety_look, setup, teardown),
		cmocka_unit_test_setup_teardown(busy_database_is_looked_at_again_soon, setup, teardown),
		cmocka_unit_test_setup_teardown(other_files_in_the_folder_wake_nobody, setup, teardown),
		cmocka_unit_test_setup_teardown(missing_database_is_refused, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
