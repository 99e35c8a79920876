/* Certificates renew themselves: two thirds into its life the certificate is
 * exchanged for a new one with a new key, at the hub's enrolment port, by a
 * request that is signed with the present key. The identity folder is replaced
 * as a whole; the hub takes the former certificate until the new one was used,
 * so a crash or a lost answer at any point locks nobody out.
 *
 * One object of the running agent. What fails is tried again, for as long as
 * the certificate is in force; afterwards the device has to be enrolled anew. */
#ifndef FERRY_AGENT_RENEW_H
#define FERRY_AGENT_RENEW_H

#include "agent/identity.h"
#include "shared/loop.h"

struct renewal;

struct renewal_config {
	struct loop *loop;
	const char *folder; /* of the identity */
	const char *host;   /* of the enrolment port; NULL: as enrolled */
	int port;           /* 0: as enrolled */
};

struct renewal_effects {
	void (*renewed)(void *ctx);                  /* *identity and the folder hold the new one */
	void (*failed)(void *ctx, const char *text); /* it will be tried again */
};

/* config's texts and identity are borrowed; identity is replaced in place. */
FERRY_CHECK enum ferry_error renewal_open(const struct renewal_config *config, struct identity *identity,
					  const struct renewal_effects *effects, void *ctx, struct renewal **out,
					  struct ferry_why *why);
bool renewal_is_busy(const struct renewal *r); /* a request is under way; NULL: no */
/* Where it is still busy the loop must not run any more. NULL is fine. */
void renewal_close(struct renewal *r);

/* Seconds since 1970 at which a certificate is due. */
int64_t renewal_due_s(const struct pki_certificate *c);

#endif
