/* Removing a tree that somebody else has built.
 *
 * It may be deeper than there are descriptors or stack, its directories may lack permissions, and links in it may lead
 * anywhere. So: no link is followed; a directory that refuses is given rwx for its owner; and a directory more than
 * DEPTH_MAX below the top is first moved up to the top, to be removed in a later pass over it. */
#include <mintfs/sys.h>

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <stdio.h>
#include <string.h>

#include "inject.h"

#define DEPTH_MAX 24
#define PASSES_MAX 8 /* over one directory, where others go on filling it */

struct removal {
	int top;        /* the directory that deep ones are moved to; -1 before it is open */
	unsigned moved; /* how many were moved so far, hence the next name */
};

static int remove_directory(struct removal *rm, int dirfd, const char *name, int depth);

/* Opens a directory for reading, mended if its mode stands in the way. */
static int open_directory(int dirfd, const char *name)
{
	int fd = sys_openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	auto_close int place = -1;
	int r;

	if (fd != -EACCES)
		return fd;
	place = sys_openat(dirfd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW, 0);
	if (place < 0)
		return place;
	r = sys_fchmod(place, 0700);
	if (r < 0)
		return -EACCES;
	return sys_reopen(place, O_RDONLY | O_DIRECTORY);
}

/* unlinkat in a directory that may have been made read-only; `ours`: it is part of the tree. */
static int unlink_in(int dirfd, const char *name, int flags, bool ours)
{
	int r = sys_unlinkat(dirfd, name, flags);

	if (r == -EACCES && ours && sys_fchmod(dirfd, 0700) == 0)
		r = sys_unlinkat(dirfd, name, flags);
	return r == -ENOENT ? 0 : r;
}

static int move_up(struct removal *rm, int dirfd, const char *name)
{
	char new_name[48];
	int r = open_directory(dirfd, name);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	/* its ".." changes, so it must be writable itself, as must both places */
	sys_fchmod(r, 0700);
	sys_fchmod(dirfd, 0700);
	sys_fchmod(rm->top, 0700);
	close(r);
	do {
		snprintf(new_name, sizeof(new_name), ".mintfs-removing-%u", rm->moved++);
		r = sys_renameat2(dirfd, name, rm->top, new_name, RENAME_NOREPLACE);
	} while (r == -EEXIST);
	return r == -ENOENT ? 0 : r;
}

/* Removes what is in the directory fd (consumed). */
static int empty_directory(struct removal *rm, int fd, int depth) /* NOLINT(misc-no-recursion): to DEPTH_MAX */
{
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	int r = sys_fdopendir(fd, &dir);

	if (r < 0)
		return r;
	while ((r = sys_readdir(dir, &e)) > 0) {
		if (e->d_type != DT_DIR)
			r = unlink_in(fd, e->d_name, 0, true);
		if (e->d_type == DT_DIR || r == -EISDIR) /* a file system need not tell types: readdir(3) */
			r = remove_directory(rm, fd, e->d_name, depth);
		if (r < 0)
			return r;
	}
	return r;
}

/* Removes dirfd/name, a directory `depth` levels below the parent of the top. */
static int remove_directory(struct removal *rm, int dirfd, const char *name, int depth) /* NOLINT(misc-no-recursion): as above */
{
	int r = unlink_in(dirfd, name, AT_REMOVEDIR, depth > 0);

	for (int pass = 0; r == -ENOTEMPTY || r == -EEXIST; pass++) {
		unsigned moved = rm->moved;
		if (pass == PASSES_MAX)
			return r;
		if (depth > DEPTH_MAX)
			return move_up(rm, dirfd, name);
		int fd = open_directory(dirfd, name);
		if (fd < 0)
			return fd == -ENOENT ? 0 : fd;
		if (depth == 0)
			rm->top = fd;
		r = empty_directory(rm, fd, depth + 1);
		if (r < 0)
			return r;
		r = unlink_in(dirfd, name, AT_REMOVEDIR, depth > 0);
		if (depth == 0 && rm->moved != moved)
			pass = -1; /* it is not somebody else who filled it */
	}
	return r;
}

int sys_remove_tree(int dirfd, const char *name)
{
	struct removal rm = {.top = -1};

	return remove_directory(&rm, dirfd, name, 0);
}
