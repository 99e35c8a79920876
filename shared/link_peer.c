/* The other end of a connection, from its certificate's DER: never from the names and dates
 * that the library reports. */
#include <string.h>
#include <stdlib.h>

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

char *link_pem_copy(const char *pem, unsigned *out_bytes)
{
	size_t n = strlen(pem);
	char *copy = calloc(1, n + 2);

	if (copy)
		memcpy(copy, pem, n);
	*out_bytes = (unsigned)n + 1;
	return copy;
}

void link_pem_free(char *copy, unsigned bytes)
{
	secret_wipe(copy, copy ? bytes : 0);
	free(copy);
}
