/* Links over real TLS on the loopback, server and client in one loop. */
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
#define PATIENCE_US (20 * LOOP_SECOND_US)

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

static bool both_closed(void *context)
{
	(void)context;
	return client_side.closed > 0 && server_side.closed > 0;
}

static bool client_has(void *context)
{
	return client_side.messages >= *(unsigned *)context;
}

static bool server_has(void *context)
{
	return server_side.messages >= *(unsigned *)context;
}

static void wait_for(bool (*done)(void *context), void *context)
{
	if (!loop_run_until(loop, done, context, loop_now_us() + PATIENCE_US))
		fail_msg("waited in vain; client: %s, server: %s", client_side.end.text, server_side.end.text);
}

static void open_pair(struct link_server_config *config)
{
	struct link_client_config client;

	listen_with(config);
	client = client_config();
	client.limits = config->limits;
	connect_with(&client);
	wait_for(both_open, NULL);
}

/* --- tests ----------------------------------------------------------------------------------- */

static void small_message_is_echoed(void **state)
{
	struct link_server_config config = {0};
	struct pki_certificate own;
	unsigned one = 1;

	(void)state;
	server_side.echo = true;
	open_pair(&config);
	assert_int_equal(link_send(client_side.link, (const uint8_t *)"hello", 5), LINK_SENT);
	wait_for(client_has, &one);
	assert_int_equal(client_side.last_bytes, 5);
	assert_memory_equal(client_side.last, "hello", 5);
	assert_int_equal(asked, 1);
	must(pki_certificate_read_pem(device.certificate, &own, &why));
	assert_memory_equal(asked_about.fingerprint, own.fingerprint, PKI_FINGERPRINT_BYTES);
	assert_memory_equal(link_peer_fingerprint(server_side.link), own.fingerprint, PKI_FINGERPRINT_BYTES);
	assert_string_equal(link_peer_name(server_side.link), "device-1");
	assert_string_equal(link_peer_address(server_side.link), "127.0.0.1");
	assert_int_equal(link_server_count(server), 1);
}

static void empty_and_largest_messages_arrive_whole(void **state)
{
	struct link_server_config config = {.limits = {.message_bytes_max = 1 << 20}};
	size_t n = 1 << 20;
	uint8_t *large = malloc(n);
	unsigned two = 2;
	unsigned one = 1;

	(void)state;
	server_side.echo = true;
	open_pair(&config);
	for (size_t i = 0; i < n; i++)
		large[i] = (uint8_t)(i * 31 + i / 251);
	assert_int_equal(link_send(client_side.link, NULL, 0), LINK_SENT);
	wait_for(client_has, &one);
	assert_int_equal(client_side.last_bytes, 0);
	assert_int_equal(link_send(client_side.link, large, n), LINK_SENT);
	wait_for(client_has, &two);
	assert_int_equal(client_side.last_bytes, n);
	assert_memory_equal(client_side.last, large, n);
	assert_int_equal(link_queue_bytes(client_side.link), 0);
	free(large);
}

static void many_messages_keep_their_order(void **state)
{
	struct link_server_config config = {0};
	unsigned count = getenv("FERRY_VALGRIND") ? 1000 : 20000;

	(void)state;
	client_side.keep_sending = true;
	client_side.to_send = count;
	client_side.size = 100;
	open_pair(&config);
	wait_for(server_has, &count);
	assert_int_equal(server_side.in_order, count);
	assert_int_equal(server_side.bytes, (size_t)count * 100);
}

static void full_queue_is_said_and_drains(void **state)
{
	struct link_server_config config = {.limits = {.queue_bytes_max = 64 << 10}};
	unsigned count = 100;

	(void)state;
	client_side.to_send = count;
	client_side.size = 20000;
	open_pair(&config);
	link_pause(server_side.link);
	fill(&client_side);
	/* Nothing has left for the network yet: three of 20,000 fit, the fourth does not. */
	assert_int_equal(client_side.sent, 3);
	assert_int_equal(link_queue_bytes(client_side.link), 60000);
	client_side.keep_sending = true;
	link_resume(server_side.link);
	wait_for(server_has, &count);
	assert_int_equal(server_side.in_order, count);
	assert_true(client_side.drained > 10);
}

static bool sender_stuck(void *context)
{
	struct side *side = context;
	static size_t before;
	static unsigned same;

	same = link_queue_bytes(side->link) == before ? same + 1 : 0;
	before = link_queue_bytes(side->link);
	return false;
}

static void paused_reader_holds_the_sender_up(void **state)
{
	struct link_server_config config = {.limits = {.queue_bytes_max = 1 << 20}};
	unsigned count = 20;
	unsigned got;

	(void)state;
	client_side.to_send = count;
	client_side.size = 1 << 20;
	client_side.keep_sending = true;
	open_pair(&config);
	link_pause(server_side.link);
	fill(&client_side);
	loop_run_until(loop, sender_stuck, &client_side, loop_now_us() + LOOP_SECOND_US / 2);
	got = server_side.messages;
	/* The kernel's buffers hold some, the queue one more; most of 20 MiB went nowhere. */
	assert_true(client_side.sent < count);
	assert_true(got <= 1);
	link_resume(server_side.link);
	wait_for(server_has, &count);
	assert_int_equal(server_side.in_order, count);
}

static void oversize_message_closes_only_its_link(void **state)
{
	struct link_server_config config = {.limits = {.message_bytes_max = 1000}};
	struct link_client_config client;
	uint8_t large[1001] = {0};
	unsigned one = 1;

	(void)state;
	listen_with(&config);
	client = client_config();
	connect_with(&client);
	wait_for(both_open, NULL);
	assert_int_equal(link_send(client_side.link, large, 1000), LINK_SENT);
	wait_for(server_has, &one);
	assert_int_equal(link_send(client_side.link, large, 1001), LINK_SENT);
	wait_for(both_closed, NULL);
	assert_int_equal(client_side.end.close_code, LINK_CLOSE_TOO_LARGE);
	assert_int_equal(client_side.end.code, FERRY_MESSAGE_TOO_LARGE);
	assert_int_equal(server_side.end.code, FERRY_MESSAGE_TOO_LARGE);
	assert_int_equal(server_side.messages, 1);
	assert_int_equal(link_server_count(server), 0);

	memset(&client_side, 0, sizeof client_side);
	connect_with(&client);
	wait_for(both_open, NULL);
	assert_int_equal(link_server_count(server), 1);
}

static void fragments_of_an_oversize_message_are_refused(void **state)
{
	struct link_server_config config = {.limits = {.message_bytes_max = 20000}};
	struct link_client_config client;
	uint8_t *large = calloc(1, 300000);

	(void)state;
	listen_with(&config);
	client = client_config();
	connect_with(&client);
	wait_for(both_open, NULL);
	assert_int_equal(link_send(client_side.link, large, 300000), LINK_SENT);
	wait_for(both_closed, NULL);
	assert_int_equal(server_side.end.code, FERRY_MESSAGE_TOO_LARGE);
	assert_int_equal(server_side.messages, 0);
	free(large);
}

static void close_code_and_reason_reach_the_peer(void **state)
{
	struct link_server_config config = {0};
	unsigned one = 1;

	(void)state;
	open_pair(&config);
	/* What is queued goes out first. */
	assert_int_equal(link_send(server_side.link, (const uint8_t *)"last words", 10), LINK_SENT);
	link_close(server_side.link, LINK_CLOSE_GOING_AWAY, "the hub is shutting down");
	assert_int_equal(link_send(server_side.link, (const uint8_t *)"x", 1), LINK_GONE);
	wait_for(both_closed, NULL);
	wait_for(client_has, &one);
	assert_memory_equal(client_side.last, "last words", 10);
	assert_int_equal(client_side.end.code, FERRY_OK);
	assert_int_equal(client_side.end.close_code, LINK_CLOSE_GOING_AWAY);
	assert_string_equal(client_side.end.text, "the hub is shutting down");
	assert_int_equal(server_side.end.code, FERRY_OK);
	assert_true(server_side.end.opened);
}

static void client_may_close(void **state)
{
	struct link_server_config config = {0};

	(void)state;
	open_pair(&config);
	link_close(client_side.link, LINK_CLOSE_NORMAL, NULL);
	wait_for(both_closed, NULL);
	assert_int_equal(server_side.end.code, FERRY_OK);
	assert_int_equal(server_side.end.close_code, LINK_CLOSE_NORMAL);
	assert_int_equal(client_side.closed, 1);
	assert_int_equal(server_side.closed, 1);
}

static void abort_is_silent_here_and_loss_there(void **state)
{
	struct link_server_config config = {0};

	(void)state;
	open_pair(&config);
	link_abort(server_side.link);
	server_side.link = NULL;
	wait_for(client_closed, NULL);
	assert_int_equal(client_side.end.code, FERRY_LINK_CLOSED);
	assert_int_equal(client_side.end.close_code, 0);
	assert_int_equal(server_side.closed, 0);
}

/* Connects with this identity, expects to be turned away without on_verify's asking. */
static void expect_refused_by_tls(const struct identity *identity)
{
	struct link_client_config client = client_config();

	client.certificate_pem = identity ? identity->certificate : NULL;
	client.key_pem = identity ? identity->key : NULL;
	connect_with(&client);
	wait_for(client_closed, NULL);
	assert_int_equal(asked, 0);
	assert_int_equal(server_side.opened, 0);
	assert_int_equal(client_side.opened, 0);
	assert_false(client_side.end.opened);
	assert_int_not_equal(client_side.end.code, FERRY_OK);
	assert_true(strlen(client_side.end.text) > 5);
}

static void client_without_certificate_is_refused(void **state)
{
	struct link_server_config config = {0};

	(void)state;
	listen_with(&config);
	expect_refused_by_tls(NULL);
}

static void certificate_of_another_ca_is_refused(void **state)
{
	struct link_server_config config = {0};

	(void)state;
	listen_with(&config);
	expect_refused_by_tls(&stranger);
}

static void expired_certificate_is_refused(void **state)
{
	struct link_server_config config = {0};

	(void)state;
	listen_with(&config);
	expect_refused_by_tls(&expired);
}

static void server_certificate_is_no_client_certificate(void **state)
{
	struct link_server_config config = {0};

	(void)state;
	listen_with(&config);
	expect_refused_by_tls(&hub);
}

static void optional_certificate_may_be_absent_but_not_bad(void **state)
{
	struct link_server_config config = {.client_certificate_optional = true};
	struct link_client_config client;

	(void)state;
	listen_with(&config);
	expect_refused_by_tls(&stranger);
	memset(&client_side, 0, sizeof client_side);
	client = client_config();
	client.certificate_pem = NULL;
	client.key_pem = NULL;
	connect_with(&client);
	wait_for(both_open, NULL);
	assert_null(link_peer_fingerprint(server_side.link));
	assert_string_equal(link_peer_name(server_side.link), "");
}

static void server_of_another_ca_is_refused(void **state)
{
	struct link_server_config config = {0};
	struct link_client_config client;

	(void)state;
	listen_with(&config);
	client = client_config();
	client.ca_pem = other_ca.certificate;
	connect_with(&client);
	wait_for(client_closed, NULL);
	assert_int_equal(client_side.opened, 0);
	assert_int_equal(asked, 0);
}

static void server_name_must_match(void **state)
{
	struct link_server_config config = {0};
	struct link_client_config client;

	(void)state;
	listen_with(&config);
	client = client_config();
	client.host = "127.0.0.2"; /* the loopback too, but not in the certificate */
	config.address = NULL;
	link_server_free(server);
	server = NULL;
	config.address = "0.0.0.0";
	config.port = 0;
	must(link_listen(loop, &config, &calls, &server, &server, &why));
	client.port = link_server_port(server);
	connect_with(&client);
	wait_for(client_closed, NULL);
	assert_int_equal(client_side.opened, 0);
	assert_int_equal(asked, 0);
}

/* P10: dates are left out of it, and nothing else. */
static void refused_without_a_clock(const char *cas, int64_t reached_us)
{
	struct link_server_config config = {0};
	struct link_client_config client;

	listen_with(&config);
	client = client_config();
	client.clock_is_unsure = true;
	client.ca_pem = cas;
	client.reached_us = reached_us;
	connect_with(&client);
	wait_for(client_closed, NULL);
	assert_int_equal(client_side.opened, 0);
	assert_int_equal((int)client_side.end.code, FERRY_NO_CERTIFICATE);
}

static void P10_server_of_another_ca_is_refused_without_a_clock(void **state)
{
	(void)state;
	refused_without_a_clock(other_ca.certificate, 0);
}

static void P10_server_whose_certificate_ended_before_a_known_time_is_refused(void **state)
{
	(void)state;
	refused_without_a_clock(ca.certificate, loop_wall_us() + 2 * DAY * INT64_C(1000000));
}

static void P10_server_is_taken_without_a_clock(void **state)
{
	struct link_server_config config = {0};
	struct link_client_config client;

	(void)state;
	listen_with(&config);
	client = client_config();
	client.clock_is_unsure = true;
	client.reached_us = loop_wall_us();
	connect_with(&client);
	wait_for(both_open, NULL);
}

static void verdict_of_the_hub_reaches_the_client(void **state)
{
	static const enum ferry_error verdicts[] = {FERRY_REVOKED, FERRY_UNKNOWN_DEVICE, FERRY_TENANT_SUSPENDED,
						    FERRY_OVERLOADED, FERRY_SHUTTING_DOWN};
	struct link_server_config config = {0};
	struct link_client_config client;

	(void)state;
	listen_with(&config);
	client = client_config();
	for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++) {
		memset(&client_side, 0, sizeof client_side);
		verdict = verdicts[i];
		connect_with(&client);
		wait_for(client_closed, NULL);
		assert_int_equal(client_side.end.code, verdicts[i]);
		assert_int_equal(server_side.opened, 0);
	}
	assert_int_equal(asked, sizeof verdicts / sizeof *verdicts);
}

static void connections_have_a_limit(void **state)
{
	struct link_server_config config = {.connections_max = 1};
	struct link_client_config client;
	struct link *first;

	(void)state;
	open_pair(&config);
	first = client_side.link;
	client = client_config();
	memset(&client_side, 0, sizeof client_side);
	connect_with(&client);
	wait_for(client_closed, NULL);
	assert_int_equal(client_side.end.code, FERRY_OVERLOADED);
	link_abort(first);
}

static void nobody_there_is_told_by_on_close(void **state)
{
	struct link_server_config config = {0};
	struct link_client_config client;

	(void)state;
	listen_with(&config);
	client = client_config();
	link_server_free(server);
	server = NULL;
	loop_run_until(loop, client_closed, NULL, loop_now_us() + 50000);
	connect_with(&client);
	wait_for(client_closed, NULL);
	assert_int_equal(client_side.closed, 1);
	assert_int_equal(client_side.end.code, FERRY_LINK_CLOSED);
	assert_false(client_side.end.opened);
}

static void connecting_has_a_deadline(void **state)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct link_server_config config = {0};
	struct link_client_config client;
	socklen_t size = sizeof address;
	int64_t began;
	int silent = socket(AF_INET, SOCK_STREAM, 0);

	(void)state;
	listen_with(&config);
	/* It accepts (the kernel does) and never says a word. */
	assert_int_equal(bind(silent, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(silent, 5), 0);
	assert_int_equal(getsockname(silent, (struct sockaddr *)&address, &size), 0);
	client = client_config();
	client.port = ntohs(address.sin_port);
	client.connect_timeout_us = 300000;
	began = loop_now_us();
	connect_with(&client);
	wait_for(client_closed, NULL);
	assert_int_equal(client_side.end.code, FERRY_LINK_TIMEOUT);
	assert_true(loop_now_us() - began >= 300000);
	assert_true(loop_now_us() - began < 2 * LOOP_SECOND_US);
	close(silent);
}

static bool never(void *context)
{
	(void)context;
	return false;
}

static void cut_client(void *context)
{
	char byte;

	(void)context;
	assert_int_equal(read(cut_pipe[0], &byte, 1), 1);
	if (client_side.link)
		link_close(client_side.link, LINK_CLOSE_NORMAL, "not wanted any more");
}

/* The server's answer and what makes the client give up are there in the same look at the
 * descriptors: the answer is read after link_close(), and before on_close comes. */
static void closed_while_connecting_never_opens(void **state)
{
	static const struct loop_watch_calls cut_calls = {.on_readable = cut_client};
	struct link_server_config config = {0};
	struct link_client_config client;
	struct loop_watch *cut;

	(void)state;
	listen_with(&config);
	assert_int_equal(pipe(cut_pipe), 0);
	must(loop_watch_new(loop, cut_pipe[0], &cut_calls, NULL, &cut, &why));
	client = client_config();
	connect_with(&client);
	wait_for(client_closed, NULL);
	loop_watch_free(cut);
	close(cut_pipe[0]);
	close(cut_pipe[1]);
	cut_pipe[1] = 0;
	assert_int_equal(client_side.opened, 0);
	assert_int_equal(client_side.closed, 1);
	assert_false(client_side.end.opened);
	assert_string_equal(client_side.end.text, "not wanted any more");
	assert_null(client_side.link);
}

static void heartbeat_keeps_an_idle_link(void **state)
{
	struct link_server_config config = {.limits = {.heartbeat_us = 100000}};

	(void)state;
	open_pair(&config);
	loop_run_until(loop, never, NULL, loop_now_us() + 600000);
	assert_int_equal(client_side.closed, 0);
	assert_int_equal(server_side.closed, 0);
}

static void silent_peer_is_found_dead_within_two_heartbeats(void **state)
{
	struct link_server_config config = {.limits = {.heartbeat_us = 200000}};
	struct link_client_config client;
	int64_t began;

	(void)state;
	listen_with(&config);
	client = client_config();
	client.limits.heartbeat_us = 60 * LOOP_SECOND_US;
	connect_with(&client);
	wait_for(both_open, NULL);
	/* It neither reads nor answers, like a device that has lost its network. */
	link_pause(client_side.link);
	began = loop_now_us();
	while (!server_side.closed && loop_now_us() - began < PATIENCE_US)
		loop_run_until(loop, never, NULL, loop_now_us() + 10000);
	assert_int_equal(server_side.end.code, FERRY_LINK_TIMEOUT);
	assert_true(loop_now_us() - began >= 200000);
	/* 400 ms, and some for a loaded machine. */
	assert_true(loop_now_us() - began < 1500000);
}

static void unusable_identity_is_found_before_connecting(void **state)
{
	struct link_server_config config = {0};
	struct link_client_config client;
	struct link *none = NULL;

	(void)state;
	listen_with(&config);
	client = client_config();
	client.key_pem = stranger.key;
	assert_int_equal(link_connect(loop, &client, &calls, &client_side, &none, &why), FERRY_CORRUPT);
	client = client_config();
	client.ca_pem = "not a certificate";
	assert_int_equal(link_connect(loop, &client, &calls, &client_side, &none, &why), FERRY_CORRUPT);
	assert_null(none);
}

static void taken_port_is_refused_with_a_sentence(void **state)
{
	struct link_server_config config = {0};
	struct link_server *second = NULL;

	(void)state;
	listen_with(&config);
	config.port = link_server_port(server);
	assert_int_equal(link_listen(loop, &config, &calls, &server, &second, &why), FERRY_CONFIG);
	assert_true(strlen(why.text) > 20);
}

/* --- the loop itself --------------------------------------------------------------------------- */

static struct loop_watch *watch;
static struct loop_timer *timer;
static unsigned readable, fired;

static void watch_readable(void *context)
{
	char byte;

	readable++;
	if (read(*(int *)context, &byte, 1) <= 0)
		loop_stop(loop);
}

static void watch_frees_itself(void *context)
{
	(void)context;
	readable++;
	loop_watch_free(watch);
	watch = NULL;
}

static bool has_read(void *context)
{
	return readable >= *(unsigned *)context;
}

static void descriptors_are_watched_until_freed(void **state)
{
	struct loop_watch_calls watch_calls = {.on_readable = watch_readable};
	unsigned want = 2;
	int ends[2];

	(void)state;
	readable = 0;
	assert_int_equal(pipe(ends), 0);
	must(loop_watch_new(loop, ends[0], &watch_calls, &ends[0], &watch, &why));
	assert_int_equal(write(ends[1], "ab", 2), 2);
	assert_true(loop_run_until(loop, has_read, &want, loop_now_us() + PATIENCE_US));
	loop_watch_free(watch);
	watch_calls.on_readable = watch_frees_itself;
	must(loop_watch_new(loop, ends[0], &watch_calls, &ends[0], &watch, &why));
	assert_int_equal(write(ends[1], "c", 1), 1);
	want = 3;
	assert_true(loop_run_until(loop, has_read, &want, loop_now_us() + PATIENCE_US));
	loop_run_until(loop, never, NULL, loop_now_us() + 20000);
	assert_int_equal(readable, 3);
	watch_calls.on_readable = watch_readable;
	must(loop_watch_new(loop, ends[0], &watch_calls, &ends[0], &watch, &why));
	close(ends[1]); /* a hang-up reads as the end */
	loop_run(loop);
	loop_watch_free(watch);
	close(ends[0]);
}

static void timer_stops_the_loop(void *context)
{
	(void)context;
	fired++;
	if (fired < 3)
		loop_timer_set(timer, loop_now_us() + 5000);
	else
		loop_stop(loop);
}

static void timers_fire_once_for_each_set(void **state)
{
	int64_t began = loop_now_us();

	(void)state;
	fired = 0;
	assert_int_equal(loop_timer_new(loop, timer_stops_the_loop, NULL, &timer), FERRY_OK);
	assert_false(loop_timer_is_set(timer));
	loop_timer_set(timer, loop_now_us() - 1);
	assert_true(loop_timer_is_set(timer));
	loop_run(loop);
	assert_int_equal(fired, 3);
	assert_true(loop_now_us() - began >= 10000);
	loop_timer_set(timer, loop_now_us() + 1000);
	loop_timer_cancel(timer);
	loop_run_until(loop, never, NULL, loop_now_us() + 20000);
	assert_int_equal(fired, 3);
	loop_timer_free(timer);
	loop_timer_free(NULL);
	assert_true(loop_wall_us() > INT64_C(1700000000) * LOOP_SECOND_US);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(descriptors_are_watched_until_freed),
		TEST(timers_fire_once_for_each_set),
		TEST(small_message_is_echoed),
		TEST(empty_and_largest_messages_arrive_whole),
		TEST(many_messages_keep_their_order),
		TEST(full_queue_is_said_and_drains),
		TEST(paused_reader_holds_the_sender_up),
		TEST(oversize_message_closes_only_its_link),
		TEST(fragments_of_an_oversize_message_are_refused),
		TEST(close_code_and_reason_reach_the_peer),
		TEST(client_may_close),
		TEST(abort_is_silent_here_and_loss_there),
		TEST(client_without_certificate_is_refused),
		TEST(certificate_of_another_ca_is_refused),
		TEST(expired_certificate_is_refused),
		TEST(server_certificate_is_no_client_certificate),
		TEST(optional_certificate_may_be_absent_but_not_bad),
		TEST(server_of_another_ca_is_refused),
		TEST(P10_server_of_another_ca_is_refused_without_a_clock),
		TEST(P10_server_whose_certificate_ended_before_a_known_time_is_refused),
		TEST(P10_server_is_taken_without_a_clock),
		TEST(server_name_must_match),
		TEST(verdict_of_the_hub_reaches_the_client),
		TEST(connections_have_a_limit),
		TEST(nobody_there_is_told_by_on_close),
		TEST(connecting_has_a_deadline),
		TEST(closed_while_connecting_never_opens),
		TEST(heartbeat_keeps_an_idle_link),
		TEST(silent_peer_is_found_dead_within_two_heartbeats),
		TEST(unusable_identity_is_found_before_connecting),
		TEST(taken_port_is_refused_with_a_sentence),
	};

	return cmocka_run_group_tests(tests, make_identities, NULL);
}
