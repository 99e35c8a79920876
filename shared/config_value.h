/* One value of a configuration: from text, to text. Only config*.c use it. */
#ifndef FERRY_SHARED_CONFIG_VALUE_H
#define FERRY_SHARED_CONFIG_VALUE_H

#include "shared/config.h"

/* Parses a scalar into the key's member. The text is kept by reference: it
 * must live as long as the settings. False: *why says what is wrong with the
 * value, without saying where it stands. Not for lists. */
bool config_value_parse(const struct config_key *k, const char *text, void *settings, struct ferry_why *why);

/* Appends the member as it would stand in the file. */
void config_value_print(const struct config_key *k, const void *settings, struct buffer *out);

__attribute__((format(printf, 2, 3))) void config_put(struct buffer *out, const char *format, ...);

#endif
