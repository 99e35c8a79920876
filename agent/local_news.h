/* The lines of the local socket that the replica's commits make: gathered
 * within the transaction, said once it stands. Pure but for the replica it
 * listens to; agent/local_feed.c carries them out. */
#ifndef FERRY_AGENT_LOCAL_NEWS_H
#define FERRY_AGENT_LOCAL_NEWS_H

#include "agent/replica.h"
#include "shared/json.h"

struct local_news;

/* line: one to say, without its end; after: when a commit's lines are said.
 * Listens to the replica until it is freed. NULL: no memory. */
struct local_news *local_news_new(struct replica *replica, void (*line)(void *ctx, const char *text), void (*after)(void *ctx),
				  void *ctx);
void local_news_free(struct local_news *n); /* accepts NULL */
/* Nobody listens: nothing is gathered. */
void local_news_want(struct local_news *n, bool wanted);

#endif
