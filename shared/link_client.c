/* The connecting end. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/link_private.h"

/* The library's words on why there is no connection, with what the server's status says. */
static void attempt_failed(struct link *link, const char *text, size_t n)
{
	unsigned status = link->wsi ? lws_http_client_http_response(link->wsi) : 0;
	enum ferry_error code = status ? link_refusal_code(status) : FERRY_LINK_CLOSED;

	if (link->unwanted)
		return; /* its owner has said why */
	link->end.code = code;
	if (status)
		snprintf(link->end.text, sizeof link->end.text, "the hub refused: %s (HTTP %u)",
			 ferry_error_text((int)code), status);
	else
		snprintf(link->end.text, sizeof link->end.text, "cannot connect: %.*s", (int)(n > 200 ? 200 : n),
			 text ? text : "no reason given");
}

/* The library was told to take any certificate: this one is looked at here,
 * before anything is said over the link. */
static bool server_good(struct lws *wsi, struct link *link)
{
	_Alignas(union lws_tls_cert_info_results) char room[sizeof(union lws_tls_cert_info_results) + PKI_DER_MAX];
	union lws_tls_cert_info_results *der = (union lws_tls_cert_info_results *)room;
	struct ferry_why why = {0};

	if (!link->ca_pem)
		return true;
	if (lws_tls_peer_cert_info(wsi, LWS_TLS_CERT_INFO_DER_RAW, der, PKI_DER_MAX) == 0 &&
	    pki_server_good((const uint8_t *)der->ns.name, (size_t)der->ns.len, link->ca_pem, link->host,
			    link->reached_us / 1000000, &why) == FERRY_OK)
		return true;
	link->end.code = FERRY_NO_CERTIFICATE;
	snprintf(link->end.text, sizeof link->end.text, "cannot connect: %.200s",
		 why.text[0] ? why.text : "the server shows no certificate");
	return false;
}

/* The library frees the connection. It mostly says before why there is none, but not where it
 * breaks after the TLS handshake and before the upgrade is answered. */
static void connection_lost(struct lws *wsi, struct link *link)
{
	if (link->state == LINK_CONNECTING && link->end.text[0] == '\0')
		snprintf(link->end.text, sizeof link->end.text, "cannot connect: the connection was lost");
	lws_set_opaque_user_data(wsi, NULL);
	link->wsi = NULL;
	loop_timer_set(link->timer, 0);
}

static int client_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct link *link = lws_get_opaque_user_data(wsi);

	(void)user;
	switch (reason) {
	case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
		if (!link)
			return 0;
		link->wsi = wsi; /* to ask it for the status; it may have failed before we were told its address */
		attempt_failed(link, in, in ? strnlen(in, len ? len : 200) : 0);
		lws_set_opaque_user_data(wsi, NULL);
		link->wsi = NULL;
		/* The library may still be inside link_connect(): on_close comes from the loop. */
		loop_timer_set(link->timer, 0);
		return 0;
	case LWS_CALLBACK_CLIENT_ESTABLISHED:
		if (!link)
			return -1;
		if (!link->unwanted && !server_good(wsi, link)) {
			link->unwanted = true;
			loop_timer_set(link->timer, 0);
		}
		if (link->unwanted) { /* the timer that brings on_close is set */
			lws_set_opaque_user_data(wsi, NULL);
			link->wsi = NULL;
			return -1;
		}
		lws_get_peer_simple(wsi, link->address, sizeof link->address);
		link_opened(link);
		return lws_get_opaque_user_data(wsi) ? 0 : -1;
	case LWS_CALLBACK_CLIENT_RECEIVE:
	case LWS_CALLBACK_CLIENT_RECEIVE_PONG:
	case LWS_CALLBACK_CLIENT_WRITEABLE:
		return link ? link_service(link, reason, in, len) : -1;
	case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
	case LWS_CALLBACK_CLIENT_CLOSED:
		return link ? link_service(link, reason, in, len) : 0;
	case LWS_CALLBACK_CLOSED_CLIENT_HTTP:
	case LWS_CALLBACK_WSI_DESTROY:
		if (link)
			connection_lost(wsi, link);
		return 0;
	default:
		return 0;
	}
}

static const struct lws_protocols client_protocols[] = {
	{.name = LINK_SUBPROTOCOL, .callback = client_callback, .rx_buffer_size = 4096},
	LWS_PROTOCOL_LIST_TERM,
};

/* A vhost of its own holds the link's certificates: the library would mix them otherwise. */
static struct lws_vhost *client_vhost(struct loop *loop, const struct link_client_config *config)
{
	struct lws_context_creation_info info;
	struct lws_vhost *vhost = NULL;
	unsigned certificate_n = 0;
	unsigned key_n = 0;
	unsigned ca_n = 0;
	bool identity = config->certificate_pem && config->key_pem;
	char *certificate = identity ? link_pem_copy(config->certificate_pem, &certificate_n) : NULL;
	char *key = identity ? link_pem_copy(config->key_pem, &key_n) : NULL;
	char *ca = link_pem_copy(config->ca_pem, &ca_n);
	char name[32];

	memset(&info, 0, sizeof info);
	snprintf(name, sizeof name, "client-%u", loop_number(loop));
	info.vhost_name = name;
	info.protocols = client_protocols;
	info.port = CONTEXT_PORT_NO_LISTEN;
	info.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS;
	info.client_ssl_ca_mem = ca;
	info.client_ssl_ca_mem_len = ca_n;
	info.client_ssl_cert_mem = certificate;
	info.client_ssl_cert_mem_len = certificate_n;
	info.client_ssl_key_mem = key;
	/* The library takes one off: the length covers both NULs that link_pem_copy left. */
	info.client_ssl_key_mem_len = key ? key_n + 1 : 0;
	info.retry_and_idle_policy = &loop_no_idle_checks;
	if (ca && (!identity || (certificate && key)))
		vhost = lws_create_vhost(loop_context(loop), &info);
	link_pem_free(certificate, certificate_n);
	link_pem_free(key, key_n);
	link_pem_free(ca, ca_n);
	return vhost;
}

enum ferry_error link_connect(struct loop *loop, const struct link_client_config *config, const struct link_calls *calls,
			      void *context, struct link **out_link, struct ferry_why *why)
{
	struct lws_client_connect_info info;
	struct pki_certificate checked;
	struct link *link;
	enum ferry_error rc;

	assert(calls->on_open && calls->on_message && calls->on_close);
	/* Found out here, with a sentence; the library would only fail. */
	rc = pki_certificate_read_pem(config->ca_pem, &checked, why);
	if (rc == FERRY_OK && config->certificate_pem && config->key_pem)
		rc = pki_key_matches(config->key_pem, config->certificate_pem, why);
	if (rc != FERRY_OK)
		return rc;
	link = link_new(loop, calls, context, &config->limits);
	if (!link)
		return ferry_fail(why, FERRY_NO_MEMORY, "no memory to connect");
	if (config->clock_is_unsure) {
		link->reached_us = config->reached_us;
		link->ca_pem = strdup(config->ca_pem);
		link->host = strdup(config->host);
	}
	if (config->clock_is_unsure && (!link->ca_pem || !link->host)) {
		link_abort(link);
		return ferry_fail(why, FERRY_NO_MEMORY, "no memory to connect");
	}
	link->vhost = client_vhost(loop, config);
	if (!link->vhost) {
		link_abort(link);
		return ferry_fail(why, FERRY_NO_MEMORY, "no memory to connect");
	}
	loop_timer_set(link->timer, loop_now_us() + (config->connect_timeout_us > 0 ? config->connect_timeout_us
										    : LINK_CONNECT_TIMEOUT_US));
	memset(&info, 0, sizeof info);
	info.context = loop_context(loop);
	info.vhost = link->vhost;
	info.address = config->host;
	info.host = config->host;
	info.origin = config->host;
	info.port = config->port;
	info.path = "/";
	info.protocol = LINK_SUBPROTOCOL;
	info.local_protocol_name = LINK_SUBPROTOCOL;
	info.ssl_connection = LCCSCF_USE_SSL | (link->ca_pem ? LCCSCF_ALLOW_EXPIRED | LCCSCF_ALLOW_SELFSIGNED : 0);
	info.opaque_user_data = link;
	info.pwsi = &link->wsi;
	info.retry_and_idle_policy = &loop_no_idle_checks;
	if (!lws_client_connect_via_info(&info)) {
		/* Mostly it has said why already, through the callback. */
		if (link->end.text[0] == '\0')
			snprintf(link->end.text, sizeof link->end.text, "cannot connect to %s port %d", config->host,
				 config->port);
		link->wsi = NULL;
		loop_timer_set(link->timer, 0);
	}
	*out_link = link;
	return FERRY_OK;
}
