/* What kind of world a run is: how large, how long, how busy, and which things
 * go wrong how often. A fault is switched on by its weight alone. */
#ifndef FERRY_TESTS_SIM_PROFILE_H
#define FERRY_TESTS_SIM_PROFILE_H

#include <stdint.h>

enum trouble {
	TROUBLE_CUT,          /* a connection breaks; either side may not hear of it */
	TROUBLE_LINGER,       /* the agent believes it broken, but what it sent still arrives, much later */
	TROUBLE_AGENT_CRASH,
	TROUBLE_HUB_CRASH,
	TROUBLE_CLOCK,        /* a device's clock jumps, by up to decades, either way */
	TROUBLE_OUTAGE,       /* nobody can connect for a while */
	TROUBLE_AWAY,         /* one device has no network for minutes */
	TROUBLE_PRUNE,        /* the hub forgets what it needs for old bookmarks */
	TROUBLE_LOCK,         /* somebody's open transaction holds rows at the hub */
	TROUBLE_BACKUP,       /* of the hub's database */
	TROUBLE_RESTORE,      /* ... is put back, and all that was committed since is lost */
	TROUBLE_RESCOPE,      /* a device gets other scopes */
	TROUBLE_HUB_CLOCK,    /* a hub's clock jumps, by up to decades, either way */
	TROUBLE_COPY,         /* a device's replica is copied */
	TROUBLE_PUT_BACK,     /* ... and the copy is put back, and what came since is gone */
	TROUBLE_CLONE,        /* a second machine goes on with a copy beside the first */
	TROUBLE_SCHEMA,       /* the hub's people change the schema */
	TROUBLE_POWER,        /* a device loses its power, and with it what it wrote in the last seconds */
	TROUBLES
};

struct sim_profile {
	const char *name;
	int agents_min, agents_max, hubs_max;
	int64_t poll_us;      /* of hubs, for what others committed; 0: as shipped */
	int64_t busy_us;      /* how long people edit and things go wrong */
	int64_t pause_us;     /* between two edits, at the most */
	int keys;             /* rows that are ever made */
	int insert_percent, delete_percent;
	int trouble_per_mille; /* after an edit */
	int64_t fill_us;      /* a page of a fill takes up to this; 0: no longer than other answers */
	int eager_edits;      /* who is given other scopes edits so often in the next seconds */
	int twin_per_mille;   /* a connection is doubled: another hub gets the same bytes */
	int weights[TROUBLES];
	/* Kinds that change much of what others do come beside them in some of the seeds only: copies of
	 * replicas, changes of the schema, restores, each drawn by itself. */
	int drawn_per_mille, restored_per_mille;
	int drawn[TROUBLES];
};

struct sim;
/* How often which trouble comes in this run. */
void profile_draw(const struct sim_profile *p, struct sim *sim, int out_weights[TROUBLES]);

extern const struct sim_profile profile_busy;  /* 40 s in which much happens at once */
extern const struct sim_profile profile_hour;  /* an hour with long absences, and all kinds of trouble over the seeds */
extern const struct sim_profile profile_restores; /* the hub goes back in time */
extern const struct sim_profile profile_clocks; /* clocks of hubs and devices jump all the time */
extern const struct sim_profile profile_copies; /* replicas are put back from copies, and doubled */
extern const struct sim_profile profile_schemas; /* the schema changes while devices are away */
extern const struct sim_profile profile_fleet; /* hundreds of devices */

#endif
