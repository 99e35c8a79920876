#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shared/link_http.h"
#include "shared/link_private.h"

#define TIMEOUT_DEFAULT_US (15 * LOOP_SECOND_US)
#define PROTOCOL "fetch"

struct fetch {
	struct loop *loop;
	struct lws *wsi;
	struct lws_vhost *vhost;
	struct loop_timer *timer;
	http_response_fn *on_response;
	void *context;
	unsigned char *body; /* LWS_PRE free bytes first */
	size_t body_bytes;
	char content_type[64];
	char headers[HTTP_HEADERS_BYTES_MAX + 3 * HTTP_HEADERS_MAX]; /* "name:", NUL, value, NUL, and so on */
	size_t headers_bytes;
	uint8_t *answer;
	size_t answer_bytes;
	size_t answer_room;
	size_t answer_bytes_max;
	unsigned status;
	enum ferry_error code;
	char text[FERRY_WHY_MAX];
	bool done;
};

static void fetch_free(struct fetch *fetch)
{
	if (fetch->wsi) {
		lws_set_opaque_user_data(fetch->wsi, NULL);
		lws_set_timeout(fetch->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
	}
	loop_timer_free(fetch->timer);
	loop_reap_vhost(fetch->loop, fetch->vhost);
	free(fetch->body);
	free(fetch->answer);
	free(fetch);
}

/* The timer is both the deadline and the way out of the library's callbacks. */
static void fetch_ends(void *context)
{
	struct fetch *fetch = context;

	if (!fetch->done) {
		fetch->code = FERRY_LINK_TIMEOUT;
		snprintf(fetch->text, sizeof fetch->text, "no answer within the time allowed");
	}
	fetch->on_response(fetch->context, fetch->code, fetch->text, fetch->status,
			   fetch->answer ? fetch->answer : (const uint8_t *)"", fetch->answer_bytes);
	fetch_free(fetch);
}

static void finish(struct fetch *fetch, enum ferry_error code, const char *text)
{
	if (fetch->done)
		return;
	fetch->done = true;
	fetch->code = code;
	snprintf(fetch->text, sizeof fetch->text, "%s", text);
	loop_timer_set(fetch->timer, 0);
}

/* Room for one that could forge a second header or a request is not given. */
static bool header_is_valid(const struct http_header *header)
{
	if (!*header->name)
		return false;
	for (const char *p = header->name; *p; p++)
		if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || *p == '-'))
			return false;
	for (const char *p = header->value; *p; p++)
		if (*p < ' ' || *p > '~')
			return false;
	return true;
}

static bool headers_fit(const struct http_client_config *config)
{
	size_t n = 0;

	if (config->header_count > HTTP_HEADERS_MAX || (config->content_type && strlen(config->content_type) > 63))
		return false;
	for (size_t i = 0; i < config->header_count; i++) {
		if (!header_is_valid(&config->headers[i]))
			return false;
		n += strlen(config->headers[i].name) + strlen(config->headers[i].value);
	}
	return n <= HTTP_HEADERS_BYTES_MAX;
}

static void copy_headers(struct fetch *fetch, const struct http_client_config *config)
{
	snprintf(fetch->content_type, sizeof fetch->content_type, "%s",
		 config->content_type ? config->content_type : "application/octet-stream");
	for (size_t i = 0; i < config->header_count; i++) {
		char *at = fetch->headers + fetch->headers_bytes;
		size_t room = sizeof fetch->headers - fetch->headers_bytes;
		int n = snprintf(at, room, "%s:", config->headers[i].name);
		int m = snprintf(at + n + 1, room - (size_t)n - 1, "%s", config->headers[i].value);

		fetch->headers_bytes += (size_t)n + (size_t)m + 2;
	}
}

static int append_own(struct fetch *fetch, struct lws *wsi, unsigned char **at, unsigned char *end)
{
	for (const char *p = fetch->headers; p < fetch->headers + fetch->headers_bytes;) {
		const char *value = p + strlen(p) + 1;

		if (lws_add_http_header_by_name(wsi, (const unsigned char *)p, (const unsigned char *)value,
						(int)strlen(value), at, end))
			return -1;
		p = value + strlen(value) + 1;
	}
	return 0;
}

static int append_headers(struct fetch *fetch, struct lws *wsi, unsigned char **at, size_t room)
{
	unsigned char *end = *at + room - 1;
	char length[24];
	int n;

	if (append_own(fetch, wsi, at, end) != 0)
		return -1;
	if (fetch->body_bytes == 0)
		return 0;
	n = snprintf(length, sizeof length, "%zu", fetch->body_bytes);
	if (lws_add_http_header_by_token(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH, (const unsigned char *)length, n, at, end) ||
	    lws_add_http_header_by_token(wsi, WSI_TOKEN_HTTP_CONTENT_TYPE, (const unsigned char *)fetch->content_type,
					 (int)strlen(fetch->content_type), at, end))
		return -1;
	lws_client_http_body_pending(wsi, 1);
	lws_callback_on_writable(wsi);
	return 0;
}

static int send_body(struct fetch *fetch, struct lws *wsi)
{
	if (fetch->body_bytes == 0)
		return 0;
	lws_client_http_body_pending(wsi, 0);
	if (lws_write(wsi, fetch->body + LWS_PRE, fetch->body_bytes, LWS_WRITE_HTTP_FINAL) < (int)fetch->body_bytes)
		return -1;
	fetch->body_bytes = 0;
	return 0;
}

static int take(struct fetch *fetch, const void *bytes, size_t n)
{
	if (n > fetch->answer_bytes_max - fetch->answer_bytes) {
		finish(fetch, FERRY_LIMIT, "the answer is larger than the limit");
		return -1;
	}
	if (fetch->answer_bytes + n + 1 > fetch->answer_room) {
		size_t room = 2 * (fetch->answer_bytes + n + 1);
		uint8_t *more = realloc(fetch->answer, room);

		if (!more) {
			finish(fetch, FERRY_NO_MEMORY, "no memory for the answer");
			return -1;
		}
		fetch->answer = more;
		fetch->answer_room = room;
	}
	memcpy(fetch->answer + fetch->answer_bytes, bytes, n);
	fetch->answer_bytes += n;
	fetch->answer[fetch->answer_bytes] = '\0';
	return 0;
}

static int read_more(struct lws *wsi)
{
	char buffer[LWS_PRE + 8192];
	char *at = buffer + LWS_PRE;
	int n = sizeof buffer - LWS_PRE;

	return lws_http_client_read(wsi, &at, &n) < 0 ? -1 : 0;
}

static int fetch_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct fetch *fetch = lws_get_opaque_user_data(wsi);

	(void)user;
	if (!fetch)
		return 0;
	switch (reason) {
	case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
		return append_headers(fetch, wsi, (unsigned char **)in, len);
	case LWS_CALLBACK_CLIENT_HTTP_WRITEABLE:
		return send_body(fetch, wsi);
	case LWS_CALLBACK_ESTABLISHED_CLIENT_HTTP:
		fetch->status = lws_http_client_http_response(wsi);
		return 0;
	case LWS_CALLBACK_RECEIVE_CLIENT_HTTP:
		return read_more(wsi);
	case LWS_CALLBACK_RECEIVE_CLIENT_HTTP_READ:
		return take(fetch, in, len);
	case LWS_CALLBACK_COMPLETED_CLIENT_HTTP:
		finish(fetch, FERRY_OK, "");
		return -1;
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
		finish(fetch, FERRY_LINK_CLOSED, in ? (const char *)in : "cannot connect");
		break;
	case LWS_CALLBACK_CLOSED_CLIENT_HTTP:
		finish(fetch, FERRY_LINK_CLOSED, "the connection was lost before the answer was whole");
		break;
	default:
		return 0;
	}
	lws_set_opaque_user_data(wsi, NULL);
	fetch->wsi = NULL;
	return 0;
}

static const struct lws_protocols fetch_protocols[] = {
	{.name = PROTOCOL, .callback = fetch_callback},
	LWS_PROTOCOL_LIST_TERM,
};

static struct lws_vhost *fetch_vhost(struct loop *loop, const struct http_client_config *config)
{
	struct lws_context_creation_info info;
	struct lws_vhost *vhost = NULL;
	unsigned ca_n = 0;
	char *ca = config->ca_pem ? link_pem_copy(config->ca_pem, &ca_n) : NULL;
	char name[32];

	memset(&info, 0, sizeof info);
	snprintf(name, sizeof name, "fetch-%u", loop_number(loop));
	info.vhost_name = name;
	info.protocols = fetch_protocols;
	info.port = CONTEXT_PORT_NO_LISTEN;
	info.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS;
	info.client_ssl_ca_mem = ca;
	info.client_ssl_ca_mem_len = ca_n;
	info.retry_and_idle_policy = &loop_no_idle_checks;
	if (!config->ca_pem || ca)
		vhost = lws_create_vhost(loop_context(loop), &info);
	link_pem_free(ca, ca_n);
	return vhost;
}

static struct fetch *fetch_new(struct loop *loop, const struct http_client_config *config, http_response_fn *on_response,
			       void *context)
{
	struct fetch *fetch = calloc(1, sizeof *fetch);

	if (!fetch)
		return NULL;
	fetch->loop = loop;
	fetch->on_response = on_response;
	fetch->context = context;
	fetch->body_bytes = config->body_bytes;
	fetch->answer_bytes_max = config->response_bytes_max ? config->response_bytes_max : HTTP_BODY_BYTES_MAX;
	copy_headers(fetch, config);
	fetch->body = malloc(LWS_PRE + config->body_bytes + 1);
	fetch->vhost = fetch_vhost(loop, config);
	if (!fetch->body || !fetch->vhost || loop_timer_new(loop, fetch_ends, fetch, &fetch->timer) != FERRY_OK) {
		fetch_free(fetch);
		return NULL;
	}
	if (config->body_bytes > 0)
		memcpy(fetch->body + LWS_PRE, config->body, config->body_bytes);
	return fetch;
}

static void fetch_start(struct fetch *fetch, const struct http_client_config *config)
{
	struct lws_client_connect_info info;
	char address[HTTP_PATH_MAX + 2];

	memset(&info, 0, sizeof info);
	info.context = loop_context(fetch->loop);
	info.vhost = fetch->vhost;
	info.method = config->method ? config->method : config->body_bytes ? "POST" : "GET";
	info.path = config->path;
	info.local_protocol_name = PROTOCOL;
	info.protocol = PROTOCOL;
	info.opaque_user_data = fetch;
	info.pwsi = &fetch->wsi;
	info.retry_and_idle_policy = &loop_no_idle_checks;
	if (config->unix_path) {
		/* The library's way to name a unix socket. */
		snprintf(address, sizeof address, "+%s", config->unix_path);
		info.address = address;
		info.host = "localhost";
		info.origin = "localhost";
	} else {
		info.address = config->host;
		info.host = config->host;
		info.origin = config->host;
		info.port = config->port;
		/* An answer that sends us elsewhere is an answer: libwebsockets would ask there. */
		info.ssl_connection = LCCSCF_HTTP_NO_FOLLOW_REDIRECT | (config->plain ? 0 : LCCSCF_USE_SSL);
		if (!config->plain && !config->ca_pem)
			info.ssl_connection |= LCCSCF_ALLOW_INSECURE | LCCSCF_ALLOW_SELFSIGNED | LCCSCF_ALLOW_EXPIRED |
					       LCCSCF_SKIP_SERVER_CERT_HOSTNAME_CHECK;
	}
	if (!lws_client_connect_via_info(&info)) {
		fetch->wsi = NULL;
		finish(fetch, FERRY_LINK_CLOSED, "cannot connect");
	}
}

enum ferry_error http_fetch(struct loop *loop, const struct http_client_config *config, http_response_fn *on_response,
			    void *context, struct ferry_why *why)
{
	struct pki_certificate checked;
	struct fetch *fetch;
	enum ferry_error rc;

	if (config->unix_path && strlen(config->unix_path) > 107)
		return ferry_fail(why, FERRY_CONFIG, "the socket's path %s is too long", config->unix_path);
	if (config->unix_path && access(config->unix_path, F_OK) != 0)
		return ferry_fail(why, FERRY_LINK_CLOSED, "nothing listens on %s", config->unix_path);
	if (!headers_fit(config))
		return ferry_fail(why, FERRY_USAGE, "a header is not of its form, or there are too many");
	if (config->ca_pem) {
		rc = pki_certificate_read_pem(config->ca_pem, &checked, why);
		if (rc != FERRY_OK)
			return rc;
	}
	fetch = fetch_new(loop, config, on_response, context);
	if (!fetch)
		return ferry_fail(why, FERRY_NO_MEMORY, "no memory for a request");
	loop_timer_set(fetch->timer,
		       loop_now_us() + (config->timeout_us > 0 ? config->timeout_us : TIMEOUT_DEFAULT_US));
	fetch_start(fetch, config);
	return FERRY_OK;
}

struct waiting {
	bool done;
	enum ferry_error code;
	unsigned status;
	char *body;
	size_t n;
	struct ferry_why *why;
};

static void wait_ends(void *context, enum ferry_error code, const char *text, unsigned status, const uint8_t *body,
		      size_t n)
{
	struct waiting *waiting = context;

	waiting->done = true;
	waiting->code = code;
	waiting->status = status;
	if (code != FERRY_OK) {
		waiting->code = ferry_fail(waiting->why, code, "%s", text);
		return;
	}
	waiting->body = malloc(n + 1);
	waiting->n = n;
	if (!waiting->body) {
		waiting->code = ferry_fail(waiting->why, FERRY_NO_MEMORY, "no memory for the answer");
		return;
	}
	if (n > 0)
		memcpy(waiting->body, body, n);
	waiting->body[n] = '\0';
}

static bool wait_is_over(void *context)
{
	return ((struct waiting *)context)->done;
}

enum ferry_error http_fetch_now(const struct http_client_config *config, unsigned *out_status, char **out_body,
				size_t *out_bytes, struct ferry_why *why)
{
	struct waiting waiting = {.why = why};
	struct loop *loop;
	enum ferry_error rc;

	rc = loop_new(NULL, &loop, why);
	if (rc != FERRY_OK)
		return rc;
	rc = http_fetch(loop, config, wait_ends, &waiting, why);
	if (rc == FERRY_OK) {
		/* The exchange has a deadline of its own; this one only ends an endless wait. */
		(void)loop_run_until(loop, wait_is_over, &waiting, INT64_MAX / 4);
		rc = waiting.done ? waiting.code : FERRY_INTERNAL;
	}
	loop_free(loop);
	if (rc == FERRY_OK) {
		*out_status = waiting.status;
		*out_body = waiting.body;
		*out_bytes = waiting.n;
	} else {
		free(waiting.body);
	}
	return rc;
}
