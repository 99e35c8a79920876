/* Links: whole binary messages between two programs, over a websocket in TLS.
 *
 * This is the only way to the network for both programs (with link_http.h). A link is made by
 * link_connect() or comes out of a link_server; it lives until its on_close, which is called
 * exactly once and after which the pointer is dead, or until link_abort(), which calls nothing.
 *
 *   CONNECTING --on_open--> OPEN --link_close or the peer--> CLOSING --on_close--> gone
 *
 * TLS 1.2 at least, 1.3 where both can; both ends authenticate each other. A server can make
 * the client's certificate optional; one that is shown and does not verify is refused in any
 * case. on_verify is asked before the upgrade is answered and decides by the certificate
 * itself; without an on_verify, and for whatever fails on the way to it, the answer is no.
 *
 * Limits, all answered and none fatal to other links: a message larger than
 * message_bytes_max closes its link with 1009; link_send() says LINK_FULL when the queue holds
 * queue_bytes_max; a peer that is silent for less than two heartbeats is dead. */
#ifndef FERRY_SHARED_LINK_H
#define FERRY_SHARED_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "protocol/errors.h"
#include "shared/loop.h"
#include "shared/pki.h"

#define LINK_SUBPROTOCOL	  "ferry.v1"
#define LINK_MESSAGE_BYTES_MAX	  ((size_t)(1 << 20) + (64 << 10)) /* 1 MiB and room for its envelope */
#define LINK_QUEUE_BYTES_MAX	  ((size_t)4 << 20)
#define LINK_HEARTBEAT_US	  (20 * LOOP_SECOND_US)
#define LINK_CONNECT_TIMEOUT_US	  (15 * LOOP_SECOND_US)
#define LINK_CLOSE_TIMEOUT_US	  (5 * LOOP_SECOND_US)
#define LINK_REASON_MAX		  123 /* bytes of a close frame's text (RFC 6455 5.5) */
#define LINK_ADDRESS_MAX	  64

/* Close codes of RFC 6455 7.4 that we use ourselves. */
enum {
	LINK_CLOSE_NORMAL = 1000,
	LINK_CLOSE_GOING_AWAY = 1001,
	LINK_CLOSE_PROTOCOL = 1002,
	LINK_CLOSE_NOT_BINARY = 1003,
	LINK_CLOSE_POLICY = 1008,
	LINK_CLOSE_TOO_LARGE = 1009,
	LINK_CLOSE_INTERNAL = 1011,
	LINK_CLOSE_TRY_LATER = 1013,
};

struct link;
struct link_server;

/* The other end, as TLS has shown it. Borrowed for the call it comes with. */
struct link_peer {
	bool has_certificate;
	struct pki_certificate certificate; /* zeros without one */
	const uint8_t *der;		    /* NULL without one */
	size_t der_bytes;
	char address[LINK_ADDRESS_MAX]; /* for logs; "" when unknown */
};

/* How a link ended. */
struct link_end {
	enum ferry_error code; /* FERRY_OK: closed in order by either side */
	bool opened;	       /* false: it never got to on_open */
	unsigned close_code;   /* the peer's or our close frame; 0: there was none */
	char text[FERRY_WHY_MAX];
};

/* context is the config's, until link_set_context(). */
struct link_calls {
	/* Servers only. FERRY_OK lets the peer in. Anything else is answered with an HTTP status
	 * from which the client's link gets the code back (link_refusal_status). */
	enum ferry_error (*on_verify)(void *server_context, const struct link_peer *peer);
	void (*on_open)(struct link *link, void *context);
	/* bytes: borrowed until the call returns. */
	void (*on_message)(struct link *link, void *context, const uint8_t *bytes, size_t n);
	/* The queue fell to half of its limit or ran empty: a good time to send more. May be NULL. */
	void (*on_drained)(struct link *link, void *context);
	/* The link is gone when this returns; link_* must not be called with it any more. */
	void (*on_close)(struct link *link, void *context, const struct link_end *end);
};

/* Shared by both ends; 0 takes the default above. */
struct link_limits {
	size_t message_bytes_max;
	size_t queue_bytes_max;
	int64_t heartbeat_us; /* silence after which a ping is sent; dead at less than twice that */
};

struct link_server_config {
	const char *address; /* "127.0.0.1", "::", ...; NULL: every address, IPv4 and IPv6 */
	int port;	     /* 0: any free one, see link_server_port */
	const char *certificate_pem; /* with its chain behind it */
	const char *key_pem;
	const char *client_ca_pem; /* one or more CAs */
	bool client_certificate_optional;
	unsigned connections_max; /* open links; 0: no limit but the loop's descriptors */
	struct link_limits limits;
};

/* Everything in config is copied. calls is copied too; on_verify, on_open, on_message and
 * on_close are needed. */
FERRY_CHECK enum ferry_error link_listen(struct loop *loop, const struct link_server_config *config,
					 const struct link_calls *calls, void *context, struct link_server **out_server,
					 struct ferry_why *why);
int link_server_port(const struct link_server *server);
unsigned link_server_count(const struct link_server *server); /* open links */
/* Stops listening and aborts its links (no on_close). NULL is fine. */
void link_server_free(struct link_server *server);

struct link_client_config {
	const char *host; /* name or address; the server's certificate must carry it */
	int port;
	const char *ca_pem;	     /* the only CAs that are trusted */
	const char *certificate_pem; /* NULL: none is shown */
	const char *key_pem;
	int64_t connect_timeout_us; /* until on_open; 0: default */
	/* This machine's clock may be years off (P10): the dates of the server's
	 * certificate are not judged by it. One that ended before `reached_us`
	 * (since 1970), a time that is surely past, is refused all the same. */
	bool clock_is_unsure;
	int64_t reached_us;
	struct link_limits limits;
};

/* Starts to connect. What fails later is told by on_close. */
FERRY_CHECK enum ferry_error link_connect(struct loop *loop, const struct link_client_config *config,
					  const struct link_calls *calls, void *context, struct link **out_link,
					  struct ferry_why *why);

/* Outcomes of link_send. */
enum link_sent {
	LINK_SENT, /* copied into the queue */
	LINK_FULL, /* not taken; on_drained will follow */
	LINK_GONE, /* not taken: not open (yet, any more), or no memory was left and the link is closing */
};

/* A message is taken whole or not at all. An empty queue takes a message of any allowed size;
 * n must be at most the peer's message_bytes_max. */
FERRY_CHECK enum link_sent link_send(struct link *link, const uint8_t *bytes, size_t n);
size_t link_queue_bytes(const struct link *link); /* taken and not yet handed to TLS */

/* No on_message while paused (bar one that had arrived already). A paused end answers no pings
 * either, so a pause must be shorter than the peer's heartbeat. */
void link_pause(struct link *link);
void link_resume(struct link *link);

/* Sends what is queued, then the close frame; on_close follows within LINK_CLOSE_TIMEOUT_US.
 * Messages that arrive meanwhile are dropped. reason may be NULL; cut at LINK_REASON_MAX. */
void link_close(struct link *link, unsigned close_code, const char *reason);
/* Ends it now and silently: no close frame, no on_close. NULL is fine. */
void link_abort(struct link *link);

void link_set_context(struct link *link, void *context);
/* The peer's certificate, when it has shown one: fingerprint (32 bytes), else NULL; name, else "". */
const uint8_t *link_peer_fingerprint(const struct link *link);
const char *link_peer_name(const struct link *link);
const char *link_peer_address(const struct link *link);

/* The HTTP status that tells a client why it was refused, and back. */
unsigned link_refusal_status(enum ferry_error code);
enum ferry_error link_refusal_code(unsigned status);

#endif
