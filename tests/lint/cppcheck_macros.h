/* Macros of foreign headers that stand for statements. cppcheck is not given those headers,
 * and without these it takes the loop for a call and skips what follows. Given to it as a
 * file: of a function-like macro on its command line it makes a syntax error that stops
 * every check of every file, silently. */
#define json_object_foreach(object, key, value)                                        \
	for ((key) = json_next_key(object), (value) = json_next_value(object); (key) && (value); \
	     (key) = json_next_key(object))
#define json_array_foreach(array, index, value) \
	for ((index) = 0; (index) < json_array_size(array) && ((value) = json_array_get(array, index)); (index)++)
