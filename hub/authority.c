#include "hub/authority.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/random.h"

#define NAMES_BYTES_MAX 4096

struct authority_paths {
	char ca_key[FILES_PATH_MAX], ca[FILES_PATH_MAX];
	char key[FILES_PATH_MAX], certificate[FILES_PATH_MAX], names[FILES_PATH_MAX], lock[FILES_PATH_MAX];
};

static enum ferry_error paths_of(const char *folder, struct authority_paths *p, struct ferry_why *why)
{
	enum ferry_error e = files_join(p->ca_key, folder, "ca.key", why);
	if (e == FERRY_OK)
		e = files_join(p->ca, folder, "ca.crt", why);
	if (e == FERRY_OK)
		e = files_join(p->key, folder, "server.key", why);
	if (e == FERRY_OK)
		e = files_join(p->certificate, folder, "server.crt", why);
	if (e == FERRY_OK)
		e = files_join(p->names, folder, "server.names", why);
	if (e == FERRY_OK)
		e = files_join(p->lock, folder, "authority.lock", why);
	return e;
}

static enum ferry_error write_pem(const char *path, const char *pem, mode_t mode, struct ferry_why *why)
{
	return files_replace(path, pem, strlen(pem), mode, false, why);
}

/* The key first: a certificate that is there always has its key. */
static enum ferry_error make_ca(const struct authority_paths *p, const struct hub_settings *s, int64_t now_s,
				struct ferry_why *why)
{
	char key[PKI_PEM_MAX], certificate[PKI_PEM_MAX];
	enum ferry_error e = pki_ca_create("Ferry CA", now_s, now_s + s->ca_certificate_us / 1000000, key, certificate,
					   why);
	if (e == FERRY_OK)
		e = write_pem(p->ca_key, key, 0600, why);
	if (e == FERRY_OK)
		e = write_pem(p->ca, certificate, 0644, why);
	secret_wipe(key, sizeof(key));
	return e;
}

static enum ferry_error load_ca(const struct authority_paths *p, struct authority *a, struct ferry_why *why)
{
	char key[PKI_PEM_MAX];
	struct pki_certificate read;
	enum ferry_error e = files_check_secret(p->ca_key, why);
	if (e == FERRY_OK)
		e = files_read_into(p->ca_key, key, sizeof(key), why);
	if (e != FERRY_OK)
		return e;
	e = files_read_into(p->ca, a->ca_pem, sizeof(a->ca_pem), why);
	if (e == FERRY_OK)
		e = pki_ca_load(key, a->ca_pem, &a->ca, why);
	if (e == FERRY_OK)
		e = pki_certificate_read_pem(a->ca_pem, &read, why);
	if (e == FERRY_OK)
		memcpy(a->ca_fingerprint, read.fingerprint, sizeof(a->ca_fingerprint));
	secret_wipe(key, sizeof(key));
	return e;
}

static bool is_any(const char *address)
{
	return !*address || strcmp(address, "0.0.0.0") == 0 || strcmp(address, "::") == 0;
}

/* Without repetition; the public name first, since it becomes the subject. */
static size_t names_of(const struct hub_settings *s, const char *names[PKI_SERVER_NAMES_MAX])
{
	const char *all[4] = {hub_public_host(s), s->device_address, "localhost", "127.0.0.1"};
	size_t n = 0, total = 4 + s->names.count;
	for (size_t i = 0; i < total && n < PKI_SERVER_NAMES_MAX; i++) {
		const char *name = i < 4 ? all[i] : s->names.items[i - 4];
		bool known = is_any(name);
		for (size_t k = 0; k < n && !known; k++)
			known = strcmp(names[k], name) == 0;
		if (!known)
			names[n++] = name;
	}
	return n;
}

static void names_text(const char *const *names, size_t count, char out[NAMES_BYTES_MAX])
{
	size_t n = 0;
	out[0] = '\0';
	for (size_t i = 0; i < count; i++) {
		int length = snprintf(out + n, NAMES_BYTES_MAX - n, "%s\n", names[i]);
		if (length < 0 || (size_t)length >= NAMES_BYTES_MAX - n)
			return;
		n += (size_t)length;
	}
}

/* Is the server's certificate there, for these names, by this CA's time, and
 * good for a while? */
static bool server_is_good(const struct authority_paths *p, const struct hub_settings *s, const char *names,
			   int64_t now_s, struct authority *a)
{
	char made_for[NAMES_BYTES_MAX];
	struct pki_certificate read;
	int64_t third = s->server_certificate_us / 1000000 / 3;
	return !a->made_ca && files_read_into(p->names, made_for, sizeof(made_for), NULL) == FERRY_OK &&
	       strcmp(made_for, names) == 0 && files_check_secret(p->key, NULL) == FERRY_OK &&
	       files_read_into(p->key, a->server_key_pem, PKI_PEM_MAX, NULL) == FERRY_OK &&
	       files_read_into(p->certificate, a->server_pem, PKI_PEM_MAX, NULL) == FERRY_OK &&
	       pki_key_matches(a->server_key_pem, a->server_pem, NULL) == FERRY_OK &&
	       pki_certificate_read_pem(a->server_pem, &read, NULL) == FERRY_OK && read.not_after_s - now_s > third &&
	       read.not_before_s <= now_s;
}

static enum ferry_error make_server(const struct authority_paths *p, const struct hub_settings *s,
				    const char *const *names, size_t count, const char *text, int64_t now_s,
				    struct authority *a, struct ferry_why *why)
{
	enum ferry_error e = pki_key_create(a->server_key_pem, why);
	if (e == FERRY_OK)
		e = pki_issue_server(a->ca, a->server_key_pem, names, count, now_s,
				     now_s + s->server_certificate_us / 1000000, a->server_pem, why);
	/* server.names last: without it all three are made anew. */
	if (e == FERRY_OK && unlink(p->names) != 0 && files_exists(p->names))
		e = ferry_fail(why, FERRY_IO, "%s cannot be replaced", p->names);
	if (e == FERRY_OK)
		e = write_pem(p->key, a->server_key_pem, 0600, why);
	if (e == FERRY_OK)
		e = write_pem(p->certificate, a->server_pem, 0644, why);
	if (e == FERRY_OK)
		e = write_pem(p->names, text, 0644, why);
	return e;
}

static enum ferry_error open_locked(const struct authority_paths *p, const struct hub_settings *s, int64_t now_s,
				    struct authority *a, struct ferry_why *why)
{
	const char *names[PKI_SERVER_NAMES_MAX];
	char text[NAMES_BYTES_MAX];
	enum ferry_error e = FERRY_OK;
	if (!files_exists(p->ca)) {
		e = make_ca(p, s, now_s, why);
		a->made_ca = true;
	}
	if (e == FERRY_OK)
		e = load_ca(p, a, why);
	if (e != FERRY_OK)
		return e;
	size_t count = names_of(s, names);
	names_text(names, count, text);
	if (server_is_good(p, s, text, now_s, a))
		return FERRY_OK;
	return make_server(p, s, names, count, text, now_s, a, why);
}

enum ferry_error authority_open(const struct hub_settings *settings, int64_t now_s, struct authority *out,
				struct ferry_why *why)
{
	struct authority_paths p;
	int lock = -1;
	memset(out, 0, sizeof(*out));
	enum ferry_error e = files_make_folder(settings->state_dir, 0750, why);
	if (e == FERRY_OK)
		e = paths_of(settings->state_dir, &p, why);
	if (e == FERRY_OK)
		e = files_lock_wait(p.lock, &lock, why);
	if (e == FERRY_OK)
		e = open_locked(&p, settings, now_s, out, why);
	if (lock >= 0)
		close(lock);
	if (e != FERRY_OK)
		authority_close(out);
	return e;
}

void authority_close(struct authority *a)
{
	pki_ca_free(a->ca);
	secret_wipe(a, sizeof(*a));
}
