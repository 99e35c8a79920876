#include "hub/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const levels[] = {"error", "warning", "info", "debug", NULL};

#define KEY(n, t, m, d)                                                                                                \
	.name = (n), .type = CONFIG_##t, .offset = offsetof(struct hub_settings, m), .otherwise = (d)
#define SECOND INT64_C(1000000)
#define DAY    (86400 * SECOND)

static const struct config_key keys[] = {
	{KEY("state_dir", PATH, state_dir, HUB_STATE_DIR), .text = "Folder of the CA, the server's certificate and the admin socket."},
	{KEY("database", TEXT, database, "dbname=ferry user=ferry_hub"), .min = 1, .max = 1000,
	 .text = "How to connect to PostgreSQL as the role ferry_hub (a libpq connection string)."},
	{KEY("admin_database", TEXT, admin_database, ""), .max = 1000,
	 .text = "The same for migrate, tenant, token and device commands, as a role that may do that. Empty: as database."},
	{KEY("secret_keys", TEXT, secret_keys, ""), .max = 1000,
	 .text = "File of the keys that secrets are encrypted with. Empty: secret.keys in the state folder."},
	{KEY("sql_dir", TEXT, sql_dir, ""), .max = 1000, .text = "Folder of the migrations. Empty: beside the program."},
	{KEY("device.address", TEXT, device_address, "127.0.0.1"), .max = 253, .text = "Address to listen on for devices."},
	{KEY("device.port", INT, device_port, "7443"), .max = 65535, .text = "Port for devices; 0: any free one."},
	{KEY("enrol.address", TEXT, enrol_address, "127.0.0.1"), .max = 253, .text = "Address to listen on for enrolment."},
	{KEY("enrol.port", INT, enrol_port, "7444"), .max = 65535, .text = "Port for enrolment; 0: any free one."},
	{KEY("public.host", TEXT, public_host, ""), .max = 253,
	 .text = "Name or address by which devices reach this hub; stands in tokens and in the server's certificate. "
		 "Empty: the device address."},
	{KEY("public.device_port", INT, public_device_port, "0"), .max = 65535,
	 .text = "Port by which devices reach it, where a balancer stands before it. 0: as listened on."},
	{KEY("public.enrol_port", INT, public_enrol_port, "0"), .max = 65535, .text = "The same for enrolment."},
	{KEY("public.names", LIST, names, ""), .text = "Further names and addresses for the server's certificate."},
	{KEY("certificate.device", TIME, device_certificate_us, "365d"), .min = 5 * SECOND, .max = 3650 * DAY,
	 .text = "How long a device's certificate is valid; it renews itself when a third is left."},
	{KEY("certificate.server", TIME, server_certificate_us, "365d"), .min = DAY, .max = 3650 * DAY,
	 .text = "How long the server's own certificate is valid; renewed at start when a third is left."},
	{KEY("certificate.ca", TIME, ca_certificate_us, "7300d"), .min = DAY, .max = 36500 * DAY,
	 .text = "How long the CA made at the first start is valid."},
	{KEY("admin.socket", TEXT, admin_socket, ""), .max = 100,
	 .text = "Path of the administration's unix socket. Empty: admin.sock in the state folder."},
	{KEY("log_level", CHOICE, log_level, "info"), .choices = levels, .text = "How much to say."},
	{KEY("pg.allow_unsafe", BOOL, allow_unsafe_database, "no"),
	 .text = "Work on a server that may lose what it confirmed (fsync off and the like). For tests."},
	{KEY("pg.connections", INT, connections, "4"), .min = 2, .max = 64, .text = "Connections of the store."},
	{KEY("pg.lock_timeout", TIME, lock_timeout_us, "300ms"), .min = 1000, .max = 60 * SECOND,
	 .text = "How long a merge waits for a row that somebody else holds."},
	{KEY("pg.placement_idle", TIME, placement_idle_us, "5min"), .min = 30 * SECOND, .max = DAY,
	 .text = "Connections to a database or set of schemas beside the home one are closed when unused for so long."},
	{KEY("limits.links", INT, links_max, "4000"), .min = 1, .max = 100000, .text = "Devices connected at a time."},
	{KEY("limits.session_credit", BYTES, session_credit, "4MiB"), .min = 1 << 20, .max = 64 << 20,
	 .text = "What a device may have under way to the hub."},
	{KEY("limits.batch_rows", INT, batch_rows, "20000"), .min = 1, .max = 1000000,
	 .text = "Rows of one merge transaction, about."},
	{KEY("limits.batch_bytes", BYTES, batch_bytes, "8MiB"), .min = 64 << 10, .max = 1 << 30,
	 .text = "Bytes of one merge transaction, about."},
	{KEY("limits.ring", BYTES, ring_bytes, "16MiB"), .min = 1 << 20, .max = INT64_C(2) << 30,
	 .text = "Frames kept in memory for each tenant."},
	{KEY("limits.fill_chunk", BYTES, fill_bytes, "256KiB"), .min = 4096, .max = 900 << 10,
	 .text = "About how large a message of a fill becomes."},
	{KEY("limits.kept_device", BYTES, kept_device, "2GiB"), .min = 64 << 10, .max = INT64_C(1) << 40,
	 .text = "What the hub keeps of a device's refused and parked change-sets and of large ones on their way, about."},
	{KEY("limits.kept_tenant", BYTES, kept_tenant, "32GiB"), .min = 64 << 10, .max = INT64_C(1) << 46,
	 .text = "The same of all devices of a tenant; at least limits.kept_device."},
	{KEY("protocol.lowest", INT, version_min, "1"), .min = FERRY_PROTOCOL_LOWEST, .max = FERRY_PROTOCOL_HIGHEST,
	 .text = "Lowest version of the protocol that devices may speak; raise it when none speaks the lower ones any more."},
	{KEY("protocol.highest", INT, version_max, "2"), .min = FERRY_PROTOCOL_LOWEST, .max = FERRY_PROTOCOL_HIGHEST,
	 .text = "Highest version of the protocol that is spoken; a lower one holds an upgrade back."},
	{KEY("timing.database_wait", TIME, database_wait_us, "30s"), .min = 0, .max = 3600 * SECOND,
	 .text = "How long a starting hub waits for a PostgreSQL that is down or still starting; then it ends."},
	{KEY("timing.hello_timeout", TIME, hello_timeout_us, "10s"), .min = 100000, .max = 600 * SECOND,
	 .text = "How long a device may take to greet."},
	{KEY("timing.poll", TIME, poll_interval_us, "100ms"), .min = 1000, .max = 60 * SECOND,
	 .text = "Pause between looks for commits of others."},
	{KEY("timing.registry", TIME, registry_interval_us, "1s"), .min = 10000, .max = 3600 * SECOND,
	 .text = "Pause between looks for devices enrolled or revoked elsewhere."},
	{KEY("timing.tenant_retry", TIME, shut_retry_us, "30s"), .min = 10000, .max = DAY,
	 .text = "When devices of a suspended tenant, or one whose calls are used up, come again."},
	{KEY("timing.heal", TIME, heal_window_us, "30s"), .min = 0, .max = 3600 * SECOND,
	 .text = "After a restore was found out: how long devices' change-sets of the lost time are gathered, to be merged "
		 "in their old order."},
	{KEY("timing.heal_park", TIME, heal_park_us, "7d"), .min = 0, .max = 365 * DAY,
	 .text = "And how long one of them waits for what it builds on; then it is refused, and kept."},
	{KEY("timing.drain", TIME, drain_timeout_us, "10s"), .min = 0, .max = 600 * SECOND,
	 .text = "How long a stopping hub finishes what is under way."},
};

const struct config_table hub_config_table = {keys, sizeof(keys) / sizeof(keys[0])};

enum ferry_error hub_settings_load(const char *config, const char *state_dir, const char *database,
				   struct arena *arena, struct hub_settings *out, struct ferry_why *why)
{
	enum ferry_error e = FERRY_OK;
	if (!state_dir)
		state_dir = getenv("FERRY_HUB_DIR");
	if (!config && files_exists(HUB_CONFIG_FILE))
		config = HUB_CONFIG_FILE;
	config_set_defaults(&hub_config_table, out);
	if (config)
		e = config_read_file(&hub_config_table, config, arena, out, why);
	if (e == FERRY_OK && state_dir && *state_dir)
		out->state_dir = state_dir;
	if (e == FERRY_OK && database)
		out->database = out->admin_database = database;
	if (e == FERRY_OK && out->version_max < out->version_min)
		e = ferry_fail(why, FERRY_CONFIG, "protocol.highest is below protocol.lowest");
	if (e == FERRY_OK && out->kept_tenant < out->kept_device)
		e = ferry_fail(why, FERRY_CONFIG, "limits.kept_tenant is below limits.kept_device");
	return e == FERRY_OK ? config_check(&hub_config_table, out, why) : e;
}

const char *hub_public_host(const struct hub_settings *s)
{
	return *s->public_host ? s->public_host : s->device_address;
}

enum ferry_error hub_admin_socket(const struct hub_settings *s, char out[FILES_PATH_MAX], struct ferry_why *why)
{
	if (!*s->admin_socket)
		return files_join(out, s->state_dir, "admin.sock", why);
	snprintf(out, FILES_PATH_MAX, "%s", s->admin_socket);
	return FERRY_OK;
}
