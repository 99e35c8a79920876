/* Rights that change while devices are connected. Which scopes follow from
 * roles and permissions is PostgreSQL's to say; here a session whose scopes
 * have changed ends, and its device comes back and gets what it holds now. */
#include "hub/core_internal.h"

static void end_session_of(struct tenant *t, const struct hub_rescoped *r)
{
	struct hub_session *s;

	for (s = TAILQ_FIRST(&t->core->sessions); s != NULL; s = TAILQ_NEXT(s, all)) {
		if (s->tenant == t && session_up(s) && s->found.rights < r->rights && uuid_equal(&s->device, &r->device))
			session_fail(s, FERRY_RIGHTS, 0, "%s", ferry_error_text(FERRY_RIGHTS));
	}
}

static void rights_came(void *ctx, enum ferry_error e, const struct hub_rescoped *devices, uint32_t count)
{
	struct tenant *t = ctx;
	struct hub_core *core = t->core;
	/* A session that has come meanwhile may have looked at an older state. */
	bool newest = t->rights_seen >= t->rights_after;

	core_enter(core);
	t->refs--;
	t->rights_asked = false;
	core->sweep = true;
	for (uint32_t i = 0; e == FERRY_OK && i < count; i++) {
		if (newest && devices[i].rights > t->rights_seen)
			t->rights_seen = devices[i].rights;
		end_session_of(t, &devices[i]);
	}
	core_leave(core);
}

void rights_work(struct tenant *t, int64_t now)
{
	if (t->core->ops->rights == NULL || t->rights_asked || TAILQ_EMPTY(&t->sessions) ||
	    now < t->rights_checked_at + RIGHTS_CHECK_US)
		return;
	t->rights_checked_at = now;
	t->rights_asked = true;
	t->rights_after = t->rights_seen;
	t->refs++;
	t->core->ops->rights(t->core->store, &t->id, t->rights_seen, rights_came, t);
}

void rights_note(struct hub_session *s)
{
	struct tenant *t = s->tenant;

	if (s->found.rights < t->rights_seen || TAILQ_EMPTY(&t->sessions))
		t->rights_seen = s->found.rights;
}
