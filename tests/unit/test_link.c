/* Links over real TLS on the loopback, server and client in one loop. */
#include "tests/unit/link_fixture.h"

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

static void open_pair(struct link_server_config *config)
{
	struct link_client_config client;

	listen_with(config);
	client = client_config();
	client.limits = config->limits;
	connect_with(&client);
	wait_for(both_open, NULL);
}

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
