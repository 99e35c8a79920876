/* The other end of a connection, from its certificate's DER: never from the names and dates
 * that the library reports. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "shared/link_private.h"
#include "shared/random.h"

bool link_peer_read(struct lws *wsi, struct link_peer_buffer *out)
{
	/* The library writes past the union's own array into what follows it. */
	union {
		union lws_tls_cert_info_results info;
		char room[sizeof(union lws_tls_cert_info_results) + PKI_DER_MAX];
	} buffer;
	struct link_peer *peer = &out->peer;

	memset(out, 0, sizeof *out);
	lws_get_peer_simple(wsi, peer->address, sizeof peer->address);
	memset(&buffer, 0, sizeof buffer);
	/* -1 here is the one way to say that no certificate was shown. */
	if (lws_tls_peer_cert_info(wsi, LWS_TLS_CERT_INFO_VERIFIED, &buffer.info, 0) != 0)
		return true;
	if (!buffer.info.verified)
		return false;
	memset(&buffer, 0, sizeof buffer);
	if (lws_tls_peer_cert_info(wsi, LWS_TLS_CERT_INFO_DER_RAW, &buffer.info, PKI_DER_MAX) != 0 ||
	    buffer.info.ns.len <= 0 || buffer.info.ns.len > PKI_DER_MAX)
		return false;
	peer->der_bytes = (size_t)buffer.info.ns.len;
	memcpy(out->der, (const char *)&buffer + offsetof(union lws_tls_cert_info_results, ns.name), peer->der_bytes);
	peer->der = out->der;
	if (pki_certificate_read(peer->der, peer->der_bytes, &peer->certificate, NULL) != FERRY_OK)
		return false;
	peer->has_certificate = true;
	return true;
}

enum ferry_error link_port_check(const char *address, int port, struct ferry_why *why)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	bool is_v4 = address && inet_pton(AF_INET, address, &v4.sin_addr) == 1;
	struct sockaddr *at = is_v4 ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
	socklen_t size = is_v4 ? sizeof v4 : sizeof v6;
	bool failed;
	int saved;
	int one = 1;
	int fd;

	if (port < 0 || port > 65535)
		return ferry_fail(why, FERRY_CONFIG, "%d is not a port number", port);
	if (address && !is_v4 && inet_pton(AF_INET6, address, &v6.sin6_addr) != 1)
		return ferry_fail(why, FERRY_CONFIG, "cannot listen on \"%s\": not an IP address", address);
	fd = socket(at->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 && !address)
		return FERRY_OK; /* a machine without IPv6; the library listens on IPv4 then */
	/* As the library does: a port whose last connections are only just closed is free. */
	failed = fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) != 0 || bind(fd, at, size) != 0;
	saved = errno;
	if (fd >= 0)
		close(fd);
	if (failed)
		return ferry_fail(why, FERRY_CONFIG, "cannot listen on %s port %d: %s", address ? address : "any address",
				  port, strerror(saved));
	return FERRY_OK;
}

char *link_pem_copy(const char *pem, unsigned *out_bytes)
{
	size_t n = strlen(pem);
	char *copy = calloc(1, n + 2);

	if (copy)
		memcpy(copy, pem, n + 1);
	*out_bytes = (unsigned)n + 1;
	return copy;
}

void link_pem_free(char *copy, unsigned bytes)
{
	secret_wipe(copy, copy ? bytes : 0);
	free(copy);
}
