/* Change-sets that wait at the hub: asked about often while a device of their
 * tenant is connected, and now and then whoever is, so that deadlines hold. */
#include "hub/core_internal.h"

static void parked_came(void *ctx, enum ferry_error e)
{
	struct tenant *t = ctx;
	struct hub_core *core = t->core;

	(void)e; /* they still wait, and are asked about again */
	core_enter(core);
	t->refs--;
	t->parked_asked = false;
	core->sweep = true;
	core_leave(core);
}

void parked_work(struct tenant *t, int64_t now)
{
	if (t->core->ops->parked == NULL || t->parked_asked || TAILQ_EMPTY(&t->sessions) ||
	    now < t->parked_checked_at + PARKED_CHECK_US)
		return;
	t->parked_checked_at = now;
	t->parked_asked = true;
	t->refs++;
	t->core->ops->parked(t->core->store, &t->id, parked_came, t);
}

static void others_came(void *ctx, enum ferry_error e)
{
	struct hub_core *core = ctx;

	(void)e;
	core->parked_asked = false;
}

void parked_work_others(struct hub_core *core, int64_t now)
{
	if (core->ops->parked == NULL || core->draining)
		return;
	if (now >= core->parked_at && !core->parked_asked) {
		core->parked_at = now + PARKED_OTHERS_US;
		core->parked_asked = true;
		core->ops->parked(core->store, NULL, others_came, core);
	}
	core_wake(core, core->parked_at);
}
