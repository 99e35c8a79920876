#include "agent/settings.h"

#include <stdlib.h>

static const char *const levels[] = {"error", "warning", "info", "debug", NULL};

#define KEY(n, t, m, d)                                                                                                \
	.name = (n), .type = CONFIG_##t, .offset = offsetof(struct agent_settings, m), .otherwise = (d)
#define SECOND INT64_C(1000000)

static const struct config_key keys[] = {
	{KEY("state_dir", PATH, state_dir, AGENT_STATE_DIR),
	 .text = "Folder of the replica, the device's key and certificate, and the status."},
	{KEY("device_class", TEXT, device_class, "generic"), .min = 1, .max = 60,
	 .text = "What kind of device this is; told to the hub at enrolment."},
	{KEY("hub.host", TEXT, hub_host, ""), .max = 253, .text = "Name or address of the hub. Empty: as enrolled."},
	{KEY("hub.port", INT, hub_port, "0"), .max = 65535, .text = "Port of the hub for devices. 0: as enrolled."},
	{KEY("hub.enrol_port", INT, hub_enrol_port, "0"), .max = 65535,
	 .text = "Port of the hub for enrolment, where the certificate renews itself. 0: as enrolled."},
	{KEY("log_level", CHOICE, log_level, "info"), .choices = levels, .text = "How much to say."},
	{KEY("replica.durable", BOOL, durable, "no"),
	 .text = "Sync every commit of the agent to the disk (synchronous=FULL) rather than in order (NORMAL). Apps "
		 "choose for their own connections."},
	{KEY("replica.busy_timeout", TIME, busy_timeout_us, "2s"), .min = 0, .max = 60 * SECOND,
	 .text = "How long to wait at a time for another program's write lock."},
	{KEY("history.age", TIME, history_age_us, "30d"), .min = SECOND, .max = 3650 * 86400 * SECOND,
	 .text = "How long confirmed change-sets are kept at the longest, to give them back to a hub that is restored from a "
		 "backup. They are forgotten as soon as the hub says that a backup holds them."},
	{KEY("history.bytes", BYTES, history_bytes, "256MiB"), .min = 1 << 16, .max = INT64_C(1) << 40,
	 .text = "How many bytes of them at the most; the oldest go first, and the log and the status say so."},
	{KEY("link.backoff_min", TIME, backoff_min_us, "500ms"), .min = 1000, .max = 3600 * SECOND,
	 .text = "Longest pause before the first new attempt to connect; drawn at random below it, doubled each time."},
	{KEY("link.backoff_max", TIME, backoff_max_us, "60s"), .min = 1000, .max = 86400 * SECOND,
	 .text = "Longest pause between attempts to connect."},
	{KEY("link.connect_timeout", TIME, connect_timeout_us, "15s"), .min = 100000, .max = 600 * SECOND,
	 .text = "How long connecting may take."},
	{KEY("link.greeting_timeout", TIME, greeting_timeout_us, "15s"), .min = 100000, .max = 600 * SECOND,
	 .text = "How long the hub may take to answer the greeting."},
	{KEY("link.ping_interval", TIME, ping_interval_us, "20s"), .min = 100000, .max = 3600 * SECOND,
	 .text = "Pause between clock probes; a hub that misses two is taken for dead."},
	{KEY("link.credit", BYTES, credit_bytes, "4MiB"), .min = 2 << 20, .max = 64 << 20,
	 .text = "What the hub may have under way to this device."},
	{KEY("link.push", BYTES, push_bytes, "256KiB"), .min = 4096, .max = 900 << 10,
	 .text = "About how large a message with change-sets becomes."},
	{KEY("protocol.lowest", INT, version_min, "1"), .min = FERRY_PROTOCOL_LOWEST, .max = FERRY_PROTOCOL_HIGHEST,
	 .text = "Lowest version of the protocol that is spoken."},
	{KEY("protocol.highest", INT, version_max, "2"), .min = FERRY_PROTOCOL_LOWEST, .max = FERRY_PROTOCOL_HIGHEST,
	 .text = "Highest version of the protocol that is spoken; a lower one holds an upgrade back."},
};

const struct config_table agent_config_table = {keys, sizeof(keys) / sizeof(keys[0])};

enum ferry_error agent_settings_load(const struct agent_settings_sources *from, struct arena *arena,
				     struct agent_settings *out, struct ferry_why *why)
{
	const char *state_dir = from->state_dir ? from->state_dir : getenv("FERRY_AGENT_DIR");
	const char *config = from->config;
	enum ferry_error e = FERRY_OK;
	config_set_defaults(&agent_config_table, out);
	if (!config && files_exists(AGENT_CONFIG_FILE))
		config = AGENT_CONFIG_FILE;
	if (from->profile)
		e = config_read_file(&agent_config_table, from->profile, arena, out, why);
	if (e == FERRY_OK && config)
		e = config_read_file(&agent_config_table, config, arena, out, why);
	if (e == FERRY_OK && state_dir && *state_dir)
		out->state_dir = state_dir;
	if (e == FERRY_OK && out->backoff_max_us < out->backoff_min_us)
		e = ferry_fail(why, FERRY_CONFIG, "link.backoff_max is shorter than link.backoff_min");
	if (e == FERRY_OK && out->version_max < out->version_min)
		e = ferry_fail(why, FERRY_CONFIG, "protocol.highest is below protocol.lowest");
	return e == FERRY_OK ? config_check(&agent_config_table, out, why) : e;
}

enum ferry_error agent_paths_of(const char *state_dir, struct agent_paths *out, struct ferry_why *why)
{
	enum ferry_error e = files_join(out->identity, state_dir, "identity", why);
	if (e == FERRY_OK)
		e = files_join(out->replica, state_dir, "replica.db", why);
	if (e == FERRY_OK)
		e = files_join(out->run, state_dir, "run", why);
	if (e == FERRY_OK)
		e = files_join(out->status, state_dir, "run/status.json", why);
	if (e == FERRY_OK)
		e = files_join(out->lock, state_dir, "run/lock", why);
	if (e == FERRY_OK)
		e = files_join(out->socket, state_dir, "run/agent.sock", why);
	return e;
}
