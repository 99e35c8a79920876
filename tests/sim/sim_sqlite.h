/* SQLite inside the simulation: its clock is the device's, its chance the seed's. Apps on a device
 * stamp what they write by SQLite's clock, so those edits are of virtual time, too. */
#ifndef FERRY_TESTS_SIM_SQLITE_H
#define FERRY_TESTS_SIM_SQLITE_H

#include "tests/sim/sim.h"

/* A run begins: whatever SQLite draws from now on comes of its seed. Borrowed until the next run. */
void sim_sqlite_begin(struct sim *run);
/* Whose statements run now: a machine whose clock is so far off. Borrowed until the next call. */
void sim_sqlite_device(const int64_t *skew);

#endif
