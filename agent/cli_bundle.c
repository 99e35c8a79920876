/* bundle: this device's changes as a file for its hub, and the hub's answer
 * out of one, for where no link leads. protocol/README.md [P 12]. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/bundle.h"
#include "agent/cli.h"
#include "agent/identity.h"
#include "agent/replica.h"
#include "shared/clock.h"
#include "shared/pki_bundle.h"
#include "shared/random.h"

struct bundling {
	struct cli *c;
	struct cli_setting s;
	struct identity identity;
	struct replica *replica;
	struct buffer file, records;
	int lock;
	struct ferry_why why;
};

/* The replica is this command's alone while it works. */
static enum ferry_error begin(struct bundling *b)
{
	struct replica_options options = {.busy_timeout_ms = (int)(b->s.settings.busy_timeout_us / 1000),
					  .full = b->s.settings.durable};
	enum ferry_error e = identity_load(b->s.paths.identity, &b->identity, &b->why);
	if (e == FERRY_OK)
		e = files_lock(b->s.paths.lock, &b->lock, &b->why);
	if (e == FERRY_EXISTS)
		e = ferry_fail(&b->why, FERRY_BUSY, "ferry-agent is running on this replica: stop it first");
	if (e == FERRY_OK)
		e = replica_open(b->s.paths.replica, &options, &b->replica, &b->why);
	return e;
}

static void end(struct bundling *b)
{
	replica_close(b->replica);
	if (b->lock >= 0)
		close(b->lock);
	secret_wipe(&b->identity, sizeof(b->identity));
	if (b->records.p)
		secret_wipe(b->records.p, b->records.n);
	buffer_deinit(&b->file);
	buffer_deinit(&b->records);
}

static const char *advice(enum ferry_error e)
{
	switch (e) {
	case FERRY_EXISTS:
		return "Nothing was changed, and nothing is missing";
	case FERRY_BUNDLE_ORDER:
		return "Nothing was changed. Export a new bundle, and have it answered";
	case FERRY_CORRUPT:
		return "Nothing was changed. Copy the file again, or have the answer made again: ferry-hub bundle export";
	case FERRY_BUNDLE:
		return "Nothing was changed. Take the file to the device that it is for";
	default:
		return NULL;
	}
}

static enum ferry_error make(struct bundling *b, const char *path, struct bundle_made *out)
{
	uint8_t ca[PKI_DER_MAX];
	size_t n = 0;
	enum ferry_error e = begin(b);
	if (e == FERRY_OK)
		e = bundle_collect(&replica_store_ops, b->replica, clock_wall_us(), &b->records, out, &b->why);
	if (e == FERRY_OK)
		e = pki_pem_to_der(b->identity.ca_pem, ca, &n, &b->why);
	if (e == FERRY_OK)
		e = pki_bundle_seal(BUNDLE_FROM_DEVICE, b->identity.key_pem, b->identity.certificate_pem, ca, n, b->records.p,
				    b->records.n, &b->file, &b->why);
	return e == FERRY_OK ? files_replace(path, b->file.p, b->file.n, 0600, false, &b->why) : e;
}

static enum ferry_error take(struct bundling *b, const char *path, struct bundle_taken *out)
{
	uint8_t sender[PKI_FINGERPRINT_BYTES];
	enum ferry_error e = begin(b);
	if (e == FERRY_OK)
		e = bundle_file_read(path, &b->file, &b->why);
	if (e == FERRY_OK)
		e = pki_bundle_open(BUNDLE_FROM_HUB, b->file.p, b->file.n, b->identity.key_pem, b->identity.certificate_pem,
				    b->identity.ca_pem, &b->records, sender, &b->why);
	return e == FERRY_OK ? bundle_apply(&replica_store_ops, b->replica, b->records.p, b->records.n, out, &b->why) : e;
}

static bool setting(struct bundling *b, struct cli *c, int *exit_code)
{
	*b = (struct bundling){.c = c, .lock = -1};
	buffer_init(&b->file, BUNDLE_BYTES_MAX);
	buffer_init(&b->records, BUNDLE_BYTES_MAX - BUNDLE_OVERHEAD_MAX);
	if (!cli_setting_init(c, &b->s, exit_code))
		return false;
	if (files_exists(b->s.paths.replica))
		return true;
	*exit_code = cli_fail(c, FERRY_NOT_ENROLLED, "there is no replica: this device is not enrolled",
			      "Run ferry-agent enrol with a token, or name the folder with --state-dir");
	return false;
}

int cli_bundle_export(struct cli *c)
{
	struct bundling b;
	struct bundle_made made = {0};
	const char *path = cli_argument(c, 0);
	int exit_code = CLI_OK;
	if (setting(&b, c, &exit_code)) {
		enum ferry_error e = make(&b, path, &made);
		struct json *o = e == FERRY_OK ? json_new_object() : NULL;
		if (o) {
			json_put_text(o, "file", path);
			json_put_int(o, "change_sets", (int64_t)made.change_sets);
			json_put_int(o, "position", made.position);
			json_put_int(o, "bytes", (int64_t)b.file.n);
			exit_code = cli_print_done(c, o, "%s holds %" PRIu64 " change-sets; they stay in the outbox until the hub's answer",
						   path, made.change_sets);
		} else {
			exit_code = cli_fail(c, e, b.why.text, advice(e));
		}
	}
	end(&b);
	cli_setting_deinit(&b.s);
	return exit_code;
}

int cli_bundle_import(struct cli *c)
{
	struct bundling b;
	struct bundle_taken taken = {0};
	int exit_code = CLI_OK;
	if (setting(&b, c, &exit_code)) {
		enum ferry_error e = take(&b, cli_argument(c, 0), &taken);
		struct json *o = e == FERRY_OK ? json_new_object() : NULL;
		if (o) {
			json_put_int(o, "position", taken.position);
			json_put_int(o, "settled", (int64_t)taken.settled);
			json_put_int(o, "rejected", (int64_t)taken.rejected);
			json_put_int(o, "conflicts", (int64_t)taken.conflicts);
			json_put_bool(o, "filled", taken.filled);
			exit_code = cli_print_done(c, o, "At position %" PRId64 "; %" PRIu64 " change-sets settled, %" PRIu64 " rejected",
						   taken.position, taken.settled, taken.rejected);
		} else {
			exit_code = cli_fail(c, e, b.why.text, advice(e));
		}
	}
	end(&b);
	cli_setting_deinit(&b.s);
	return exit_code;
}
