/* What local programs learn without polling: a unix socket beside the replica
 * (run/agent.sock, mode 0600) that says one JSON object a line, and answers
 * a wait for the hub (docs/replica-guide.md lists the lines).
 *
 *   a state is applied   -> {"event":"state",...} with the changed keys
 *   a verdict, a conflict-> a line each
 *   the agent's status   -> a line when it differs from the last one
 *   {"wait":"durable"}   -> {"answer":"durable",...} once every change that was
 *                           committed before is settled at the hub; with
 *       ,"note":"..."         once the transaction with that mark is, and how
 *   {"verify":"replica"} -> {"answer":"verify",...}: the proof of the checksums;
 *              "hub"        and the hub is asked soon, as after any difference
 *
 * A reader that does not keep up is told so in a last line and dropped; it
 * never holds up the agent. Limits: LOCAL_*. One thread. */
#ifndef FERRY_AGENT_LOCAL_FEED_H
#define FERRY_AGENT_LOCAL_FEED_H

#include "agent/replica.h"
#include "shared/loop.h"

#define LOCAL_CLIENTS_MAX	32
#define LOCAL_WAITS_MAX		16 /* of one client, at a time */
#define LOCAL_QUEUE_BYTES_MAX	((size_t)1 << 20)
#define LOCAL_REQUEST_BYTES_MAX 4096
#define LOCAL_KEYS_MAX		1000 /* a state's; tables with more say so */
#define LOCAL_VERDICTS_MAX	1000 /* lines of a state; then one that counts the others */
#define LOCAL_GOODBYE_US	INT64_C(60000000) /* a dropped reader may fetch its last line so long */

struct local_feed;

struct local_status { /* as the status file has it */
	const char *state;
	const char *error, *why; /* NULL: none */
	bool caught_up;
};

/* Loop and replica are borrowed, and must live longer. A socket left behind
 * by an agent that died is replaced: the caller holds the folder's lock.
 * FERRY_IO; FERRY_CONFIG when the path is too long for a socket. */
FERRY_CHECK enum ferry_error local_feed_open(struct loop *loop, struct replica *replica, const char *path,
					     struct local_feed **out, struct ferry_why *why);
void local_feed_close(struct local_feed *f); /* accepts NULL */

void local_feed_status(struct local_feed *f, const struct local_status *s); /* accepts NULL */
void local_feed_written(struct local_feed *f); /* some program committed; accepts NULL */

#endif
