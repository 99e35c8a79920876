#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "shared/link_http.h"
#include "shared/link_private.h"

/* One turn's worth of an answer. */
#define CHUNK_BYTES 16384

struct http_server {
	struct loop *loop;
	struct lws_vhost *vhost;
	http_request_fn *on_request;
	void *context;
	size_t body_bytes_max;
	char *unix_path;                /* the library borrows both for as long as it listens */
	char address[LINK_ADDRESS_MAX];
	bool closed;
	bool vhost_gone;
};

/* Lives from the request line until it is answered and the answer sent, or both ends have let
 * go of it: the connection (wsi) and the one who answers (handed_out). */
struct http_request {
	struct lws *wsi; /* NULL: the client has gone */
	struct http_server *server;
	bool handed_out;
	bool post;
	char path[HTTP_PATH_MAX];
	char address[LINK_ADDRESS_MAX];
	uint8_t *body;
	size_t body_bytes;
	size_t body_room;
	unsigned status; /* 0: not answered */
	char content_type[64];
	unsigned char *answer; /* LWS_PRE free bytes first */
	size_t answer_bytes;
	size_t answer_sent;
	bool headers_sent;
};

static void request_free(struct http_request *request)
{
	free(request->body);
	free(request->answer);
	free(request);
}

/* The connection's hold ends. */
static void request_detach(struct http_request *request)
{
	if (request->wsi)
		lws_set_opaque_user_data(request->wsi, NULL);
	request->wsi = NULL;
	if (!request->handed_out)
		request_free(request);
}

const char *http_request_method(const struct http_request *request)
{
	return request->post ? "POST" : "GET";
}

const char *http_request_path(const struct http_request *request)
{
	return request->path;
}

const uint8_t *http_request_body(const struct http_request *request, size_t *out_bytes)
{
	*out_bytes = request->body_bytes;
	return request->body ? request->body : (const uint8_t *)"";
}

const char *http_request_address(const struct http_request *request)
{
	return request->address;
}

static void set_answer(struct http_request *request, unsigned status, const char *content_type, const void *body,
		       size_t n)
{
	request->answer = malloc(LWS_PRE + n + 1);
	request->status = request->answer ? status : 503;
	request->answer_bytes = request->answer ? n : 0;
	if (request->answer && n > 0)
		memcpy(request->answer + LWS_PRE, body, n);
	snprintf(request->content_type, sizeof request->content_type, "%s", content_type);
	lws_callback_on_writable(request->wsi);
}

void http_respond(struct http_request *request, unsigned status, const char *content_type, const void *body, size_t n)
{
	assert(request->handed_out && request->status == 0);
	request->handed_out = false;
	if (request->wsi)
		set_answer(request, status, content_type, body, n);
	else
		request_free(request);
}

/* An answer of ours, before anybody was asked. */
static void answer_plainly(struct http_request *request, unsigned status, const char *text)
{
	set_answer(request, status, "text/plain", text, strlen(text));
}

static void hand_out(struct http_request *request)
{
	request->handed_out = true;
	lws_set_timeout(request->wsi, NO_PENDING_TIMEOUT, 0);
	request->server->on_request(request, request->server->context);
}

/* The request line and headers are there. */
static int request_begins(struct http_server *server, struct lws *wsi)
{
	struct http_request *request = calloc(1, sizeof *request);
	char *uri = NULL;
	int uri_bytes = 0;
	int method;

	if (!request)
		return -1;
	request->wsi = wsi;
	request->server = server;
	lws_set_opaque_user_data(wsi, request);
	lws_get_peer_simple(wsi, request->address, sizeof request->address);
	method = lws_http_get_uri_and_method(wsi, &uri, &uri_bytes);
	request->post = method == LWSHUMETH_POST;
	if ((method != LWSHUMETH_GET && method != LWSHUMETH_POST) || !uri || uri_bytes <= 0) {
		answer_plainly(request, 405, "GET and POST only\n");
	} else if (uri_bytes >= HTTP_PATH_MAX) {
		answer_plainly(request, 414, "the path is too long\n");
	} else {
		memcpy(request->path, uri, (size_t)uri_bytes);
		if (!request->post)
			hand_out(request);
	}
	return 0;
}

static int body_arrives(struct http_request *request, const void *bytes, size_t n)
{
	uint8_t *more;

	if (request->status)
		return 0; /* refused already: read it away, so that the answer can be seen */
	if (n > request->server->body_bytes_max - request->body_bytes) {
		answer_plainly(request, 413, "the body is too large\n");
		return 0;
	}
	if (request->body_bytes + n + 1 > request->body_room) {
		size_t room = request->body_room ? 2 * request->body_room : 4096;

		while (room < request->body_bytes + n + 1)
			room *= 2;
		more = realloc(request->body, room);
		if (!more)
			return -1;
		request->body = more;
		request->body_room = room;
	}
	if (n > 0) /* bytes may be NULL then */
		memcpy(request->body + request->body_bytes, bytes, n);
	request->body_bytes += n;
	request->body[request->body_bytes] = '\0';
	return 0;
}

static int send_headers(struct http_request *request)
{
	unsigned char buffer[LWS_PRE + 1024];
	unsigned char *start = buffer + LWS_PRE;
	unsigned char *at = start;
	unsigned char *end = buffer + sizeof buffer - 1;

	if (lws_add_http_header_status(request->wsi, request->status, &at, end) ||
	    lws_add_http_header_by_token(request->wsi, WSI_TOKEN_HTTP_CONTENT_TYPE,
					 (const unsigned char *)request->content_type,
					 (int)strlen(request->content_type), &at, end) ||
	    lws_add_http_header_by_token(request->wsi, WSI_TOKEN_CONNECTION, (const unsigned char *)"close", 5, &at,
					 end) ||
	    lws_add_http_header_content_length(request->wsi, request->answer_bytes, &at, end) ||
	    lws_finalize_write_http_header(request->wsi, start, &at, end))
		return -1;
	request->headers_sent = true;
	return 0;
}

static int answer_goes(struct http_request *request)
{
	size_t n = request->answer_bytes - request->answer_sent;
	bool last = n <= CHUNK_BYTES;

	if (!request->status)
		return 0;
	if (!request->headers_sent) {
		if (send_headers(request))
			return -1;
		if (n > 0) {
			lws_callback_on_writable(request->wsi);
			return 0;
		}
	}
	if (!last)
		n = CHUNK_BYTES;
	if (n > 0 && lws_write(request->wsi, request->answer + LWS_PRE + request->answer_sent, n,
			       last ? LWS_WRITE_HTTP_FINAL : LWS_WRITE_HTTP) < (int)n)
		return -1;
	request->answer_sent += n;
	if (!last) {
		lws_callback_on_writable(request->wsi);
		return 0;
	}
	/* Ours is one request a connection: the library closes once all is written. */
	return -1;
}

static int http_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct lws_vhost *vhost = lws_get_vhost(wsi);
	struct http_server *server = vhost ? lws_get_vhost_user(vhost) : NULL;
	struct http_request *request = lws_get_opaque_user_data(wsi);

	(void)user;
	switch (reason) {
	case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
	case LWS_CALLBACK_ESTABLISHED:
		return -1; /* no websockets here */
	case LWS_CALLBACK_HTTP:
		if (!server || server->closed || request)
			return -1;
		return request_begins(server, wsi);
	case LWS_CALLBACK_HTTP_BODY:
		return request ? body_arrives(request, in, len) : -1;
	case LWS_CALLBACK_HTTP_BODY_COMPLETION:
		if (!request)
			return -1;
		if (request->post && !request->status && !request->handed_out)
			hand_out(request);
		return 0;
	case LWS_CALLBACK_HTTP_WRITEABLE:
		return request ? answer_goes(request) : 0;
	case LWS_CALLBACK_CLOSED_HTTP:
	case LWS_CALLBACK_WSI_DESTROY:
		if (request)
			request_detach(request);
		return 0;
	default:
		return 0;
	}
}

static const struct lws_protocols http_protocols[] = {
	{.name = "http", .callback = http_callback},
	LWS_PROTOCOL_LIST_TERM,
};

static void vhost_is_gone(struct lws_vhost *vhost, void *arg)
{
	struct http_server *server = arg;

	(void)vhost;
	server->vhost_gone = true;
	if (server->closed || loop_is_closing(server->loop)) {
		free(server->unix_path);
		free(server);
	}
}

static enum ferry_error check(const struct http_server_config *config, struct ferry_why *why)
{
	struct stat file;
	enum ferry_error rc;

	if (!config->unix_path) {
		rc = link_port_check(config->address, config->port, why);
		return rc == FERRY_OK ? pki_key_matches(config->key_pem, config->certificate_pem, why) : rc;
	}
	/* A socket that was left behind is in the way of ours; any other file is not ours to remove. */
	if (lstat(config->unix_path, &file) == 0 && !S_ISSOCK(file.st_mode))
		return ferry_fail(why, FERRY_EXISTS, "%s is there and is no socket", config->unix_path);
	if (unlink(config->unix_path) != 0 && errno != ENOENT)
		return ferry_fail(why, FERRY_IO, "cannot replace %s: %s", config->unix_path, strerror(errno));
	return FERRY_OK;
}

static struct lws_vhost *make_vhost(struct http_server *server, const struct http_server_config *config)
{
	struct lws_context_creation_info info;
	unsigned certificate_n = 0;
	unsigned key_n = 0;
	char *certificate = NULL;
	char *key = NULL;
	char name[32];
	mode_t mask;

	memset(&info, 0, sizeof info);
	snprintf(name, sizeof name, "http-%u", loop_number(server->loop));
	info.vhost_name = name;
	info.user = server;
	info.finalize = vhost_is_gone;
	info.finalize_arg = server;
	info.protocols = http_protocols;
	info.retry_and_idle_policy = &loop_no_idle_checks;
	server->vhost_gone = false;
	if (config->unix_path) {
		info.options = LWS_SERVER_OPTION_UNIX_SOCK;
		info.iface = server->unix_path;
		/* From its first moment on only for us. */
		mask = umask(0177);
		server->vhost = lws_create_vhost(loop_context(server->loop), &info);
		umask(mask);
		return server->vhost;
	}
	certificate = link_pem_copy(config->certificate_pem, &certificate_n);
	key = link_pem_copy(config->key_pem, &key_n);
	info.port = config->port;
	if (config->address) {
		snprintf(server->address, sizeof server->address, "%s", config->address);
		info.iface = server->address;
	}
	info.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS;
	if (config->address && !strchr(config->address, ':'))
		info.options |= LWS_SERVER_OPTION_DISABLE_IPV6;
	info.server_ssl_cert_mem = certificate;
	info.server_ssl_cert_mem_len = certificate_n;
	info.server_ssl_private_key_mem = key;
	info.server_ssl_private_key_mem_len = key_n;
	if (certificate && key)
		server->vhost = lws_create_vhost(loop_context(server->loop), &info);
	else
		server->vhost_gone = true;
	link_pem_free(certificate, certificate_n);
	link_pem_free(key, key_n);
	return server->vhost;
}

enum ferry_error http_serve(struct loop *loop, const struct http_server_config *config, http_request_fn *on_request,
			    void *context, struct http_server **out_server, struct ferry_why *why)
{
	struct http_server *server;
	enum ferry_error rc = check(config, why);

	if (rc != FERRY_OK)
		return rc;
	server = calloc(1, sizeof *server);
	if (!server)
		return ferry_fail(why, FERRY_NO_MEMORY, "no memory to listen");
	server->loop = loop;
	server->on_request = on_request;
	server->context = context;
	server->body_bytes_max = config->body_bytes_max ? config->body_bytes_max : HTTP_BODY_BYTES_MAX;
	server->vhost_gone = true;
	if (config->unix_path)
		server->unix_path = strdup(config->unix_path);
	if ((config->unix_path && !server->unix_path) || !make_vhost(server, config) ||
	    (config->unix_path && access(config->unix_path, F_OK) != 0)) {
		http_server_free(server);
		if (config->unix_path)
			return ferry_fail(why, FERRY_CONFIG, "cannot listen on %s", config->unix_path);
		return ferry_fail(why, FERRY_CONFIG, "cannot listen on %s port %d with this certificate",
				  config->address ? config->address : "any address", config->port);
	}
	*out_server = server;
	return FERRY_OK;
}

int http_server_port(const struct http_server *server)
{
	return lws_get_vhost_listen_port(server->vhost);
}

void http_server_free(struct http_server *server)
{
	if (!server)
		return;
	server->closed = true;
	if (server->unix_path)
		unlink(server->unix_path);
	if (server->vhost) {
		loop_reap_vhost(server->loop, server->vhost);
	} else if (server->vhost_gone) {
		free(server->unix_path);
		free(server);
	}
}
