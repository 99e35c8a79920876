#include "agent/local_feed.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/local_news.h"
#include "protocol/arena.h"
#include "shared/files.h"

struct wait {
	int64_t mark;     /* everything captured up to here */
	int64_t refused;  /* what stood in ferry_rejected before */
	struct json *reply; /* has what the client called it, as "id" */
	char *note;       /* of one transaction alone; NULL: all that was committed */
};

struct client {
	struct local_feed *feed;
	struct client *next;
	int fd;
	struct loop_watch *watch;
	struct loop_timer *goodbye;
	char *queue; /* what is still to be written */
	size_t queued, line_left; /* bytes of a line that is half written */
	char request[LOCAL_REQUEST_BYTES_MAX];
	size_t request_bytes;
	bool discards; /* the request under way is too long */
	bool dropped;
	struct wait waits[LOCAL_WAITS_MAX];
	unsigned wait_count;
};

struct local_feed {
	struct loop *loop;
	struct replica *replica;
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int fd;
	struct loop_watch *watch;
	struct client *clients;
	unsigned client_count;
	struct local_news *news;
	char *status; /* the last line */
};

/* ---- clients ---- */

static void client_free(struct client *gone)
{
	struct client **at = &gone->feed->clients;
	while (*at != gone)
		at = &(*at)->next;
	*at = gone->next;
	gone->feed->client_count--;
	local_news_want(gone->feed->news, gone->feed->client_count > 0);
	for (unsigned i = 0; i < gone->wait_count; i++) {
		json_release(gone->waits[i].reply);
		free(gone->waits[i].note);
	}
	loop_watch_free(gone->watch);
	loop_timer_free(gone->goodbye);
	close(gone->fd);
	free(gone->queue);
	free(gone);
}

static void goodbye_due(void *ctx)
{
	client_free(ctx);
}

/* The place behind a line that is half written already. */
static size_t line_end(const struct client *c)
{
	const char *end = c->line_left ? memchr(c->queue, '\n', c->queued) : NULL;
	return end ? (size_t)(end - c->queue) + 1 : 0;
}

static void note_written(struct client *c, size_t n)
{
	const char *last = memrchr(c->queue, '\n', n);
	c->line_left = last ? (size_t)(c->queue + n - last) - 1 : c->line_left + n;
}

/* False: the client is gone. */
static bool flush(struct client *c)
{
	while (c->queued > 0) {
		ssize_t n = send(c->fd, c->queue, c->queued, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
			loop_watch_want_write(c->watch);
			return true;
		}
		if (n <= 0) {
			client_free(c);
			return false;
		}
		note_written(c, (size_t)n);
		memmove(c->queue, c->queue + n, c->queued - (size_t)n);
		c->queued -= (size_t)n;
	}
	if (!c->dropped)
		return true;
	client_free(c);
	return false;
}

static void append(struct client *c, const char *line)
{
	size_t n = strlen(line);
	memcpy(c->queue + c->queued, line, n);
	c->queue[c->queued + n] = '\n';
	c->queued += n + 1;
}

/* What it has not fetched is given up; the last line tells. */
static void drop(struct client *c)
{
	static const char line[] = "{\"event\":\"dropped\",\"why\":\"this program reads too slowly: connect again and read the tables anew\"}";
	c->queued = line_end(c);
	c->dropped = true;
	append(c, line);
	loop_timer_set(c->goodbye, loop_now_us() + LOCAL_GOODBYE_US);
	(void)flush(c);
}

/* False: the client is gone, or will be. The queue has room for one last line more. */
static bool say(struct client *c, const char *line)
{
	if (c->dropped)
		return false;
	if (c->queued + strlen(line) + 1 > LOCAL_QUEUE_BYTES_MAX) {
		drop(c);
		return false;
	}
	append(c, line);
	return flush(c);
}

static bool say_json(struct client *c, struct json *o)
{
	char *line = json_write_text(o, true);
	bool stays = say(c, line);
	free(line);
	json_release(o);
	return stays;
}

static void say_all(void *ctx, const char *line)
{
	struct local_feed *f = ctx;
	for (struct client *c = f->clients, *next; c; c = next) {
		next = c->next;
		(void)say(c, line);
	}
}

/* ---- waiting for the hub ---- */

static bool answer(struct client *c, unsigned i)
{
	struct wait w = c->waits[i];
	struct json *o = w.reply;
	struct replica_outcome now = replica_outcome(c->feed->replica, w.refused);
	c->waits[i] = c->waits[--c->wait_count];
	json_put_text(o, "answer", "durable");
	json_put_int(o, "position", now.position);
	json_put_int(o, "rejected", now.refused);
	json_put_int(o, "parked", now.parked);
	return say_json(c, o);
}

/* Of a wait for one transaction: what became of it. */
static bool answer_told(struct client *c, unsigned i, const struct replica_told *told)
{
	struct wait w = c->waits[i];
	struct json *o = w.reply;
	c->waits[i] = c->waits[--c->wait_count];
	json_put_text(o, told->number > 0 ? "answer" : "error",
		      told->number > 0 ? "durable" : "no transaction with this note is known, or it is forgotten");
	json_put_text(o, "note", w.note);
	if (told->number > 0) {
		json_put_int(o, "position", told->position);
		json_put_int(o, "number", told->number);
		json_put_text(o, "verdict", told->verdict);
		json_put_text(o, "code", *told->name ? told->name : NULL);
		json_put_text(o, "sentence", *told->sentence ? told->sentence : NULL);
	}
	free(w.note);
	return say_json(c, o);
}

/* False: the client is gone. */
static bool look_at_waits(struct client *c)
{
	struct replica *r = c->feed->replica;
	for (unsigned i = 0; i < c->wait_count;) {
		struct wait *w = &c->waits[i];
		struct replica_told told;
		bool settled = w->note ? replica_told(r, w->note, &told) != REPLICA_WAITS : replica_confirmed(r, w->mark);
		if (!settled)
			i++;
		else if (!(w->note ? answer_told(c, i, &told) : answer(c, i)))
			return false;
	}
	return true;
}

static void look_at_all(void *ctx)
{
	struct local_feed *f = ctx;
	for (struct client *c = f->clients, *next; c; c = next) {
		next = c->next;
		if (!c->dropped)
			(void)look_at_waits(c);
	}
}

/* reply: of the request, with its id; taken over. */
static bool refuse_as(struct client *c, struct json *reply, const char *sentence)
{
	json_put_text(reply, "error", sentence);
	return say_json(c, reply);
}

static bool refuse(struct client *c, const char *sentence)
{
	return refuse_as(c, json_new_object(), sentence);
}

/* The start of an answer: what the client called its request. NULL: that is neither text nor whole number. */
static struct json *reply_to(const struct json *id)
{
	struct json *o = json_new_object();
	if (json_is_null(id))
		json_put_null(o, "id");
	else if (json_text(id))
		json_put_text(o, "id", json_text(id));
	else if (json_int(id, 0) == json_int(id, 1))
		json_put_int(o, "id", json_int(id, 0));
	else {
		json_release(o);
		return NULL;
	}
	return o;
}

/* Everything else waits while every row is read. False: the client is gone. */
static bool verify(struct client *c, const char *what)
{
	struct json *o = json_new_object();
	struct ferry_why why = {0};
	char detail[160] = "";
	bool match = false;
	enum ferry_error e = replica_checksum_recompute(c->feed->replica, &match, detail, &why);
	if (e == FERRY_OK && strcmp(what, "hub") == 0)
		e = replica_verify_soon(c->feed->replica, "ferry-agent verify", &why);
	json_put_text(o, "answer", "verify");
	json_put_bool(o, "match", match);
	json_put_text(o, "what", detail);
	json_put_text(o, "failed", e == FERRY_OK ? NULL : why.text);
	return say_json(c, o);
}

/* False: the client is gone. */
static bool take_wait(struct client *c, const struct json *id, const struct json *note)
{
	struct json *reply = reply_to(id);
	if (!reply)
		return refuse(c, "an id is a text or a whole number");
	if (c->wait_count == LOCAL_WAITS_MAX)
		return refuse_as(c, reply, "too many waits at a time");
	if (!json_is_null(note) && (!json_text(note) || !*json_text(note)))
		return refuse_as(c, reply, "a note is a text: the one that the transaction wrote into ferry_tx");
	char *copy = json_is_null(note) ? NULL : strdup(json_text(note));
	if (!json_is_null(note) && !copy)
		return refuse_as(c, reply, "the agent has no memory for this wait");
	struct wait *w = &c->waits[c->wait_count++];
	*w = (struct wait){.reply = reply, .note = copy};
	replica_mark(c->feed->replica, &w->mark, &w->refused);
	return look_at_waits(c);
}

static bool is_text(const struct json *value, const char *text)
{
	return json_text(value) && strcmp(json_text(value), text) == 0;
}

/* False: the client is gone. */
static bool take_request(struct client *c, const char *line, size_t n)
{
	struct json *request;
	struct ferry_why why = {0};
	bool stays;
	if (json_read_text(line, n, &request, &why) != FERRY_OK)
		return refuse(c, "a request is one JSON object on a line, as {\"wait\":\"durable\"}");
	const struct json *asked = json_get(request, "verify");
	if (is_text(json_get(request, "wait"), "durable"))
		stays = take_wait(c, json_get(request, "id"), json_get(request, "note"));
	else if (is_text(asked, "replica") || is_text(asked, "hub"))
		stays = verify(c, json_text(asked));
	else
		stays = refuse(c, "this request is unknown: there are {\"wait\":\"durable\"} and {\"verify\":\"replica\"}");
	json_release(request);
	return stays;
}

/* False: the client is gone. */
static bool take_lines(struct client *c)
{
	char *end;
	while ((end = memchr(c->request, '\n', c->request_bytes)) != NULL) {
		size_t n = (size_t)(end - c->request);
		char line[LOCAL_REQUEST_BYTES_MAX];
		bool skips = c->discards;
		memcpy(line, c->request, n);
		c->request_bytes -= n + 1;
		memmove(c->request, end + 1, c->request_bytes);
		c->discards = false;
		if (!skips && n > 0 && !take_request(c, line, n))
			return false;
	}
	if (c->request_bytes < sizeof(c->request))
		return true;
	c->request_bytes = 0;
	bool first = !c->discards;
	c->discards = true;
	return !first || refuse(c, "a request has at most 4096 bytes");
}

static void on_client_readable(void *ctx)
{
	struct client *c = ctx;
	for (int turn = 0; turn < 16; turn++) { /* then the others have their turn */
		ssize_t n = recv(c->fd, c->request + c->request_bytes, sizeof(c->request) - c->request_bytes, MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
			return;
		if (n <= 0) {
			client_free(c);
			return;
		}
		c->request_bytes += (size_t)n;
		if (c->dropped)
			c->request_bytes = 0;
		else if (!take_lines(c))
			return;
	}
}

static void on_client_writable(void *ctx)
{
	(void)flush(ctx);
}

static bool greet(struct client *c)
{
	struct json *o = json_new_object();
	json_put_text(o, "event", "hello");
	json_put_int(o, "version", 1);
	json_put_int(o, "position", replica_outcome(c->feed->replica, INT64_MAX).position);
	return say_json(c, o) && (!c->feed->status || say(c, c->feed->status));
}

static void client_new(struct local_feed *f, int fd)
{
	static const struct loop_watch_calls calls = {.on_readable = on_client_readable, .on_writable = on_client_writable};
	struct client *c = calloc(1, sizeof(*c));
	char *queue = malloc(LOCAL_QUEUE_BYTES_MAX + 512);
	if (!c || !queue) {
		free(c);
		free(queue);
		close(fd);
		return;
	}
	*c = (struct client){.feed = f, .fd = fd, .queue = queue, .next = f->clients};
	f->clients = c;
	f->client_count++;
	if (loop_watch_new(f->loop, fd, &calls, c, &c->watch, NULL) != FERRY_OK ||
	    loop_timer_new(f->loop, goodbye_due, c, &c->goodbye) != FERRY_OK) {
		client_free(c);
		return;
	}
	local_news_want(f->news, true);
	(void)greet(c);
}

static void on_connection(void *ctx)
{
	static const char full[] = "{\"event\":\"dropped\",\"why\":\"too many programs are connected\"}\n";
	struct local_feed *f = ctx;
	int fd = accept4(f->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0)
		return;
	if (f->client_count < LOCAL_CLIENTS_MAX) {
		client_new(f, fd);
		return;
	}
	(void)!send(fd, full, sizeof(full) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}

/* ---- life ---- */

static enum ferry_error listen_at(struct local_feed *f, const char *path, struct ferry_why *why)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t n = strlen(path);
	if (n >= sizeof(address.sun_path))
		return ferry_fail(why, FERRY_CONFIG, "the path %s is too long for a socket: use a shorter state folder", path);
	memcpy(address.sun_path, path, n + 1);
	memcpy(f->path, path, n + 1);
	f->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	(void)unlink(path);
	mode_t before = umask(0177);
	bool good = f->fd >= 0 && bind(f->fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(f->fd, LOCAL_CLIENTS_MAX) == 0;
	(void)umask(before);
	return good ? FERRY_OK : ferry_fail(why, FERRY_IO, "the socket %s cannot be made: %s", path, strerror(errno));
}

enum ferry_error local_feed_open(struct loop *loop, struct replica *replica, const char *path, struct local_feed **out,
				 struct ferry_why *why)
{
	static const struct loop_watch_calls calls = {.on_readable = on_connection};
	struct local_feed *f = calloc(1, sizeof(*f));
	if (!f)
		return FERRY_NO_MEMORY;
	*f = (struct local_feed){.loop = loop, .replica = replica, .fd = -1};
	enum ferry_error e = listen_at(f, path, why);
	if (e == FERRY_OK)
		e = loop_watch_new(loop, f->fd, &calls, f, &f->watch, why);
	if (e == FERRY_OK) {
		f->news = local_news_new(replica, say_all, look_at_all, f);
		e = f->news ? FERRY_OK : FERRY_NO_MEMORY;
	}
	if (e != FERRY_OK) {
		local_feed_close(f);
		return e;
	}
	*out = f;
	return FERRY_OK;
}

void local_feed_close(struct local_feed *f)
{
	if (!f)
		return;
	while (f->clients)
		client_free(f->clients);
	loop_watch_free(f->watch);
	local_news_free(f->news);
	if (f->fd >= 0) {
		close(f->fd);
		(void)unlink(f->path);
	}
	free(f->status);
	free(f);
}

void local_feed_status(struct local_feed *f, const struct local_status *s)
{
	if (!f)
		return;
	struct json *o = json_new_object();
	json_put_text(o, "event", "status");
	json_put_text(o, "state", s->state);
	json_put_text(o, "error", s->error);
	json_put_text(o, "why", s->why);
	json_put_bool(o, "caught_up", s->caught_up);
	char *line = json_write_text(o, true);
	json_release(o);
	if (f->status && strcmp(f->status, line) == 0) {
		free(line);
		return;
	}
	free(f->status);
	f->status = line;
	say_all(f, line);
}

void local_feed_written(struct local_feed *f)
{
	if (f && f->clients)
		say_all(f, "{\"event\":\"written\"}");
}
