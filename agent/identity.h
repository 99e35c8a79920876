/* Who this device is: a folder of four files, replaced as a whole.
 *
 *   identity/device.key      private key, mode 0600; made here, never leaves
 *   identity/device.crt      certificate
 *   identity/ca.crt          the only CA that is trusted
 *   identity/enrolment.json  device, tenant, name, hub's host and ports, time
 */
#ifndef FERRY_AGENT_IDENTITY_H
#define FERRY_AGENT_IDENTITY_H

#include "protocol/value.h"
#include "shared/pki.h"

struct identity {
	char key_pem[PKI_PEM_MAX];
	char certificate_pem[PKI_PEM_MAX];
	char ca_pem[PKI_PEM_MAX];
	struct uuid device, tenant;
	char name[128];
	char hub_host[254];
	int hub_port;
	char enrol_host[254]; /* where it enrolled, and renews its certificate; "" and 0: not known */
	int enrol_port;
};

bool identity_exists(const char *folder);
/* FERRY_NOT_ENROLLED when there is none; FERRY_CORRUPT when it is damaged.
 * The caller wipes it (secret_wipe). */
FERRY_CHECK enum ferry_error identity_load(const char *folder, struct identity *out, struct ferry_why *why);
/* Written beside, synced, then put in place with one rename (an older one is
 * exchanged and removed). */
FERRY_CHECK enum ferry_error identity_store(const char *folder, const struct identity *id, struct ferry_why *why);

#endif
