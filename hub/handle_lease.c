/* lease-ask: a device has few numbers of a column left [P 9.13]. What the
 * store grants is durable before it is sent; a grant that is cut on its way
 * leaves a gap, which leased sequences may have. */
#include <stdlib.h>

#include "hub/core_internal.h"

static void granted(void *ctx, enum ferry_error e, const struct message_lease *leases, uint32_t count)
{
	struct hub_session *s = ctx;
	struct hub_core *core = s->core;

	core_enter(core);
	s->leasing--;
	if (e != FERRY_OK)
		core_log(core, HUB_LOG_WARNING, &s->tenant->id, &s->device, "event=lease-failed code=%s", ferry_error_name((int)e));
	for (uint32_t i = 0; i < count && session_up(s); i++)
		session_send(s, &(struct message){.type = MESSAGE_LEASE, .lease = leases[i]});
	session_release(s);
	core_leave(core);
}

/* A device that asks for too many at once is not heard, and asks again. */
void handle_lease_ask(struct hub_session *s, const struct message_lease_ask *ask)
{
	if (s->leasing == LEASES_MAX || s->core->ops->lease == NULL)
		return;
	s->leasing++;
	session_hold(s);
	s->core->ops->lease(s->core->store, &s->tenant->id, &s->device, ask, granted, s);
}
