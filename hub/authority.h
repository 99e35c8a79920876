/* The hub's own keys, in its state folder: made at the first start.
 *
 *   ca.key, ca.crt          the CA; the key, mode 0600, is the fleet's root of trust
 *   server.key, server.crt  what both listeners show; made anew when a third of
 *                           its time is left or its names changed
 *   server.names            the names it was made for, a line each
 */
#ifndef FERRY_HUB_AUTHORITY_H
#define FERRY_HUB_AUTHORITY_H

#include "hub/settings.h"
#include "shared/pki.h"

struct authority {
	struct pki_ca *ca;
	char ca_pem[PKI_PEM_MAX];
	uint8_t ca_fingerprint[PKI_FINGERPRINT_BYTES];
	char server_pem[PKI_PEM_MAX];
	char server_key_pem[PKI_PEM_MAX];
	bool made_ca; /* just now */
};

/* Several processes may do it at once: a lock file keeps them apart. */
FERRY_CHECK enum ferry_error authority_open(const struct hub_settings *settings, int64_t now_s, struct authority *out,
					    struct ferry_why *why);
void authority_close(struct authority *a);

#endif
