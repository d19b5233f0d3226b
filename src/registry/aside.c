/* lost+found/: what belongs to nothing in a store is moved there, never removed, for it may be the only copy of somebody's work. */
#include "registry.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mintfs/cleanup.h>
#include <stdio.h>
#include <string.h>

#define ASIDE_TRIES 1000

static int open_lost(struct registry *r)
{
	int rc = sys_mkdirat(r->dirfd, "lost+found", 0700);
	if (rc < 0 && rc != -EEXIST)
		return rc;
	auto_close int fd = sys_openat(r->dirfd, "lost+found", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (fd >= 0 && rc == 0 && (rc = sys_give_to_owner(fd, r->dirfd)) < 0)
		return rc;
	return take_fd(&fd);
}

int aside_put(struct registry *r, bool from_blobs, const char *path, const char *prefix, char ret_name[ASIDE_NAME_MAX])
{
	const char *slash = strrchr(path, '/');
	char name[NAME_MAX + 1];
	auto_close int lost = open_lost(r);
	int rc = lost < 0 ? lost : -EEXIST;
	for (unsigned n = 0; rc == -EEXIST && n < ASIDE_TRIES; n++) {
		if (n == 0)
			snprintf(name, sizeof name, "%s-%.200s", prefix, slash ? slash + 1 : path);
		else
			snprintf(name, sizeof name, "%s-%.200s.%u", prefix, slash ? slash + 1 : path, n);
		rc = from_blobs ? blob_set_aside(r->blobs, path, lost, name) : sys_renameat2(r->dirfd, path, lost, name, RENAME_NOREPLACE);
	}
	if (rc == 0 && !from_blobs)
		rc = sys_fsync(lost);
	if (rc == 0)
		snprintf(ret_name, ASIDE_NAME_MAX, "lost+found/%s", name);
	sys_crash_point("aside.put");
	return rc;
}

int staging_put_away(struct registry *r, int64_t version_id)
{
	char name[64], prepared[64], aside[ASIDE_NAME_MAX];
	snprintf(name, sizeof name, "drafts/%lld", (long long)version_id);
	staging_metadata_name(version_id, prepared);
	int rc = sys_unlinkat(r->dirfd, prepared, 0); /* made from what the tree holds */
	if (rc < 0 && rc != -ENOENT)
		return rc;
	rc = sys_unlinkat(r->dirfd, name, AT_REMOVEDIR);
	if (rc != -ENOTEMPTY && rc != -EEXIST)
		return rc == -ENOENT ? 0 : rc;
	rc = aside_put(r, false, name, "draft", aside);
	if (rc == 0)
		log_warning(r->log, "%s belongs to no version (a power cut took back its mint): moved to %s", name, aside);
	return rc;
}
