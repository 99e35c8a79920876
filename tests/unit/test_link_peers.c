/* Who gets a link: certificates of both sides, with and without a clock, and the verdict of the hub. */
#include "tests/unit/link_fixture.h"

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

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};

	return cmocka_run_group_tests(tests, make_identities, NULL);
}
