/* Messages from the hub.
 *
 * Those that touch the replica are dealt with strictly in order. When the
 * replica is busy or full, the message stays in the inbox and so do all that
 * follow it; the hub's credit bounds them. Control messages pass by: a busy
 * replica must not make a living link look dead. */
#include "agent/core_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum taken { TAKEN, WAITS, FAILED };

static bool is_control(enum message_type type)
{
	return type == MESSAGE_CREDIT || type == MESSAGE_ERROR || type == MESSAGE_PING || type == MESSAGE_PONG ||
	       type == MESSAGE_UNKNOWN;
}

static void handle_credit(struct agent_core *core, const struct message_credit *c)
{
	/* More than anybody needs is as good as endless, and cannot overflow. */
	uint64_t most = UINT64_MAX / 2;
	core->credit = c->bytes > most - core->credit ? most : core->credit + c->bytes;
}

/* Only identity and version are for a person to settle here; a hub whose disk
 * is full, say, will be well again. */
static bool stops_here(int code)
{
	return ferry_error_class(code) == FERRY_CLASS_STOP && code >= FERRY_LINK_CLOSED;
}

static void handle_error(struct agent_core *core, const struct message_error *err)
{
	char sentence[FERRY_WHY_MAX];
	(void)snprintf(sentence, sizeof sentence, "the hub says: %s",
		       err->sentence && err->sentence[0] ? err->sentence : ferry_error_text(err->code));
	int64_t after_us = 0;
	if (err->retry_after_ms > 0)
		after_us = err->retry_after_ms > INT32_MAX ? (int64_t)INT32_MAX * 1000 : err->retry_after_ms * 1000;
	int code = err->code;
	if (!ferry_error_known(code) || code == FERRY_OK ||
	    (ferry_error_class(code) == FERRY_CLASS_STOP && !stops_here(code)))
		code = FERRY_LINK_CLOSED;
	agent_fail(core, code, after_us, sentence);
}

static void handle_ping(struct agent_core *core, const struct message_ping *ping)
{
	int64_t wall = core->fx.wall(core->shell);
	struct message m = {.type = MESSAGE_PONG,
			    .ping = {.id = ping->id, .sent = ping->sent, .received = wall, .answered = wall}};
	agent_send(core, &m);
}

static void handle_control(struct agent_core *core, const struct message *m)
{
	switch (m->type) {
	case MESSAGE_CREDIT:
		handle_credit(core, &m->credit);
		break;
	case MESSAGE_ERROR:
		handle_error(core, &m->error);
		break;
	case MESSAGE_PING:
		handle_ping(core, &m->ping);
		break;
	case MESSAGE_UNKNOWN:
		agent_log(core, LEVEL_DEBUG, "the hub passes over messages of type %u", m->unknown.message_type);
		break;
	default: /* a late or strange pong teaches nothing and harms nothing */
		if (clock_probe_pong(&core->probe, m->ping.id, m->ping.received, m->ping.answered, agent_now(core)) &&
		    core->ops->clock)
			core->ops->clock(core->store, agent_core_clock_offset(core));
		break;
	}
}

static enum taken store_result(struct agent_core *core, enum ferry_error e, const char *call,
			       const struct ferry_why *why)
{
	if (agent_store_ok(core, e, call, why))
		return TAKEN;
	return agent_linked(core) ? WAITS : FAILED;
}

static enum taken handle_welcome(struct agent_core *core, const struct message_welcome *w)
{
	if (w->version < core->limits.version_min || w->version > core->limits.version_max) {
		agent_fail(core, FERRY_VERSION, 0, "the hub chose a protocol version that this agent does not speak");
		return FAILED;
	}
	struct ferry_why why = {0};
	enum taken t = store_result(core, core->ops->welcome(core->store, w, &why), "welcome", &why);
	if (t != TAKEN)
		return t;
	core->welcomed = true;
	core->credit = w->credit_bytes;
	core->not_taking = w->held;
	core->version = w->version;
	core->compares = w->version >= 2 ? (w->features & FEATURE_COMPARE) != 0 : w->compares;
	core->look_for_alarm = true; /* one that was raised before, or by a proof */
	core->rewinding = w->mode == WELCOME_FILL && w->compared;
	core->replaying = (w->code == FERRY_OTHER_HISTORY || core->rewinding) && w->schema_hash == core->hello_schema;
	if (w->message_bytes_max > 0 && w->message_bytes_max < core->hub_message_max)
		core->hub_message_max = w->message_bytes_max;
	core->look = true;
	core->adding = w->mode == WELCOME_DELTA && w->adding_count > 0;
	if (core->adding)
		agent_log(core, LEVEL_INFO, "%u scopes are filled beside the others%s", w->adding_count,
			 w->adding_goes_on ? ", from where that stopped" : "");
	if (w->mode != WELCOME_DELTA)
		agent_log(core, w->code == FERRY_OTHER_HISTORY ? LEVEL_WARNING : LEVEL_INFO, "the replica is %s: %s",
			 core->rewinding ? "compared with the hub's rows" :
			 w->mode == WELCOME_RESUME ? "filled from where it stopped" : "filled anew", ferry_error_text(w->code));
	agent_enter(core, w->mode == WELCOME_DELTA ? AGENT_LIVE : AGENT_FILLING);
	agent_send_ping(core);
	return TAKEN;
}

static void report_commit(struct agent_core *core, const struct message_commit *c,
			  const struct store_commit_report *r)
{
	core->look = true; /* a refused joined change-set comes back split (R5) */
	if (r->sums_checked && !r->sums_match) {
		agent_log(core, LEVEL_ERROR, "checksum mismatch at position %lld: %s", (long long)c->position,
			 r->mismatch);
		core->look_for_alarm = true;
	}
	if (r->forgotten > 0)
		agent_log(core, LEVEL_WARNING, "%u confirmed change-sets fell out of the kept history before a backup of the hub held "
					       "them: run backup-mark at the hub, or raise history.age and history.bytes",
			  r->forgotten);
	agent_log(core, LEVEL_DEBUG, "at position %lld: rows=%u settled=%u rejected=%u conflicts=%u",
		 (long long)c->position, r->rows_applied, r->settled, r->rejected, r->conflicts);
	if (c->fill_done) {
		if (core->rewinding)
			agent_log(core, LEVEL_INFO, "the replica is compared: rows_that_differed=%u", r->restored);
		core->adding = core->rewinding = core->comparing = false;
		agent_enter(core, AGENT_LIVE);
	}
	core->fx.changed(core->shell);
}

static enum taken handle_commit(struct agent_core *core, const struct message_commit *c)
{
	struct ferry_why why = {0};
	struct store_commit_report report = {0};
	enum taken t = store_result(core, core->ops->commit(core->store, c, &report, &why), "commit", &why);
	if (t == TAKEN) {
		core->caught_up = true;
		report_commit(core, c, &report);
	}
	return t;
}

/* The answer goes out only when the rows are staged durably: it is the place
 * from which a later link goes on. */
static enum taken handle_fill(struct agent_core *core, const struct message_fill *fill)
{
	struct ferry_why why = {0};
	enum taken t = store_result(core, core->ops->fill(core->store, fill, &why), "fill", &why);
	if (t != TAKEN)
		return t;
	/* A table may end with no rows: then there is no key to name. */
	struct message m = {.type = MESSAGE_FILL_ACK, .fill_ack = {.table = fill->block.table}};
	if (fill->block.row_count > 0)
		m.fill_ack.after = fill->block.keys[fill->block.row_count - 1];
	agent_send(core, &m);
	return TAKEN;
}

/* Long work in slices: the answer waits in the inbox, and all that follows it. */
static enum taken handle_ranges(struct agent_core *core, const struct message_ranges *ranges)
{
	struct ferry_why why = {0};
	bool more = false;
	enum ferry_error e = core->ops->ranges(core->store, ranges, &more, &why);
	if (e == FERRY_MISMATCH) {
		agent_ask_refill(core, why.text);
		return FAILED;
	}
	enum taken t = store_result(core, e, "ranges", &why);
	if (t == TAKEN && more) {
		core->again_at = agent_now(core);
		return WAITS;
	}
	if (t == TAKEN) {
		core->comparing = false;
		core->look_for_alarm = true;
	}
	return t;
}

static enum taken handle_lease(struct agent_core *core, const struct message_lease *lease)
{
	struct ferry_why why = {0};
	enum taken t = store_result(core, core->ops->lease(core->store, lease, &why), "lease", &why);
	if (t == TAKEN) {
		core->leases_at = 0;
		core->fx.changed(core->shell);
	}
	return t;
}

static bool expected(const struct agent_core *core, const struct message *m)
{
	switch (m->type) {
	case MESSAGE_WELCOME:
		return core->state == AGENT_GREETING && core->hello_sent && !core->welcomed;
	case MESSAGE_SCHEMA:
	case MESSAGE_ACK:
	case MESSAGE_DELTA:
		return core->welcomed;
	case MESSAGE_COMMIT:
		return core->state == AGENT_FILLING || (core->state == AGENT_LIVE && (!m->commit.fill_done || core->adding));
	case MESSAGE_FILL:
		return core->state == AGENT_FILLING || (core->state == AGENT_LIVE && core->adding);
	case MESSAGE_RANGES:
		return core->comparing;
	case MESSAGE_LEASE:
		return core->welcomed && core->ops->lease != NULL;
	default:
		return false;
	}
}

/* The hub keeps nothing of a change-set that it has parked. */
static void note_parked(struct agent_core *core, const struct message_ack *ack)
{
	for (uint32_t i = 0; i < ack->settled_count && core->repush_at == 0; i++) {
		if (ack->settled[i].verdict == VERDICT_PARKED)
			core->repush_at = agent_now(core) + REPUSH_US;
	}
}

static enum taken dispatch(struct agent_core *core, const struct message *m)
{
	struct ferry_why why = {0};
	switch (m->type) {
	case MESSAGE_WELCOME:
		return handle_welcome(core, &m->welcome);
	case MESSAGE_SCHEMA:
		return store_result(core, core->ops->schema(core->store, &m->schema, &why), "schema", &why);
	case MESSAGE_ACK:
		note_parked(core, &m->ack);
		return store_result(core, core->ops->ack(core->store, &m->ack, &why), "ack", &why);
	case MESSAGE_DELTA:
		return store_result(core, core->ops->delta(core->store, &m->delta, &why), "delta", &why);
	case MESSAGE_COMMIT:
		return handle_commit(core, &m->commit);
	case MESSAGE_RANGES:
		return handle_ranges(core, &m->ranges);
	case MESSAGE_LEASE:
		return handle_lease(core, &m->lease);
	default:
		return handle_fill(core, &m->fill);
	}
}

/* n: bytes of its envelope, which is what credit counts. */
static enum taken handle_stored(struct agent_core *core, const struct message *m, size_t n)
{
	if (!expected(core, m)) {
		char sentence[120];
		(void)snprintf(sentence, sizeof sentence, "a message %s is not allowed now",
			       message_type_name((int)m->type));
		agent_violation(core, FERRY_UNEXPECTED_MESSAGE, sentence);
		return FAILED;
	}
	enum taken t = dispatch(core, m);
	if (t == TAKEN && message_takes_credit(m->type)) {
		core->credit_owed += n;
		agent_send_credit(core, false);
	}
	return t;
}

static enum ferry_error decode(struct agent_core *core, const uint8_t *bytes, size_t n, struct message *out,
			       struct ferry_why *why)
{
	const uint8_t *plain = NULL;
	size_t plain_n = 0;
	if (n > (size_t)core->limits.message_bytes_max + ENVELOPE_SLACK_BYTES)
		return ferry_fail(why, FERRY_MESSAGE_TOO_LARGE, "a message of %zu bytes", n);
	enum ferry_error e = packer_unpack(core->packer, bytes, n, &core->unpacked, &plain, &plain_n, why);
	if (e)
		return e;
	arena_reset(&core->in_arena);
	return message_decode(&core->in_arena, plain, plain_n, out, why);
}

static void inbox_put(struct agent_core *core, const uint8_t *bytes, size_t n)
{
	size_t most = (size_t)core->limits.credit_bytes + 2 * (size_t)core->limits.message_bytes_max;
	if (core->inbox_bytes + n > most) {
		agent_violation(core, FERRY_CREDIT, "the hub sends on without credit");
		return;
	}
	struct inbox_item *item = malloc(sizeof *item + n);
	if (!item) {
		agent_fail(core, FERRY_NO_MEMORY, 0, "no memory for a message from the hub");
		return;
	}
	item->next = NULL;
	item->n = n;
	memcpy(item->bytes, bytes, n);
	*core->inbox_end = item;
	core->inbox_end = &item->next;
	core->inbox_bytes += n;
}

static void inbox_drop_first(struct agent_core *core)
{
	struct inbox_item *item = core->inbox;
	core->inbox = item->next;
	if (!core->inbox)
		core->inbox_end = &core->inbox;
	core->inbox_bytes -= item->n;
	free(item);
}

void agent_clear_inbox(struct agent_core *core)
{
	while (core->inbox)
		inbox_drop_first(core);
}

/* [P 1.4] A message of a later time that may be passed over: the hub is told,
 * and nothing else happens. */
static bool pass_over(struct agent_core *core, const uint8_t *bytes, size_t n)
{
	struct message m = {.type = MESSAGE_UNKNOWN};
	struct ferry_why why = {0};
	const uint8_t *plain = NULL;
	size_t plain_n = 0;
	if (core->version < 2 || packer_unpack(core->packer, bytes, n, &core->unpacked, &plain, &plain_n, &why) ||
	    !message_optional(plain, plain_n, &m.unknown.message_type))
		return false;
	agent_send(core, &m);
	return true;
}

void agent_receive(struct agent_core *core, const uint8_t *bytes, size_t n)
{
	struct ferry_why why = {0};
	struct message m = {0};
	enum ferry_error e = decode(core, bytes, n, &m, &why);
	if (e == FERRY_UNKNOWN_MESSAGE && pass_over(core, bytes, n))
		return;
	if (e) {
		agent_violation(core, e, why.text[0] ? why.text : ferry_error_text((int)e));
		return;
	}
	if (is_control(m.type))
		handle_control(core, &m);
	else if (core->inbox)
		inbox_put(core, bytes, n);
	else if (handle_stored(core, &m, n) == WAITS)
		inbox_put(core, bytes, n);
}

void agent_drain_inbox(struct agent_core *core)
{
	while (core->inbox && !agent_store_waits(core)) {
		struct inbox_item *item = core->inbox;
		struct ferry_why why = {0};
		struct message m = {0};
		enum ferry_error e = decode(core, item->bytes, item->n, &m, &why);
		if (e) { /* it was decoded when it came, so memory must have run out */
			agent_fail(core, (int)e, 0, why.text[0] ? why.text : ferry_error_text((int)e));
			return;
		}
		/* TAKEN: this one is done. FAILED: the link and the inbox are gone. */
		if (handle_stored(core, &m, item->n) != TAKEN)
			return;
		inbox_drop_first(core);
	}
}
