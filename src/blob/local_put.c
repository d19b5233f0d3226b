/* Taking a batch of files into the local store.
 *
 * Order, each step for the whole batch before the next one begins:
 *   1. sort by id, so that each content is looked at once and each directory is visited once;
 *   2. look: what is there and sound needs no bytes moved. Of the rest, unless they are many, check the files and let the
 *      kernel start writing them;
 *   3. have the bytes written: each file just before its link, or by the syncfs of step 5 (local_sync.c);
 *   4. link, or copy where a link cannot be had or trusted (local_temp.c);
 *   5. sync the directories that hold a name of the batch, and blobs/ itself, which may have got new directories. Also
 *      for contents that were there: another process may have linked them a moment ago and not have come to its own
 *      step 5 yet.
 *
 * Invariants
 * 1. A name in blobs/ never leads to bytes that the disk has not taken before. Whether they survive a power cut is another
 *    matter: they do if they were flushed before (fsync, syncfs), or if the journal's commit that carries the name flushes
 *    them first. Else one syncfs after the links flushes bytes and names at once, and a power cut in the midst of it may
 *    leave a name without its bytes. Nobody takes it for the content, since it is not sealed: which holds as long as
 *    none of the files has by itself the mode of a sealed blob. If one has, all bytes are flushed before it is linked.
 * 2. At most five descriptors are open at a time, however large the batch.
 * 3. A failure leaves blobs that nobody refers to, and no temporary name. Linked files still belong to their draft,
 *    whose owner may write to them; that is why such a name is "shared" for everybody else (local.h), and replaced by a
 *    private copy when its content comes again. The draft itself knows its inode and takes it as its own. */
#include "local.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <string.h>

/* Up to this many files are synced one by one where others write much, more by one syncfs all the same. A usual version
 * has 3 to 20 files. */
#define SYNC_EACH_MAX 32
#define START_BYTES ((uint64_t)1 << 20) /* a disk takes a millisecond for it */

struct put {
	struct blob_item *item; /* the first of the batch with its id */
	bool place;             /* there is no sound blob yet */
	bool is_new;
	uint64_t inode; /* of the file that was linked; 0: none was */
};

struct batch {
	const struct local_store *s;
	struct put *puts; /* sorted by id, each id once */
	size_t n;
	enum local_way way; /* of their bytes */
	size_t waiting;     /* to be placed */
	bool flushed;       /* by a syncfs before the links (invariant 1) */
	int fs;             /* a descriptor of its own, so that no other batch is told of our syncfs's errors */
	struct fault *f;
};

static int item_fault(struct fault *f, const struct blob_item *item, int r, const char *what)
{
	return fault_set(f, -r, "%s: %s: %s", item->path, what, blob_error_text(-r));
}

/* Opens the file of an item and makes sure that it is what was hashed, as far as its size tells. */
static int open_source(const struct blob_item *item, struct stat *ret_st, struct fault *f)
{
	auto_close int fd = sys_openat_beneath(item->dirfd, item->path, O_RDONLY | O_NONBLOCK, 0);
	struct stat st;
	int r;

	if (fd < 0)
		return item_fault(f, item, fd, "cannot be opened");
	r = sys_fstat(fd, &st);
	if (r < 0)
		return item_fault(f, item, r, "cannot be looked at");
	if (!S_ISREG(st.st_mode))
		return fault_set(f, EINVAL, "%s: not a plain file", item->path);
	if ((uint64_t)st.st_size != item->size)
		return fault_set(f, EBUSY, "%s: holds %" PRIu64 " bytes, but %" PRIu64 " were hashed: it is being changed",
				 item->path, (uint64_t)st.st_size, item->size);
	*ret_st = st;
	return take_fd(&fd);
}

static int compare_puts(const void *a, const void *b)
{
	const struct blob_item *x = ((const struct put *)a)->item, *y = ((const struct put *)b)->item;
	int order = memcmp(&x->id, &y->id, sizeof x->id);

	return order ? order : (x > y) - (x < y); /* the first of the batch stays the first of its id */
}

static int sort_batch(struct batch *b, struct blob_item *items, size_t n)
{
	b->puts = calloc(n, sizeof *b->puts);
	if (!b->puts)
		return fault_set(b->f, ENOMEM, "blobs: no memory for %zu files", n);
	for (size_t i = 0; i < n; i++)
		b->puts[i].item = &items[i];
	qsort(b->puts, n, sizeof *b->puts, compare_puts);
	for (size_t i = 0; i < n; i++) {
		const struct blob_item *item = b->puts[i].item, *last = b->n ? b->puts[b->n - 1].item : NULL;

		if (!last || !blob_id_equal(&last->id, &item->id))
			b->puts[b->n++] = b->puts[i];
		else if (last->size != item->size)
			return fault_set(b->f, EINVAL, "%s: has the SHA-256 of %s, but another size", item->path, last->path);
	}
	return 0;
}

/* Has a write to this file been lost? The error of a syncfs is told once to each descriptor, and not of which file it is
 * (mm/filemap.c, errseq_t; syncfs(2)). Each file remembers its own; asking costs nothing once its pages are clean. */
static int lost_write(int fd)
{
	if (sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE) == 0)
		return 0;
	return errno == EIO || errno == ENOSPC || errno == EDQUOT ? -errno : 0;
}

/* One syncfs for all. Its error does not say which file it is about; the files do. */
static int sync_all(const struct batch *b)
{
	int r = sys_syncfs(b->fs);

	if (r == 0)
		return 0;
	for (size_t i = 0; i < b->n; i++) {
		struct stat st;
		auto_close int fd = b->puts[i].place ? open_source(b->puts[i].item, &st, b->f) : -1;
		int lost = fd >= 0 ? lost_write(fd) : 0;

		if (lost < 0)
			return item_fault(b->f, b->puts[i].item, lost, "cannot be written to the disk");
	}
	return fault_set(b->f, -r, "blobs/: %zu files cannot be written to the disk: %s", b->waiting, blob_error_text(-r));
}

static int check_source(const struct batch *b, const struct put *p, bool start_writing)
{
	struct stat st;
	auto_close int fd = open_source(p->item, &st, b->f);

	if (fd >= 0 && start_writing)
		sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE); /* a hint: failures show when it is synced */
	return fd < 0 ? fd : 0;
}

/* Step 2. Writing is started early: the disk gets all files at once, and what syncs them finds little left to do. Of many
 * files a syncfs is as quick, without opening each of them once more; of few bytes too. */
static int look(struct batch *b)
{
	uint64_t bytes = 0;
	int r = 0;

	for (size_t i = 0; i < b->n; i++) {
		const struct blob_item *item = b->puts[i].item;
		enum local_state state;
		char name[LOCAL_NAME_SIZE];

		local_name(&item->id, name);
		r = local_look(b->s, name, item->size, &state, NULL);
		if (r < 0)
			return item_fault(b->f, item, r, "its blob cannot be looked up");
		if (state == LOCAL_SOUND)
			continue;
		b->puts[i].place = true;
		bytes += item->size;
		b->waiting++;
	}
	if (b->waiting > 0)
		b->way = local_sync_way(b->s, b->waiting, SYNC_EACH_MAX, bytes);
	if (b->way == LOCAL_ALL && b->waiting > SYNC_EACH_MAX)
		return 0;
	for (size_t i = 0; r == 0 && i < b->n; i++)
		if (b->puts[i].place)
			r = check_source(b, &b->puts[i], b->way != LOCAL_ALL || bytes >= START_BYTES);
	return r;
}

/* Takes away what stands in the way of a rename over the name: the immutable flag of a blob that is damaged or has a
 * second name. *ret_fd: the descriptor whose flag was cleared, else -1. -EEXIST: it has become sound meanwhile. */
static int unseal(const struct local_store *s, const char *name, uint64_t size, int *ret_fd)
{
	auto_close int fd = sys_openat(s->dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK, 0);
	struct stat st;
	int r;

	*ret_fd = -1;
	if (fd == -ENOENT || fd == -ELOOP || fd == -EACCES)
		return 0; /* gone, no file that could carry a flag, or a file of which only the rename can tell */
	if (fd < 0)
		return fd;
	r = sys_fstat(fd, &st);
	if (r < 0)
		return r;
	if (local_judge(&st, size) == LOCAL_SOUND)
		return -EEXIST;
	if (!local_is_immutable(fd))
		return 0;
	r = sys_set_immutable(fd, false);
	if (r == 0)
		*ret_fd = take_fd(&fd);
	return r;
}

int local_place_copy(const struct local_store *s, int src, const char *name, uint64_t size)
{
	auto_close int old = -1;
	struct local_temp t;
	int r = local_temp_open(s, &t), close_error;

	if (r < 0)
		return r;
	r = local_temp_copy(&t, src, size);
	if (r == 0)
		r = unseal(s, name, size, &old);
	if (r == 0)
		r = local_temp_publish(s, &t, name);
	if (old >= 0)
		sys_set_immutable(old, true); /* it may have names left; if not, it goes all the same */
	close_error = local_temp_close(s, &t);
	return r < 0 ? r : close_error;
}

static int make_shard(const struct local_store *s, const char *name)
{
	char shard[3] = {name[0], name[1], '\0'};
	int r = sys_mkdirat(s->dir, shard, 0700);

	if (r < 0)
		return r == -EEXIST ? 0 : r;
	auto_close int fd = sys_openat(s->dir, shard, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	return fd < 0 ? fd : sys_give_to_owner(fd, s->dir);
}

/* The directory is made only when it is missed: a store in use has all 256 of them. */
static int link_into(const struct local_store *s, int fd, const char *name)
{
	int r = sys_linkat_fd(fd, s->dir, name);

	if (r != -ENOENT)
		return r;
	r = make_shard(s, name);
	return r < 0 ? r : sys_linkat_fd(fd, s->dir, name);
}

/* link(2) refuses, but the bytes can be copied: another file system, 65,000 links (ext4), a file system without links,
 * a file of another owner to an unprivileged daemon (fs.protected_hardlinks). */
static bool cannot_link(int r)
{
	return r == -EXDEV || r == -EMLINK || r == -EPERM || r == -EOPNOTSUPP;
}

/* One attempt to have a blob that may be referred to. -EAGAIN, -EPERM: somebody changed what was seen; look again. */
static int place_once(const struct batch *b, struct put *p, int fd, const struct stat *src)
{
	const struct blob_item *item = p->item;
	enum local_state state;
	char name[LOCAL_NAME_SIZE];
	struct stat st;
	int r;

	local_name(&item->id, name);
	r = link_into(b->s, fd, name);
	if (r == 0) {
		p->is_new = true;
		p->inode = src->st_ino;
		return 0;
	}
	if (r != -EEXIST && !cannot_link(r))
		return r;
	if (r == -EEXIST) {
		r = local_look(b->s, name, item->size, &state, &st);
		if (r < 0)
			return r;
		if (state == LOCAL_ABSENT)
			return -EAGAIN;
		if (state == LOCAL_SOUND)
			return 0;
		if (st.st_dev == src->st_dev && st.st_ino == src->st_ino) { /* linked by an earlier attempt with this very file */
			p->inode = src->st_ino;
			return 0;
		}
	} else {
		state = LOCAL_ABSENT;
	}
	r = make_shard(b->s, name);
	if (r == 0)
		r = local_place_copy(b->s, fd, name, item->size);
	if (r == -EEXIST)
		return -EAGAIN;
	if (r == 0) {
		p->is_new = state != LOCAL_SHARED;
		if (state == LOCAL_DAMAGED)
			log_warning(b->s->base.log, "blobs/%s: damaged (size), replaced from %s", name, item->path);
	}
	return r;
}

/* What step 3 leaves to each file, and what invariant 1 asks for before its link. */
static int write_bytes(struct batch *b, int fd, const struct stat *st)
{
	int r = 0;

	if (b->way == LOCAL_EACH)
		return sys_fsync(fd);
	if (b->way == LOCAL_JOURNAL)
		return sys_write_range(fd);
	if ((st->st_mode & 07777) == LOCAL_MODE && !b->flushed) {
		r = sync_all(b);
		b->flushed = true;
	}
	return r < 0 ? r : lost_write(fd);
}

static int place(struct batch *b, struct put *p)
{
	struct stat st;
	auto_close int fd = open_source(p->item, &st, b->f);
	int r;

	if (fd < 0)
		return fd;
	r = write_bytes(b, fd, &st);
	if (r < 0)
		return item_fault(b->f, p->item, r, "cannot be written to the disk");
	r = -EAGAIN;
	/* EPERM: most likely sealed by its owner between our look and our rename; if not, the last attempt says so. */
	for (int i = 0; (r == -EAGAIN || r == -EPERM) && i < LOCAL_TRIES; i++)
		r = place_once(b, p, fd, &st);
	if (r == -EAGAIN)
		r = -EBUSY;
	return r < 0 ? item_fault(b->f, p->item, r, "cannot be stored") : 0;
}

static int sync_names(const struct batch *b)
{
	uint8_t shards[LOCAL_SHARDS];
	size_t n = 0;

	for (size_t i = 0; i < b->n; i++) {
		uint8_t shard = b->puts[i].item->id.sha256[0];

		if (n == 0 || shards[n - 1] != shard)
			shards[n++] = shard;
	}
	return local_sync_names(b->s, shards, n, b->way == LOCAL_ALL, b->fs, b->f);
}

static int compare_id(const void *id, const void *put)
{
	return memcmp(id, &((const struct put *)put)->item->id, sizeof(struct blob_id));
}

/* It is there: each id of the batch is. */
static const struct put *find_put(const struct batch *b, const struct blob_id *id)
{
	return bsearch(id, b->puts, b->n, sizeof *b->puts, compare_id);
}

static int run_batch(struct batch *b, struct blob_item *items, size_t n)
{
	int r = sort_batch(b, items, n);

	if (r == 0)
		r = look(b);
	for (size_t i = 0; r == 0 && i < b->n; i++)
		if (b->puts[i].place)
			r = place(b, &b->puts[i]);
	if (r == 0)
		r = sync_names(b);
	if (r < 0)
		return r;
	for (size_t i = 0; i < n; i++) {
		const struct put *p = find_put(b, &items[i].id);

		items[i].ret_new = p->item == &items[i] && p->is_new;
		items[i].ret_inode = p->inode;
	}
	return 0;
}

int local_put_batch(struct blob_store *s, struct blob_item *items, size_t n, struct fault *f)
{
	struct batch b = {.s = local_store(s), .f = f, .fs = -1};
	int r;

	if (b.s->way == LOCAL_CHOOSE || b.s->way == LOCAL_ALL) {
		b.fs = sys_openat(b.s->dir, ".", O_RDONLY | O_DIRECTORY, 0);
		if (b.fs < 0)
			return fault_set(f, -b.fs, "blobs/: cannot be opened: %s", blob_error_text(-b.fs));
	}
	r = run_batch(&b, items, n);
	free(b.puts);
	if (b.fs >= 0)
		close(b.fs);
	return r;
}
