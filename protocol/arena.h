/* An arena: memory that is released whole. One message, one arena.
 *
 * Allocations are 16-byte aligned, never freed singly, and bounded by the
 * limit given at init: past it arena_alloc returns NULL and the arena is
 * marked full, so that a peer cannot make us take more than we agreed to. */
#ifndef FERRY_PROTOCOL_ARENA_H
#define FERRY_PROTOCOL_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct arena_chunk;

struct arena {
	struct arena_chunk *head;
	size_t used_bytes;  /* handed out */
	size_t limit_bytes; /* the most that may be handed out */
	bool full;          /* an allocation was refused */
};

void arena_init(struct arena *a, size_t limit_bytes);
void arena_reset(struct arena *a);  /* forgets everything, keeps one chunk for reuse */
void arena_deinit(struct arena *a);
void *arena_alloc(struct arena *a, size_t n);                 /* NULL when full */
void *arena_array(struct arena *a, size_t count, size_t size); /* zeroed; checks the product */
void *arena_copy(struct arena *a, const void *p, size_t n);
char *arena_text(struct arena *a, const void *p, size_t n);    /* NUL-terminated copy */

/* A growing byte buffer with a hard maximum. A failed append marks it
 * overflowed and changes nothing, so a writer may check once at the end. */
struct buffer {
	uint8_t *p;
	size_t n;
	size_t capacity;
	size_t max_bytes;
	bool overflowed;
};

void buffer_init(struct buffer *b, size_t max_bytes);
void buffer_deinit(struct buffer *b);
void buffer_clear(struct buffer *b); /* keeps the memory */
bool buffer_append(struct buffer *b, const void *p, size_t n);
uint8_t *buffer_reserve(struct buffer *b, size_t n); /* room for n more bytes; advance b->n yourself; NULL on overflow */

/* Makes room for one more element behind `count` of them in a vector on the heap: doubles it
 * when it is full. False: no memory, or too many to count; the vector stays as it was. */
bool vector_grow(void **p, uint32_t count, uint32_t *capacity, size_t size);

#endif
