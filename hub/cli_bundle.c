/* bundle: a device's changes that came as a file, and the answer that goes
 * back as one, for where no link leads. protocol/README.md [P 12]. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hub/bundle_exchange.h"
#include "hub/cli.h"
#include "shared/files.h"
#include "shared/pki_bundle.h"
#include "shared/random.h"

struct keys { /* the CA's, which devices know; the caller wipes it */
	char key_pem[PKI_PEM_MAX], certificate_pem[PKI_PEM_MAX];
};

static enum ferry_error load_keys(const struct hub_settings *s, struct keys *out, struct ferry_why *why)
{
	char path[FILES_PATH_MAX];
	enum ferry_error e = files_join(path, s->state_dir, "ca.key", why);
	if (e == FERRY_OK)
		e = files_check_secret(path, why);
	if (e == FERRY_OK)
		e = files_read_into(path, out->key_pem, sizeof(out->key_pem), why);
	if (e == FERRY_OK)
		e = files_join(path, s->state_dir, "ca.crt", why);
	if (e == FERRY_OK)
		e = files_read_into(path, out->certificate_pem, sizeof(out->certificate_pem), why);
	return e;
}

struct bundling {
	struct cli *c;
	const struct hub_settings *s;
	struct keys keys;
	struct buffer file, records, answer;
	uint8_t sender[PKI_FINGERPRINT_BYTES];
	struct bundle parts; /* of file */
	struct ferry_why why;
};

static enum ferry_error open_bundle(struct bundling *b, const char *path)
{
	enum ferry_error e = bundle_file_read(path, &b->file, &b->why);
	if (e == FERRY_OK)
		e = pki_bundle_open(BUNDLE_FROM_DEVICE, b->file.p, b->file.n, b->keys.key_pem, b->keys.certificate_pem, NULL,
				    &b->records, b->sender, &b->why);
	if (e == FERRY_OK)
		e = bundle_parse(b->file.p, b->file.n, &b->parts, &b->why);
	return e;
}

static enum ferry_error write_answer(struct bundling *b, const char *path)
{
	struct buffer out;
	buffer_init(&out, BUNDLE_BYTES_MAX);
	enum ferry_error e = pki_bundle_seal(BUNDLE_FROM_HUB, b->keys.key_pem, b->keys.certificate_pem,
					     b->parts.certificate, b->parts.certificate_bytes, b->answer.p, b->answer.n, &out,
					     &b->why);
	if (e == FERRY_OK)
		e = files_replace(path, out.p, out.n, 0600, false, &b->why);
	buffer_deinit(&out);
	return e;
}

static void show_progress(void *ctx, uint64_t settled, uint64_t of)
{
	(void)ctx;
	fprintf(stderr, "\r%" PRIu64 " of %" PRIu64 " change-sets settled\033[K", settled, of);
	fflush(stderr);
}

static const char *advice(enum ferry_error e)
{
	switch (e) {
	case FERRY_EXISTS:
		return "Nothing was changed. ferry-hub bundle export makes the answer again";
	case FERRY_UNKNOWN_DEVICE:
		return "If its certificate was renewed since, let the device export again";
	case FERRY_CORRUPT:
		return "Nothing was changed. Copy the file again, or let the device export again";
	default:
		return NULL;
	}
}

static int report(struct bundling *b, const struct bundle_outcome *o, const char *answer, bool take)
{
	char device[UUID_TEXT];
	struct json *j = json_new_object();
	uuid_format(&o->device, device);
	json_put_text(j, "device", device);
	if (take) {
		json_put_int(j, "change_sets", (int64_t)o->change_sets);
		json_put_int(j, "accepted", (int64_t)o->accepted);
		json_put_int(j, "superseded", (int64_t)o->superseded);
		json_put_int(j, "rejected", (int64_t)o->rejected);
		json_put_int(j, "parked", (int64_t)o->parked);
		json_put_int(j, "settled_before", (int64_t)o->repeated);
	}
	json_put_text(j, "answer", answer);
	if (answer) {
		json_put_int(j, "position", o->position);
		json_put_bool(j, "filled", o->filled);
	}
	if (!take)
		return cli_print_done(b->c, j, "%s brings device %s to position %" PRId64, answer, device, o->position);
	return cli_print_done(b->c, j,
			      "%" PRIu64 " change-sets of device %s: %" PRIu64 " accepted, %" PRIu64 " superseded, %" PRIu64
			      " rejected, %" PRIu64 " parked; %" PRIu64 " of them settled before%s%s",
			      o->change_sets, device, o->accepted, o->superseded, o->rejected, o->parked, o->repeated,
			      answer ? "; the answer is " : "", answer ? answer : "");
}

static int bundle(struct bundling *b, const char *path, const char *answer, bool take)
{
	struct bundle_outcome outcome = {0};
	bool shown = isatty(STDERR_FILENO) && !cli_json(b->c);
	enum ferry_error e = load_keys(b->s, &b->keys, &b->why);
	if (e == FERRY_OK)
		e = open_bundle(b, path);
	if (e == FERRY_OK) {
		struct bundle_exchange what = {.settings = b->s, .fingerprint = b->sender, .records = b->records.p,
					       .record_bytes = b->records.n, .take = take, .answer = answer ? &b->answer : NULL,
					       .progress = shown ? show_progress : NULL};
		e = bundle_exchange(&what, &outcome, &b->why);
	}
	if (shown)
		fputs("\r\033[K", stderr);
	if (e == FERRY_OK && answer)
		e = write_answer(b, answer);
	return e == FERRY_OK ? report(b, &outcome, answer, take) : cli_fail(b->c, e, b->why.text, advice(e));
}

static int run(struct cli *c, const char *path, const char *answer, bool take)
{
	struct cli_setting s;
	struct bundling b = {.c = c, .s = &s.settings};
	int exit_code = CLI_OK;
	buffer_init(&b.file, BUNDLE_BYTES_MAX);
	buffer_init(&b.records, BUNDLE_BYTES_MAX);
	buffer_init(&b.answer, BUNDLE_BYTES_MAX - BUNDLE_OVERHEAD_MAX);
	if (cli_setting_init(c, &s, &exit_code))
		exit_code = bundle(&b, path, answer, take);
	cli_setting_deinit(&s);
	secret_wipe(&b.keys, sizeof(b.keys));
	if (b.records.p)
		secret_wipe(b.records.p, b.records.n);
	buffer_deinit(&b.file);
	buffer_deinit(&b.records);
	buffer_deinit(&b.answer);
	return exit_code;
}

int cli_bundle_import(struct cli *c)
{
	return run(c, cli_argument(c, 0), cli_value(c, "answer"), true);
}

int cli_bundle_export(struct cli *c)
{
	return run(c, cli_argument(c, 0), cli_argument(c, 1), false);
}
