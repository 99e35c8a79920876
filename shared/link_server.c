/* The listening end. */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/link_private.h"

/* A status and nothing else: whoever is refused learns the reason's class only. */
static int answer(struct lws *wsi, enum ferry_error code)
{
	if (lws_return_http_status(wsi, link_refusal_status(code), NULL) < 0)
		return -1;
	return 1;
}

/* Everything that is not found good is refused, whatever the library let through. */
static enum ferry_error admit(struct link_server *server, struct lws *wsi)
{
	struct link_peer_buffer buffer;
	const struct link_peer *peer = &buffer.peer;

	if (!link_peer_read(wsi, &buffer))
		return FERRY_NO_CERTIFICATE;
	if (!peer->has_certificate && !server->certificate_optional)
		return FERRY_NO_CERTIFICATE;
	if (peer->has_certificate) {
		int64_t now_s = loop_wall_us() / LOOP_SECOND_US;

		if (!peer->certificate.for_client || peer->certificate.is_ca || now_s < peer->certificate.not_before_s ||
		    now_s > peer->certificate.not_after_s)
			return FERRY_NO_CERTIFICATE;
	}
	if (server->connections_max && server->count >= server->connections_max)
		return FERRY_OVERLOADED;
	return server->calls.on_verify(server->context, peer);
}

static struct link *accept_link(struct link_server *server, struct lws *wsi)
{
	struct link_peer_buffer buffer;
	struct link *link;

	if (!link_peer_read(wsi, &buffer))
		return NULL;
	link = link_new(server->loop, &server->calls, server->context, &server->limits);
	if (!link)
		return NULL;
	link->wsi = wsi;
	link->has_certificate = buffer.peer.has_certificate;
	memcpy(link->fingerprint, buffer.peer.certificate.fingerprint, sizeof link->fingerprint);
	memcpy(link->name, buffer.peer.certificate.name, sizeof link->name);
	memcpy(link->address, buffer.peer.address, sizeof link->address);
	link->server = server;
	link->next = server->links;
	if (link->next)
		link->next->previous = link;
	server->links = link;
	server->count++;
	lws_set_opaque_user_data(wsi, link);
	return link;
}

static int server_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	struct lws_vhost *vhost = lws_get_vhost(wsi);
	struct link_server *server = vhost ? lws_get_vhost_user(vhost) : NULL;
	struct link *link = lws_get_opaque_user_data(wsi);
	enum ferry_error verdict;

	(void)user;
	switch (reason) {
	case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
		verdict = server && !server->closed ? admit(server, wsi) : FERRY_SHUTTING_DOWN;
		return verdict == FERRY_OK ? 0 : answer(wsi, verdict);
	case LWS_CALLBACK_ESTABLISHED:
		link = server && !server->closed ? accept_link(server, wsi) : NULL;
		if (!link)
			return -1;
		link_opened(link);
		return lws_get_opaque_user_data(wsi) ? 0 : -1;
	case LWS_CALLBACK_RECEIVE:
	case LWS_CALLBACK_RECEIVE_PONG:
	case LWS_CALLBACK_SERVER_WRITEABLE:
		return link ? link_service(link, reason, in, len) : -1;
	case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
	case LWS_CALLBACK_CLOSED:
		return link ? link_service(link, reason, in, len) : 0;
	default:
		return 0;
	}
}

/* Who asks for no subprotocol, or speaks plain HTTP, gets here. */
static int stranger_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
	(void)user;
	(void)in;
	(void)len;
	switch (reason) {
	case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
	case LWS_CALLBACK_ESTABLISHED:
		return -1;
	case LWS_CALLBACK_HTTP:
		lws_return_http_status(wsi, 426, NULL);
		return -1;
	default:
		return 0;
	}
}

/* The vhost goes only now, so only now does what it points to. */
static void vhost_is_gone(struct lws_vhost *vhost, void *arg)
{
	struct link_server *server = arg;

	(void)vhost;
	server->vhost_gone = true;
	if (server->closed || loop_is_closing(server->loop))
		free(server);
}

static const struct lws_protocols server_protocols[] = {
	/* The first one is the library's default: nobody gets in by it. */
	{.name = "none", .callback = stranger_callback},
	{.name = LINK_SUBPROTOCOL, .callback = server_callback, .rx_buffer_size = 4096},
	LWS_PROTOCOL_LIST_TERM,
};

enum ferry_error link_listen(struct loop *loop, const struct link_server_config *config, const struct link_calls *calls,
			     void *context, struct link_server **out_server, struct ferry_why *why)
{
	struct lws_context_creation_info info;
	struct link_server *server;
	enum ferry_error rc;
	unsigned certificate_n = 0;
	unsigned key_n = 0;
	unsigned ca_n = 0;
	char *certificate;
	char *key;
	char *ca;
	char name[32];

	assert(calls->on_verify && calls->on_open && calls->on_message && calls->on_close);
	rc = link_port_check(config->address, config->port, why);
	if (rc == FERRY_OK)
		rc = pki_key_matches(config->key_pem, config->certificate_pem, why);
	if (rc != FERRY_OK)
		return rc;
	server = calloc(1, sizeof *server);
	if (!server)
		return ferry_fail(why, FERRY_NO_MEMORY, "no memory to listen");
	server->loop = loop;
	server->calls = *calls;
	server->context = context;
	server->limits = config->limits;
	server->connections_max = config->connections_max;
	server->certificate_optional = config->client_certificate_optional;

	certificate = link_pem_copy(config->certificate_pem, &certificate_n);
	key = link_pem_copy(config->key_pem, &key_n);
	ca = link_pem_copy(config->client_ca_pem, &ca_n);
	memset(&info, 0, sizeof info);
	snprintf(name, sizeof name, "server-%u", loop_number(loop));
	info.vhost_name = name;
	info.user = server;
	info.finalize = vhost_is_gone;
	info.finalize_arg = server;
	info.protocols = server_protocols;
	info.port = config->port;
	if (config->address) {
		snprintf(server->address, sizeof server->address, "%s", config->address);
		info.iface = server->address;
	}
	info.options = LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT | LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS;
	info.options |= LWS_SERVER_OPTION_REQUIRE_VALID_OPENSSL_CLIENT_CERT;
	if (config->client_certificate_optional)
		info.options |= LWS_SERVER_OPTION_PEER_CERT_NOT_REQUIRED;
	if (config->address && !strchr(config->address, ':'))
		info.options |= LWS_SERVER_OPTION_DISABLE_IPV6;
	info.server_ssl_cert_mem = certificate;
	info.server_ssl_cert_mem_len = certificate_n;
	info.server_ssl_private_key_mem = key;
	info.server_ssl_private_key_mem_len = key_n;
	info.server_ssl_ca_mem = ca;
	info.server_ssl_ca_mem_len = ca_n;
	info.retry_and_idle_policy = &loop_no_idle_checks;
	info.vhost_name = name;
	server->vhost_gone = true; /* until there is one */
	if (certificate && key && ca) {
		server->vhost_gone = false;
		server->vhost = lws_create_vhost(loop_context(loop), &info);
	}
	link_pem_free(certificate, certificate_n);
	link_pem_free(key, key_n);
	link_pem_free(ca, ca_n);
	if (!server->vhost || lws_get_vhost_listen_port(server->vhost) <= 0) {
		link_server_free(server);
		return ferry_fail(why, FERRY_CONFIG,
				  "cannot listen on %s port %d with this certificate and these CAs",
				  config->address ? config->address : "any address", config->port);
	}
	*out_server = server;
	return FERRY_OK;
}

int link_server_port(const struct link_server *server)
{
	return lws_get_vhost_listen_port(server->vhost);
}

unsigned link_server_count(const struct link_server *server)
{
	return server->count;
}

void link_server_free(struct link_server *server)
{
	if (!server)
		return;
	while (server->links)
		link_abort(server->links);
	server->closed = true;
	if (server->vhost)
		loop_reap_vhost(server->loop, server->vhost);
	else if (server->vhost_gone)
		free(server);
}
