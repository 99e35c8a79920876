/* The machine's clocks, microseconds. Only programs and stores read them; cores
 * get the time passed in. */
#ifndef FERRY_SHARED_CLOCK_H
#define FERRY_SHARED_CLOCK_H

#include <stdint.h>

int64_t clock_wall_us(void);      /* since 1970; somebody may set it */
int64_t clock_monotonic_us(void); /* one that nobody sets */

#endif
