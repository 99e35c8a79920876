/* Inside the judge: what checker.c (edits, offers, commits) and checker_replicas.c share. */
#ifndef FERRY_TESTS_CHECKER_INNER_H
#define FERRY_TESTS_CHECKER_INNER_H

#include "tests/sim/checker.h"

#define NUMBERS_MAX 8000
#define EDITS_MAX 20000
#define CLOCK_ERROR_US (90 * (int64_t)SIM_S) /* P10: what measuring, and waiting for a cut, may cost */

struct edit {
	int device, key;
	bool deletes, inserts;
	struct sim_row before, after;
	int64_t number; /* change-set; 0: not pushed yet */
	int64_t at;     /* true time, microseconds of the simulation */
	bool clock_known; /* its device had measured how wrong its clock is */
	int group;      /* edits of one transaction have the same */
	int previous;   /* edit of the same device; -1: none */
};

struct verdict_seen {
	int64_t position; /* 0: none */
	enum verdict verdict;
	bool replayed;       /* the same at any time */
	bool lost;           /* it was settled; then the hub went back before that */
	bool parked;         /* the hub said that it lacks what it builds on */
	bool joined;         /* R5: when refused it is offered again, split */
	uint64_t content[4]; /* by part; 0: not offered yet */
};

struct offered_cell { /* what a change-set writes; column -1: a deletion */
	int64_t number;
	int device, key, column, edit;
	int64_t value;
};

struct past {
	int64_t position;
	struct sim_state state;
};

/* A set of scopes, as bits. The hub gave the device one after the other; the replica follows in
 * time: it fills what is new beside the rest, and shows each scope whole or not at all. What it
 * shows may fit several of the sets, so each that it may stand at is kept. */
#define SCOPE_SETS_MAX 40
#define SCOPE_MASKS (1u << SCOPES)
struct watched {
	unsigned scopes[SCOPE_SETS_MAX];
	bool may[SCOPE_SETS_MAX][SCOPE_MASKS]; /* it was told of that set, and shows these of it */
	int count;
	bool clock_known;
};

struct checker {
	struct sim *sim;
	int devices;
	struct watched *device;
	int *last_of; /* device + 1 -> its last edit; -1: none. 0: the hub's */
	int group;
	bool timely, rewound;
	bool timeless; /* a hub's clock was set */
	struct edit *edits;
	int edit_count;
	int token_edit[TOKENS_MAX]; /* 1 + index */
	bool kept[TOKENS_MAX];      /* by a conflict, also of a history that the hub lost */
	struct verdict_seen (*numbers)[NUMBERS_MAX];
	struct offered_cell *cells;
	int cell_count, cell_capacity;
	struct past **history;
	int history_count;
	struct checker_counts counts;
};

const struct sim_state *checker_state_at(const struct checker *c, int64_t position);
bool checker_settled_by(const struct checker *c, int device, int64_t number, int64_t position);
int checker_last_edit(const struct checker *c, int device, int key, bool only_deletes);

#endif
