/* Memory that outlives a worker: a memfd with a head, an area for each room and an array of records for each kind.
 *
 * The file is sparse and large enough for all there can be; only pages that were used exist. Which slots are free is known to each process for itself
 * (`spare`), as that is only a way to find them quickly: the truth is the state in the record. Slots from `used` of the head on were never taken.
 *
 * Lock: one for each kind, over its list of free slots. */
#include <mintfs/keep.h>

#include <errno.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAGIC "mintfs\n"
#define PAGE 4096
#define FIRST_FD 3

static const struct kind_form { size_t size; uint32_t most; } forms[KEEP_KINDS] = {
	[KEEP_OPENS] = {KEEP_OPEN_SIZE, 1U << 20},
	[KEEP_LISTINGS] = {KEEP_LISTING_SIZE, 1U << 20},
	[KEEP_NODES] = {KEEP_NODE_SIZE, 1U << 23},
	[KEEP_DRAFTS] = {KEEP_DRAFT_SIZE, 1U << 14},
	[KEEP_PROCESSES] = {KEEP_PROCESS_SIZE, 1U << 18},
};

struct head {
	char magic[8];
	uint32_t protocol;
	_Atomic uint32_t used[KEEP_KINDS];
	_Atomic int32_t fds[KEEP_FDS]; /* plus 1 */
};
_Static_assert(sizeof(struct head) <= PAGE, "the head is one page");

struct keep {
	struct head *head;
	size_t size;
	struct kind {
		char *records;
		pthread_mutex_t lock; /* the rest */
		uint32_t *spare;
		size_t n_spare, room;
	} kinds[KEEP_KINDS];
};

static size_t whole_size(void)
{
	size_t size = PAGE + KEEP_AREAS * KEEP_AREA_SIZE;

	for (size_t i = 0; i < KEEP_KINDS; i++)
		size += forms[i].size * forms[i].most;
	return (size + PAGE - 1) / PAGE * PAGE;
}

static int map(int fd, struct keep **ret)
{
	struct keep *k = calloc(1, sizeof *k);
	char *at;

	if (!k)
		return -ENOMEM;
	k->size = whole_size();
	at = mmap(NULL, k->size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED) {
		free(k);
		return -errno;
	}
	k->head = (struct head *)(void *)at;
	at += PAGE + KEEP_AREAS * KEEP_AREA_SIZE;
	for (size_t i = 0; i < KEEP_KINDS; i++) {
		k->kinds[i].records = at;
		pthread_mutex_init(&k->kinds[i].lock, NULL);
		at += forms[i].size * forms[i].most;
	}
	*ret = k;
	return 0;
}

int keep_new(struct keep **ret)
{
	auto_close int fd = memfd_create("mintfs", MFD_CLOEXEC);
	int r;

	if (fd < 0 || ftruncate(fd, (off_t)whole_size()) < 0)
		return -errno;
	r = map(fd, ret);
	if (r < 0)
		return r;
	memcpy((*ret)->head->magic, MAGIC, sizeof MAGIC);
	(*ret)->head->protocol = KEEP_PROTOCOL;
	keep_fd_set(*ret, KEEP_FD_KEEP, take_fd(&fd));
	return 0;
}

int keep_attach(int fd, struct keep **ret, struct fault *f)
{
	struct head head = {0};
	int r;

	if (pread(fd, &head, sizeof head, 0) != sizeof head || memcmp(head.magic, MAGIC, sizeof MAGIC) != 0)
		return fault_set(f, EPROTO, "descriptor %d is not what a drive hands over", fd);
	if (head.protocol != KEEP_PROTOCOL)
		return fault_set(f, EPROTO, "the drive hands over by protocol %u, and this program knows %u", head.protocol, KEEP_PROTOCOL);
	r = map(fd, ret);
	if (r < 0)
		return fault_set(f, -r, "what the drive hands over cannot be mapped: %s", strerror(-r));
	keep_fd_set(*ret, KEEP_FD_KEEP, fd);
	return 0;
}

void keep_free(struct keep *k)
{
	if (!k)
		return;
	for (size_t i = 0; i < KEEP_KINDS; i++) {
		free(k->kinds[i].spare);
		pthread_mutex_destroy(&k->kinds[i].lock);
	}
	munmap(k->head, k->size);
	free(k);
}

void *keep_area(struct keep *k, enum keep_area which)
{
	return (char *)k->head + PAGE + (size_t)which * KEEP_AREA_SIZE;
}

int keep_fd(struct keep *k, enum keep_fd which)
{
	return atomic_load(&k->head->fds[which]) - 1;
}

void keep_fd_set(struct keep *k, enum keep_fd which, int fd)
{
	atomic_store(&k->head->fds[which], fd + 1);
}

/* ---- records ---- */

static struct keep_slot *slot_at(const struct keep *k, enum keep_kind kind, uint32_t i)
{
	return (struct keep_slot *)(void *)(k->kinds[kind].records + (size_t)i * forms[kind].size);
}

void *keep_at(struct keep *k, enum keep_kind kind, uint32_t i)
{
	return slot_at(k, kind, i);
}

uint32_t keep_count(struct keep *k, enum keep_kind kind)
{
	return atomic_load(&k->head->used[kind]);
}

static uint32_t index_of(struct keep *k, enum keep_kind kind, const void *record)
{
	return (uint32_t)((size_t)((const char *)record - k->kinds[kind].records) / forms[kind].size);
}

uint64_t keep_handle(struct keep *k, enum keep_kind kind, const void *record)
{
	const struct keep_slot *s = record;

	return (uint64_t)s->generation << 32 | index_of(k, kind, record);
}

enum keep_state keep_state_of(const void *record)
{
	const struct keep_slot *s = record;

	return (enum keep_state)atomic_load(&s->state);
}

/* Under the lock. Without memory the slot is lost until the next worker. */
static void add_spare(struct kind *kind, uint32_t i)
{
	if (kind->n_spare == kind->room) {
		size_t room = kind->room ? 2 * kind->room : 64;
		uint32_t *spare = reallocarray(kind->spare, room, sizeof *spare);
		if (!spare)
			return;
		kind->spare = spare;
		kind->room = room;
	}
	kind->spare[kind->n_spare++] = i;
}

int keep_begin(struct keep *k)
{
	for (size_t which = 0; which < KEEP_KINDS; which++) {
		struct kind *kind = &k->kinds[which];
		SCOPED_LOCK(&kind->lock);
		kind->n_spare = 0;
		for (uint32_t i = keep_count(k, (enum keep_kind)which); i > 0; i--)
			if (keep_state_of(slot_at(k, (enum keep_kind)which, i - 1)) == KEEP_FREE)
				add_spare(kind, i - 1);
	}
	return 0;
}

static bool find_free(struct keep *k, enum keep_kind which, uint32_t *ret)
{
	struct kind *kind = &k->kinds[which];
	SCOPED_LOCK(&kind->lock);

	if (kind->n_spare > 0) {
		*ret = kind->spare[--kind->n_spare];
		return true;
	}
	*ret = keep_count(k, which);
	if (*ret == forms[which].most)
		return false;
	atomic_store(&k->head->used[which], *ret + 1);
	return true;
}

void *keep_take(struct keep *k, enum keep_kind kind)
{
	struct keep_slot *s;
	uint32_t i;

	if (!k || !find_free(k, kind, &i))
		return NULL;
	s = slot_at(k, kind, i);
	memset(s + 1, 0, forms[kind].size - sizeof *s);
	keep_hold(s, 0, -1);
	keep_hold(s, 1, -1);
	s->generation++;
	return s;
}

void keep_publish(void *record)
{
	struct keep_slot *s = record;

	atomic_store(&s->state, KEEP_USED);
}

void keep_ending(void *record)
{
	struct keep_slot *s = record;

	atomic_store(&s->state, KEEP_ENDING);
}

void keep_drop(struct keep *k, enum keep_kind kind, void *record)
{
	struct keep_slot *s = record;

	if (!s)
		return;
	atomic_store(&s->state, KEEP_FREE);
	SCOPED_LOCK(&k->kinds[kind].lock);
	add_spare(&k->kinds[kind], index_of(k, kind, record));
}

/* ---- descriptors ---- */

struct fd_list { int *fds; size_t n, room; bool failed; };

static void note_fd(struct fd_list *l, int fd)
{
	if (fd < FIRST_FD)
		return;
	if (l->n == l->room) {
		size_t room = l->room ? 2 * l->room : 256;
		int *fds = reallocarray(l->fds, room, sizeof *fds);
		if (!fds) {
			l->failed = true;
			return;
		}
		l->fds = fds;
		l->room = room;
	}
	l->fds[l->n++] = fd;
}

static int compare_fds(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

static void close_between(unsigned first, unsigned last)
{
	if (first <= last)
		syscall(SYS_close_range, first, last, 0);
}

void keep_close_others(struct keep *k)
{
	struct fd_list l = {0};
	unsigned next = FIRST_FD;

	for (size_t i = 0; i < KEEP_FDS; i++)
		note_fd(&l, keep_fd(k, (enum keep_fd)i));
	for (size_t kind = 0; kind < KEEP_KINDS; kind++) {
		for (uint32_t i = 0; i < keep_count(k, (enum keep_kind)kind); i++) {
			const struct keep_slot *s = slot_at(k, (enum keep_kind)kind, i);
			if (keep_state_of(s) != KEEP_USED)
				continue;
			note_fd(&l, keep_held(s, 0));
			note_fd(&l, keep_held(s, 1));
		}
	}
	if (!l.failed) { /* without memory they stay open: better than to close what is needed */
		if (l.n > 1)
			qsort(l.fds, l.n, sizeof *l.fds, compare_fds);
		for (size_t i = 0; i < l.n; i++) {
			close_between(next, (unsigned)l.fds[i] - 1);
			next = (unsigned)l.fds[i] + 1;
		}
		close_between(next, ~0U);
	}
	free(l.fds);
}
