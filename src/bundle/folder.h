/* A version as a directory in an existing folder: what is in it, in the order of a manifest. Private to the room. */
#ifndef BUNDLE_FOLDER_H
#define BUNDLE_FOLDER_H

#include <mintfs/blob.h>
#include <mintfs/error.h>
#include <mintfs/manifest.h>
#include <sys/stat.h>

struct folder_entry {
	char *path, *target; /* owned by the folder */
	struct stat st;
	int64_t same_as; /* index of the first entry with the same inode; -1: none */
	bool hashed;
	struct blob_id id;
};
struct folder {
	int dir; /* borrowed */
	struct folder_entry *entries;
	size_t n, cap;
	uint64_t bytes; /* of files, each inode once */
};
/* Reads names, types and sizes below dir, without following links or crossing mounts. -EINVAL with a sentence: something that no version may hold. */
int folder_scan(int dir, struct folder *ret, struct fault *f);
void folder_release(struct folder *d);
#define auto_folder __attribute__((cleanup(folder_release)))
/* Opens the file of an entry for reading. -EBUSY with a sentence: somebody can still write to it, or it is not what it was at the scan. */
int folder_open(const struct folder *d, const struct folder_entry *e, int *ret_fd, struct fault *f);
/* Is it still what it was at the scan? For after the reading; -EBUSY. */
int folder_unchanged(const struct folder_entry *e, int fd, struct fault *f);
int folder_write(const struct folder *d, struct manifest_writer *w); /* all entries, which are hashed by now */

#endif
