/* Files of a program's state folder: small, replaced whole, and never seen
 * half: written beside, synced, renamed, and the folder synced. */
#ifndef FERRY_SHARED_FILES_H
#define FERRY_SHARED_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "protocol/errors.h"

#define FILES_PATH_MAX 1024
#define FILES_READ_BYTES_MAX (4u << 20)

/* out gets "folder/name"; FERRY_LIMIT when it doesn't fit FILES_PATH_MAX. */
FERRY_CHECK enum ferry_error files_join(char out[FILES_PATH_MAX], const char *folder, const char *name,
					struct ferry_why *why);
bool files_exists(const char *path);

/* Replaces the file whole. Durable when it returns, unless quick (status files). */
FERRY_CHECK enum ferry_error files_replace(const char *path, const void *bytes, size_t n, mode_t mode, bool quick,
					   struct ferry_why *why);
/* Writes over the beginning of a file that is there: on a full disk, too, as far as it is long. */
FERRY_CHECK enum ferry_error files_overwrite(const char *path, const void *bytes, size_t n, struct ferry_why *why);
/* Reads a small file; the text is NUL-terminated and owned by the caller (free). */
FERRY_CHECK enum ferry_error files_read(const char *path, char **out_text, size_t *out_n, struct ferry_why *why);
/* The same into the caller's memory; FERRY_CORRUPT when it doesn't fit or holds a NUL. */
FERRY_CHECK enum ferry_error files_read_into(const char *path, char *out, size_t out_max, struct ferry_why *why);
/* Makes a folder with its parents; one that is there stays as it is. */
FERRY_CHECK enum ferry_error files_make_folder(const char *path, mode_t mode, struct ferry_why *why);
FERRY_CHECK enum ferry_error files_sync_folder(const char *path, struct ferry_why *why);
/* Refuses a secret that others than its owner may read. */
FERRY_CHECK enum ferry_error files_check_secret(const char *path, struct ferry_why *why);

/* An advisory lock that ends with the process. FERRY_EXISTS: somebody holds
 * it. *out_fd stays open while the lock is held. */
FERRY_CHECK enum ferry_error files_lock(const char *path, int *out_fd, struct ferry_why *why);
/* The same, but waits its turn: for short work. */
FERRY_CHECK enum ferry_error files_lock_wait(const char *path, int *out_fd, struct ferry_why *why);
bool files_locked(const char *path); /* does anybody hold it? */

#endif
