/* Repair: what a person or an app decides about a conflict or a refused
 * change-set, asked for by a row of ferry_repair (docs/replica-guide.md).
 *
 * It is carried out on a connection as an app has it: what it writes is
 * captured and goes to the hub as new edits. Each row is one transaction, in
 * order of id, and gets done_at, with what it took out of the tables in
 * `kept`; one that can't be done gets an `error` and changes nothing else. */
#ifndef FERRY_AGENT_REPLICA_REPAIR_H
#define FERRY_AGENT_REPLICA_REPAIR_H

#include "agent/replica.h"

#define REPAIRS_MAX 1000 /* carried out by one call */

/* Is there one to do? Cheap. */
bool replica_repair_due(struct replica *r);
/* busy_ms: how long it waits for another program's lock. FERRY_BUSY,
 * FERRY_NO_SPACE...: it could not be tried; what is left stays. FERRY_USAGE: so does
 * all, since the file is of another version. */
FERRY_CHECK enum ferry_error replica_repair(const char *path, int busy_ms, int *out_done, struct ferry_why *why);

#endif
