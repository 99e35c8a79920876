/* A link's life: queue, reassembly, heartbeat, closing. Both ends are alike from here on. */
#include "shared/link.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/link_private.h"

/* A few TLS records' worth, with its frame header (14 bytes at most). */
#define FRAGMENT_BYTES (16384 - 16)
/* What one link may write before the loop turns to the others. */
#define TURN_BYTES ((size_t)256 << 10)
#define IN_FIRST_BYTES 4096

/* --- making and ending ------------------------------------------------------------------ */

static struct link_limits limits_of(const struct link_limits *given)
{
	struct link_limits limits = *given;

	if (limits.message_bytes_max == 0)
		limits.message_bytes_max = LINK_MESSAGE_BYTES_MAX;
	if (limits.queue_bytes_max == 0)
		limits.queue_bytes_max = LINK_QUEUE_BYTES_MAX;
	if (limits.heartbeat_us <= 0)
		limits.heartbeat_us = LINK_HEARTBEAT_US;
	return limits;
}

static void link_timer(void *context);

struct link *link_new(struct loop *loop, const struct link_calls *calls, void *context,
		      const struct link_limits *limits)
{
	struct link *link = calloc(1, sizeof *link);

	if (!link)
		return NULL;
	if (loop_timer_new(loop, link_timer, link, &link->timer) != FERRY_OK) {
		free(link);
		return NULL;
	}
	link->loop = loop;
	link->calls = *calls;
	link->context = context;
	link->limits = limits_of(limits);
	link->last = &link->first;
	link->heard_us = loop_now_us();
	return link;
}

static void queue_clear(struct link *link)
{
	while (link->first) {
		struct link_out *out = link->first;

		link->first = out->next;
		free(out);
	}
	link->last = &link->first;
	link->queue_bytes = 0;
}

static void link_unlist(struct link *link)
{
	struct link_server *server = link->server;

	if (!server)
		return;
	if (link->previous)
		link->previous->next = link->next;
	else
		server->links = link->next;
	if (link->next)
		link->next->previous = link->previous;
	server->count--;
	link->server = NULL;
}

static void link_free(struct link *link)
{
	link_unlist(link);
	if (link->wsi) {
		lws_set_opaque_user_data(link->wsi, NULL);
		/* Asynchronous: we may be inside one of its callbacks. */
		lws_set_timeout(link->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_ASYNC);
	}
	loop_timer_free(link->timer);
	loop_reap_vhost(link->loop, link->vhost);
	queue_clear(link);
	free(link->in);
	free(link->ca_pem);
	free(link->host);
	free(link);
}

void link_gone(struct link *link, enum ferry_error code, const char *text)
{
	struct link_end end = link->end;

	end.opened = link->state != LINK_CONNECTING;
	end.close_code = link->close_code;
	/* What we found out ourselves says more than what the library saw of it. */
	if (end.code == FERRY_OK && link->close_code == 0)
		end.code = code;
	if (end.text[0] == '\0')
		snprintf(end.text, sizeof end.text, "%s", link->close_text[0] ? link->close_text : text);
	loop_timer_cancel(link->timer);
	/* A later send by on_close must not take hold. */
	link->state = LINK_CLOSING;
	link_unlist(link);
	if (!loop_is_closing(link->loop))
		link->calls.on_close(link, link->context, &end);
	link_free(link);
}

void link_abort(struct link *link)
{
	if (link)
		link_free(link);
}

void link_opened(struct link *link)
{
	assert(link->state == LINK_CONNECTING);
	link->state = LINK_OPEN;
	link->heard_us = loop_now_us();
	loop_timer_set(link->timer, link->heard_us + link->limits.heartbeat_us);
	link->calls.on_open(link, link->context);
}

/* --- heartbeat and deadlines -------------------------------------------------------------- */

static void heartbeat(struct link *link)
{
	int64_t now = loop_now_us();
	int64_t beat = link->limits.heartbeat_us;

	/* While we do not read, silence says nothing about the peer. */
	if (link->paused)
		link->heard_us = now;
	if (now >= link->heard_us + beat + beat * 3 / 4) {
		link_gone(link, FERRY_LINK_TIMEOUT, "the peer is silent");
		return;
	}
	if (now >= link->heard_us + beat) {
		link->ping_wanted = true;
		lws_callback_on_writable(link->wsi);
		loop_timer_set(link->timer, link->heard_us + beat + beat * 3 / 4);
		return;
	}
	loop_timer_set(link->timer, link->heard_us + beat);
}

static void link_timer(void *context)
{
	struct link *link = context;

	if (!link->wsi) /* the attempt failed before it began */
		link_gone(link, FERRY_LINK_CLOSED, "cannot connect");
	else if (link->state == LINK_OPEN)
		heartbeat(link);
	else if (link->state == LINK_CONNECTING)
		link_gone(link, FERRY_LINK_TIMEOUT, "no connection within the time allowed");
	else
		link_gone(link, FERRY_LINK_TIMEOUT, "the peer did not take the rest and the close frame");
}

/* --- sending ------------------------------------------------------------------------------ */

enum link_sent link_send(struct link *link, const uint8_t *bytes, size_t n)
{
	struct link_out *out;

	if (link->state != LINK_OPEN)
		return LINK_GONE;
	if (link->queue_bytes > 0 && n > link->limits.queue_bytes_max - link->queue_bytes) {
		link->above_half = true;
		return LINK_FULL;
	}
	out = malloc(sizeof *out + LWS_PRE + n);
	if (!out) {
		link->end.code = FERRY_NO_MEMORY;
		link_close(link, LINK_CLOSE_TRY_LATER, "no memory");
		return LINK_GONE;
	}
	out->next = NULL;
	out->n = n;
	out->sent = 0;
	if (n > 0)
		memcpy(out->bytes + LWS_PRE, bytes, n);
	*link->last = out;
	link->last = &out->next;
	/* An empty message occupies the queue as well. */
	link->queue_bytes += n ? n : 1;
	if (link->queue_bytes > link->limits.queue_bytes_max / 2)
		link->above_half = true;
	lws_callback_on_writable(link->wsi);
	return LINK_SENT;
}

size_t link_queue_bytes(const struct link *link)
{
	return link->queue_bytes;
}

static bool send_ping(struct link *link)
{
	/* Not an empty one: the library's client does not answer those. */
	unsigned char frame[LWS_PRE + 4] = {[LWS_PRE] = 'b', 'e', 'a', 't'};

	link->ping_wanted = false;
	return lws_write(link->wsi, frame + LWS_PRE, 4, LWS_WRITE_PING) >= 0;
}

/* Sends one fragment of the first message; takes the message off when it was the last one.
 * False: the connection is lost. */
static bool send_fragment(struct link *link, size_t *written)
{
	struct link_out *out = link->first;
	size_t n = out->n - out->sent;
	bool first = out->sent == 0;
	bool last = n <= FRAGMENT_BYTES;
	int flags;

	if (!last)
		n = FRAGMENT_BYTES;
	flags = lws_write_ws_flags(LWS_WRITE_BINARY, first, last);
	if (lws_write(link->wsi, out->bytes + LWS_PRE + out->sent, n, (enum lws_write_protocol)flags) < (int)n)
		return false;
	out->sent += n;
	*written += n;
	link->queue_bytes -= out->n ? n : 1; /* as link_send counted it */
	if (last) {
		link->first = out->next;
		if (!link->first)
			link->last = &link->first;
		free(out);
	}
	return true;
}

/* The library calls this also when it merely got rid of its own remainder: having nothing to
 * send is ordinary. Returns what the library's callback has to. */
static int writable(struct link *link)
{
	struct lws *wsi = link->wsi;
	size_t written = 0;

	if (link->ping_wanted && !send_ping(link))
		return -1;
	while (link->first && written < TURN_BYTES && !lws_send_pipe_choked(wsi))
		if (!send_fragment(link, &written))
			return -1;
	if (link->first) {
		lws_callback_on_writable(wsi);
	} else if (link->state == LINK_CLOSING) {
		lws_close_reason(wsi, (enum lws_close_status)link->close_code, (unsigned char *)link->close_text,
				 strlen(link->close_text));
		return -1;
	}
	if (link->state == LINK_OPEN && link->above_half && link->queue_bytes <= link->limits.queue_bytes_max / 2) {
		link->above_half = false;
		if (link->calls.on_drained)
			link->calls.on_drained(link, link->context);
	} else if (link->state == LINK_OPEN && written > 0 && !link->first && link->calls.on_drained) {
		link->calls.on_drained(link, link->context);
	}
	return lws_get_opaque_user_data(wsi) ? 0 : -1;
}

/* --- receiving ---------------------------------------------------------------------------- */

/* Closes with a frame that says why; the library's callback returns this. */
static int refuse(struct link *link, enum ferry_error code, unsigned close_code, const char *text)
{
	link->end.code = code;
	link->close_code = close_code;
	snprintf(link->close_text, sizeof link->close_text, "%s", text);
	snprintf(link->end.text, sizeof link->end.text, "%s", text);
	queue_clear(link);
	link->state = LINK_CLOSING;
	loop_timer_set(link->timer, loop_now_us() + LINK_CLOSE_TIMEOUT_US);
	lws_close_reason(link->wsi, (enum lws_close_status)close_code, (unsigned char *)link->close_text,
			 strlen(link->close_text));
	return -1;
}

/* Room for the pieces so far, this one and what the frame still has, but no more than that:
 * the frame's length was checked, the message's is not known. */
static bool in_reserve(struct link *link, size_t needed)
{
	size_t room = link->in_room ? link->in_room : IN_FIRST_BYTES;
	uint8_t *more;

	while (room < needed)
		room *= 2;
	if (room > link->limits.message_bytes_max)
		room = link->limits.message_bytes_max;
	if (room <= link->in_room)
		return true;
	more = realloc(link->in, room);
	if (!more)
		return false;
	link->in = more;
	link->in_room = room;
	return true;
}

static int deliver(struct link *link, const uint8_t *bytes, size_t n)
{
	struct lws *wsi = link->wsi;

	if (link->state == LINK_OPEN)
		link->calls.on_message(link, link->context, bytes, n);
	return lws_get_opaque_user_data(wsi) ? 0 : -1;
}

static int receive(struct link *link, const uint8_t *bytes, size_t n)
{
	struct lws *wsi = link->wsi;
	size_t left = lws_remaining_packet_payload(wsi);
	bool final = lws_is_final_fragment(wsi) && left == 0;
	size_t max = link->limits.message_bytes_max;
	uint8_t *whole;
	int result;

	link->heard_us = loop_now_us();
	if (!lws_frame_is_binary(wsi))
		return refuse(link, FERRY_MALFORMED, LINK_CLOSE_NOT_BINARY, "messages must be binary");
	/* Checked against the announced length, so that a huge frame costs nothing first. */
	if (left > max || n > max - left || link->in_bytes > max - left - n)
		return refuse(link, FERRY_MESSAGE_TOO_LARGE, LINK_CLOSE_TOO_LARGE, "the message is larger than the limit");
	if (final && link->in_bytes == 0)
		return deliver(link, bytes, n);
	if (!in_reserve(link, link->in_bytes + n))
		return refuse(link, FERRY_NO_MEMORY, LINK_CLOSE_TRY_LATER, "no memory");
	memcpy(link->in + link->in_bytes, bytes, n);
	link->in_bytes += n;
	if (!final)
		return 0;
	/* Taken off first: on_message may end the link while it reads. Freed each time: an idle
	 * link shall hold no buffer. */
	whole = link->in;
	n = link->in_bytes;
	link->in = NULL;
	link->in_bytes = 0;
	link->in_room = 0;
	result = deliver(link, whole, n);
	free(whole);
	return result;
}

void link_pause(struct link *link)
{
	if (link->paused)
		return;
	link->paused = true;
	if (link->wsi)
		lws_rx_flow_control(link->wsi, 0);
}

void link_resume(struct link *link)
{
	if (!link->paused)
		return;
	link->paused = false;
	link->heard_us = loop_now_us();
	if (link->wsi)
		lws_rx_flow_control(link->wsi, 1);
}

/* --- closing ------------------------------------------------------------------------------ */

void link_close(struct link *link, unsigned close_code, const char *reason)
{
	if (link->state == LINK_CLOSING || link->unwanted)
		return;
	if (link->state == LINK_CONNECTING || !link->wsi) {
		/* Nobody to tell; on_close comes from the loop, as always. */
		link->unwanted = true;
		link->close_code = close_code;
		snprintf(link->end.text, sizeof link->end.text, "%s", reason ? reason : "closed before it was open");
		loop_timer_set(link->timer, 0);
		return;
	}
	link->state = LINK_CLOSING;
	link->close_code = close_code;
	snprintf(link->close_text, sizeof link->close_text, "%s", reason ? reason : "");
	loop_timer_set(link->timer, loop_now_us() + LINK_CLOSE_TIMEOUT_US);
	/* The peer's last messages must be read for its close frame to be seen. */
	link_resume(link);
	lws_callback_on_writable(link->wsi);
}

/* The peer's close frame: two bytes of code, then text (RFC 6455 5.5.1). */
static void peer_closes(struct link *link, const unsigned char *frame, size_t n)
{
	size_t text = n > 2 ? n - 2 : 0;

	if (link->state == LINK_CLOSING)
		return;
	link->close_code = n >= 2 ? (unsigned)frame[0] << 8 | frame[1] : 1005;
	if (text > LINK_REASON_MAX)
		text = LINK_REASON_MAX;
	if (text > 0)
		memcpy(link->close_text, frame + 2, text);
	link->close_text[text] = '\0';
	if (link->close_code == LINK_CLOSE_TOO_LARGE)
		link->end.code = FERRY_MESSAGE_TOO_LARGE;
}

int link_service(struct link *link, enum lws_callback_reasons reason, void *in, size_t len)
{
	switch (reason) {
	case LWS_CALLBACK_RECEIVE:
	case LWS_CALLBACK_CLIENT_RECEIVE:
		return receive(link, in, len);
	case LWS_CALLBACK_RECEIVE_PONG:
	case LWS_CALLBACK_CLIENT_RECEIVE_PONG:
		link->heard_us = loop_now_us();
		return 0;
	case LWS_CALLBACK_SERVER_WRITEABLE:
	case LWS_CALLBACK_CLIENT_WRITEABLE:
		return writable(link);
	case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
		peer_closes(link, in, len);
		return 0;
	case LWS_CALLBACK_CLOSED:
	case LWS_CALLBACK_CLIENT_CLOSED:
		lws_set_opaque_user_data(link->wsi, NULL);
		link->wsi = NULL;
		link_gone(link, FERRY_LINK_CLOSED, "the connection was lost");
		return 0;
	default:
		return 0;
	}
}

/* --- small answers ------------------------------------------------------------------------- */

void link_set_context(struct link *link, void *context)
{
	link->context = context;
}

const uint8_t *link_peer_fingerprint(const struct link *link)
{
	return link->has_certificate ? link->fingerprint : NULL;
}

const char *link_peer_name(const struct link *link)
{
	return link->name;
}

const char *link_peer_address(const struct link *link)
{
	return link->address;
}

static const struct {
	enum ferry_error code;
	unsigned status;
} refusals[] = {
	{FERRY_NO_CERTIFICATE, 401}, {FERRY_REVOKED, 403},    {FERRY_UNKNOWN_DEVICE, 404},   {FERRY_CLONE, 409},
	{FERRY_TENANT_SUSPENDED, 423}, {FERRY_VERSION, 426}, {FERRY_OVERLOADED, 503}, {FERRY_DATABASE, 502},
	{FERRY_SHUTTING_DOWN, 504},
};

unsigned link_refusal_status(enum ferry_error code)
{
	for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
		if (refusals[i].code == code)
			return refusals[i].status;
	return 503;
}

enum ferry_error link_refusal_code(unsigned status)
{
	for (size_t i = 0; i < sizeof refusals / sizeof *refusals; i++)
		if (refusals[i].status == status)
			return refusals[i].code;
	return FERRY_LINK_CLOSED;
}
