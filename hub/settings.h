/* The hub's configuration: one table of keys. */
#ifndef FERRY_HUB_SETTINGS_H
#define FERRY_HUB_SETTINGS_H

#include "protocol/message.h"
#include "shared/config.h"
#include "shared/files.h"

#define HUB_STATE_DIR	"/var/lib/ferry-hub"
#define HUB_CONFIG_FILE "/etc/ferry/hub.yaml"

struct hub_settings {
	const char *state_dir;
	const char *database;       /* as the role ferry_hub */
	const char *admin_database; /* "": as database */
	const char *secret_keys;    /* "": in the state folder */
	const char *sql_dir;        /* "": found by itself */
	const char *device_address, *enrol_address;
	int64_t device_port, enrol_port;
	const char *public_host;    /* "": the device address */
	int64_t public_device_port, public_enrol_port; /* 0: the same as listened on */
	struct config_list names;   /* further ones for the server's certificate */
	int64_t device_certificate_us, server_certificate_us, ca_certificate_us;
	const char *admin_socket;   /* "": in the state folder */
	int log_level;
	bool allow_unsafe_database;
	int64_t connections, lock_timeout_us;
	int64_t links_max;
	int64_t kept_device, kept_tenant; /* bytes */
	int64_t session_credit, batch_rows, batch_bytes, ring_bytes, fill_bytes;
	int64_t database_wait_us; /* at the start */
	int64_t hello_timeout_us, poll_interval_us, registry_interval_us, drain_timeout_us;
	int64_t version_min, version_max; /* of the protocol */
	int64_t placement_idle_us, shut_retry_us, heal_window_us, heal_park_us;
};

extern const struct config_table hub_config_table;

/* NULL: not given. state_dir beats $FERRY_HUB_DIR, which beats the file. */
FERRY_CHECK enum ferry_error hub_settings_load(const char *config, const char *state_dir, const char *database,
					       struct arena *arena, struct hub_settings *out, struct ferry_why *why);
/* What tokens and enrolments name. */
const char *hub_public_host(const struct hub_settings *s);
FERRY_CHECK enum ferry_error hub_admin_socket(const struct hub_settings *s, char out[FILES_PATH_MAX],
					      struct ferry_why *why);

#endif
