/* A test's own temporary folder, below TMPDIR if that is set. */
#ifndef FERRY_TESTS_TEMP_FOLDER_H
#define FERRY_TESTS_TEMP_FOLDER_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* Makes ferry-<name>-<random>. False: it can't be made, or its path does not fit
 * `out`. The caller removes it. */
static inline bool temp_folder(const char *name, char *out, size_t size)
{
	const char *parent = getenv("TMPDIR");
	int n = snprintf(out, size, "%s/ferry-%s-XXXXXX", parent != NULL && *parent != '\0' ? parent : P_tmpdir, name);

	return n > 0 && (size_t)n < size && mkdtemp(out) != NULL;
}

#endif
