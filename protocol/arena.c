#include "protocol/arena.h"

#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES_MIN 8192
#define ALIGNMENT 16u

struct arena_chunk {
	struct arena_chunk *next;
	size_t capacity;
	size_t used;
	_Alignas(16) uint8_t data[];
};

void arena_init(struct arena *a, size_t limit_bytes)
{
	*a = (struct arena){.limit_bytes = limit_bytes};
}

static void free_chunks(struct arena_chunk *c)
{
	while (c != NULL) {
		struct arena_chunk *next = c->next;

		free(c);
		c = next;
	}
}

void arena_deinit(struct arena *a)
{
	free_chunks(a->head);
	*a = (struct arena){.limit_bytes = a->limit_bytes};
}

/* The head is the newest and so the largest chunk that came by doubling: it
 * is the one to keep. */
void arena_reset(struct arena *a)
{
	if (a->head != NULL) {
		free_chunks(a->head->next);
		a->head->next = NULL;
		a->head->used = 0;
	}
	a->used_bytes = 0;
	a->full = false;
}

static struct arena_chunk *chunk_new(struct arena *a, size_t n)
{
	size_t capacity = a->head == NULL ? CHUNK_BYTES_MIN : a->head->capacity * 2;
	struct arena_chunk *c;

	if (capacity > a->limit_bytes - a->used_bytes)
		capacity = a->limit_bytes - a->used_bytes;
	if (capacity < n)
		capacity = n;
	c = malloc(sizeof(*c) + capacity);
	if (c == NULL)
		return NULL;
	c->next = a->head;
	c->capacity = capacity;
	c->used = 0;
	a->head = c;
	return c;
}

static void *take(struct arena *a, size_t n, size_t alignment)
{
	struct arena_chunk *c = a->head;
	size_t start = c == NULL ? 0 : (c->used + alignment - 1) & ~(alignment - 1);

	if (n > a->limit_bytes - a->used_bytes) {
		a->full = true;
		return NULL;
	}
	if (c == NULL || start > c->capacity || n > c->capacity - start) {
		c = chunk_new(a, n);
		start = 0;
	}
	if (c == NULL)
		return NULL;
	c->used = start + n;
	a->used_bytes += n;
	return c->data + start;
}

void *arena_alloc(struct arena *a, size_t n)
{
	return take(a, n, ALIGNMENT);
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
	size_t n;
	void *p;

	if (__builtin_mul_overflow(count, size, &n)) {
		a->full = true;
		return NULL;
	}
	p = arena_alloc(a, n);
	if (p != NULL)
		memset(p, 0, n);
	return p;
}

void *arena_copy(struct arena *a, const void *p, size_t n)
{
	void *copy = arena_alloc(a, n);

	if (copy != NULL && n > 0)
		memcpy(copy, p, n);
	return copy;
}

char *arena_text(struct arena *a, const void *p, size_t n)
{
	char *text = n == SIZE_MAX ? NULL : take(a, n + 1, 1);

	if (text == NULL)
		return NULL;
	if (n > 0)
		memcpy(text, p, n);
	text[n] = '\0';
	return text;
}

void buffer_init(struct buffer *b, size_t max_bytes)
{
	*b = (struct buffer){.max_bytes = max_bytes};
}

void buffer_deinit(struct buffer *b)
{
	free(b->p);
	*b = (struct buffer){.max_bytes = b->max_bytes};
}

void buffer_clear(struct buffer *b)
{
	b->n = 0;
	b->overflowed = false;
}

static bool buffer_grow(struct buffer *b, size_t needed)
{
	size_t capacity = b->capacity < 256 ? 256 : b->capacity;
	uint8_t *p;

	while (capacity < needed)
		capacity = capacity > SIZE_MAX / 2 ? needed : capacity * 2;
	if (capacity > b->max_bytes)
		capacity = b->max_bytes;
	p = realloc(b->p, capacity);
	if (p == NULL)
		return false;
	b->p = p;
	b->capacity = capacity;
	return true;
}

uint8_t *buffer_reserve(struct buffer *b, size_t n)
{
	if (b->overflowed || b->n > b->max_bytes || n > b->max_bytes - b->n ||
	    ((b->p == NULL || n > b->capacity - b->n) && !buffer_grow(b, b->n + n))) {
		b->overflowed = true;
		return NULL;
	}
	return b->p + b->n;
}

bool buffer_append(struct buffer *b, const void *p, size_t n)
{
	uint8_t *to = buffer_reserve(b, n);

	if (to == NULL)
		return false;
	if (n > 0)
		memcpy(to, p, n);
	b->n += n;
	return true;
}

#define VECTOR_MIN 16u /* elements */

bool vector_grow(void **p, uint32_t count, uint32_t *capacity, size_t size)
{
	uint32_t wanted = *capacity < VECTOR_MIN ? VECTOR_MIN : *capacity * 2;
	void *grown;

	if (count < *capacity)
		return true;
	if (wanted <= *capacity || wanted > SIZE_MAX / size)
		return false;
	grown = realloc(*p, (size_t)wanted * size);
	if (grown == NULL)
		return false;
	*p = grown;
	*capacity = wanted;
	return true;
}
