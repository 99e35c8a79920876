/* Where tenants live: struct hub_store_ops over several stores.
 *
 * The registry says in which database (and set of schemas) a tenant's rows
 * are; its operations go to a store with connections of its own, opened when
 * it is first needed and closed when nobody needed it for a while. So each
 * merge stays one transaction of one database, and a database that does not
 * answer holds up nobody but its own tenants (P6).
 *
 * A device is enrolled in the home database. Its settled numbers live beside
 * its tenant's rows: at each hello its row is taken over to there. While the
 * home database is away, what was taken over before serves. */
#ifndef FERRY_HUB_PLACES_H
#define FERRY_HUB_PLACES_H

#include "hub/pg_store.h"
#include "hub/registry.h"

struct places;

struct places_config {
	struct pg_store *home;         /* borrowed */
	struct registry *registry;     /* borrowed */
	struct pg_store_config store;  /* of further stores; conninfo: the home database's. Texts are borrowed */
	int64_t idle_us;               /* a store that nobody used for so long is closed */
};

/* NULL: no memory. */
struct places *places_open(const struct places_config *config, const struct pg_io *io);
void places_close(struct places *p); /* callbacks under way do not come; accepts NULL. The home store stays */

extern const struct hub_store_ops places_ops;

/* The registry's look of that number is over: the devices that wait for it get
 * their answer. */
void places_looked(struct places *p, uint64_t look);

/* Each open store beside the home one. `tenant` is zero for a database that
 * several tenants may share. */
void places_each(const struct places *p,
		 void (*each)(void *ctx, const char *conninfo, const struct uuid *tenant, const struct pg_store *store),
		 void *ctx);

#endif
