/* Small HTTP exchanges beside the links: enrolment (HTTPS, the server's certificate only) and
 * administration (a unix socket). GET and POST, bodies bounded, one request a connection, no
 * keep-alive, no files. */
#ifndef FERRY_SHARED_LINK_HTTP_H
#define FERRY_SHARED_LINK_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/errors.h"
#include "shared/loop.h"

#define HTTP_BODY_BYTES_MAX ((size_t)1 << 20)
#define HTTP_PATH_MAX	    256
#define HTTP_HEADERS_MAX    32   /* that a client adds to a request */
#define HTTP_HEADERS_BYTES_MAX 2048 /* names and values of all of them */

struct http_server;
struct http_request;

struct http_server_config {
	/* Either a unix socket (its file is replaced; mode 0600: the owner administers) ... */
	const char *unix_path;
	/* ... or an address and port with TLS, as in link_server_config. */
	const char *address;
	int port;
	const char *certificate_pem;
	const char *key_pem;
	size_t body_bytes_max; /* 0: HTTP_BODY_BYTES_MAX; more is answered with 413 */
};

/* A request has come whole. It must be answered with http_respond(), now or later; everything
 * it shows is borrowed until then. */
typedef void http_request_fn(struct http_request *request, void *context);

FERRY_CHECK enum ferry_error http_serve(struct loop *loop, const struct http_server_config *config,
					http_request_fn *on_request, void *context, struct http_server **out_server,
					struct ferry_why *why);
int http_server_port(const struct http_server *server);
/* Requests that are not answered yet stay valid and go nowhere. NULL is fine. */
void http_server_free(struct http_server *server);

const char *http_request_method(const struct http_request *request); /* "GET" or "POST" */
const char *http_request_path(const struct http_request *request);   /* without a query */
const uint8_t *http_request_body(const struct http_request *request, size_t *out_bytes); /* never NULL; NUL behind it */
const char *http_request_address(const struct http_request *request);
/* Frees the request. When the client has gone meanwhile, that is all it does. */
void http_respond(struct http_request *request, unsigned status, const char *content_type, const void *body, size_t n);

struct http_header {
	const char *name; /* letters, digits and '-' */
	const char *value; /* printable ASCII */
};

struct http_client_config {
	const char *unix_path; /* or host, port and ca_pem */
	const char *host;
	int port;
	bool plain; /* without TLS: for addresses that somebody has allowed on purpose */
	/* The only CAs that are trusted. NULL: the server is not verified at all; for reading a CA
	 * whose fingerprint is known, nothing else. Never send a secret that way. */
	const char *ca_pem;
	const char *method; /* NULL: POST with a body, GET without */
	const char *path;
	const void *body;
	size_t body_bytes;
	const char *content_type; /* of the body; NULL: application/octet-stream */
	const struct http_header *headers;
	size_t header_count;
	int64_t timeout_us;	   /* for the whole; 0: 15 s */
	size_t response_bytes_max; /* 0: HTTP_BODY_BYTES_MAX */
};

/* FERRY_OK: an answer came, whatever its status. body: borrowed, with a NUL behind it. */
typedef void http_response_fn(void *context, enum ferry_error code, const char *text, unsigned status,
			      const uint8_t *body, size_t n);

/* Everything in config is copied. on_response is called exactly once, from the loop.
 * FERRY_USAGE: a header is not of its form, or they are too many. */
FERRY_CHECK enum ferry_error http_fetch(struct loop *loop, const struct http_client_config *config,
					http_response_fn *on_response, void *context, struct ferry_why *why);

/* The same for command lines: runs a loop of its own until the answer is there. *out_body is
 * the caller's to free, with a NUL behind it. */
FERRY_CHECK enum ferry_error http_fetch_now(const struct http_client_config *config, unsigned *out_status,
					    char **out_body, size_t *out_bytes, struct ferry_why *why);

#endif
