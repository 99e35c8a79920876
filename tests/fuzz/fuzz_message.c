/* libFuzzer: a message from any bytes is refused or stands, within its memory.
 * What stands encodes again, to a form that decodes to itself. The vectors'
 * bytes make a good first corpus. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/describe.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "%s\n", what);
	abort();
}

static void check_again(const struct message *m, struct arena *arena)
{
	struct buffer first, second, words;
	struct message back;
	struct ferry_why why = {""};

	buffer_init(&first, 4 * FERRY_MESSAGE_BYTES_MAX);
	buffer_init(&second, 4 * FERRY_MESSAGE_BYTES_MAX);
	buffer_init(&words, 64 * FERRY_MESSAGE_BYTES_MAX);
	must(message_encode(m, &first) == FERRY_OK, "what was decoded does not encode");
	must(message_decode(arena, first.p, first.n, &back, &why) == FERRY_OK, why.text);
	must(message_encode(&back, &second) == FERRY_OK, "what was decoded again does not encode");
	must(first.n == second.n && memcmp(first.p, second.p, first.n) == 0, "two forms of one message");
	message_describe(m, &words);
	buffer_deinit(&first);
	buffer_deinit(&second);
	buffer_deinit(&words);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
	struct arena first, second;
	struct message m;
	struct ferry_why why = {""};

	arena_init(&first, FERRY_DECODE_BYTES_MAX);
	arena_init(&second, FERRY_DECODE_BYTES_MAX);
	if (message_decode(&first, bytes, n, &m, &why) == FERRY_OK)
		check_again(&m, &second);
	else
		must(why.text[0] != '\0', "a refusal without a sentence");
	arena_deinit(&first);
	arena_deinit(&second);
	return 0;
}
