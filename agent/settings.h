/* The agent's configuration: one table of keys, which also validates the
 * profiles in firmware-configs/. Read in this order, later over earlier:
 * defaults, --profile, the configuration file, the command line. */
#ifndef FERRY_AGENT_SETTINGS_H
#define FERRY_AGENT_SETTINGS_H

#include "protocol/message.h"
#include "shared/config.h"
#include "shared/files.h"

#define AGENT_STATE_DIR	  "/var/lib/ferry-agent"
#define AGENT_CONFIG_FILE "/etc/ferry/agent.yaml"

struct agent_settings {
	const char *state_dir;
	const char *device_class;
	const char *hub_host; /* "": as enrolled */
	int64_t hub_port, hub_enrol_port; /* 0: as enrolled */
	int log_level;
	bool durable;
	int64_t busy_timeout_us;
	int64_t backoff_min_us, backoff_max_us;
	int64_t connect_timeout_us, greeting_timeout_us, ping_interval_us;
	int64_t credit_bytes, push_bytes;
	int64_t version_min, version_max; /* of the protocol */
	int64_t history_age_us, history_bytes;
};

extern const struct config_table agent_config_table;

struct agent_paths { /* of the state folder */
	char identity[FILES_PATH_MAX];
	char replica[FILES_PATH_MAX];
	char run[FILES_PATH_MAX];    /* a folder of its own, so that a status file wakes nobody */
	char status[FILES_PATH_MAX];
	char lock[FILES_PATH_MAX];
	char socket[FILES_PATH_MAX]; /* of local programs */
};

/* NULL: not given. state_dir beats $FERRY_AGENT_DIR, which beats the files. */
struct agent_settings_sources {
	const char *profile, *config, *state_dir;
};

/* Texts live in the arena. FERRY_CONFIG with file and line when wrong. */
FERRY_CHECK enum ferry_error agent_settings_load(const struct agent_settings_sources *from, struct arena *arena,
						 struct agent_settings *out, struct ferry_why *why);
FERRY_CHECK enum ferry_error agent_paths_of(const char *state_dir, struct agent_paths *out, struct ferry_why *why);

#endif
