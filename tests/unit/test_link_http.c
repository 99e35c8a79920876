/* Requests and answers over HTTPS and over a unix socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/link_http.h"
#include "shared/pki.h"
#include "tests/lib/temp_folder.h"

#define DAY 86400
#define PATIENCE_US (20 * LOOP_SECOND_US)

static char ca_key[PKI_PEM_MAX], ca_pem[PKI_PEM_MAX], other_key[PKI_PEM_MAX], other_pem[PKI_PEM_MAX];
static char key[PKI_PEM_MAX], certificate[PKI_PEM_MAX];
static struct ferry_why why;
static struct loop *loop;
static struct http_server *server;
static struct http_request *held; /* a request that is answered later */
static unsigned requests;

static struct {
	unsigned calls;
	enum ferry_error code;
	unsigned status;
	char *body;
	size_t n;
} answer;

static void must(enum ferry_error rc)
{
	if (rc != FERRY_OK)
		fail_msg("%s: %s", ferry_error_name((int)rc), why.text);
}

static int make_identities(void **state)
{
	static const char *const names[] = {"127.0.0.1"};
	int64_t now = loop_wall_us() / LOOP_SECOND_US;
	struct pki_ca *ca;

	(void)state;
	must(pki_ca_create("CA", now, now + DAY, ca_key, ca_pem, &why));
	must(pki_ca_create("Other", now, now + DAY, other_key, other_pem, &why));
	must(pki_ca_load(ca_key, ca_pem, &ca, &why));
	must(pki_key_create(key, &why));
	must(pki_issue_server(ca, key, names, 1, now, now + DAY, certificate, &why));
	pki_ca_free(ca);
	return 0;
}

/* Says back what it was asked; /hold waits for somebody to answer, /large answers a lot. */
static void on_request(struct http_request *request, void *context)
{
	const uint8_t *body;
	char text[600];
	char *large;
	size_t n;

	assert_ptr_equal(context, &requests);
	requests++;
	body = http_request_body(request, &n);
	if (strcmp(http_request_path(request), "/hold") == 0) {
		held = request;
	} else if (strcmp(http_request_path(request), "/large") == 0) {
		large = malloc(300000);
		memset(large, 'x', 300000);
		http_respond(request, 200, "text/plain", large, 300000);
		free(large);
	} else if (strcmp(http_request_path(request), "/empty") == 0) {
		http_respond(request, 204, "text/plain", NULL, 0);
	} else {
		snprintf(text, sizeof text, "%s %s %zu %.20s", http_request_method(request), http_request_path(request), n,
			 (const char *)body);
		http_respond(request, 201, "text/plain", text, strlen(text));
	}
}

static void on_response(void *context, enum ferry_error code, const char *text, unsigned status, const uint8_t *body,
			size_t n)
{
	(void)context;
	(void)text;
	answer.calls++;
	answer.code = code;
	answer.status = status;
	free(answer.body);
	answer.body = malloc(n + 1);
	memcpy(answer.body, body, n + 1);
	answer.n = n;
}

static bool answered(void *context)
{
	(void)context;
	return answer.calls > 0;
}

static bool holds(void *context)
{
	(void)context;
	return held != NULL;
}

static bool never(void *context)
{
	(void)context;
	return false;
}

static int start(void **state)
{
	(void)state;
	free(answer.body);
	memset(&answer, 0, sizeof answer);
	requests = 0;
	held = NULL;
	server = NULL;
	must(loop_new(NULL, &loop, &why));
	return 0;
}

static int stop(void **state)
{
	(void)state;
	http_server_free(server);
	loop_free(loop);
	free(answer.body);
	answer.body = NULL;
	return 0;
}

static struct http_client_config serve_tls(size_t body_max)
{
	struct http_server_config config = {
		.address = "127.0.0.1", .certificate_pem = certificate, .key_pem = key, .body_bytes_max = body_max};

	must(http_serve(loop, &config, on_request, &requests, &server, &why));
	return (struct http_client_config){
		.host = "127.0.0.1", .port = http_server_port(server), .ca_pem = ca_pem, .path = "/a/b"};
}

static void ask(const struct http_client_config *config)
{
	answer.calls = 0;
	must(http_fetch(loop, config, on_response, NULL, &why));
	assert_int_equal(answer.calls, 0);
	assert_true(loop_run_until(loop, answered, NULL, loop_now_us() + PATIENCE_US));
	assert_int_equal(answer.calls, 1);
}

static void requests_are_answered_over_https(void **state)
{
	struct http_client_config config = serve_tls(0);
	char *large = malloc(200000);

	(void)state;
	ask(&config);
	assert_int_equal(answer.status, 201);
	assert_string_equal(answer.body, "GET /a/b 0 ");
	config.body = "hello";
	config.body_bytes = 5;
	ask(&config);
	assert_string_equal(answer.body, "POST /a/b 5 hello");
	memset(large, 'z', 200000);
	config.body = large;
	config.body_bytes = 200000;
	ask(&config);
	assert_string_equal(answer.body, "POST /a/b 200000 zzzzzzzzzzzzzzzzzzzz");
	config.body_bytes = 0;
	config.path = "/large";
	ask(&config);
	assert_int_equal(answer.n, 300000);
	config.path = "/empty";
	ask(&config);
	assert_int_equal(answer.status, 204);
	assert_int_equal(answer.n, 0);
	free(large);
}

static void body_over_the_limit_is_answered_413(void **state)
{
	struct http_client_config config = serve_tls(1000);
	char body[1001];

	(void)state;
	memset(body, 'b', sizeof body);
	config.body = body;
	config.body_bytes = 1001;
	ask(&config);
	assert_int_equal(answer.code, FERRY_OK);
	assert_int_equal(answer.status, 413);
	assert_int_equal(requests, 0);
	config.body_bytes = 1000;
	ask(&config);
	assert_int_equal(answer.status, 201);
}

static void headers_that_could_forge_a_request_are_refused(void **state)
{
	static const struct http_header bad[] = {{"A", "x\r\nB: y"}, {"A:", "x"}, {"A b", "x"}, {"", "x"}, {"A", "\x7f"}};
	struct http_header many[HTTP_HEADERS_MAX + 1];
	static char large[HTTP_HEADERS_BYTES_MAX + 1];
	struct http_client_config config = serve_tls(0);

	(void)state;
	config.header_count = 1;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		config.headers = &bad[i];
		assert_int_equal(http_fetch(loop, &config, on_response, NULL, &why), FERRY_USAGE);
	}
	for (size_t i = 0; i <= HTTP_HEADERS_MAX; i++)
		many[i] = (struct http_header){"A", "x"};
	config.headers = many;
	config.header_count = HTTP_HEADERS_MAX + 1;
	assert_int_equal(http_fetch(loop, &config, on_response, NULL, &why), FERRY_USAGE);
	memset(large, 'x', sizeof large - 1);
	many[0].value = large;
	config.header_count = 1;
	assert_int_equal(http_fetch(loop, &config, on_response, NULL, &why), FERRY_USAGE);
	config.header_count = HTTP_HEADERS_MAX;
	many[0].value = "x";
	ask(&config);
	assert_int_equal(answer.status, 201);
	assert_int_equal(requests, 1);
}

static void server_of_another_ca_gets_no_request(void **state)
{
	struct http_client_config config = serve_tls(0);

	(void)state;
	config.ca_pem = other_pem;
	ask(&config);
	assert_int_equal(answer.code, FERRY_LINK_CLOSED);
	assert_int_equal(requests, 0);
	/* Without a CA nobody is verified. */
	config.ca_pem = NULL;
	ask(&config);
	assert_int_equal(answer.code, FERRY_OK);
}

static void answer_may_come_later_or_too_late(void **state)
{
	struct http_client_config config = serve_tls(0);

	(void)state;
	config.path = "/hold";
	must(http_fetch(loop, &config, on_response, NULL, &why));
	assert_true(loop_run_until(loop, holds, NULL, loop_now_us() + PATIENCE_US));
	loop_run_until(loop, never, NULL, loop_now_us() + 50000);
	assert_int_equal(answer.calls, 0);
	http_respond(held, 200, "text/plain", "late", 4);
	assert_true(loop_run_until(loop, answered, NULL, loop_now_us() + PATIENCE_US));
	assert_string_equal(answer.body, "late");

	held = NULL;
	config.timeout_us = getenv("FERRY_VALGRIND") ? 4 * LOOP_SECOND_US : 300000;
	ask(&config);
	assert_int_equal(answer.code, FERRY_LINK_TIMEOUT);
	assert_non_null(held);
	loop_run_until(loop, never, NULL, loop_now_us() + 50000);
	http_respond(held, 200, "text/plain", "nobody hears", 12);
}

static void unix_socket_is_the_owners_alone(void **state)
{
	char path[64], socket_path[80];
	struct http_server_config config = {.unix_path = socket_path};
	struct http_client_config client = {.unix_path = socket_path, .path = "/x", .body = "y", .body_bytes = 1};
	struct stat file;

	(void)state;
	assert_true(temp_folder("http", path, sizeof path));
	snprintf(socket_path, sizeof socket_path, "%s/admin", path);
	assert_int_equal(http_fetch(loop, &client, on_response, NULL, &why), FERRY_LINK_CLOSED);
	must(http_serve(loop, &config, on_request, &requests, &server, &why));
	assert_int_equal(stat(socket_path, &file), 0);
	assert_int_equal(file.st_mode & 0777, 0600);
	ask(&client);
	assert_string_equal(answer.body, "POST /x 1 y");
	http_server_free(server);
	server = NULL;
	assert_int_equal(access(socket_path, F_OK), -1);
	rmdir(path);
}

static void a_file_in_the_way_stays(void **state)
{
	char folder[64], path[80];
	struct http_server_config config = {.unix_path = path};
	int fd;

	(void)state;
	assert_true(temp_folder("http", folder, sizeof folder));
	snprintf(path, sizeof path, "%s/file", folder);
	fd = open(path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(http_serve(loop, &config, on_request, &requests, &server, &why), FERRY_EXISTS);
	assert_int_equal(access(path, F_OK), 0);
	unlink(path);
	rmdir(folder);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(requests_are_answered_over_https), TEST(body_over_the_limit_is_answered_413),
		TEST(headers_that_could_forge_a_request_are_refused),
		TEST(server_of_another_ca_gets_no_request), TEST(answer_may_come_later_or_too_late),
		TEST(unix_socket_is_the_owners_alone), TEST(a_file_in_the_way_stays),
	};

	return cmocka_run_group_tests(tests, make_identities, NULL);
}
