/* A link server for the certificate matrix:
 *
 *   tls-probe-server <folder> required|optional
 *
 * The folder holds server.crt, server.key, ca.crt and, if it likes, revoked.txt: fingerprints
 * in lower-case hex, a line each, read anew at every connection. Prints its port, then a line
 * "opened <fingerprint or none>" for each link that gets in. Ends when its input does. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/files.h"
#include "shared/link.h"
#include "shared/sha256.h"

struct probe {
	const char *folder;
	struct loop *loop;
};

static char *read_file(const char *folder, const char *name)
{
	char path[FILES_PATH_MAX];
	struct ferry_why why = {""};
	char *text = NULL;
	size_t n;

	if (files_join(path, folder, name, &why) != FERRY_OK || files_read(path, &text, &n, &why) != FERRY_OK)
		return NULL;
	return text;
}

static enum ferry_error on_verify(void *context, const struct link_peer *peer)
{
	const struct probe *probe = context;
	char hex[SHA256_HEX_BYTES];
	enum ferry_error rc = FERRY_OK;
	char *revoked;

	if (!peer->has_certificate)
		return FERRY_OK; /* the link itself refuses it where one is required */
	revoked = read_file(probe->folder, "revoked.txt");
	hex_of(peer->certificate.fingerprint, PKI_FINGERPRINT_BYTES, hex);
	if (revoked && strstr(revoked, hex))
		rc = FERRY_REVOKED;
	free(revoked);
	return rc;
}

static void on_open(struct link *link, void *context)
{
	const uint8_t *fingerprint = link_peer_fingerprint(link);
	char hex[SHA256_HEX_BYTES] = "none";

	(void)context;
	if (fingerprint)
		hex_of(fingerprint, PKI_FINGERPRINT_BYTES, hex);
	printf("opened %s\n", hex);
	fflush(stdout);
}

static void on_message(struct link *link, void *context, const uint8_t *bytes, size_t n)
{
	(void)context;
	if (link_send(link, bytes, n) != LINK_SENT)
		link_close(link, LINK_CLOSE_TRY_LATER, "the queue is full");
}

static void on_close(struct link *link, void *context, const struct link_end *end)
{
	(void)link;
	(void)context;
	(void)end;
}

static void input_ended(void *context)
{
	struct probe *probe = context;
	char byte;

	if (read(STDIN_FILENO, &byte, 1) <= 0)
		loop_stop(probe->loop);
}

static int serve(struct probe *probe, bool optional)
{
	static const struct link_calls calls = {
		.on_verify = on_verify, .on_open = on_open, .on_message = on_message, .on_close = on_close};
	static const struct loop_watch_calls input = {.on_readable = input_ended};
	char *certificate = read_file(probe->folder, "server.crt");
	char *key = read_file(probe->folder, "server.key");
	char *ca = read_file(probe->folder, "ca.crt");
	struct link_server_config config = {.address = "127.0.0.1",
					    .certificate_pem = certificate,
					    .key_pem = key,
					    .client_ca_pem = ca,
					    .client_certificate_optional = optional};
	struct link_server *server = NULL;
	struct loop_watch *watch = NULL;
	struct ferry_why why = {"server.crt, server.key or ca.crt cannot be read"};
	enum ferry_error rc = FERRY_IO;

	if (certificate && key && ca)
		rc = loop_new(NULL, &probe->loop, &why);
	if (rc == FERRY_OK)
		rc = link_listen(probe->loop, &config, &calls, probe, &server, &why);
	if (rc == FERRY_OK)
		rc = loop_watch_new(probe->loop, STDIN_FILENO, &input, probe, &watch, &why);
	if (rc == FERRY_OK) {
		printf("%d\n", link_server_port(server));
		fflush(stdout);
		loop_run(probe->loop);
	} else {
		fprintf(stderr, "tls-probe-server: %s\n", why.text);
	}
	loop_watch_free(watch);
	link_server_free(server);
	loop_free(probe->loop);
	free(certificate);
	free(key);
	free(ca);
	return rc == FERRY_OK ? 0 : 1;
}

int main(int argc, char **argv)
{
	struct probe probe = {0};

	if (argc != 3 || (strcmp(argv[2], "required") != 0 && strcmp(argv[2], "optional") != 0)) {
		fprintf(stderr, "usage: tls-probe-server <folder> required|optional\n");
		return 2;
	}
	probe.folder = argv[1];
	return serve(&probe, strcmp(argv[2], "optional") == 0);
}
