/* What a tenant may do decides about all of its sessions: at their hello, and
 * again whenever it changes. Nothing is lost by it: a device keeps its outbox
 * until the hub has settled it. */
#include <string.h>

#include "hub/core_internal.h"

static const char *sentence_of(int code)
{
	switch (code) {
	case FERRY_CLONE:
		return "another copy of this device has been here since: this one is turned away and keeps its data. To go on with "
		       "this copy run ferry-hub device release, else enrol it anew";
	case FERRY_TENANT_SUSPENDED:
		return "the tenant is suspended; changes wait in the outbox, and sync goes on by itself once it is resumed";
	case FERRY_TENANT_INACTIVE:
		return "the tenant is not active; changes wait in the outbox until its administrator activates it";
	case FERRY_TENANT_PENDING:
		return "the tenant waits for its activation; sync begins by itself afterwards";
	case FERRY_TENANT_MIGRATING:
		return "the tenant is being moved; changes wait in the outbox, and sync goes on by itself afterwards";
	case FERRY_TENANT_ARCHIVED:
		return "the tenant is archived: what is there may be read, and changes wait in the outbox";
	case FERRY_TENANT_DELETED:
		return "the tenant is deleted: remove its data from this device";
	case FERRY_QUOTA_STORAGE:
		return "the tenant's storage is used up: changes wait in the outbox until room is made or its limit raised";
	case FERRY_QUOTA_CALLS:
		return "the tenant's calls of this month are used up: sync goes on next month, or when its limit is raised";
	default:
		return ferry_error_text(code);
	}
}

void session_turn_away(struct hub_session *s, int code)
{
	bool again = ferry_error_class(code) == FERRY_CLASS_RETRY;

	session_fail(s, code, again ? s->core->limits.shut_retry_us / 1000 : -1, "%s", sentence_of(code));
}

/* One that is still looked up would be let in by what is no longer so. */
static void apply(struct hub_session *s, int shut, int held)
{
	if (shut != FERRY_OK)
		session_turn_away(s, shut);
	else if (s->found.held != held && held != FERRY_OK)
		session_fail(s, held, 0, "%s", sentence_of(held));
	else if (s->found.held != held)
		session_fail(s, FERRY_LINK_CLOSED, 0, "the hub takes changes again");
}

void hub_core_tenant(struct hub_core *core, const struct uuid *tenant, int shut, int held)
{
	struct hub_session *s;

	core_enter(core);
	for (s = TAILQ_FIRST(&core->sessions); s != NULL; s = TAILQ_NEXT(s, all)) {
		if (s->tenant != NULL && uuid_equal(&s->tenant->id, tenant) && (session_up(s) || s->state == LOOKUP))
			apply(s, shut, held);
	}
	core_leave(core);
}
