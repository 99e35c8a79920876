/* Cell hashes [P 8]: the same 64-bit numbers that the hub's SQL computes.
 *
 * seed of a row = hash of the 16 key bytes with seed 0; seed of a cell = that
 * xor its column number. The functions are Bob Jenkins' lookup3 in the 64-bit
 * form that PostgreSQL uses for hash partitioning, which cannot change there
 * without breaking stored data. NULL hashes to 0. */
#ifndef FERRY_SHARED_CELL_HASH_H
#define FERRY_SHARED_CELL_HASH_H

#include "protocol/value.h"

uint64_t cell_hash_bytes(const void *p, size_t n, uint64_t seed); /* hash_any_extended */
uint64_t cell_hash_row_seed(const struct uuid *key);
uint64_t cell_hash(uint64_t row_seed, uint16_t num, enum column_kind kind, const struct value *v);

#endif
