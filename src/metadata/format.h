/* File formats: what the checkers share. Each checker answers 0 where the file is sound or not of its kind, -EINVAL
 * where it is torn (in words), another -errno where it cannot be read. They read by pread and trust no number they
 * find. */
#ifndef METADATA_FORMAT_H
#define METADATA_FORMAT_H

#include <mintfs/error.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct format_file {
	int fd;
	uint64_t size;
	const char *name; /* the last component, for people */
	bool sure;        /* the name alone says the format; else the first bytes must */
	struct fault *f;
};

/* "NAME: WORDS at byte N". Returns -EINVAL. */
int format_torn(const struct format_file *file, uint64_t at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* Reads exactly len bytes; -EINVAL "ends within WHAT" where the file is too short for them. */
int format_read(const struct format_file *file, uint64_t at, void *data, size_t len, const char *what);

#ifdef __clang_analyzer__ /* as in mintfs/error.h */
#define format_torn(...) ((void)(format_torn)(__VA_ARGS__), -EINVAL)
#endif

int format_check_zip(const struct format_file *file);
int format_check_npy(const struct format_file *file);

static inline uint64_t format_le(const uint8_t *bytes, unsigned n)
{
	uint64_t value = 0;

	while (n--)
		value = value << 8 | bytes[n];
	return value;
}

#endif
