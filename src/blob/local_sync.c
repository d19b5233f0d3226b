/* How the bytes and the names of a batch get to the disk. Each fsync costs a flush of the disk, and until it is done nothing goes on: of the
 * time that a commit of three small files took, two thirds were the flushes of seven of them. So as few calls as the file system allows:
 *
 *   LOCAL_JOURNAL  ext4 with a journal: transactions reach the disk in their order, so syncing what was changed last
 *                  carries everything that was changed before, names, sizes and all. Bytes are written by
 *                  sync_file_range before their names are made; the one commit of the journal that carries the names
 *                  flushes the disk before it counts, and with that the bytes. To be what was changed last, blobs/ gets a
 *                  new time. It waits for nobody else's bytes but those that ext4 itself orders before the commit.
 *   LOCAL_ALL      any file system: one syncfs for all names, mostly for the bytes too (local_put.c, invariant 1). It waits for whatever others have
 *                  just written, gigabytes perhaps: so only where there is little, or so many files that it pays anyway.
 *   LOCAL_EACH     any file system: fsync of each file and each directory.
 *
 * Sources: ext4_sync_file and ext4_setattr (fs/ext4/fsync.c, inode.c), the order of flush and commit record in fs/jbd2/commit.c. */
#include "local.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#define EXT_MAGIC 0xEF53 /* ext2, 3 and 4 (linux/magic.h) */
#define QUIET_KIB (16U << 10) /* so much of others' data is waited for: it is written within some milliseconds */
#define WAITING_NS (NS_PER_SEC / 50)
#define MEMINFO_MAX 2048 /* Dirty and Writeback stand in its first half */

/* ext4 tells the process that commits its journal, or "<none>" (fs/ext4/sysfs.c). What ext2 serves has no entry there. */
bool local_has_journal(int dir)
{
	char path[PATH_MAX], device[PATH_MAX];
	auto_free char *text = NULL;
	struct statfs fs;
	struct stat st;
	ssize_t n;
	size_t len;

	if (fstatfs(dir, &fs) != 0 || fs.f_type != EXT_MAGIC || fstat(dir, &st) != 0)
		return false;
	snprintf(path, sizeof path, "/sys/dev/block/%u:%u", major(st.st_dev), minor(st.st_dev));
	n = readlink(path, device, sizeof device - 1);
	if (n <= 0)
		return false;
	device[n] = '\0';
	if (snprintf(path, sizeof path, "/sys/fs/ext4/%s/journal_task", strrchr(device, '/') ? strrchr(device, '/') + 1 : device) >= (int)sizeof path)
		return false;
	return sys_read_file(AT_FDCWD, path, 64, &text, &len) == 0 && text[0] >= '1' && text[0] <= '9';
}

static uint64_t meminfo_kib(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtoull(at + strlen(name), NULL, 10) : UINT64_MAX / 4;
}

static uint64_t read_waiting_kib(void)
{
	char text[MEMINFO_MAX];
	auto_close int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);

	if (n <= 0)
		return UINT64_MAX / 4;
	text[n] = '\0';
	return meminfo_kib(text, "\nDirty:") + meminfo_kib(text, "\nWriteback:");
}

/* Is hardly anything waiting to be written but what this batch wants written? The numbers are those of the whole machine, and for WAITING_NS those of a moment ago:
 * the kernel takes 20 µs to write that file. Two threads may both read it; either has the truth. */
static bool is_quiet(uint64_t own_bytes)
{
	static _Atomic uint64_t kib;
	static _Atomic int64_t read_ns;
	int64_t now = time_monotonic_ns(), last = atomic_load(&read_ns);

	if (last == 0 || now - last >= WAITING_NS) {
		atomic_store(&kib, read_waiting_kib());
		atomic_store(&read_ns, now);
	}
	return atomic_load(&kib) <= (own_bytes >> 10) + QUIET_KIB;
}

enum local_way local_sync_way(const struct local_store *s, size_t n, size_t each_max, uint64_t bytes)
{
	if (s->way != LOCAL_CHOOSE)
		return s->way;
	return n > each_max || is_quiet(bytes) ? LOCAL_ALL : LOCAL_EACH;
}

static int dir_fault(struct fault *f, const char *name, int r)
{
	return fault_set(f, -r, "blobs/%s: cannot be synced: %s", name, blob_error_text(-r));
}

static int sync_dir(const struct local_store *s, const char *name, struct fault *f)
{
	auto_close int fd = sys_openat(s->dir, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW, 0);
	int r = fd < 0 ? fd : sys_fsync(fd);

	return r < 0 ? dir_fault(f, name, r) : 0;
}

static int sync_each(const struct local_store *s, const uint8_t *shards, size_t n, struct fault *f)
{
	for (size_t i = 0; i < n; i++) {
		char name[3];
		int r;

		hex_encode(&shards[i], 1, name);
		r = sync_dir(s, name, f);
		if (r < 0)
			return r;
	}
	return sync_dir(s, ".", f);
}

/* Whatever names were made before, by whomever, stand in a transaction that is not younger than this one. */
static int sync_journal(const struct local_store *s, struct fault *f)
{
	const struct timespec now[2] = {{.tv_nsec = UTIME_OMIT}, {.tv_nsec = UTIME_NOW}};
	int r = sys_utimensat(s->dir, "", now, AT_EMPTY_PATH);

	if (r == 0)
		r = sys_fsync(s->dir);
	return r < 0 ? dir_fault(f, "", r) : 0;
}

int local_sync_names(const struct local_store *s, const uint8_t *shards, size_t n, bool all, int fs, struct fault *f)
{
	enum local_way way = all ? LOCAL_ALL : local_sync_way(s, n, LOCAL_SHARDS, 0);
	int r;

	if (way == LOCAL_JOURNAL)
		return sync_journal(s, f);
	if (way == LOCAL_EACH)
		return sync_each(s, shards, n, f);
	r = sys_syncfs(fs);
	return r < 0 ? dir_fault(f, "", r) : 0;
}
