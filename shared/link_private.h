/* Inside of a link, for link*.c alone. */
#ifndef FERRY_SHARED_LINK_PRIVATE_H
#define FERRY_SHARED_LINK_PRIVATE_H

#include "shared/link.h"
#include "shared/loop_lws.h"

enum link_state { LINK_CONNECTING, LINK_OPEN, LINK_CLOSING };

/* A message on its way out. bytes has LWS_PRE free bytes before each fragment: those of a
 * later fragment are the end of the one before it, which has been sent. */
struct link_out {
	struct link_out *next;
	size_t n;
	size_t sent;
	unsigned char bytes[];
};

struct link {
	/* The connecting end, where its clock is unsure: what the server's certificate is held against. */
	char *ca_pem, *host;
	int64_t reached_us;
	struct loop *loop;
	struct lws *wsi; /* NULL while a connection attempt has failed and on_close is to come */
	struct link_server *server; /* NULL in a client */
	struct link *previous, *next; /* of the server's links */
	struct lws_vhost *vhost; /* a client's own */
	struct link_calls calls;
	void *context;
	struct link_limits limits;
	struct loop_timer *timer; /* to connect, heartbeat, or to close: by state */
	enum link_state state;
	bool unwanted; /* closed while CONNECTING: must not open any more, on_close is to come */

	struct link_out *first, **last; /* queue */
	size_t queue_bytes;
	bool above_half; /* on_drained is due */

	uint8_t *in; /* the message that is arriving; NULL between messages */
	size_t in_bytes;
	size_t in_room;
	bool paused;

	int64_t heard_us; /* when anything last came from the peer */
	bool ping_wanted;

	unsigned close_code; /* of the frame to send, or that came */
	char close_text[LINK_REASON_MAX + 1];
	struct link_end end;

	bool has_certificate;
	uint8_t fingerprint[PKI_FINGERPRINT_BYTES];
	char name[PKI_NAME_MAX + 1];
	char address[LINK_ADDRESS_MAX];
};

struct link_server {
	struct loop *loop;
	struct lws_vhost *vhost;
	struct link_calls calls;
	void *context;
	struct link_limits limits;
	unsigned connections_max;
	unsigned count;
	bool certificate_optional;
	char address[LINK_ADDRESS_MAX]; /* the library borrows it for as long as it listens */
	bool closed; /* freed by its owner; the vhost is about to go */
	bool vhost_gone;
	struct link *links;
};

/* link.c */
struct link *link_new(struct loop *loop, const struct link_calls *calls, void *context,
		      const struct link_limits *limits);
void link_opened(struct link *link);			  /* CONNECTING -> OPEN */
void link_gone(struct link *link, enum ferry_error code, const char *text); /* calls on_close, frees */
int link_service(struct link *link, enum lws_callback_reasons reason, void *in, size_t len);

/* link_peer.c: what TLS knows of the other end. False: it cannot be made out, refuse. */
struct link_peer_buffer {
	struct link_peer peer;
	uint8_t der[PKI_DER_MAX];
};
bool link_peer_read(struct lws *wsi, struct link_peer_buffer *out);

/* Can we listen there? The library does not say why not, and joins two servers of one process
 * on one port, where they do not stay apart. */
enum ferry_error link_port_check(const char *address, int port, struct ferry_why *why);

/* Text for the library, which wants a NUL within the length, two for a client's key. The copy
 * is the caller's to free with link_pem_free (which wipes it). */
char *link_pem_copy(const char *pem, unsigned *out_bytes);
void link_pem_free(char *copy, unsigned bytes);

#endif
