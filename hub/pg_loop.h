/* struct pg_io on the hub's event loop. */
#ifndef FERRY_HUB_PG_LOOP_H
#define FERRY_HUB_PG_LOOP_H

#include "hub/pg_io.h"
#include "shared/loop.h"

/* The loop is borrowed; what is made through *out must be gone before it. */
void pg_loop_init(struct pg_io *out, struct loop *loop);

#endif
