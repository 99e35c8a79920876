/* Inside the judge: what checker.c (edits, offers, commits), checker_lines.c (copies of
 * replicas) and checker_replicas.c share. */
#ifndef FERRY_TESTS_CHECKER_INNER_H
#define FERRY_TESTS_CHECKER_INNER_H

#include "tests/sim/checker.h"

#define NUMBERS_MAX 8000
#define EDITS_MAX 20000
#define CLOCK_ERROR_US (90 * (int64_t)SIM_S) /* P10: what measuring, and waiting for a cut, may cost */

struct edit {
	int line, key;
	unsigned changes; /* of the schema it was made under */
	bool deletes, inserts;
	struct sim_row before, after;
	int64_t number; /* change-set; 0: not pushed yet */
	int64_t at;     /* true time, microseconds of the simulation */
	bool clock_known; /* its device had measured how wrong its clock is */
	int group;      /* edits of one transaction have the same */
	bool kept;      /* its replica keeps it as refused: it is not to come any more, and not lost */
	int previous;   /* edit of the same line; -1: none */
};

struct verdict_seen {
	int64_t position; /* 0: none */
	enum verdict verdict;
	bool replayed;       /* the same at any time */
	bool lost;           /* it was settled; then the hub went back before that */
	bool parked;         /* the hub said that it lacks what it builds on */
	bool joined;         /* R5: when refused it is offered again: split, or whole behind what is split */
	uint64_t content[4]; /* by part; 0: not offered yet */
	bool noted[4];       /* its rows are among the offered cells of this line */
	int64_t elsewhere;   /* 0, or where another copy's content of this number was settled */
};

struct offered_cell { /* what a change-set writes; column -1: a deletion */
	int64_t number;
	int line, key, column, edit;
	int64_t value;
};

struct offered_row { /* of a tally in a change-set */
	int64_t number;
	int line, key, edit;
	enum row_op op;
};

/* What pending edits of a tally add to it. */
struct difference {
	bool any;
	int64_t count, plus, minus, unclear; /* the last three: marks, a bit each */
	int64_t stage; /* as it was seen first */
};

/* A commit of the hub that is being judged. */
struct commit {
	const struct sim_state *before, *after;
	const int *lines;
	const struct settled *settled;
	uint32_t count;
	int64_t position;
};

/* A value that took the place of another one at the hub, rightly, also in a history that is lost. */
struct replaced {
	int64_t was;
	int next; /* of the same new value; 0: none */
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

struct line {
	int device;
	int last;          /* its last edit; -1: none */
	bool gone, shut;
	unsigned changes;  /* of the schema that it shows */
	struct sim_state *left; /* shut: what it showed then, and what was written to it since */
	int kept_deletions[KEYS_MAX]; /* that its replica had at the last welcome */
	struct watched watched;
	struct verdict_seen *numbers;
};

struct life {
	int device, line;
	int64_t number;
};

/* A hello may be answered when its line has proposed the next mark long since, or has had that life. */
struct proposal {
	int line;
	int64_t mark; /* of a life */
};

struct checker {
	struct sim *sim;
	int devices;
	struct line lines[LINES_MAX];
	int line_count;
	struct life *lives;
	int life_count, life_capacity;
	struct proposal *proposals;
	int proposal_count, proposal_capacity;
	int hub_last; /* the hub's last edit; -1: none */
	int group;
	bool timely, rewound;
	bool timeless; /* a hub's clock was set */
	struct edit *edits;
	int edit_count;
	int token_edit[TOKENS_MAX]; /* 1 + index */
	bool kept[TOKENS_MAX];      /* by a conflict, also of a history that the hub lost */
	struct replaced *replaced;  /* from 1 on */
	int replaced_count, replaced_capacity;
	int replaced_by[TOKENS_MAX]; /* the last one's number in `replaced`; 0: none */
	unsigned looked_at[TOKENS_MAX], look; /* in which search */
	struct offered_cell *cells;
	int cell_count, cell_capacity;
	struct offered_row *tallies;
	int tally_count, tally_capacity;
	int births[KEYS_MAX]; /* how often the hub took a tally as new */
	struct past **history;
	int history_count;
	struct checker_counts counts;
};

const struct sim_state *checker_state_at(const struct checker *c, int64_t position);
bool checker_settled_by(const struct checker *c, int line, int64_t number, int64_t position);
int checker_last(const struct checker *c, int line); /* its last edit of all; -1: none; line -1: the hub's */
int checker_last_edit(const struct checker *c, int line, int key, bool only_deletes);
/* What was settled for this line was for other copies of its device with the same content, too;
 * for those with another one it never will be. */
void checker_settled_together(struct checker *c, int line, int64_t number);
void checker_settled_before(struct checker *c, int line, int64_t number); /* the other way round */
void checker_lines_free(struct checker *c);

/* checker_policies.c */
void checker_note_tally(struct checker *c, struct offered_row row);
void checker_policies(struct checker *c, const struct commit *t);
bool checker_is_tally_kept(const struct sim_kept *kept, int key, int column, int64_t made);
void checker_add_difference(struct difference *d, const struct edit *e);
bool checker_shows_difference(const struct difference *d, int cell, int64_t mine, int64_t base, int64_t shown);
bool checker_has_own_judge(uint32_t table, int cell); /* counter, set, guard: their values name no author */

#endif
