/* Inside the simulated world: what its parts share.
 *
 *   sim_network.c   connections: delays, cuts, old ones beside new ones
 *   sim_hubs.c, sim_agents.c   the shells around the product's engines
 *   sim_people.c    who edits what
 *   sim_trouble.c   what goes wrong
 *   sim_copies.c    copies of replicas: put back, or on a second machine
 *   sim_world.c     one run; sim_run.c: many */
#ifndef FERRY_TESTS_SIM_INNER_H
#define FERRY_TESTS_SIM_INNER_H

#include "tests/sim/sim_world.h"

#define RESCOPES_MAX 30
#define CLONES_MAX 6
#define AGENTS_MAX (DEVICES_MAX + CLONES_MAX)
#define COPIES_MAX 60 /* in a run */

struct world;
struct agent;
struct hub;

struct direction {
	int64_t last_at; /* deliveries keep their order */
	int64_t held_until; /* a router keeps what comes */
	size_t queued;
	bool cut;        /* nothing arrives any more */
};

struct conn {
	struct conn *next;
	struct agent *agent;
	int line; /* of the replica that it began with */
	struct hub *hub;
	struct hub_session *session;
	uint64_t hub_generation;
	bool agent_open, hub_open;
	struct conn *twin; /* gets what the agent sends, too */
	bool is_twin;      /* what comes from the hub goes nowhere */
	struct direction up, down;
};

struct hub {
	struct world *world;
	int number;
	bool running;
	uint64_t generation; /* counts its lives */
	uint64_t wake;       /* only the latest wish to be woken counts */
	int64_t skew;        /* of its wall clock */
	struct model_store *store;
	struct hub_core *core;
};

struct agent {
	struct world *world;
	int number;    /* of its device: a clone has its original's */
	int line;      /* of its replica, for the judge */
	bool running;
	bool shut;     /* the hub turned it away; its people have not decided yet what to do, or let it be */
	bool wanted;   /* this copy is to be the device: when it is turned away it is released at once */
	bool copied;   /* there is, or was, another copy of its replica */
	bool has_copy;
	int copy_line;
	struct sim_replica copy;
	int contacts; /* with a hub, or tries */
	uint64_t generation, wake;
	int64_t skew;  /* of its wall clock */
	int64_t away_until; /* no network */
	struct sim_replica replica;
	struct agent_core *core;
	struct conn *conn;
	bool scopes[SCOPES];
	int rescoped;
	bool uncut; /* edits wait for a look: a wake-up was missed */
};

struct world {
	struct sim sim;
	struct sim_options options;
	const struct sim_profile *profile;
	int weights[TROUBLES]; /* of this run */
	struct checker *checker;
	struct model_db *db;
	struct packer *packer; /* of the tap that reads what passes */
	struct hub hubs[HUBS_MAX];
	int hub_count;
	struct agent agents[AGENTS_MAX];
	int agent_count;
	int clones, copies;
	struct conn *conns;
	bool network_down;
	struct agent_limits agent_limits;
	struct hub_limits hub_limits;
	int next_key;
	int tallies; /* made so far */
	struct sim tally_dice; /* its generator alone is used */
	int64_t next_token;
	struct sim_outcome outcome;
};

/* Only while there are faults by chance. */
bool world_chance(struct world *w, int per_mille);

/* sim_network.c */
void net_connect(struct agent *a);   /* opens a connection to some hub, or says that it can't */
void net_cut(struct world *w, struct conn *c);
void net_linger(struct world *w, struct conn *c);
void net_send(struct world *w, struct conn *c, bool down, const uint8_t *bytes, size_t n);
void net_close(struct world *w, struct conn *c, bool down); /* after what is under way */
void net_drop_hub(struct world *w, struct hub *h);          /* its machine's kernel closes its sockets */
void net_notice_hub_later(struct world *w, struct conn *c);
void net_forget(struct world *w); /* what is under way from hubs to agents never arrives */
void net_free(struct world *w);

/* sim_hubs.c */
void hub_start(void *ctx, void *arg); /* an event */
void hub_crash(struct world *w, struct hub *h);

/* sim_agents.c */
void agent_start(void *ctx, void *arg); /* an event */
void agent_crash(struct world *w, struct agent *a);
void agent_kill(struct world *w, struct agent *a); /* without what becomes of its replica, and not started again */
void agent_look(struct agent *a, int64_t position, bool quiet); /* the checker compares */

/* sim_copies.c */
void copies_back_up(struct world *w, struct agent *a);
void copies_put_back(struct world *w, struct agent *a);
void copies_power_loss(struct world *w, struct agent *a);
void copies_clone(struct world *w, struct agent *a);
void copies_turned_away(struct agent *a); /* its people decide what to do */
void copies_free(struct world *w);

/* sim_people.c */
void people_edit_on_device(struct world *w, struct agent *a);
void people_edit_at_hub(struct world *w);

/* sim_trouble.c */
void trouble_strike(struct world *w);
void trouble_forgotten_transaction(struct world *w, int64_t until); /* holds some rows */

#endif
