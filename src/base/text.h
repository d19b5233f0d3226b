/* Text helpers that only base needs: one step of strict UTF-8, and sentences that are safe to print on one line. */
#ifndef MINTFS_BASE_TEXT_H
#define MINTFS_BASE_TEXT_H

#include <stdarg.h>
#include <stddef.h>

/* The length (1 to 4) of the well-formed UTF-8 sequence that p begins with, 0 if it begins with none. len: bytes at p. */
size_t utf8_sequence(const unsigned char *p, size_t len);

/* Formats into dst[size] (size >= 8): control bytes become '?', a text that does not fit is cut between characters and
 * ends in "...". The arguments may point into dst's old text. Returns the length. */
size_t text_vformat(char *dst, size_t size, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));

/* Room that text_vformat may use on the stack: no text is longer. */
#define TEXT_FORMAT_MAX 4096

#endif
