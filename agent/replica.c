/* The replica file: open, state, greeting, status; and the table of calls. */
#include "agent/replica.h"

#include <stdlib.h>
#include <string.h>

#include "agent/replica_internal.h"
#include "shared/clock.h"
#include "shared/random.h"

#define APPLICATION_ID 0x46525259 /* "FRRY" */
#define AGENT_CACHE_KIB 2000
#define HELLO_BYTES_MAX ((size_t)1 << 20) /* names of scopes */
#define CHECKPOINT_PAGES 1000 /* of WAL, or up to twice as many, until a commit writes them back */
/* Pages that the file suggests to every program that opens it: 8 MiB. With
 * SQLite's 2 MiB a large transaction's statement journal goes to disk as soon
 * as triggers are involved, and capture costs twice as much. */
#define SUGGESTED_CACHE_PAGES 2000
/* A welcome that says less than this of the clock says nothing. */
#define WELCOME_DELAY_MAX_US INT64_C(5000000)

sqlite3_stmt *q(struct replica *r, enum query which)
{
	return gate_statement(&r->g, &r->q[which], replica_sql[which]);
}

int64_t replica_wall(struct replica *r)
{
	return r->options.wall != NULL ? r->options.wall(r->options.wall_ctx) : clock_wall_us();
}

static struct uuid uuid_column(sqlite3_stmt *s, int i)
{
	struct uuid id = {{0}};

	if (sqlite3_column_bytes(s, i) == (int)sizeof(id))
		memcpy(&id, sqlite3_column_blob(s, i), sizeof(id));
	return id;
}

void state_load(struct replica *r)
{
	sqlite3_stmt *s = q(r, Q_STATE_LOAD);
	struct state *st = &r->st;

	if (!gate_step(&r->g, s, "")) {
		gate_fail(&r->g, FERRY_CORRUPT, "The replica has lost its state.");
		return;
	}
	st->incarnation = uuid_column(s, 0);
	st->device = uuid_column(s, 1);
	st->tenant = uuid_column(s, 2);
	st->epoch = uuid_column(s, 3);
	st->position = sqlite3_column_int64(s, 4);
	st->mark = sqlite3_column_int64(s, 5);
	st->schema_hash = (uint64_t)sqlite3_column_int64(s, 6);
	st->last_number = sqlite3_column_int64(s, 7);
	st->ingested = sqlite3_column_int64(s, 8);
	st->clock_offset = sqlite3_column_int64(s, 9);
	st->commit_clock = sqlite3_column_int64(s, 10);
	st->fill = (enum fill_kind)sqlite3_column_int(s, 11);
	st->fill_position = sqlite3_column_int64(s, 12);
	st->fill_table = (uint32_t)sqlite3_column_int64(s, 13);
	st->fill_after = uuid_column(s, 14);
	st->fill_scope = sqlite3_column_int64(s, 15);
	st->kept_bytes = sqlite3_column_int64(s, 16);
	st->forgotten = sqlite3_column_int64(s, 17);
	st->rewound = sqlite3_column_int64(s, 18);
	st->life = sqlite3_column_int64(s, 19);
	st->life_mark = sqlite3_column_int64(s, 20);
	st->offered = sqlite3_column_int64(s, 21);
	sqlite3_reset(s);
}

static void state_save(struct replica *r)
{
	struct state *st = &r->st;

	if (r->in_contact)
		st->offered = st->last_number;
	gate_run(&r->g, q(r, Q_STATE_SAVE), "biiiiiiiiiibbbiiiiiii", &st->epoch, 16, st->position, st->mark,
		 (int64_t)st->schema_hash, st->last_number, st->ingested, st->clock_offset, st->commit_clock,
		 (int64_t)st->fill, st->fill_position, (int64_t)st->fill_table, &st->fill_after, 16, &st->device,
		 16, &st->tenant, 16, st->fill_scope, st->kept_bytes, st->forgotten, st->rewound, st->life,
		 st->life_mark, st->offered);
}

enum ferry_error replica_begin(struct replica *r, struct ferry_why *why)
{
	enum ferry_error e = gate_begin(&r->g, why);

	if (e == FERRY_OK)
		arena_reset(&r->work);
	return e;
}

/* What was read into memory is read again after a failure, so that memory
 * and file never differ. */
static void reload(struct replica *r)
{
	r->g.error = FERRY_OK;
	carry_forget(r);
	state_load(r);
	sums_load(r);
	model_load(r, &r->now, 0);
	model_load(r, &r->next, 1);
}

enum ferry_error replica_end(struct replica *r, struct ferry_why *why)
{
	enum ferry_error e;

	state_save(r);
	sums_save(r);
	e = gate_end(&r->g, why);
	r->commits++;
	if (e != FERRY_OK)
		reload(r);
	if (r->news != NULL)
		r->news->end(r->news_ctx, e == FERRY_OK, r->st.position);
	return e;
}

/* ---- Watching ---- */

void replica_watch(struct replica *r, const struct replica_news *news, void *ctx)
{
	r->news = news;
	r->news_ctx = ctx;
}

/* These read outside of any transaction: a failure says "not yet". */
static bool read_row(struct replica *r, enum query which, int64_t given, int64_t *out_first, int64_t *out_second)
{
	sqlite3_stmt *s = q(r, which);
	bool found = false;

	if (s == NULL)
		return false;
	if (sqlite3_bind_parameter_count(s) > 0)
		sqlite3_bind_int64(s, 1, given);
	if (sqlite3_step(s) == SQLITE_ROW) {
		found = true;
		*out_first = sqlite3_column_int64(s, 0);
		if (sqlite3_column_count(s) > 1)
			*out_second = sqlite3_column_int64(s, 1);
	}
	sqlite3_reset(s);
	return found;
}

void replica_mark(struct replica *r, int64_t *out_mark, int64_t *out_refused)
{
	*out_mark = INT64_MAX;
	*out_refused = 0;
	(void)read_row(r, Q_WATCH_MARK, 0, out_mark, out_refused);
}

bool replica_confirmed(struct replica *r, int64_t mark)
{
	sqlite3_stmt *s = q(r, Q_WATCH_LEFT);
	int code;

	if (s == NULL)
		return false;
	sqlite3_bind_int64(s, 1, mark);
	code = sqlite3_step(s);
	sqlite3_reset(s);
	return code == SQLITE_DONE;
}

struct replica_outcome replica_outcome(struct replica *r, int64_t refused)
{
	struct replica_outcome out = {.position = r->st.position};

	(void)read_row(r, Q_WATCH_REFUSED, refused, &out.refused, &out.parked);
	return out;
}

/* ---- Open ---- */

static int64_t pragma_number(struct gate *g, const char *sql)
{
	sqlite3_stmt *s = NULL;
	int64_t n = -1;

	if (gate_step(g, gate_statement(g, &s, sql), ""))
		n = sqlite3_column_int64(s, 0);
	gate_finalize(&s);
	return n;
}

static uint64_t draw(struct replica *r)
{
	return r->options.random != NULL ? r->options.random(r->options.random_ctx) : random_u64();
}

static void draw_uuid(struct replica *r, struct uuid *out)
{
	uint64_t halves[2];

	halves[0] = draw(r);
	halves[1] = draw(r);
	memcpy(out->b, halves, sizeof(out->b));
}

static void create_file(struct replica *r)
{
	struct uuid incarnation;
	sqlite3_stmt *s = NULL;

	draw_uuid(r, &incarnation);
	gate_execf(&r->g, "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION_ID, REPLICA_LAYOUT);
	gate_execf(&r->g, "PRAGMA default_cache_size = %d", SUGGESTED_CACHE_PAGES);
	gate_exec(&r->g, replica_ddl);
	gate_run(&r->g, gate_statement(&r->g, &s, "INSERT INTO ferry_state(one, incarnation, layout) VALUES (1, ?1, ?2)"), "bi",
		 &incarnation, (int)sizeof(incarnation), (int64_t)REPLICA_LAYOUT);
	gate_finalize(&s);
}

/* PRAGMA user_version says it in files of before layout 20. Apps' libraries like to set it, so
 * the file has a place of its own for it since. */
int64_t replica_layout(struct gate *g)
{
	bool told = pragma_number(g, "SELECT count(*) FROM pragma_table_info('ferry_state') WHERE name = 'layout'") == 1;

	return pragma_number(g, told ? "SELECT layout FROM ferry_state" : "PRAGMA user_version");
}

/* A file of an earlier version is brought up to date, within the transaction that looks at it. */
static void upgrade_file(struct replica *r, const char *path)
{
	int64_t version = replica_layout(&r->g);

	if (version == REPLICA_LAYOUT)
		return;
	if (version < 1 || version > REPLICA_LAYOUT) {
		gate_fail(&r->g, FERRY_CORRUPT, "%s has a layout that this version does not know.", path);
		return;
	}
	if (version < 2)
		gate_exec(&r->g, replica_upgrade_2);
	if (version < 3)
		gate_exec(&r->g, replica_upgrade_3);
	if (version < 4)
		gate_exec(&r->g, replica_upgrade_4);
	if (version < 5)
		gate_exec(&r->g, replica_upgrade_5);
	if (version < 6)
		gate_exec(&r->g, replica_upgrade_6);
	if (version < 7)
		gate_exec(&r->g, replica_upgrade_7);
	if (version < 8)
		gate_exec(&r->g, replica_upgrade_8);
	if (version < 9)
		gate_exec(&r->g, replica_upgrade_9);
	if (version < 10)
		gate_exec(&r->g, replica_upgrade_10);
	if (version < 11)
		gate_exec(&r->g, replica_upgrade_11);
	if (version < 12)
		gate_exec(&r->g, replica_upgrade_12);
	if (version < 13)
		gate_exec(&r->g, replica_upgrade_13);
	if (version >= 10 && version < 14) /* else that of layout 10 has made it as it is now */
		gate_exec(&r->g, replica_upgrade_14);
	if (version < 15)
		gate_exec(&r->g, replica_upgrade_15);
	if (version < 16)
		gate_exec(&r->g, replica_upgrade_16);
	if (version < 17)
		gate_exec(&r->g, replica_upgrade_17);
	if (version < 18)
		gate_exec(&r->g, replica_upgrade_18);
	if (version < 19)
		gate_exec(&r->g, replica_upgrade_19);
	if (version < 20)
		gate_exec(&r->g, replica_upgrade_20);
	gate_exec(&r->g, replica_upgrade_21);
	gate_execf(&r->g, "UPDATE ferry_state SET layout = %d", REPLICA_LAYOUT);
	if (version < 20 && pragma_number(&r->g, "PRAGMA user_version") == version)
		gate_execf(&r->g, "PRAGMA user_version = %d", REPLICA_LAYOUT); /* so that earlier versions keep off */
}

static enum ferry_error prepare_file(struct replica *r, const char *path, struct ferry_why *why)
{
	enum ferry_error e;
	int64_t id;

	/* Replicas that live on one disk and get the same states must not all sync it at once. */
	gate_execf(&r->g, "PRAGMA journal_mode = WAL; PRAGMA synchronous = %s; PRAGMA cache_size = -%d; "
			  "PRAGMA wal_autocheckpoint = %d; PRAGMA ignore_check_constraints = ON; PRAGMA legacy_alter_table = ON; "
			  "PRAGMA secure_delete = FAST",
		   r->options.full ? "FULL" : "NORMAL", AGENT_CACHE_KIB,
		   CHECKPOINT_PAGES + (int)(draw(r) % CHECKPOINT_PAGES));
	/* What the agent writes is not captured. Only this connection is
	 * concerned, at no cost to anybody else's (REPLICA.md, Capture). */
	sqlite3_db_config(r->g.db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
	if (r->g.error != FERRY_OK)
		return ferry_fail(why, r->g.error, "%s", r->g.why.text);
	e = gate_begin(&r->g, why);
	if (e != FERRY_OK)
		return e;
	id = pragma_number(&r->g, "PRAGMA application_id");
	if (id == 0 && pragma_number(&r->g, "SELECT count(*) FROM sqlite_schema") == 0)
		create_file(r);
	else if (id != APPLICATION_ID && pragma_number(&r->g, "SELECT count(*) FROM sqlite_schema WHERE name = 'ferry_state'") != 1)
		gate_fail(&r->g, FERRY_CORRUPT, "%s is not a replica.", path);
	else
		upgrade_file(r, path);
	return gate_end(&r->g, why);
}

static void load_all(struct replica *r)
{
	r->log_width = (int)pragma_number(&r->g, "SELECT count(*) - 7 FROM pragma_table_info('ferry_log')");
	state_load(r);
	sums_load(r);
	model_load(r, &r->now, 0);
	model_load(r, &r->next, 1);
}

enum ferry_error replica_open(const char *path, const struct replica_options *options, struct replica **out_replica,
			      struct ferry_why *why)
{
	struct replica *r = calloc(1, sizeof(*r));
	enum ferry_error e;

	if (r == NULL)
		return ferry_fail(why, FERRY_NO_MEMORY, "No memory for a replica.");
	r->options = *options;
	if (r->options.frames_bytes_max == 0)
		r->options.frames_bytes_max = REPLICA_FRAMES_BYTES_MAX;
	if (r->options.history_bytes_max == 0)
		r->options.history_bytes_max = REPLICA_HISTORY_BYTES_MAX;
	if (r->options.history_age_us == 0)
		r->options.history_age_us = REPLICA_HISTORY_AGE_US;
	r->lost_any = -1;
	arena_init(&r->work, REPLICA_WORK_BYTES_MAX);
	arena_init(&r->hello, HELLO_BYTES_MAX);
	arena_init(&r->frame_arena, r->options.frames_bytes_max);
	row_joiner_init(&r->frame_row);
	row_joiner_init(&r->fill_row);
	e = gate_open(&r->g, path, SQLITE_OPEN_READWRITE | (options->create ? SQLITE_OPEN_CREATE : 0),
		      options->busy_timeout_ms, why);
	if (e == FERRY_OK)
		e = prepare_file(r, path, why);
	if (e == FERRY_OK) {
		load_all(r);
		if (r->g.error != FERRY_OK)
			e = ferry_fail(why, r->g.error, "%s", r->g.why.text);
	}
	if (e == FERRY_OK)
		e = triggers_restore(r, why);
	if (e != FERRY_OK) {
		replica_close(r);
		return e;
	}
	*out_replica = r;
	return FERRY_OK;
}

void replica_close(struct replica *r)
{
	if (r == NULL)
		return;
	for (int i = 0; i < Q_COUNT; i++)
		gate_finalize(&r->q[i]);
	gate_finalize(&r->log_insert);
	gate_finalize(&r->log_update);
	heal_drop(r);
	rewind_drop(r);
	model_close(&r->now);
	model_close(&r->next);
	gate_close(&r->g);
	arena_deinit(&r->work);
	arena_deinit(&r->hello);
	arena_deinit(&r->frame_arena);
	row_joiner_deinit(&r->frame_row);
	row_joiner_deinit(&r->fill_row);
	free(r->frames);
	free(r->sums);
	free(r->removed.p);
	free(r->carried.p);
	free(r->lost);
	free(r->after.p);
	free(r);
}

enum ferry_error replica_enrol(struct replica *r, const struct uuid *tenant, const struct uuid *device,
			       const char *hub, struct ferry_why *why)
{
	sqlite3_stmt *s = NULL;
	enum ferry_error e = replica_begin(r, why);

	if (e != FERRY_OK)
		return e;
	state_load(r);
	if ((!uuid_is_zero(&r->st.device) && !uuid_equal(&r->st.device, device)) ||
	    (!uuid_is_zero(&r->st.tenant) && !uuid_equal(&r->st.tenant, tenant)))
		gate_fail(&r->g, FERRY_EXISTS, "This replica belongs to another device: move the file away first.");
	r->st.device = *device;
	r->st.tenant = *tenant;
	draw_uuid(r, &r->st.incarnation);
	gate_run(&r->g, gate_statement(&r->g, &s, "UPDATE ferry_state SET hub = ?1, incarnation = ?2"), "tb", hub,
		 &r->st.incarnation, 16);
	gate_finalize(&s);
	return replica_end(r, why);
}

bool replica_changed(struct replica *r)
{
	sqlite3_stmt *s;
	int64_t version;

	r->g.error = FERRY_OK;
	s = q(r, Q_DATA_VERSION);
	if (!gate_step(&r->g, s, ""))
		return true;
	version = sqlite3_column_int64(s, 0);
	sqlite3_reset(s);
	if (version == r->data_version)
		return false;
	r->data_version = version;
	return true;
}

uint32_t replica_triggers_restored(const struct replica *r)
{
	return r->triggers_restored;
}

void replica_rest(struct replica *r)
{
	r->g.error = FERRY_OK;
	for (int i = 0; i < Q_COUNT; i++) {
		if (i != Q_DATA_VERSION && r->q[i] != NULL && !sqlite3_stmt_busy(r->q[i]))
			gate_finalize(&r->q[i]);
	}
	gate_exec(&r->g, "PRAGMA shrink_memory; PRAGMA writable_schema = RESET");
}

int64_t replica_hub_time(const struct replica *r)
{
	return r->st.commit_clock;
}

int64_t replica_commits(const struct replica *r)
{
	return r->commits;
}

const struct schema *replica_schema(const struct replica *r)
{
	return &r->now.schema;
}

/* ---- Calls of the core ---- */

/* Borrowed until the next call; NULL: none such. */
static const char *scope_name(struct replica *r, int64_t id)
{
	sqlite3_stmt *s = q(r, Q_SCOPE_NAME);
	const char *name = NULL;

	if (gate_step(&r->g, s, "i", id)) {
		arena_reset(&r->work);
		name = arena_text(&r->work, (const char *)sqlite3_column_text(s, 0), (size_t)sqlite3_column_bytes(s, 0));
		sqlite3_reset(s);
	}
	return name;
}

/* A mark for the life that is about to begin, written down before the hub
 * hears of it. A copy of the file makes one of its own. */
static enum ferry_error propose_life(struct replica *r, struct ferry_why *why)
{
	enum ferry_error e = replica_begin(r, why);

	if (e != FERRY_OK)
		return e;
	r->next_mark = (int64_t)(draw(r) | 1);
	gate_run(&r->g, q(r, Q_LIFE_PROPOSE), "i", r->next_mark);
	e = replica_end(r, why);
	if (e != FERRY_OK)
		r->next_mark = 0;
	return e;
}

static void list_life_marks(struct replica *r)
{
	sqlite3_stmt *s = q(r, Q_LIFE_MARKS);

	r->tried[0] = r->st.life_mark;
	r->tried_count = 1;
	for (bool more = gate_step(&r->g, s, ""); more && r->tried_count < FERRY_LIFE_MARKS_MAX; more = gate_next(&r->g, s))
		r->tried[r->tried_count++] = sqlite3_column_int64(s, 0);
	if (s != NULL)
		sqlite3_reset(s);
}

static enum ferry_error replica_live(void *store, struct message_hello *out, struct ferry_why *why)
{
	struct replica *r = store;
	enum ferry_error e = r->next_mark == 0 ? propose_life(r, why) : FERRY_OK;

	if (e != FERRY_OK)
		return e;
	list_life_marks(r);
	out->life = r->st.life;
	out->life_marks = r->tried;
	out->life_mark_count = r->tried_count;
	out->next_mark = r->next_mark;
	return FERRY_OK;
}

static enum ferry_error replica_hello(void *store, struct message_hello *out, struct ferry_why *why)
{
	struct replica *r = store;
	const struct state *st = &r->st;

	r->g.error = FERRY_OK;
	state_load(r);
	if (r->g.error != FERRY_OK)
		return ferry_fail(why, r->g.error, "%s", r->g.why.text);
	out->incarnation = st->incarnation;
	out->epoch = st->epoch;
	/* A fill that was begun but got no rows yet has no place to go on from:
	 * it begins anew, and what is shown is of the schema before it. Without a
	 * fill, the schema that waits is in force with the next state. */
	bool place = st->fill != FILL_NONE && st->fill_position >= 0;
	bool waits = r->next.schema.table_count > 0 && (place || st->fill != FILL_ALL);
	out->schema_hash = waits ? r->next.schema.hash : st->schema_hash;
	out->step = r->hello_step = r->now.schema.step;
	if (out->step == 0 && r->next.schema.table_count > 0 && st->fill != FILL_ALL)
		out->schema_hash = 0; /* it could not take what waits: a fill can */
	out->position = st->position;
	out->mark = st->mark;
	out->last_number = st->offered;
	out->fill_position = place ? st->fill_position : 0;
	out->fill_table = place ? st->fill_table : 0;
	out->fill_after = st->fill_after;
	out->fill_scope = place ? scope_name(r, st->fill_scope) : NULL;
	out->refill = r->refill || st->rewound > 0;
	out->comparable = rewind_possible(r);
	out->rewound = st->rewound > 0;
	out->past_count = out->past_mark_count = bookmarks_list(r);
	out->past = r->past + FERRY_PAST_MAX - out->past_count;
	out->past_marks = r->past_marks + FERRY_PAST_MAX - out->past_count;
	return scopes_hello(r, out);
}

static void take_numbers(struct replica *r, const struct message_welcome *w)
{
	int64_t highest = w->settled;

	for (uint32_t i = 0; i < w->settled_above_count; i++) {
		if (w->settled_above[i] > highest)
			highest = w->settled_above[i];
	}
	if (highest <= r->st.last_number)
		return;
	r->st.last_number = highest;
	gate_exec(&r->g, "DELETE FROM ferry_lease"); /* of a file that went on after this one: it has given numbers of them, too */
}

/* A welcome is late by what the way and the hub's work took, so it only tells
 * of a clock that is plainly wrong; pings measure the rest. */
static void guess_clock(struct replica *r, int64_t hub_clock)
{
	int64_t offset_us = hub_clock - replica_wall(r), difference = offset_us - r->st.clock_offset;

	if (difference <= WELCOME_DELAY_MAX_US && difference >= -WELCOME_DELAY_MAX_US)
		return;
	r->st.clock_offset = offset_us;
	cut_restamp(r, hub_clock);
}

/* Saved with the next state; until then a restart asks the hub again. */
static void replica_clock(void *store, int64_t offset_us)
{
	struct replica *r = store;

	r->st.clock_offset = offset_us;
}

static void begin_life(struct replica *r, const struct message_welcome *w)
{
	if (w->life == 0)
		return; /* a hub that does not count them */
	r->st.life = w->life;
	r->st.life_mark = r->next_mark;
	gate_run(&r->g, q(r, Q_LIFE_FORGET), "");
}

/* What is not cut yet gets numbers that no other copy has used. */
static enum ferry_error number_apart(struct replica *r, const struct message_welcome *w, struct ferry_why *why)
{
	enum ferry_error e = replica_begin(r, why);

	if (e != FERRY_OK)
		return e;
	take_numbers(r, w);
	e = replica_end(r, why);
	return e == FERRY_OK ? cut_all(r, why) : e;
}

/* Rows of another history: compared, or filled anew. */
static void take_rewind(struct replica *r, const struct message_welcome *w)
{
	if (w->mode == WELCOME_FILL && w->code == FERRY_OTHER_HISTORY)
		kept_rewind(r, w);
	if (w->compared && r->st.fill == FILL_BESIDE)
		fill_forget(r);
	if (w->compared)
		rewind_prepare(r);
	else
		rewind_forget(r);
}

/* What the welcome announces. */
static enum ferry_error begin_filling(struct replica *r, const struct message_welcome *w, struct ferry_why *why)
{
	if (w->mode == WELCOME_FILL && w->compared)
		return rewind_begin(r, w, why);
	if (w->mode == WELCOME_FILL) {
		r->fill_rather = false;
		return fill_start(r, FILL_ALL, w->scopes, w->scope_count, why);
	}
	if (w->mode == WELCOME_DELTA && w->adding_count > 0 && !w->adding_goes_on)
		return fill_start(r, FILL_BESIDE, w->adding, w->adding_count, why);
	return FERRY_OK;
}

static enum ferry_error replica_welcome(void *store, const struct message_welcome *w, struct ferry_why *why)
{
	struct replica *r = store;
	enum ferry_error e = FERRY_OK;
	bool go, arrived;

	frames_drop(r);
	rewind_drop(r);
	r->g.error = FERRY_OK; /* of an earlier try, which would make every look below find nothing */
	go = scopes_go(r, w) && w->code != FERRY_OTHER_HISTORY && r->st.rewound == 0; /* then what they held is compared first */
	arrived = carry_greet(r, w);
	if (r->g.error != FERRY_OK)
		return ferry_fail(why, r->g.error, "%s", r->g.why.text);
	if (w->adopted)
		e = number_apart(r, w, why);
	if (e == FERRY_OK && (go || arrived))
		e = cut_all(r, why);
	if (e == FERRY_OK)
		e = replica_begin(r, why);
	if (e != FERRY_OK)
		return e;
	if (!uuid_is_zero(&r->st.device) && !uuid_equal(&r->st.device, &w->device))
		gate_fail(&r->g, FERRY_CLONE, "The hub knows this device by another identity than its replica.");
	r->st.device = w->device;
	r->st.tenant = w->tenant;
	guess_clock(r, w->clock);
	take_numbers(r, w);
	if (go || arrived)
		cut_rest(r);
	if (go)
		scopes_evict(r, w);
	if (w->mode == WELCOME_DELTA && w->adding_count == 0 && r->st.fill != FILL_NONE)
		fill_forget(r);
	if (arrived)
		carry_end(r);
	gate_exec(&r->g, "DELETE FROM ferry_frame");
	if (w->mode == WELCOME_FILL && !w->compared)
		alarms_tried(r);
	r->refill = false;
	take_rewind(r, w);
	gap_note(r, w->since);
	settle_strange(r, w);
	kept_welcome(r, w);
	begin_life(r, w);
	r->st.epoch = w->epoch;
	e = replica_end(r, why);
	r->in_place = w->mode == WELCOME_DELTA;
	r->in_contact = e == FERRY_OK;
	if (e == FERRY_OK && w->life != 0)
		r->next_mark = 0;
	r->welcome_hash = w->schema_hash;
	return e == FERRY_OK ? begin_filling(r, w, why) : e;
}

/* The hub has them durably. Only the commit that brings their effect takes them out of
 * the outbox (R3). What it had no room to keep it has not, and that is shown. */
static enum ferry_error replica_ack(void *store, const struct message_ack *ack, struct ferry_why *why)
{
	struct replica *r = store;
	bool waits = false;

	for (uint32_t i = 0; i < ack->settled_count; i++) {
		if (ack->settled[i].number > r->st.last_number)
			return ferry_fail(why, FERRY_BAD_MESSAGE, "The hub settled change-set %lld, which was never given out.",
					  (long long)ack->settled[i].number);
		waits |= settle_waits_here(&ack->settled[i]);
	}
	return waits ? settle_note_waiting(r, ack->settled, ack->settled_count, why) : FERRY_OK;
}

static enum ferry_error replica_status(void *store, struct store_status *out, struct ferry_why *why)
{
	struct replica *r = store;
	sqlite3_stmt *s;

	r->g.error = FERRY_OK;
	s = q(r, Q_STATUS);
	if (!gate_step(&r->g, s, "i", r->st.ingested)) {
		gate_fail(&r->g, FERRY_INTERNAL, "The replica gives no status.");
		return ferry_fail(why, r->g.error, "%s", r->g.why.text);
	}
	*out = (struct store_status){.position = r->st.position,
				     .outbox_sets = (uint64_t)sqlite3_column_int64(s, 0),
				     .outbox_rows = (uint64_t)sqlite3_column_int64(s, 1),
				     .oldest_unsent_at = sqlite3_column_int64(s, 2) * 1000,
				     .rejected = (uint64_t)sqlite3_column_int64(s, 3),
				     .conflicts = (uint64_t)sqlite3_column_int64(s, 4)};
	sqlite3_reset(s);
	return FERRY_OK;
}

static bool replica_heal_due(void *store)
{
	struct replica *r = store;

	r->g.error = FERRY_OK;
	r->refill = alarm_due(r);
	return r->refill;
}

static void replica_disconnected(void *store)
{
	struct replica *r = store;

	r->in_contact = false;
	frames_drop(r);
	heal_disconnected(r);
	rewind_drop(r);
}

const struct agent_store_ops replica_store_ops = {
	.hello = replica_hello,
	.live = replica_live,
	.welcome = replica_welcome,
	.schema = replica_take_schema,
	.cut = replica_cut,
	.next_push = replica_next_push,
	.ack = replica_ack,
	.delta = replica_delta,
	.commit = replica_commit,
	.fill = replica_fill,
	.status = replica_status,
	.clock = replica_clock,
	.heal_due = replica_heal_due,
	.compare = replica_compare,
	.ranges = replica_ranges,
	.leases_due = replica_leases_due,
	.lease = replica_take_lease,
	.disconnected = replica_disconnected,
};
