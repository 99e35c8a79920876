/* The product's own replica, on SQLite files, in the place of the model. */
#ifndef FERRY_TESTS_REAL_REPLICA_H
#define FERRY_TESTS_REAL_REPLICA_H

#include "tests/sim/sim_replica.h"

/* Its files are in a temporary folder, which goes with the program. */
struct sim_replica real_replica_new(struct sim *sim, int device, const int64_t *skew);

#endif
