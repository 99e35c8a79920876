#include "hub/pg_conn.h"

#include <assert.h>
#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum link_state { LINK_DOWN, LINK_CONNECTING, LINK_READY, LINK_BUSY };

/* A prepared statement. It counts as there from the moment it is sent, since
 * what follows in the pipeline may use it; a refused one is forgotten. */
struct statement {
	char *sql;
	uint64_t hash;
	uint32_t name;
	bool prepared;
};

/* What was sent and is waited for. */
struct sent {
	uint32_t call;
	struct statement *preparing; /* NULL: an execution */
};

struct pg_link {
	const char *conninfo;
	const struct pg_io *io;
	const struct pg_link_events *events;
	void *ctx;
	enum link_state state;
	PGconn *conn;
	void *watch;
	int watched_fd;
	void *timer;
	int64_t backoff_us;

	struct statement **slots; /* open addressing, slot_count a power of two */
	uint32_t slot_count, statement_count, next_name;

	struct pg_batch *batch;
	void (*done)(void *ctx);
	void *done_ctx;
	struct sent *sent;
	uint32_t sent_count, sent_capacity, sent_done;

	uint64_t plans_rows; /* rows written when the plans were dropped last */
	int64_t plans_at;

	struct pg_batch setup; /* the first batch of a connection: its settings */
};

static void link_lost(struct pg_link *link, const char *message);

/* --------------------------------------------------- prepared statements */

static uint64_t text_hash(const char *text)
{
	uint64_t h = 14695981039346656037u; /* FNV-1a */

	for (; *text; text++)
		h = (h ^ (unsigned char)*text) * 1099511628211u;
	return h;
}

static void statements_clear(struct pg_link *link)
{
	for (uint32_t i = 0; i < link->slot_count; i++) {
		if (link->slots[i]) {
			free(link->slots[i]->sql);
			free(link->slots[i]);
			link->slots[i] = NULL;
		}
	}
	link->statement_count = 0;
}

static struct statement **statement_slot(struct pg_link *link, const char *sql, uint64_t hash)
{
	uint32_t i = (uint32_t)hash & (link->slot_count - 1);

	while (link->slots[i] && (link->slots[i]->hash != hash || strcmp(link->slots[i]->sql, sql) != 0))
		i = (i + 1) & (link->slot_count - 1);
	return &link->slots[i];
}

/* The statement of this text, made when new; NULL: no memory, or too many. */
static struct statement *statement_of(struct pg_link *link, const char *sql)
{
	uint64_t hash = text_hash(sql);
	struct statement **slot = statement_slot(link, sql, hash);
	struct statement *s = *slot;

	if (s || link->statement_count >= link->slot_count - 1)
		return s;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->sql = strdup(sql);
	if (!s->sql) {
		free(s);
		return NULL;
	}
	s->hash = hash;
	s->name = ++link->next_name;
	*slot = s;
	link->statement_count++;
	return s;
}

/* ------------------------------------------------------------- the socket */

static void link_ready(void *arg);

static void link_unwatch(struct pg_link *link)
{
	if (link->watch)
		link->io->unwatch(link->io->ctx, link->watch);
	link->watch = NULL;
	link->watched_fd = -1;
}

static bool link_watch(struct pg_link *link, bool readable, bool writable)
{
	int fd = PQsocket(link->conn);

	if (link->watch && link->watched_fd != fd)
		link_unwatch(link);
	if (!link->watch) {
		link->watch = link->io->watch(link->io->ctx, fd, link_ready, link);
		if (!link->watch)
			return false;
		link->watched_fd = fd;
	}
	link->io->want(link->io->ctx, link->watch, readable, writable);
	return true;
}

static void link_flush(struct pg_link *link)
{
	int more = PQflush(link->conn);

	if (more < 0)
		link_lost(link, PQerrorMessage(link->conn));
	else if (!link_watch(link, true, more > 0))
		link_lost(link, "the event loop takes no more descriptors");
}

/* ------------------------------------------------------------ connecting */

/* Versions of the settings that wire_expr and the hashes rely on, and plans
 * made once: all lists are arrays whose length a plan must not depend on. */
static const char setup_sql[] =
	"SELECT set_config(n, v, false) FROM (VALUES ('client_encoding','UTF8'),('datestyle','ISO, YMD'),"
	"('timezone','UTC'),('intervalstyle','postgres'),('extra_float_digits','1'),('bytea_output','hex'),"
	"('jit','off'),('plan_cache_mode','force_generic_plan'),('application_name','ferry-hub'),"
	"('client_min_messages','error'),('statement_timeout','120s'),"
	"('idle_in_transaction_session_timeout','60s')) AS s(n,v)";

static void link_setup_done(void *arg)
{
	struct pg_link *link = arg;

	if (link->setup.failure.class != PG_FINE) {
		char message[sizeof(link->setup.failure.message)];

		memcpy(message, link->setup.failure.message, sizeof(message));
		if (link->state != LINK_DOWN)
			link_lost(link, message);
		return;
	}
	link->backoff_us = PG_BACKOFF_MIN_US;
	link->events->up(link->ctx, link);
}

static void link_connected(struct pg_link *link)
{
	if (PQsetnonblocking(link->conn, 1) != 0 || PQenterPipelineMode(link->conn) != 1) {
		link_lost(link, "the connection takes no pipeline mode");
		return;
	}
	link->state = LINK_READY;
	pg_batch_reset(&link->setup);
	pg_call(&link->setup, setup_sql);
	if (link->setup.full) {
		link_lost(link, "no memory");
		return;
	}
	pg_link_submit(link, &link->setup, link_setup_done, link);
}

static void link_poll_connect(struct pg_link *link)
{
	bool watched = true;

	switch (PQconnectPoll(link->conn)) {
	case PGRES_POLLING_READING:
		watched = link_watch(link, true, false);
		break;
	case PGRES_POLLING_WRITING:
		watched = link_watch(link, false, true);
		break;
	case PGRES_POLLING_OK:
		link_connected(link);
		return;
	default:
		link_lost(link, PQerrorMessage(link->conn));
		return;
	}
	if (!watched)
		link_lost(link, "the event loop takes no more descriptors");
}

static void ignore_notice(void *arg, const PGresult *r)
{
	(void)arg;
	(void)r;
}

/* A timer's event: time to try. Defaults stand before conninfo, so that it
 * can change them: a dead network must be noticed within a minute. */
static void link_connect(void *arg)
{
	static const char *const keys[] = {"connect_timeout", "keepalives_idle", "keepalives_interval",
					   "keepalives_count", "tcp_user_timeout", "dbname", NULL};
	struct pg_link *link = arg;
	const char *const values[] = {"10", "20", "5", "4", "30000", link->conninfo, NULL};

	link->conn = PQconnectStartParams(keys, values, 1);
	if (!link->conn || PQstatus(link->conn) == CONNECTION_BAD) {
		link_lost(link, link->conn ? PQerrorMessage(link->conn) : "no memory");
		return;
	}
	PQsetNoticeReceiver(link->conn, ignore_notice, NULL);
	link->state = LINK_CONNECTING;
	if (!link_watch(link, false, true))
		link_lost(link, "the event loop takes no more descriptors");
}

static void link_drop(struct pg_link *link)
{
	link->next_name = 0;
	link_unwatch(link);
	PQfinish(link->conn);
	link->conn = NULL;
	link->state = LINK_DOWN;
	statements_clear(link);
}

static void link_schedule(struct pg_link *link)
{
	int64_t jitter = (int64_t)(link->io->random(link->io->ctx) % (uint64_t)link->backoff_us);

	link->io->timer_set(link->io->ctx, link->timer, link->backoff_us / 2 + jitter);
	if (link->backoff_us < PG_BACKOFF_MAX_US)
		link->backoff_us *= 2;
}

static void copy_field(char *to, size_t n, const char *from)
{
	size_t length = from ? strlen(from) : 0;

	if (length >= n) {
		length = n - 1;
		while (length > 0 && ((unsigned char)from[length] & 0xc0) == 0x80)
			length--; /* not within a character */
	}
	if (length > 0)
		memcpy(to, from, length);
	to[length] = 0;
	while (length > 0 && (to[length - 1] == '\n' || to[length - 1] == ' '))
		to[--length] = 0;
}

static void link_lost(struct pg_link *link, const char *message)
{
	struct pg_batch *batch = link->batch;
	char text[240];

	copy_field(text, sizeof(text), message);
	link_drop(link);
	link_schedule(link);
	link->batch = NULL;
	link->events->down(link->ctx, link, text);
	if (!batch)
		return;
	batch->failure.class = PG_LOST;
	batch->failure.call = link->sent_done < link->sent_count ? link->sent[link->sent_done].call : 0;
	copy_field(batch->failure.message, sizeof(batch->failure.message), text);
	link->done(link->done_ctx);
}

/* --------------------------------------------------------------- batches */

static bool sent_add(struct pg_link *link, uint32_t call, struct statement *preparing)
{
	if (link->sent_count == link->sent_capacity) {
		uint32_t capacity = link->sent_capacity ? link->sent_capacity * 2 : 64;
		struct sent *more = realloc(link->sent, capacity * sizeof(*more));

		if (!more)
			return false;
		link->sent = more;
		link->sent_capacity = capacity;
	}
	link->sent[link->sent_count++] = (struct sent){.call = call, .preparing = preparing};
	return true;
}

static bool send_call(struct pg_link *link, uint32_t i)
{
	const struct pg_call *call = &link->batch->calls[i];
	bool once = link->batch->planned_each && call->arg_count > 0;
	struct statement *s = once ? NULL : statement_of(link, call->sql);
	const char *values[PG_ARGS_MAX];
	int lengths[PG_ARGS_MAX], formats[PG_ARGS_MAX];
	Oid types[PG_ARGS_MAX];
	char name[16];

	for (uint32_t a = 0; a < call->arg_count; a++) {
		values[a] = call->args[a].n < 0 ? NULL : call->args[a].p;
		lengths[a] = call->args[a].n;
		formats[a] = 1;
		types[a] = call->args[a].type;
	}
	if (once)
		return sent_add(link, i, NULL) && PQsendQueryParams(link->conn, call->sql, (int)call->arg_count, types, values,
								    lengths, formats, 1);
	if (!s)
		return false;
	snprintf(name, sizeof(name), "f%u", s->name);
	if (!s->prepared) {
		if (!sent_add(link, i, s) || !PQsendPrepare(link->conn, name, call->sql, (int)call->arg_count, types))
			return false;
		s->prepared = true;
	}
	return sent_add(link, i, NULL) &&
	       PQsendQueryPrepared(link->conn, name, (int)call->arg_count, values, lengths, formats, 1);
}

void pg_link_submit(struct pg_link *link, struct pg_batch *batch, void (*done)(void *ctx), void *ctx)
{
	bool sent = true;

	assert(link->state == LINK_READY && batch->count > 0 && !batch->full);
	memset(&batch->failure, 0, sizeof(batch->failure));
	link->state = LINK_BUSY;
	link->batch = batch;
	link->done = done;
	link->done_ctx = ctx;
	link->sent_count = 0;
	link->sent_done = 0;
	for (uint32_t i = 0; sent && i < batch->count; i++)
		sent = send_call(link, i);
	sent = sent && PQpipelineSync(link->conn) && PQflush(link->conn) >= 0 && link_watch(link, true, true);
	/* The callback must not come from within this call. */
	if (!sent)
		link->io->timer_set(link->io->ctx, link->timer, 0);
}

static void note_failure(struct pg_link *link, uint32_t call, const PGresult *r)
{
	struct pg_failure *f = &link->batch->failure;
	const char *state = PQresultErrorField(r, PG_DIAG_SQLSTATE);

	if (f->class != PG_FINE)
		return;
	copy_field(f->sqlstate, sizeof(f->sqlstate), state ? state : "08006");
	f->class = pg_class_of_sqlstate(f->sqlstate);
	f->call = call;
	copy_field(f->message, sizeof(f->message), PQresultErrorField(r, PG_DIAG_MESSAGE_PRIMARY));
	copy_field(f->detail, sizeof(f->detail), PQresultErrorField(r, PG_DIAG_MESSAGE_DETAIL));
	copy_field(f->constraint, sizeof(f->constraint), PQresultErrorField(r, PG_DIAG_CONSTRAINT_NAME));
	copy_field(f->table, sizeof(f->table), PQresultErrorField(r, PG_DIAG_TABLE_NAME));
	copy_field(f->column, sizeof(f->column), PQresultErrorField(r, PG_DIAG_COLUMN_NAME));
}

/* Is there room for one more answer? What libpq holds of it counts. */
static bool has_room(struct pg_batch *b, const PGresult *r)
{
	b->result_bytes += PQresultMemorySize(r);
	if (b->result_bytes_max && b->result_bytes > b->result_bytes_max)
		b->overflowed = true;
	return !b->overflowed;
}

/* Takes the result over. */
static void take_result(struct pg_link *link, PGresult *r)
{
	const struct sent *s = &link->sent[link->sent_done];
	ExecStatusType status = PQresultStatus(r);
	bool good = status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK;

	assert(link->sent_done < link->sent_count);
	if (!good && status != PGRES_PIPELINE_ABORTED)
		note_failure(link, s->call, r);
	if (s->preparing) {
		s->preparing->prepared = good;
	} else if (good && !link->batch->calls[s->call].result && has_room(link->batch, r)) {
		link->batch->calls[s->call].result = r;
		return;
	}
	PQclear(r);
}

static void batch_finished(struct pg_link *link)
{
	struct pg_batch *batch = link->batch;

	link->batch = NULL;
	link->state = LINK_READY;
	if (batch->failure.class == PG_STALE)
		pg_link_forget(link);
	link->done(link->done_ctx);
}

static void link_read(struct pg_link *link)
{
	if (!PQconsumeInput(link->conn)) {
		link_lost(link, PQerrorMessage(link->conn));
		return;
	}
	while (link->state == LINK_BUSY && !PQisBusy(link->conn)) {
		PGresult *r = PQgetResult(link->conn);

		if (!r) { /* between two statements */
			if (PQstatus(link->conn) == CONNECTION_BAD || ++link->sent_done > link->sent_count) {
				link_lost(link, PQerrorMessage(link->conn));
				return;
			}
			continue;
		}
		if (PQresultStatus(r) == PGRES_PIPELINE_SYNC) {
			PQclear(r);
			batch_finished(link);
			return;
		}
		if (link->sent_done >= link->sent_count) {
			/* Beyond the last statement only a dying server has something to say. */
			PQclear(r);
			link_lost(link, PQerrorMessage(link->conn));
			return;
		}
		take_result(link, r);
	}
}

static void link_ready(void *arg)
{
	struct pg_link *link = arg;

	if (link->state == LINK_CONNECTING) {
		link_poll_connect(link);
		return;
	}
	if (link->state == LINK_BUSY)
		link_flush(link);
	if (link->state == LINK_BUSY || link->state == LINK_READY)
		link_read(link);
}

static void link_timer(void *arg)
{
	struct pg_link *link = arg;

	if (link->state == LINK_DOWN)
		link_connect(link);
	else if (link->state == LINK_BUSY)
		link_lost(link, link->conn ? PQerrorMessage(link->conn) : "the statement could not be sent");
}

/* ---------------------------------------------------------------- public */

struct pg_link *pg_link_open(const char *conninfo, const struct pg_io *io, const struct pg_link_events *events,
			     void *ctx)
{
	struct pg_link *link = calloc(1, sizeof(*link));

	if (!link)
		return NULL;
	*link = (struct pg_link){.conninfo = conninfo, .io = io, .events = events, .ctx = ctx, .watched_fd = -1,
				 .backoff_us = PG_BACKOFF_MIN_US, .slot_count = PG_STATEMENTS_MAX * 2};
	while (link->slot_count & (link->slot_count - 1))
		link->slot_count += link->slot_count & (~link->slot_count + 1);
	pg_batch_init(&link->setup, 64 << 10);
	link->slots = calloc(link->slot_count, sizeof(*link->slots));
	link->timer = io->timer(io->ctx, link_timer, link);
	if (!link->slots || !link->timer) {
		pg_link_close(link);
		return NULL;
	}
	io->timer_set(io->ctx, link->timer, 0);
	return link;
}

void pg_link_close(struct pg_link *link)
{
	if (!link)
		return;
	link_unwatch(link);
	if (link->timer)
		link->io->timer_free(link->io->ctx, link->timer);
	PQfinish(link->conn);
	if (link->slots)
		statements_clear(link);
	free(link->slots);
	free(link->sent);
	pg_batch_deinit(&link->setup);
	free(link);
}

bool pg_link_is_ready(const struct pg_link *link)
{
	return link->state == LINK_READY;
}

bool pg_link_in_transaction(const struct pg_link *link)
{
	return link->conn && PQtransactionStatus(link->conn) != PQTRANS_IDLE;
}

void pg_link_forget(struct pg_link *link)
{
	/* Names go on counting up, so the old ones are not in the way; they
	 * vanish with the connection. */
	link->next_name += 1;
	statements_clear(link);
}

bool pg_link_is_worn(const struct pg_link *link)
{
	return link->next_name >= PG_STATEMENTS_MAX;
}

bool pg_link_plans_due(struct pg_link *link, uint64_t rows_written)
{
	int64_t now = link->io->wall(link->io->ctx);

	if (rows_written < link->plans_rows * 2 + PG_PLANS_ROWS_MIN && now - link->plans_at < PG_PLANS_US &&
	    now >= link->plans_at)
		return false;
	link->plans_rows = rows_written;
	link->plans_at = now;
	return true;
}

void pg_link_restart(struct pg_link *link)
{
	assert(link->state == LINK_READY);
	link_lost(link, "restarted");
}

int pg_link_backend(const struct pg_link *link)
{
	return link->conn && link->state >= LINK_READY ? PQbackendPID(link->conn) : 0;
}
