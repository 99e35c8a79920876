#include "agent/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/clock.h"
#include "shared/files.h"
#include "shared/json.h"
#include "shared/random.h"
#include "shared/time_text.h"

static const char *const names[] = {"device.key", "device.crt", "ca.crt", "enrolment.json"};

bool identity_exists(const char *folder)
{
	char path[FILES_PATH_MAX];
	return files_join(path, folder, "enrolment.json", NULL) == FERRY_OK && files_exists(path);
}

static enum ferry_error read_pem(const char *folder, const char *name, char out[PKI_PEM_MAX], struct ferry_why *why)
{
	char path[FILES_PATH_MAX];
	enum ferry_error e = files_join(path, folder, name, why);
	return e == FERRY_OK ? files_read_into(path, out, PKI_PEM_MAX, why) : e;
}

static bool copy_text(char *out, size_t max, const struct json *v)
{
	const char *text = json_text(v);
	if (!text || strlen(text) >= max)
		return false;
	memcpy(out, text, strlen(text) + 1);
	return true;
}

static bool copy_uuid(struct uuid *out, const struct json *v)
{
	const char *text = json_text(v);
	return text && uuid_parse(text, strlen(text), out);
}

static enum ferry_error read_enrolment(const char *folder, struct identity *out, struct ferry_why *why)
{
	char path[FILES_PATH_MAX];
	struct json *o = NULL;
	enum ferry_error e = files_join(path, folder, "enrolment.json", why);
	if (e == FERRY_OK)
		e = json_read_file(path, &o, why);
	if (e != FERRY_OK)
		return e;
	int64_t port = json_int(json_get(o, "hub_port"), 0);
	bool good = copy_uuid(&out->device, json_get(o, "device")) && copy_uuid(&out->tenant, json_get(o, "tenant")) &&
		    copy_text(out->name, sizeof(out->name), json_get(o, "name")) &&
		    copy_text(out->hub_host, sizeof(out->hub_host), json_get(o, "hub_host")) && port > 0 && port < 65536;
	out->hub_port = (int)port;
	/* Missing in what earlier versions wrote. */
	int64_t enrol_port = json_int(json_get(o, "enrol_port"), 0);
	if (enrol_port > 0 && enrol_port < 65536 &&
	    copy_text(out->enrol_host, sizeof(out->enrol_host), json_get(o, "enrol_host")))
		out->enrol_port = (int)enrol_port;
	json_release(o);
	return good ? FERRY_OK : ferry_fail(why, FERRY_CORRUPT, "%s lacks a field", path);
}

enum ferry_error identity_load(const char *folder, struct identity *out, struct ferry_why *why)
{
	if (!identity_exists(folder))
		return errno == EACCES ? ferry_fail(why, FERRY_IO, "%s cannot be read: %s; run this as the user that ferry-agent runs as",
						    folder, strerror(EACCES))
				       : ferry_fail(why, FERRY_NOT_ENROLLED, "this device is not enrolled (%s is not there)", folder);
	memset(out, 0, sizeof(*out));
	char key[FILES_PATH_MAX];
	enum ferry_error e = files_join(key, folder, "device.key", why);
	if (e == FERRY_OK)
		e = files_check_secret(key, why);
	if (e == FERRY_OK)
		e = read_pem(folder, "device.key", out->key_pem, why);
	if (e == FERRY_OK)
		e = read_pem(folder, "device.crt", out->certificate_pem, why);
	if (e == FERRY_OK)
		e = read_pem(folder, "ca.crt", out->ca_pem, why);
	if (e == FERRY_OK)
		e = read_enrolment(folder, out, why);
	if (e == FERRY_OK)
		e = pki_key_matches(out->key_pem, out->certificate_pem, why);
	if (e != FERRY_OK)
		secret_wipe(out, sizeof(*out));
	return e;
}

static char *enrolment_text(const struct identity *id)
{
	char text[UUID_TEXT], at[TIME_TEXT_MAX];
	struct json *o = json_new_object();
	struct value now = value_int(clock_wall_us());
	uuid_format(&id->device, text);
	json_put_text(o, "device", text);
	uuid_format(&id->tenant, text);
	json_put_text(o, "tenant", text);
	json_put_text(o, "name", id->name);
	json_put_text(o, "hub_host", id->hub_host);
	json_put_int(o, "hub_port", id->hub_port);
	if (id->enrol_port > 0) {
		json_put_text(o, "enrol_host", id->enrol_host);
		json_put_int(o, "enrol_port", id->enrol_port);
	}
	if (timestamp_to_text(&now, at))
		json_put_text(o, "enrolled_at", at);
	char *written = json_write_text(o, false);
	json_release(o);
	return written;
}

static enum ferry_error write_files(const char *folder, const struct identity *id, struct ferry_why *why)
{
	char *enrolment = enrolment_text(id), path[FILES_PATH_MAX];
	const char *texts[] = {id->key_pem, id->certificate_pem, id->ca_pem, enrolment};
	enum ferry_error e = files_make_folder(folder, 0700, why);
	for (size_t i = 0; i < 4 && e == FERRY_OK; i++) {
		e = files_join(path, folder, names[i], why);
		if (e == FERRY_OK)
			e = files_replace(path, texts[i], strlen(texts[i]), i == 0 ? 0600 : 0644, false, why);
	}
	free(enrolment);
	return e;
}

static void remove_files(const char *folder)
{
	char path[FILES_PATH_MAX];
	for (size_t i = 0; i < 4; i++)
		if (files_join(path, folder, names[i], NULL) == FERRY_OK)
			unlink(path);
	rmdir(folder);
}

enum ferry_error identity_store(const char *folder, const struct identity *id, struct ferry_why *why)
{
	char beside[FILES_PATH_MAX], parent[FILES_PATH_MAX];
	int n = snprintf(beside, sizeof(beside), "%s.new", folder);
	if (n < 0 || (size_t)n >= sizeof(beside))
		return ferry_fail(why, FERRY_LIMIT, "the path %.60s... is too long", folder);
	remove_files(beside);
	enum ferry_error e = write_files(beside, id, why);
	if (e != FERRY_OK)
		return e;
	bool replaces = files_exists(folder);
	if (renameat2(AT_FDCWD, beside, AT_FDCWD, folder, replaces ? RENAME_EXCHANGE : RENAME_NOREPLACE) != 0)
		return ferry_fail(why, FERRY_IO, "%s cannot be put in place: %s", folder, strerror(errno));
	if (replaces)
		remove_files(beside);
	snprintf(parent, sizeof(parent), "%s", folder);
	char *slash = strrchr(parent, '/');
	if (slash)
		*slash = '\0';
	return files_sync_folder(slash ? parent : ".", why);
}
