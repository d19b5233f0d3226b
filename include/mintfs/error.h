/* Refusals in words.
 *
 * Functions return 0 or -errno; results are untouched on failure. Where a person will want to know why, a function also
 * takes a `struct fault *` (may be NULL): one sentence that names the thing and the reason, without a final newline.
 * A fault is plain memory owned by the caller; nothing in it needs to be freed. */
#ifndef MINTFS_ERROR_H
#define MINTFS_ERROR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

#define FAULT_TEXT_MAX 600 /* bytes with the final NUL; longer sentences are cut at a UTF-8 boundary and end in "..." */

struct fault {
	int verdict; /* enum registry_verdict where the registry refused, else 0 */
	int error;   /* errno, positive; 0: nothing is set */
	char text[FAULT_TEXT_MAX];
};

#define FAULT_INIT {0}

/* Sets f (if not NULL) to errno `error` (positive) and the sentence; bytes below 0x20 and 0x7f become '?'. Returns -error.
 * An older sentence is replaced, and its verdict reset to 0: a verdict is set after the sentence. */
int fault_set(struct fault *f, int error, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int fault_vset(struct fault *f, int error, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));

/* As fault_set, but keeps a sentence that a callee has set already: "every layer may add words, the deepest wins". */
int fault_default(struct fault *f, int error, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#ifdef __clang_analyzer__ /* does not look into other sources and `...`: here it learns that what they return is an error, never 0 */
#include <errno.h>
#define fault_set(f, error, ...) ((void)(fault_set)(f, error, __VA_ARGS__), __builtin_constant_p(error) ? -(error) : -EIO)
#define fault_default(f, error, ...) ((void)(fault_default)(f, error, __VA_ARGS__), __builtin_constant_p(error) ? -(error) : -EIO)
#endif

#endif
