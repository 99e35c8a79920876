/* Messages to the hub: encoded, packed, sent; the push loop. */
#include "agent/core_private.h"


/* Leaves the message in core->envelope. */
static enum ferry_error pack(struct agent_core *core, const struct message *m)
{
	buffer_clear(&core->plain);
	buffer_clear(&core->envelope);
	enum ferry_error e = message_encode(m, &core->plain);
	if (e)
		return e;
	if (core->plain.n > core->hub_message_max)
		return FERRY_MESSAGE_TOO_LARGE;
	return packer_pack(core->packer, core->plain.p, core->plain.n, &core->envelope);
}

void agent_send(struct agent_core *core, const struct message *m)
{
	/* A push that waits for credit owns the buffer: it is made again. */
	struct buffer held = core->envelope;
	if (core->held)
		buffer_init(&core->envelope, held.max_bytes);
	enum ferry_error e = pack(core, m);
	if (e)
		agent_log(core, LEVEL_ERROR, "a message %s cannot be sent: %s", message_type_name((int)m->type),
			 ferry_error_text((int)e));
	else
		core->fx.send(core->shell, core->envelope.p, core->envelope.n);
	if (core->held) {
		buffer_deinit(&core->envelope);
		core->envelope = held;
	}
}

void agent_send_hello(struct agent_core *core)
{
	struct ferry_why why = {0};
	struct message m = {.type = MESSAGE_HELLO};
	if (!agent_store_ok(core, core->ops->hello(core->store, &m.hello, &why), "hello", &why))
		return;
	if (core->ops->live != NULL && !agent_store_ok(core, core->ops->live(core->store, &m.hello, &why), "live", &why))
		return;
	m.hello.version_min = core->limits.version_min;
	m.hello.version_max = core->limits.version_max;
	m.hello.features = core->ops->compare != NULL ? FEATURE_COMPARE | FEATURE_REWIND : 0;
	m.hello.agent_version = FERRY_PROGRAM_VERSION;
	m.hello.clock = core->fx.wall(core->shell);
	m.hello.credit_bytes = core->limits.credit_bytes;
	core->hello_sent = true;
	core->hello_schema = m.hello.schema_hash;
	agent_send(core, &m);
}

void agent_send_ping(struct agent_core *core)
{
	int64_t now = agent_now(core);
	struct message m = {.type = MESSAGE_PING,
			    .ping = {.id = clock_probe_ping(&core->probe, now), .sent = core->fx.wall(core->shell)}};
	core->ping_at = now + core->limits.ping_interval_us;
	core->look_for_alarm = true;
	agent_send_credit(core, true);
	agent_send(core, &m);
}

/* A range that was asked for and does not come is asked for again later; what
 * it was is a gap then. */
void agent_ask_leases(struct agent_core *core)
{
	struct message_lease_ask asks[LEASE_ASKS_MAX];
	uint32_t n;
	if (core->ops->leases_due == NULL || agent_now(core) < core->leases_at)
		return;
	n = core->ops->leases_due(core->store, asks);
	for (uint32_t i = 0; i < n; i++)
		agent_send(core, &(struct message){.type = MESSAGE_LEASE_ASK, .lease_ask = asks[i]});
	if (n > 0)
		core->leases_at = agent_now(core) + LEASE_ASK_US;
}

/* Given back in larger pieces: the hub always holds three quarters, which is
 * more than a message. With every ping and at the end all of it, since by it
 * the hub knows what has been applied here. */
void agent_send_credit(struct agent_core *core, bool all)
{
	if (core->credit_owed == 0 || (!all && core->credit_owed < core->limits.credit_bytes / 4))
		return;
	struct message m = {.type = MESSAGE_CREDIT, .credit = {.bytes = core->credit_owed}};
	core->credit_owed = 0;
	agent_send(core, &m);
}

void agent_send_compare(struct agent_core *core)
{
	struct ferry_why why = {0};
	struct message m = {.type = MESSAGE_COMPARE};
	bool any = false;
	if (!agent_store_ok(core, core->ops->compare(core->store, &m.compare, &any, &why), "compare", &why)) {
		core->look_for_alarm = agent_linked(core); /* busy: later */
		return;
	}
	if (!any)
		return;
	core->comparing = true;
	agent_log(core, core->rewinding ? LEVEL_DEBUG : m.compare.key_count > 0 ? LEVEL_WARNING : LEVEL_INFO,
		  "compares table %u of scope %s with the hub: ranges=%u rows_that_differ=%u", m.compare.table, m.compare.scope,
		  m.compare.range_count, m.compare.key_count);
	agent_send(core, &m);
}

void agent_ask_refill(struct agent_core *core, const char *sentence)
{
	struct message m = {.type = MESSAGE_ERROR,
			    .error = {.code = FERRY_MISMATCH, .sentence = "the replica asks to be filled anew", .retry = true}};
	agent_log(core, LEVEL_WARNING, "%s", sentence);
	agent_send(core, &m);
	agent_fail(core, FERRY_MISMATCH, 0, sentence);
}

/* Sends the held push when the hub's credit covers it. */
static bool push_held(struct agent_core *core)
{
	if (core->envelope.n > core->credit)
		return false;
	core->credit -= core->envelope.n;
	core->held = false;
	core->fx.send(core->shell, core->envelope.p, core->envelope.n);
	return true;
}

/* Makes the next push in core->envelope. False: nothing more, or not now. */
static bool prepare_push(struct agent_core *core)
{
	struct ferry_why why = {0};
	struct message m = {.type = MESSAGE_PUSH};
	size_t budget = core->limits.push_bytes;
	if (budget > core->hub_message_max / 2)
		budget = core->hub_message_max / 2;
	arena_reset(&core->out_arena);
	enum ferry_error e =
		core->ops->next_push(core->store, &core->cursor, budget, &core->out_arena, &m.push, &why);
	if (!agent_store_ok(core, e, "next_push", &why))
		return false;
	if (m.push.set_count == 0) {
		core->look = false;
		return false;
	}
	e = pack(core, &m);
	if (e) {
		/* The store splits what is large, so this is our bug. The cursor stands
		 * behind it: what follows is still sent (P6), this stays in the outbox. */
		core->error = (int)e;
		(void)ferry_fail(&core->why, e, "change-set %lld cannot be sent: %s", (long long)m.push.sets[0].number,
				 ferry_error_text((int)e));
		agent_log(core, LEVEL_ERROR, "%s", core->why.text);
		return true;
	}
	core->held = true;
	return true;
}

/* Bounded three ways: messages per call, bytes in the link's queue, and the
 * hub's credit for all that is under way. */
void agent_push(struct agent_core *core)
{
	for (int i = 0; i < PUSHES_PER_WORK; i++) {
		if (core->held && !push_held(core))
			return; /* a credit message calls again */
		if (!core->look || core->fx.queued(core->shell) >= core->limits.push_bytes)
			return; /* poke, or drained, calls again */
		if (!prepare_push(core))
			return;
	}
	core->again_at = agent_now(core);
}
