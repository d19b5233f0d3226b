/* Making a store. config.json is written last: it marks a store as whole, and what has none was never one. */
#include "registry.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

static const char *const init_dirs[] = {"blobs", "drafts", "run"};

/* Everything that an init may leave behind, or other rooms in its course. */
static bool is_init_name(const char *name)
{
	static const char catalog[] = "catalog.db";
	for (size_t i = 0; i < ARRAY_SIZE(init_dirs); i++)
		if (!strcmp(name, init_dirs[i]))
			return true;
	return !strcmp(name, "config.json") || !strcmp(name, "lock") || !strncmp(name, catalog, sizeof catalog - 1) || sys_is_temporary(name);
}

static int open_place(const char *path, bool *ret_made, struct fault *f)
{
	char place[PATH_MAX];
	int rc = place_find(path, place, NULL) == 0 ? place_check(path, place, f) : 0;
	if (rc < 0)
		return rc;
	*ret_made = mkdir(path, 0700) == 0;
	if (!*ret_made && errno != EEXIST)
		return refuse_system(f, -errno, "cannot make the store directory %s", path);
	int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY, 0);
	if (fd == -ENOTDIR) {
		refuse(f, VERDICT_NOT_A_STORE, "%s is not a directory: a store needs one of its own", path);
		return -ENOTDIR;
	}
	return fd < 0 ? refuse_system(f, fd, "cannot open the directory %s", path) : fd;
}

enum { PLACE_CONFIG = 1, PLACE_OURS = 2, PLACE_OTHER = 4 }; /* what stands in a directory */

static int look_around(int dirfd, const char *name, unsigned *ret_found)
{
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	int rc = sys_fdopendir(sys_openat(dirfd, name, O_RDONLY | O_DIRECTORY, 0), &dir);
	if (rc < 0)
		return rc;
	*ret_found = 0;
	while ((rc = sys_readdir(dir, &e)) > 0)
		if (strcmp(e->d_name, "lost+found") != 0)
			*ret_found |= !strcmp(e->d_name, "config.json") ? PLACE_CONFIG : is_init_name(e->d_name) ? PLACE_OURS : PLACE_OTHER;
	return rc;
}

/* Nothing but what an init makes, and no blob and no draft in it: an init that died. A store that lost its config.json holds more. */
static bool is_half_made(int dirfd)
{
	unsigned blobs = 0, drafts = 0;
	int rc = look_around(dirfd, "blobs", &blobs);
	if (rc == 0)
		rc = look_around(dirfd, "drafts", &drafts);
	return (rc == 0 || rc == -ENOENT) && !blobs && !drafts;
}

/* config.json first: without it, what remains after a death in here is a half-made store again. */
static void init_undo(int dirfd)
{
	auto_dir DIR *dir = NULL;
	struct dirent *e;
	if (sys_fdopendir(sys_openat(dirfd, ".", O_RDONLY | O_DIRECTORY, 0), &dir) < 0)
		return;
	sys_unlinkat(dirfd, "config.json", 0);
	while (sys_readdir(dir, &e) > 0)
		if (is_init_name(e->d_name) && sys_unlinkat(dirfd, e->d_name, 0) < 0) /* a directory */
			sys_remove_tree(dirfd, e->d_name);
}

/* The directory is locked: who else makes a store of it waits, and finds ours. */
static int check_place(int dirfd, const char *path, struct fault *f)
{
	unsigned found;
	int rc = look_around(dirfd, ".", &found);
	if (rc < 0)
		return refuse_system(f, rc, "cannot read the directory %s", path);
	if (found & PLACE_CONFIG)
		return refuse(f, VERDICT_EXISTS, "%s is a MintFS store already", path);
	if (found & PLACE_OTHER || (found && !is_half_made(dirfd)))
		return refuse(f, VERDICT_NOT_EMPTY, "%s is not empty: a store needs a directory of its own", path);
	if (found)
		init_undo(dirfd);
	return 0;
}

static int init_contents(int dirfd, const char *path, struct fault *f)
{
	for (size_t i = 0; i < ARRAY_SIZE(init_dirs); i++) {
		int rc = sys_mkdirat(dirfd, init_dirs[i], 0700);
		if (rc < 0)
			return refuse_system(f, rc, "cannot make %s/%s", path, init_dirs[i]);
	}
	sys_crash_point("init.directories-made");
	int rc = catalog_create(dirfd, f);
	if (rc < 0)
		return refuse_system(f, rc, "cannot make the catalog of %s", path);
	sys_crash_point("init.catalog-made");
	auto_buf struct buf text = BUF_INIT(4096);
	struct metadata_config config = {.format = CATALOG_FORMAT};
	rc = metadata_config_generate(&config, &text);
	if (rc == 0)
		rc = sys_write_file_durably(dirfd, "config.json", buf_text(&text), text.len, 0600);
	return rc < 0 ? refuse_system(f, rc, "cannot write %s/config.json", path) : 0;
}

static int init_locked(int dirfd, const char *path, struct fault *f)
{
	struct stat st;
	int rc = check_place(dirfd, path, f);
	if (rc < 0)
		return rc;
	rc = sys_fstat(dirfd, &st);
	if (rc < 0)
		return refuse_system(f, rc, "cannot look at %s", path);
	bool narrow = (st.st_mode & 07777) != 0700;
	if (narrow && (rc = sys_fchmod(dirfd, 0700)) < 0)
		return refuse_system(f, rc, "cannot make %s private (mode 0700)", path);
	rc = init_contents(dirfd, path, f);
	if (rc < 0) {
		init_undo(dirfd);
		if (narrow)
			sys_fchmod(dirfd, st.st_mode & 07777);
	}
	return rc;
}

int registry_init(const char *path, struct fault *f)
{
	bool made;
	auto_close int dirfd = open_place(path, &made, f);
	if (dirfd < 0)
		return dirfd;
	int rc = sys_lock(dirfd, true, true);
	if (rc < 0)
		refuse_system(f, rc, "cannot lock the directory %s", path);
	else
		rc = init_locked(dirfd, path, f);
	if (rc < 0 && made)
		rmdir(path); /* stays where somebody else's store is in it by now */
	return rc;
}
