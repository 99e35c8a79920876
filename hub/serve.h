/* The shell of the hub's core: loop, listeners, PostgreSQL, signals. It
 * feeds events and carries out effects.
 *
 *   start   configuration -> certificates -> database checks (migrated, role,
 *           settings) -> store, registry -> listeners -> event=ready
 *   stop    SIGTERM, SIGINT: no new devices; what is being merged is finished
 *           and acknowledged; devices are told to come again; then the end
 *   log     SIGHUP changes nothing but is no end either
 *
 * One process, one thread; start more of them to use more processors. */
#ifndef FERRY_HUB_SERVE_H
#define FERRY_HUB_SERVE_H

#include "hub/settings.h"

FERRY_CHECK enum ferry_error hub_serve(const struct hub_settings *settings, struct ferry_why *why);

#endif
