/* A hub's listener and an agent's connection over real TLS on the loopback, in one loop, with what happened
 * to each side. Each test file includes this once. */
#ifndef FERRY_TESTS_LINK_FIXTURE_H
#define FERRY_TESTS_LINK_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <unistd.h>

#include "shared/link.h"

#define DAY 86400
#define PATIENCE_US (60 * LOOP_SECOND_US) /* valgrind beside other work */

struct identity {
	char key[PKI_PEM_MAX];
	char certificate[PKI_PEM_MAX];
};

static struct identity ca, other_ca, hub, device, stranger, expired;
static struct ferry_why why;

/* One side's record of what happened. */
struct side {
	struct link *link;
	unsigned opened, closed, messages, drained;
	size_t bytes;	   /* of all messages */
	uint8_t *last;	   /* the last message */
	size_t last_bytes;
	unsigned in_order; /* messages that carried the number expected of them */
	struct link_end end;
	bool echo;
	bool keep_sending; /* fill the queue at every chance */
	unsigned sent, to_send;
	size_t size;
};

static struct loop *loop;
static struct link_server *server;
static struct side server_side, client_side;
static enum ferry_error verdict;
static unsigned asked;
static struct pki_certificate asked_about;
static int cut_pipe[2]; /* written to when the hub is asked for its verdict; 0: not */

static void must(enum ferry_error rc)
{
	if (rc != FERRY_OK)
		fail_msg("%s: %s", ferry_error_name((int)rc), why.text);
}

static void issue(const struct identity *by, struct identity *out, const char *name, int64_t from, int64_t to)
{
	char request[PKI_PEM_MAX];
	struct pki_ca *loaded;

	must(pki_ca_load(by->key, by->certificate, &loaded, &why));
	must(pki_key_create(out->key, &why));
	must(pki_request_create(out->key, "device", request, &why));
	must(pki_issue_device(loaded, request, name, from, to, out->certificate, &why));
	pki_ca_free(loaded);
}

static int make_identities(void **state)
{
	static const char *const names[] = {"localhost", "127.0.0.1"};
	int64_t now = loop_wall_us() / LOOP_SECOND_US;
	struct pki_ca *loaded;

	(void)state;
	must(pki_ca_create("CA", now, now + DAY, ca.key, ca.certificate, &why));
	must(pki_ca_create("CA", now, now + DAY, other_ca.key, other_ca.certificate, &why));
	must(pki_ca_load(ca.key, ca.certificate, &loaded, &why));
	must(pki_key_create(hub.key, &why));
	must(pki_issue_server(loaded, hub.key, names, 2, now, now + DAY, hub.certificate, &why));
	pki_ca_free(loaded);
	issue(&ca, &device, "device-1", now, now + DAY);
	issue(&other_ca, &stranger, "device-1", now, now + DAY);
	issue(&ca, &expired, "device-1", now - 2 * DAY, now - DAY);
	return 0;
}

static void fill(struct side *side)
{
	while (side->sent < side->to_send) {
		uint8_t *message = calloc(1, side->size);
		enum link_sent sent;

		memcpy(message, &side->sent, sizeof side->sent);
		sent = link_send(side->link, message, side->size);
		free(message);
		if (sent != LINK_SENT)
			return;
		side->sent++;
	}
}

static void on_open(struct link *link, void *context)
{
	struct side *side = context == &server ? &server_side : context;

	link_set_context(link, side);
	side->link = link;
	side->opened++;
	if (side->keep_sending)
		fill(side);
}

static void on_message(struct link *link, void *context, const uint8_t *bytes, size_t n)
{
	struct side *side = context;
	unsigned number = ~0u;

	if (n >= sizeof number)
		memcpy(&number, bytes, sizeof number);
	if (number == side->messages)
		side->in_order++;
	side->messages++;
	side->bytes += n;
	free(side->last);
	side->last = malloc(n + 1);
	memcpy(side->last, bytes, n);
	side->last_bytes = n;
	if (side->echo)
		assert_int_equal(link_send(link, bytes, n), LINK_SENT);
}

static void on_drained(struct link *link, void *context)
{
	struct side *side = context;

	(void)link;
	side->drained++;
	if (side->keep_sending)
		fill(side);
}

static void on_close(struct link *link, void *context, const struct link_end *end)
{
	struct side *side = context == &server ? &server_side : context;

	(void)link;
	side->closed++;
	side->link = NULL;
	side->end = *end;
}

static enum ferry_error on_verify(void *context, const struct link_peer *peer)
{
	assert_ptr_equal(context, &server);
	asked++;
	asked_about = peer->certificate;
	if (cut_pipe[1] > 0)
		assert_int_equal(write(cut_pipe[1], "x", 1), 1);
	return verdict;
}

static const struct link_calls calls = {
	.on_verify = on_verify, .on_open = on_open, .on_message = on_message, .on_drained = on_drained, .on_close = on_close};

static void listen_with(struct link_server_config *config)
{
	config->address = "127.0.0.1";
	config->certificate_pem = hub.certificate;
	config->key_pem = hub.key;
	config->client_ca_pem = ca.certificate;
	must(link_listen(loop, config, &calls, &server, &server, &why));
}

static struct link_client_config client_config(void)
{
	return (struct link_client_config){.host = "127.0.0.1",
					   .port = link_server_port(server),
					   .ca_pem = ca.certificate,
					   .certificate_pem = device.certificate,
					   .key_pem = device.key};
}

static void connect_with(const struct link_client_config *config)
{
	must(link_connect(loop, config, &calls, &client_side, &client_side.link, &why));
}

static void log_to_stderr(void *context, const char *line)
{
	(void)context;
	fprintf(stderr, "lws: %s\n", line);
}

static int start(void **state)
{
	struct loop_config config = {.log = getenv("FERRY_TEST_LOG") ? log_to_stderr : NULL};

	(void)state;
	memset(&server_side, 0, sizeof server_side);
	memset(&client_side, 0, sizeof client_side);
	memset(&asked_about, 0, sizeof asked_about);
	verdict = FERRY_OK;
	asked = 0;
	server = NULL;
	must(loop_new(&config, &loop, &why));
	return 0;
}

static int stop(void **state)
{
	(void)state;
	link_abort(client_side.link);
	link_server_free(server);
	loop_free(loop);
	free(server_side.last);
	free(client_side.last);
	return 0;
}

/* --- waiting -------------------------------------------------------------------------------- */

static bool both_open(void *context)
{
	(void)context;
	return server_side.opened && client_side.opened;
}

static bool client_closed(void *context)
{
	(void)context;
	return client_side.closed > 0;
}

static void wait_for(bool (*done)(void *context), void *context)
{
	if (!loop_run_until(loop, done, context, loop_now_us() + PATIENCE_US))
		fail_msg("waited in vain; client: %s, server: %s", client_side.end.text, server_side.end.text);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

#endif
