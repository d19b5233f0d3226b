/* Where a store, a backup or a restored store may lie: looked at before anything is made. */
#include "registry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

int place_find(const char *path, char ret[PATH_MAX], struct fault *f)
{
	char parent[PATH_MAX];
	struct stat st;
	if (stat(path, &st) == 0)
		return realpath(path, ret) ? 0 : refuse_system(f, -errno, "cannot resolve %s", path);
	if (text_copy(parent, sizeof parent, path) < 0)
		return refuse_system(f, -ENAMETOOLONG, "cannot make the directory %.80s…", path);
	size_t len = strlen(parent);
	while (len > 1 && parent[len - 1] == '/')
		len--;
	while (len > 0 && parent[len - 1] != '/')
		len--;
	parent[len] = '\0';
	return realpath(len ? parent : ".", ret) ? 0 : refuse_system(f, -errno, "cannot make the directory %s", path);
}

int place_check(const char *path, const char *found, struct fault *f)
{
	char store[PATH_MAX];
	if (getxattr(found, "user.mintfs.store", store, sizeof store) < 0)
		return 0;
	return refuse(f, VERDICT_PLACE, "%s lies on a MintFS drive, which holds models only: choose a directory beside it", path);
}
