/* The store in a directory: blobs/ab/cdef…, one plain file a content, on the file system that also holds the drafts.
 *
 * Invariants
 * 1. A name blobs/ab/cdef… appears only after the bytes under it are durable (local_put.c).
 * 2. What is sealed is never written again and never linked elsewhere, so one name a sealed blob; see the states in
 *    local.h.
 * 3. The immutable flag belongs to an inode, not to a name. Whoever clears it to take a name away sets it again: names
 *    may be left.
 * 4. Nothing in memory says what is in the store: several processes use it at once, and each question goes to the file
 *    system.
 *
 * No locks: the only memory is a descriptor that never changes. Races are settled by link(2) and rename(2). */
#include "local.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/stat.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>

#define FILE_HEX_LEN ((size_t)2 * (BLOB_ID_SIZE - 1)) /* digits of a blob's name below its directory */

void local_name(const struct blob_id *id, char out[LOCAL_NAME_SIZE])
{
	hex_encode(id->sha256, 1, out);
	out[2] = '/';
	hex_encode(id->sha256 + 1, BLOB_ID_SIZE - 1, out + 3);
}

enum local_state local_judge(const struct stat *st, uint64_t size)
{
	if (!S_ISREG(st->st_mode) || (uint64_t)st->st_size != size)
		return LOCAL_DAMAGED;
	return st->st_nlink == 1 && (st->st_mode & 07777) == LOCAL_MODE ? LOCAL_SOUND : LOCAL_SHARED;
}

int local_look(const struct local_store *s, const char *name, uint64_t size, enum local_state *ret_state,
	       struct stat *ret_st)
{
	struct stat st;
	int r = sys_fstatat(s->dir, name, &st, AT_SYMLINK_NOFOLLOW);

	if (r == -ENOENT) {
		*ret_state = LOCAL_ABSENT;
		return 0;
	}
	if (r < 0)
		return r;
	*ret_state = local_judge(&st, size);
	if (ret_st)
		*ret_st = st;
	return 0;
}

bool local_is_immutable(int fd)
{
	struct statx stx;

	return statx(fd, "", AT_EMPTY_PATH, STATX_TYPE, &stx) == 0 && (stx.stx_attributes & STATX_ATTR_IMMUTABLE) != 0;
}

static int local_open(struct blob_store *base, const struct blob_id *id)
{
	char name[LOCAL_NAME_SIZE];

	local_name(id, name);
	return sys_openat_beneath(local_store(base)->dir, name, O_RDONLY | O_NONBLOCK, 0); /* neither link nor pipe: root may serve a user's store */
}

static int local_size(struct blob_store *base, const struct blob_id *id, uint64_t *ret_size)
{
	char name[LOCAL_NAME_SIZE];
	struct stat st;
	int r;

	local_name(id, name);
	r = sys_fstatat(local_store(base)->dir, name, &st, AT_SYMLINK_NOFOLLOW);
	if (r < 0)
		return r;
	if (!S_ISREG(st.st_mode))
		return -ENOENT; /* something stands there, but no blob */
	*ret_size = (uint64_t)st.st_size;
	return 0;
}

static bool local_is_sealed(struct blob_store *base, const struct blob_id *id, uint64_t size)
{
	char name[LOCAL_NAME_SIZE];
	enum local_state state;

	local_name(id, name);
	return local_look(local_store(base), name, size, &state, NULL) == 0 && state == LOCAL_SOUND;
}

static int local_still_put(struct blob_store *base, const struct blob_item *item)
{
	char name[LOCAL_NAME_SIZE];
	enum local_state state;
	struct stat st;

	local_name(&item->id, name);
	int r = local_look(local_store(base), name, item->size, &state, &st);
	if (r < 0)
		return r;
	return state == LOCAL_SOUND || (state == LOCAL_SHARED && item->ret_inode == st.st_ino) ? 0 : -EAGAIN;
}

/* A blob's file, opened. -EMLINK: it is not ours, and has another name. A draft's file gets a name here and never the other way round, so what has one name and is then found
 * under this one is a blob alone. */
static int open_to_seal(struct blob_store *base, const struct blob_id *id, uint64_t inode, struct stat *ret_st)
{
	auto_close int fd = local_open(base, id);
	char name[LOCAL_NAME_SIZE];
	struct stat there;
	int r = fd < 0 ? fd : sys_fstat(fd, ret_st);

	local_name(id, name);
	if (r == 0)
		r = sys_fstatat(local_store(base)->dir, name, &there, AT_SYMLINK_NOFOLLOW);
	if (r != 0)
		return r;
	if (there.st_ino != ret_st->st_ino)
		return -ENOENT; /* swept */
	return ret_st->st_nlink > 1 && ret_st->st_ino != inode ? -EMLINK : take_fd(&fd);
}

static int local_seal(struct blob_store *base, const struct blob_id *id, uint64_t inode, uint64_t *ret_size)
{
	char hex[BLOB_HEX_SIZE];
	struct stat st = {0};
	auto_close int fd = open_to_seal(base, id, inode, &st);
	int r = fd < 0 ? fd : 0;

	/* The mode first: an immutable file refuses chmod. */
	if (r == 0 && (st.st_mode & 07777) != LOCAL_MODE)
		r = sys_fchmod(fd, LOCAL_MODE);
	if (r == 0)
		r = sys_set_immutable(fd, true);
	if (r == -EMLINK)
		*ret_size = (uint64_t)st.st_size;
	else if (r < 0 && r != -EOPNOTSUPP) {
		blob_id_hex(id, hex);
		log_warning(base->log, "blob %s: cannot be sealed: %s", hex, blob_error_text(-r));
	}
	return r;
}

static int local_remove_once(const struct local_store *s, const char *name)
{
	auto_close int fd = sys_openat(s->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	bool flag = fd >= 0 && local_is_immutable(fd);
	int r;

	if (fd == -ENOENT)
		return 0;
	/* A file that cannot be opened (another owner's, an unprivileged daemon) may still be unlinked. */
	if (flag) {
		r = sys_set_immutable(fd, false);
		if (r < 0)
			return r;
	}
	r = sys_unlinkat(s->dir, name, 0);
	if (flag)
		sys_set_immutable(fd, true); /* it may have names left; if not, it goes all the same */
	return r == -ENOENT ? 0 : r;
}

static int local_remove(struct blob_store *base, const struct blob_id *id)
{
	char name[LOCAL_NAME_SIZE];
	int r = -EPERM;

	local_name(id, name);
	/* EPERM: between opening and unlinking, a sealed copy took the place of what was opened. */
	for (int i = 0; i < LOCAL_TRIES && r == -EPERM; i++)
		r = local_remove_once(local_store(base), name);
	return r;
}

static int compare_ids(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct blob_id));
}

/* The blobs that blobs/<shard> names now, sorted. The whole list is taken before anybody is called: a callback may
 * remove blobs. */
static int read_shard(DIR *dir, uint8_t shard, struct blob_id **ret_ids, size_t *ret_n)
{
	auto_free struct blob_id *ids = NULL;
	size_t n = 0, cap = 0;
	struct dirent *e;
	int r;

	while ((r = sys_readdir(dir, &e)) > 0) {
		struct blob_id id = {{shard}};

		if (strlen(e->d_name) != FILE_HEX_LEN || hex_decode(e->d_name, BLOB_ID_SIZE - 1, id.sha256 + 1) < 0)
			continue;
		if (n == cap) {
			struct blob_id *more = reallocarray(ids, cap ? 2 * cap : 64, sizeof *ids);

			if (!more)
				return -ENOMEM;
			ids = more;
			cap = cap ? 2 * cap : 64;
		}
		ids[n++] = id;
	}
	if (r < 0)
		return r;
	if (n)
		qsort(ids, n, sizeof *ids, compare_ids);
	*ret_ids = take_ptr(ids);
	*ret_n = n;
	return 0;
}

static int each_in_shard(const struct local_store *s, uint8_t shard, blob_each_fn *fn, void *arg)
{
	auto_free struct blob_id *ids = NULL;
	auto_dir DIR *dir = NULL;
	char name[LOCAL_NAME_SIZE];
	size_t n = 0;
	int r;

	hex_encode(&shard, 1, name);
	r = sys_fdopendir(sys_openat(s->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0), &dir);
	if (r < 0)
		return r == -ENOENT || r == -ENOTDIR || r == -ELOOP ? 0 : r;
	r = read_shard(dir, shard, &ids, &n);
	for (size_t i = 0; r == 0 && i < n; i++) {
		struct stat st;

		local_name(&ids[i], name);
		r = sys_fstatat(s->dir, name, &st, AT_SYMLINK_NOFOLLOW);
		if (r == -ENOENT || (r == 0 && !S_ISREG(st.st_mode))) {
			r = 0;
			continue;
		}
		if (r == 0)
			r = fn(&ids[i], (uint64_t)st.st_size, timespec_ns(st.st_ctim), arg);
	}
	return r;
}

static int local_each(struct blob_store *base, blob_each_fn *fn, void *arg)
{
	int r = 0;

	for (int shard = 0; r == 0 && shard < LOCAL_SHARDS; shard++)
		r = each_in_shard(local_store(base), (uint8_t)shard, fn, arg);
	return r;
}

static void local_close(struct blob_store *base)
{
	close(local_store(base)->dir);
	free(base);
}

static const struct blob_store_ops local_ops = {
	.name = "local",
	.close = local_close,
	.put_batch = local_put_batch,
	.seal = local_seal,
	.open = local_open,
	.size = local_size,
	.still_put = local_still_put,
	.is_sealed = local_is_sealed,
	.remove = local_remove,
	.each = local_each,
	.can_protect = local_can_protect,
	.scan = local_scan,
	.set_aside = local_set_aside,
	.make_private = local_make_private,
};

/* Makes blobs/ and lets its name survive power loss. The store's directory may be known by an O_PATH descriptor, which
 * cannot be synced. */
static int make_blobs_dir(int dirfd)
{
	auto_close int parent = -1;
	int r = sys_mkdirat(dirfd, "blobs", 0700);

	if (r < 0)
		return r == -EEXIST ? 0 : r;
	parent = sys_openat(dirfd, ".", O_RDONLY | O_DIRECTORY, 0);
	return parent < 0 ? parent : sys_fsync(parent);
}

int blob_store_open_local(int dirfd, bool create, struct log *log, struct blob_store **ret, struct fault *f)
{
	auto_free struct local_store *s = calloc(1, sizeof *s);
	int r;

	if (!s)
		return fault_set(f, ENOMEM, "blobs/: no memory");
	if (create) {
		r = make_blobs_dir(dirfd);
		if (r < 0)
			return fault_set(f, -r, "blobs/: cannot be made: %s", blob_error_text(-r));
	}
	s->base = (struct blob_store){&local_ops, log};
	s->dir = sys_openat(dirfd, "blobs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	if (s->dir < 0)
		return fault_set(f, -s->dir, "blobs/: cannot be opened: %s", blob_error_text(-s->dir));
	s->way = local_has_journal(s->dir) ? LOCAL_JOURNAL : LOCAL_CHOOSE;
	local_temp_sweep(s);
	*ret = &take_ptr(s)->base;
	return 0;
}
