/* What the files link*.c need of the loop. Nobody else includes this. */
#ifndef FERRY_SHARED_LOOP_LWS_H
#define FERRY_SHARED_LOOP_LWS_H

#include <libwebsockets.h>

#include "shared/loop.h"

struct lws_context *loop_context(struct loop *loop);

/* The loop is being freed: owners' callbacks are not called any more. */
bool loop_is_closing(const struct loop *loop);

/* A number for a name that must be unique in the loop. */
unsigned loop_number(struct loop *loop);

/* Ends the vhost outside of any callback: the library forbids it inside one of its own. */
void loop_reap_vhost(struct loop *loop, struct lws_vhost *vhost);

/* A policy that turns off the library's own idle checks: links have theirs. */
extern const lws_retry_bo_t loop_no_idle_checks;

#endif
