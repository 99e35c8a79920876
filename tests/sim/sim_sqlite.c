#include "tests/sim/sim_sqlite.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#define METHODS_MAX 8
#define JULIAN_MS_OF_1970 INT64_C(210866760000000)

static struct sim *sim; /* of the run */
static const int64_t *skew_now;
static sqlite3_vfs *machines;

static int chance(sqlite3_vfs *vfs, int n, char *out)
{
	(void)vfs;
	for (int i = 0; i < n; i++)
		out[i] = (char)sim_random(sim);
	return n;
}

static int clock_ms(sqlite3_vfs *vfs, sqlite3_int64 *out)
{
	(void)vfs;
	*out = JULIAN_MS_OF_1970 + sim_device_clock(sim, *skew_now) / SIM_MS;
	return SQLITE_OK;
}

/* A crash leaves copies of the files as they are, whether synced or not (sim_copies.c says what a
 * loss of power takes): so nothing waits for a disk. */
static int no_sync(sqlite3_file *file, int flags)
{
	(void)file;
	(void)flags;
	return SQLITE_OK;
}

/* SQLite has a table of methods for files that are locked, and others. */
static const sqlite3_io_methods *unsynced(const sqlite3_io_methods *methods)
{
	static const sqlite3_io_methods *known[METHODS_MAX];
	static sqlite3_io_methods ours[METHODS_MAX];
	int i = 0;
	while (i < METHODS_MAX && known[i] && known[i] != methods)
		i++;
	if (i == METHODS_MAX)
		abort();
	known[i] = methods;
	ours[i] = *methods;
	ours[i].xSync = no_sync;
	return &ours[i];
}

static int open_file(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
	int code = machines->xOpen(vfs, name, file, flags, out_flags);
	if (file->pMethods)
		file->pMethods = unsynced(file->pMethods);
	return code;
}

static void install(void)
{
	static sqlite3_vfs ours;
	machines = sqlite3_vfs_find(NULL);
	if (!machines || machines->iVersion < 2)
		abort();
	ours = *machines;
	ours.zName = "simulated";
	ours.pNext = NULL;
	ours.xOpen = open_file;
	ours.xRandomness = chance;
	ours.xCurrentTimeInt64 = clock_ms;
	if (sqlite3_vfs_register(&ours, 1))
		abort();
}

void sim_sqlite_begin(struct sim *run)
{
	static const int64_t right = 0;
	if (!sim)
		install();
	sim = run;
	skew_now = &right;
	sqlite3_randomness(0, NULL); /* what it has drawn before is forgotten */
}

void sim_sqlite_device(const int64_t *skew)
{
	skew_now = skew;
}
