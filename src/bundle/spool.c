/* Files instead of memory: spool.h. They lie where TMPDIR says, else in /tmp, and have no name, so that nothing is left whatever happens.
 *
 * The table of contents is an open hash in a mapped file: 40 bytes a slot, at most two thirds full. Its blocks are allocated before they are touched: a store into a hole
 * of a full file system would end the process. */
#include "spool.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static int open_nameless(void)
{
	const char *dir = getenv("TMPDIR");
	char path[4096];
	if (!dir || !*dir)
		dir = "/tmp";
	int fd = sys_openat(AT_FDCWD, dir, O_RDWR | O_TMPFILE, 0600);
	if (fd != -EOPNOTSUPP && fd != -EISDIR && fd != -ENOENT)
		return fd;
	if (snprintf(path, sizeof path, "%s/mintfs-spool-XXXXXX", dir) >= (int)sizeof path)
		return -ENAMETOOLONG;
	fd = mkostemp(path, O_CLOEXEC);
	if (fd < 0)
		return -errno;
	unlink(path);
	return fd;
}

/* ---- spool ---- */

int spool_open(struct spool *s)
{
	*s = (struct spool)SPOOL_INIT;
	s->fd = open_nameless();
	return s->fd < 0 ? s->fd : 0;
}

void spool_release(struct spool *s)
{
	if (s->map)
		munmap(s->map, s->len);
	if (s->fd >= 0)
		close(s->fd);
	*s = (struct spool)SPOOL_INIT;
}

int spool_add(struct spool *s, const void *data, size_t len)
{
	int error = sys_pwrite_full(s->fd, data, len, (off_t)s->len);
	if (!error)
		s->len += len;
	return error;
}

int spool_out(const void *data, size_t len, void *spool) { return spool_add(spool, data, len); }

int spool_map(struct spool *s, const char **ret_text)
{
	if (!s->map && s->len > 0) {
		void *map = mmap(NULL, s->len, PROT_READ, MAP_PRIVATE, s->fd, 0);
		if (map == MAP_FAILED)
			return -errno;
		s->map = map;
	}
	*ret_text = s->map ? s->map : "";
	return 0;
}

/* ---- contents ---- */

#define SLOTS_FIRST 1024

struct slot { struct blob_id id; uint64_t path; /* place in the paths + 1; 0: free */ };

struct contents {
	struct spool paths; /* each with its NUL */
	int fd;
	struct slot *slots;
	size_t n_slots, n; /* a power of two */
};

static int map_slots(size_t n, int *ret_fd, struct slot **ret)
{
	auto_close int fd = open_nameless();
	if (fd < 0)
		return fd;
	int error = sys_fallocate(fd, 0, 0, (off_t)(n * sizeof(struct slot)));
	if (error == -EOPNOTSUPP)
		error = sys_ftruncate(fd, (off_t)(n * sizeof(struct slot)));
	if (error < 0)
		return error;
	void *map = mmap(NULL, n * sizeof(struct slot), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (map == MAP_FAILED)
		return -errno;
	*ret = map;
	*ret_fd = take_fd(&fd);
	return 0;
}

int contents_new(struct contents **ret)
{
	struct contents *c = calloc(1, sizeof *c);
	if (!c)
		return -ENOMEM;
	c->fd = -1;
	c->n_slots = SLOTS_FIRST;
	int error = spool_open(&c->paths);
	if (!error)
		error = map_slots(c->n_slots, &c->fd, &c->slots);
	if (error)
		contents_free(c);
	else
		*ret = c;
	return error;
}

void contents_free(struct contents *c)
{
	if (!c)
		return;
	if (c->slots)
		munmap(c->slots, c->n_slots * sizeof *c->slots);
	if (c->fd >= 0)
		close(c->fd);
	spool_release(&c->paths);
	free(c);
}

/* A hash is a hash already. */
static struct slot *find_slot(struct slot *slots, size_t n, const struct blob_id *id)
{
	uint64_t at;
	memcpy(&at, id->sha256, sizeof at);
	at &= n - 1;
	while (slots[at].path && !blob_id_equal(&slots[at].id, id))
		at = (at + 1) & (n - 1);
	return &slots[at];
}

int contents_find(struct contents *c, const struct blob_id *id, char *out, size_t size)
{
	const struct slot *slot = find_slot(c->slots, c->n_slots, id);
	if (!slot->path)
		return -ENOENT;
	ssize_t n = sys_pread_full(c->paths.fd, out, size, (off_t)(slot->path - 1));
	if (n < 0)
		return (int)n;
	return memchr(out, '\0', (size_t)n) ? 0 : -ENAMETOOLONG;
}

static int grow(struct contents *c)
{
	struct slot *slots;
	size_t n = 2 * c->n_slots;
	int fd, error = map_slots(n, &fd, &slots);
	if (error)
		return error;
	for (size_t i = 0; i < c->n_slots; i++)
		if (c->slots[i].path)
			*find_slot(slots, n, &c->slots[i].id) = c->slots[i]; /* NOLINT(clang-analyzer-core.CallAndMessage): the errno of an mmap that failed is never 0 */
	munmap(c->slots, c->n_slots * sizeof *c->slots);
	close(c->fd);
	c->slots = slots; /* NOLINT(clang-analyzer-core.uninitialized.Assign): as above */
	c->fd = fd;
	c->n_slots = n;
	return 0;
}

int contents_add(struct contents *c, const struct blob_id *id, const char *path)
{
	int error = 3 * (c->n + 1) > 2 * c->n_slots ? grow(c) : 0;
	uint64_t at = c->paths.len;
	if (!error)
		error = spool_add(&c->paths, path, strlen(path) + 1);
	if (error)
		return error;
	*find_slot(c->slots, c->n_slots, id) = (struct slot){*id, at + 1};
	c->n++;
	return 0;
}
