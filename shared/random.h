/* Randomness and secrets: the kernel's generator, and wiping that a compiler cannot drop. */
#ifndef FERRY_SHARED_RANDOM_H
#define FERRY_SHARED_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* Fills n bytes from the kernel's generator. Ends the program if there is none: no caller
 * could go on without. */
void random_bytes(void *out, size_t n);
uint64_t random_u64(void);

/* Overwrites a secret before its memory is given back. NULL or n == 0: nothing. */
void secret_wipe(void *secret, size_t n);

#endif
