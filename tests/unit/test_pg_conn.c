/* A connection to a server that misbehaves: a small server of our own speaks
 * just enough of PostgreSQL's protocol (version 3) to end as a dying one does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "hub/pg_conn.h"
#include "tests/lib/poll_io.h"
#include "tests/lib/temp_folder.h"

enum { PATIENCE_US = 20000000 };

/* ------------------------------------------------------------------ server */

static void send_message(int fd, char type, const char *body, uint32_t n)
{
	uint32_t length = htonl(n + 4);

	if (write(fd, &type, 1) != 1 || write(fd, &length, 4) != 4 || (n > 0 && write(fd, body, n) != (ssize_t)n))
		_exit(0);
}

static void read_whole(int fd, char *p, size_t n)
{
	while (n > 0) {
		ssize_t got = read(fd, p, n);

		if (got <= 0)
			_exit(0);
		p += got;
		n -= (size_t)got;
	}
}

/* Reads a message, whose text may be of any length up to size; its length. */
static uint32_t read_message(int fd, char *type, char *body, size_t size)
{
	uint32_t length;

	if (type)
		read_whole(fd, type, 1);
	read_whole(fd, (char *)&length, 4);
	length = ntohl(length) - 4;
	if (length >= size)
		_exit(2);
	read_whole(fd, body, length);
	body[length] = '\0';
	return length;
}

static void send_last_words(int fd)
{
	static const char words[] = "SFATAL\0VFATAL\0C57P01\0Mterminating connection\0";

	send_message(fd, 'E', words, sizeof(words));
}

/* Answers every statement; after the last one of a batch with the word
 * "farewell" it speaks once more, where only the end of the batch is due. */
static _Noreturn void serve_one(int fd)
{
	static char body[65536];
	bool farewell = false;
	char type;

	(void)read_message(fd, NULL, body, sizeof(body));
	send_message(fd, 'R', "\0\0\0\0", 4);
	send_message(fd, 'K', "\0\0\0\1\0\0\0\1", 8);
	send_message(fd, 'Z', "I", 1);
	for (;;) {
		uint32_t n = read_message(fd, &type, body, sizeof(body));

		if (type == 'P') {
			farewell = farewell || memmem(body, n, "farewell", 8);
			send_message(fd, '1', "", 0);
		} else if (type == 'B') {
			send_message(fd, '2', "", 0);
		} else if (type == 'D') {
			if (body[0] == 'S')
				send_message(fd, 't', "\0\0", 2);
			send_message(fd, 'n', "", 0);
		} else if (type == 'E') {
			send_message(fd, 'C', "SET", 4);
		} else if (type == 'Q') {
			send_message(fd, 'C', "SET", 4);
			send_message(fd, 'Z', "I", 1);
		} else if (type == 'S') {
			if (farewell) {
				send_last_words(fd);
				_exit(0);
			}
			send_message(fd, 'Z', "I", 1);
		} else if (type == 'X') {
			_exit(0);
		}
	}
}

struct server {
	pid_t pid;
	char folder[64], path[96], conninfo[160];
};

static void server_start(struct server *s)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(temp_folder("pg-conn", s->folder, sizeof(s->folder)));
	snprintf(s->path, sizeof(s->path), "%s/.s.PGSQL.5432", s->folder);
	snprintf(s->conninfo, sizeof(s->conninfo), "host=%s port=5432 user=u dbname=d sslmode=disable gssencmode=disable",
		 s->folder);
	memcpy(address.sun_path, s->path, strlen(s->path) + 1);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(fd, 4), 0);
	s->pid = fork();
	assert_true(s->pid >= 0);
	if (s->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL); /* a failed test leaves no server behind */
		signal(SIGCHLD, SIG_IGN);
		for (;;) {
			int client = accept(fd, NULL, NULL);

			if (client >= 0 && fork() == 0) {
				prctl(PR_SET_PDEATHSIG, SIGKILL);
				serve_one(client);
			}
			close(client);
		}
	}
	close(fd);
}

static void server_stop(struct server *s)
{
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	unlink(s->path);
	rmdir(s->folder);
}

/* ------------------------------------------------------------------- tests */

struct scene {
	struct server server;
	struct poll_io loop;
	struct pg_io io;
	struct pg_link *link;
	unsigned ups, downs, dones;
	char message[200];
};

static void on_up(void *ctx, struct pg_link *link)
{
	(void)link;
	((struct scene *)ctx)->ups++;
}

static void on_down(void *ctx, struct pg_link *link, const char *message)
{
	struct scene *s = ctx;

	(void)link;
	s->downs++;
	snprintf(s->message, sizeof(s->message), "%s", message);
}

static void on_done(void *ctx)
{
	((struct scene *)ctx)->dones++;
}

static const struct pg_link_events events = {.up = on_up, .down = on_down};

static void turn_until(struct scene *s, const unsigned *count, unsigned least)
{
	int64_t end = clock_monotonic_us() + PATIENCE_US;

	while (*count < least && clock_monotonic_us() < end)
		poll_io_turn(&s->loop);
	assert_true(*count >= least);
}

static int scene_open(void **state)
{
	static struct scene scene;

	memset(&scene, 0, sizeof(scene));
	server_start(&scene.server);
	poll_io_init(&scene.loop, &scene.io);
	scene.link = pg_link_open(scene.server.conninfo, &scene.io, &events, &scene);
	assert_non_null(scene.link);
	*state = &scene;
	return 0;
}

static int scene_close(void **state)
{
	struct scene *s = *state;

	pg_link_close(s->link);
	server_stop(&s->server);
	return 0;
}

static void statements_are_answered_and_the_link_is_ready_again(void **state)
{
	struct scene *s = *state;
	struct pg_batch batch;

	turn_until(s, &s->ups, 1);
	pg_batch_init(&batch, 1 << 20);
	pg_call(&batch, "SET a = 1");
	pg_call(&batch, "SET b = 2");
	pg_link_submit(s->link, &batch, on_done, s);
	turn_until(s, &s->dones, 1);
	assert_int_equal(batch.failure.class, 0);
	assert_true(pg_link_is_ready(s->link));
	assert_int_equal(s->downs, 0);
	pg_batch_deinit(&batch);
}

static void result_beyond_the_last_statement_ends_the_connection_and_not_the_process(void **state)
{
	struct scene *s = *state;
	struct pg_batch batch;

	turn_until(s, &s->ups, 1);
	pg_batch_init(&batch, 1 << 20);
	pg_call(&batch, "SET a = 'farewell'");
	pg_link_submit(s->link, &batch, on_done, s);
	turn_until(s, &s->dones, 1);
	assert_int_equal(batch.failure.class, PG_LOST);
	assert_false(pg_link_is_ready(s->link));
	turn_until(s, &s->downs, 1);
	assert_non_null(strstr(s->message, "terminating connection"));
	turn_until(s, &s->ups, 2);
	pg_batch_reset(&batch);
	pg_call(&batch, "SET a = 1");
	pg_link_submit(s->link, &batch, on_done, s);
	turn_until(s, &s->dones, 2);
	assert_int_equal(batch.failure.class, 0);
	pg_batch_deinit(&batch);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(statements_are_answered_and_the_link_is_ready_again, scene_open, scene_close),
		cmocka_unit_test_setup_teardown(result_beyond_the_last_statement_ends_the_connection_and_not_the_process,
						scene_open, scene_close),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
