/* The tar format, as much of it as a bundle needs: POSIX.1-2001 "pax interchange" over ustar. Private to the room.
 *
 * Names are bytes: nothing here depends on a locale. */
#ifndef BUNDLE_TAR_H
#define BUNDLE_TAR_H

#include <mintfs/error.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define TAR_BLOCK 512
#define TAR_NAME_MAX 8192 /* bytes of a path or link target with NUL: saved_models/MODEL/vN/ and a path of PATH_MAX */

enum tar_type { TAR_FILE, TAR_HARDLINK, TAR_SYMLINK, TAR_DIRECTORY };

/* ---- writing ---- */
struct tar_header {
	enum tar_type type;
	const char *path;   /* directories without the final '/' */
	const char *target; /* links */
	uint64_t size;      /* files */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	int64_t mtime_ns;
};
#define TAR_HEADER_MAX (4 * TAR_BLOCK + 2 * TAR_NAME_MAX)
/* The blocks of a header, an extended one before it where names or numbers need it: a multiple of TAR_BLOCK. -ENAMETOOLONG */
int tar_header_make(const struct tar_header *h, uint8_t out[TAR_HEADER_MAX], size_t *ret_len);
static inline size_t tar_padding(uint64_t size) { return (size_t)(-size & (TAR_BLOCK - 1)); }

/* ---- reading ---- */
typedef ssize_t tar_read_fn(void *arg, void *data, size_t len); /* up to len bytes; 0: the end; -errno */
struct tar_entry {
	enum tar_type type;
	char path[TAR_NAME_MAX]; /* without a leading "./" and the final '/' of a directory */
	char target[TAR_NAME_MAX];
	uint64_t size; /* files; else 0 */
};
struct tar_reader;
int tar_reader_new(tar_read_fn *fn, void *arg, struct tar_reader **ret);
void tar_reader_free(struct tar_reader *t); /* NULL is fine */
/* The next member; what is left of the content of the last one is passed over. 1: *ret is set; 0: the end that an archive must have, with nothing behind it. -EINVAL with a
 * sentence: torn, no tar, or something that a bundle does not hold (a device, a sparse file …); -errno of the source. */
int tar_next(struct tar_reader *t, struct tar_entry *ret, struct fault *f);
/* The content of the last member, at most len bytes; 0 at its end. -EINVAL: the archive ends in the middle of it. */
ssize_t tar_read(struct tar_reader *t, void *data, size_t len, struct fault *f);
uint64_t tar_position(const struct tar_reader *t); /* bytes taken from the source */

#endif
