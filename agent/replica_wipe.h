/* Removes a replica for good: content, then files. */
#ifndef FERRY_AGENT_REPLICA_WIPE_H
#define FERRY_AGENT_REPLICA_WIPE_H

#include "protocol/errors.h"

/* The replica must not be open in this process. The files are gone whatever
 * is returned; an error says that a program that has them open still sees
 * rows (FERRY_BUSY), or that there was no replica to empty. */
FERRY_CHECK enum ferry_error replica_wipe(const char *path, struct ferry_why *why);

#endif
