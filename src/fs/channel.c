/* The channel to the kernel, one step before libfuse: requests and replies that libfuse (3.12 to 3.16) has no words for.
 *
 *   FUSE_TMPFILE   is read as FUSE_CREATE of the name "/", which no other request can have: both have the same body (fs/fuse/dir.c,
 *                  fuse_create_open: struct fuse_create_in and the name, and the name of an unnamed file is "/").
 *   FUSE_COPY_FILE_RANGE_64  (Linux 6.18) is read as FUSE_COPY_FILE_RANGE, which has the same body and, for what fits in 32 bits, the same answer: 8 bytes, the low ones first.
 *                  Refused, it would be asked for once more by the older name, but of two at once that are refused the kernel takes the second for a refusal of both
 *                  (fs/fuse/file.c, __fuse_copy_file_range), and copies by reading and writing from then on.
 *   FUSE_INIT      features are added to the reply that libfuse leaves out, each only where the kernel offered it:
 *     PARALLEL_DIROPS       libfuse 3.14 takes the wish and forgets to tell it; without it, lookups in one directory wait for each other
 *     HANDLE_KILLPRIV_V2    else each write first asks for security.capability. It is right since no regular file of the drive ever
 *                           has a set-user-id or set-group-id bit (draft_check_mode refuses them) or capabilities (no such attributes)
 *     DIRECT_IO_ALLOW_MMAP  versions.json is read past the page cache, and may be mapped all the same
 *     PASSTHROUGH           where passthrough.c decided for it (libfuse before 3.17)
 *
 * After the death of a worker the next one is a new session of libfuse on the same connection: it reads the kernel's INIT from memory, its answer is not sent, and the
 * kernel is asked to send again what was read and not answered (FUSE_NOTIFY_RESEND). Notices go to notices.c.
 *
 * A reader thread may be cancelled in read(2), libfuse ends its loop so: no lock is held there. */
#include "session.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Names that older copies of linux/fuse.h lack. */
#define OPCODE_TMPFILE 51
#define OPCODE_COPY_FILE_RANGE_64 53
#define BIT_DIRECT_IO_ALLOW_MMAP (1ULL << 36)
#define BIT_HAS_RESEND (1ULL << 39) /* FUSE_HAS_RESEND, Linux 6.9 */
#define NOTIFY_RESEND 7
#define SMALL_REQUEST ((size_t)128 << 10)
#define MAX_STACK_DEPTH_OFFSET (offsetof(struct fuse_init_out, flags2) + sizeof(uint32_t)) /* the word after flags2, from Linux 6.9 */

#define WANTED ((uint64_t)FUSE_PARALLEL_DIROPS | (uint64_t)FUSE_HANDLE_KILLPRIV_V2 | BIT_DIRECT_IO_ALLOW_MMAP)

/* A RELEASE is read only after the replies to all uses of its file were written. The kernel keeps that order; the thread sanitizer has to be told, and its own
 * writev(2) notes what the call has read when it has returned, at which time the file may be released: so the call is made past it. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TELL_ORDER
#endif
#endif
#if defined(__SANITIZE_THREAD__) || defined(TELL_ORDER)
static void order_request(struct channel *ch) { atomic_fetch_add(&ch->order, 1); }
static ssize_t send_reply(struct channel *ch, int fd, const struct iovec *iov, int count)
{
	atomic_fetch_add(&ch->order, 1);
	return syscall(SYS_writev, fd, iov, count);
}
#else
static void order_request(struct channel *ch) { }
static ssize_t send_reply(struct channel *ch, int fd, const struct iovec *iov, int count) { return writev(fd, iov, count); }
#endif

static struct channel *channel_of(void *userdata)
{
	struct fs *fs = userdata;
	return &fs->channel;
}

int channel_init(struct channel *ch, struct keep *keep)
{
	ch->keep = keep;
	ch->kept = keep_area(keep, KEEP_AREA_FS);
	return -pthread_key_create(&ch->hand, NULL);
}

void channel_release(struct channel *ch)
{
	for (size_t i = 0; i < KEPT_HANDS; i++)
		if (ch->present[i].front)
			munmap(ch->present[i].front, (size_t)sysconf(_SC_PAGESIZE));
	if (ch->kept)
		pthread_key_delete(ch->hand);
}

struct kept_hand *channel_hand(struct channel *ch)
{
	return pthread_getspecific(ch->hand);
}

/* The hand of this thread, empty: it waits for the next request. */
static struct kept_hand *open_hand(struct channel *ch)
{
	struct kept_hand *h = channel_hand(ch);

	if (!h) {
		unsigned i = atomic_fetch_add(&ch->n_hands, 1);
		if (i >= KEPT_HANDS || pthread_setspecific(ch->hand, &ch->kept->hands[i]) != 0)
			return NULL;
		h = &ch->kept->hands[i];
		atomic_store(&h->tid, gettid());
	}
	atomic_store(&h->unique, 0);
	atomic_store(&h->since_ns, 0);
	return h;
}

/* What it did of the request before is forgotten first: the unique says that the rest is about this one. */
static void fill_hand(struct kept_hand *h, const struct fuse_in_header *in)
{
	if (!h || in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET || in->opcode == FUSE_INTERRUPT || in->opcode == FUSE_INIT)
		return;
	atomic_store(&h->counted, 0);
	atomic_store(&h->moving, 0);
	h->once = (struct registry_once){0};
	atomic_store(&h->opcode, in->opcode);
	atomic_store(&h->resent, (in->unique & BIT_RESENT) != 0);
	atomic_store(&h->since_ns, time_monotonic_ns());
	atomic_store(&h->unique, in->unique & ~BIT_RESENT);
}

/* What the kernel offers is kept: the next worker hears it again. */
static void keep_init(struct kept_session *k, const struct fuse_in_header *in, size_t len)
{
	if (k->init_len != 0 || len > sizeof k->init)
		return;
	memcpy(k->init, in, len);
	k->init_len = (uint32_t)len;
}

static void note_init(struct channel *ch, const struct fuse_in_header *in, size_t len)
{
	const struct fuse_init_in *init = (const void *)(in + 1);
	uint64_t offered = 0;

	keep_init(ch->kept, in, len);

	if (len >= sizeof *in + offsetof(struct fuse_init_in, flags2))
		offered = init->flags;
	if ((offered & FUSE_INIT_EXT) && len >= sizeof *in + offsetof(struct fuse_init_in, flags2) + sizeof init->flags2)
		offered |= (uint64_t)init->flags2 << 32;
	atomic_store(&ch->offered, offered);
	atomic_store(&ch->init_unique, in->unique);
}

/* The kernel answers a request with EIO if its copy to our memory fails, and so it does where the thread has just been killed and a page is not there yet, or is shared with
 * a child since a fork (fs/fuse/dev.c, fuse_dev_do_read). So before the first read the pages are made, and no child gets them: of libfuse's buffer those that are wholly its
 * own, all that a request may need where data go by the daemon, else as much as names and attributes take; and a page for what comes before the first of them. */
static char *prepare_buffer(struct present *p, char *buf, size_t most)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *first = (char *)(((uintptr_t)buf + page - 1) / page * page), *end = (char *)(((uintptr_t)buf + most) / page * page);

	if (!p->front) {
		p->front = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
		if (p->front == MAP_FAILED) {
			p->front = NULL;
			return buf;
		}
		madvise(p->front, page, MADV_DONTFORK);
	}
	if (p->buf != buf || p->len < most) {
		madvise(first, (size_t)(end - first), MADV_DONTFORK);
		for (volatile char *at = first; at < end; at += page)
			*at = 0;
		p->buf = buf;
		p->len = most;
	}
	return first;
}

static ssize_t read_request(struct channel *ch, struct present *p, int fd, char *buf, size_t len)
{
	char *first = p && len > SMALL_REQUEST ? prepare_buffer(p, buf, atomic_load(&ch->kept->passthrough) ? SMALL_REQUEST : len) : buf;
	size_t before = (size_t)(first - buf);

	if (before == 0)
		return read(fd, buf, len);
	const struct iovec iov[2] = {{p->front, before}, {first, len - before}};
	ssize_t n = readv(fd, iov, 2);
	if (n > 0)
		memcpy(buf, p->front, (size_t)n < before ? (size_t)n : before);
	return n;
}

static ssize_t feed_init(struct channel *ch, void *buf, size_t len)
{
	size_t n = ch->kept->init_len < len ? ch->kept->init_len : len;

	memcpy(buf, ch->kept->init, n);
	return (ssize_t)n;
}

static ssize_t channel_read(int fd, void *buf, size_t len, void *userdata)
{
	struct channel *ch = channel_of(userdata);
	struct kept_hand *hand = open_hand(ch);
	struct present *p = hand ? &ch->present[hand - ch->kept->hands] : NULL;
	ssize_t n = atomic_exchange(&ch->feed_init, false) ? feed_init(ch, buf, len) : read_request(ch, p, fd, buf, len);
	struct fuse_in_header *in = buf;

	if (n < (ssize_t)sizeof *in)
		return n;
	order_request(ch);
	fill_hand(hand, in);
	if (in->opcode == OPCODE_TMPFILE)
		in->opcode = FUSE_CREATE;
	else if (in->opcode == OPCODE_COPY_FILE_RANGE_64 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
		in->opcode = FUSE_COPY_FILE_RANGE;
	else if (in->opcode == FUSE_INIT)
		note_init(ch, in, (size_t)n);
	return n;
}

static bool says_passthrough(const struct iovec *body)
{
	const struct fuse_init_out *out = body->iov_base;

	return body->iov_len >= offsetof(struct fuse_init_out, flags2) + sizeof out->flags2 && (out->flags2 & (uint32_t)(BIT_PASSTHROUGH >> 32));
}

static void amend_init(const struct channel *ch, const struct iovec *iov, int count)
{
	struct fuse_init_out *out = count > 1 ? iov[1].iov_base : NULL;
	uint64_t add = atomic_load(&ch->offered) & WANTED;

	if (!out || iov[1].iov_len < offsetof(struct fuse_init_out, flags2) + sizeof out->flags2)
		return;
	if (atomic_load(&ch->passthrough)) {
		uint32_t depth = 1; /* the store's file system may not be a stacked one itself */
		memcpy((char *)out + MAX_STACK_DEPTH_OFFSET, &depth, sizeof depth);
		add |= BIT_PASSTHROUGH | FUSE_INIT_EXT;
	}
	out->flags |= (uint32_t)add;
	if (out->flags & FUSE_INIT_EXT)
		out->flags2 |= (uint32_t)(add >> 32);
}

/* Once in the life of a mount. ENOENT: a worker before this one had just sent it when it died. */
static ssize_t answer_init(struct channel *ch, int fd, const struct iovec *iov, int count)
{
	const struct fuse_out_header *out = iov[0].iov_base;

	if (atomic_load(&ch->kept->init_answered))
		return (ssize_t)out->len;
	atomic_store(&ch->kept->passthrough, atomic_load(&ch->passthrough) || (count > 1 && says_passthrough(&iov[1])));
	ssize_t n = send_reply(ch, fd, iov, count);
	if (n < 0 && errno == ENOENT)
		n = (ssize_t)out->len;
	if (n >= 0 && out->error == 0)
		atomic_store(&ch->kept->init_answered, 1);
	return n;
}

static ssize_t channel_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct channel *ch = channel_of(userdata);
	const struct fuse_out_header *out = iov[0].iov_base;
	bool is_init = out->unique != 0 && out->unique == atomic_load(&ch->init_unique); /* a notification's unique is 0 */

	if (out->unique == 0)
		return notices_send(ch->keep, iov, count);
	if (is_init && out->error == 0)
		amend_init(ch, iov, count);
	ssize_t n = is_init ? answer_init(ch, fd, iov, count) : send_reply(ch, fd, iov, count);
	if (is_init && n >= 0) {
		atomic_store(&ch->init_unique, 0);
		if (out->error == 0 && ch->ready)
			ch->ready(ch->ready_arg);
	}
	return n;
}

int channel_attach(struct channel *ch, struct fuse_session *se, int fd)
{
	/* No splice: a request in a pipe cannot be looked at, and replies by splice measured no faster than by writev. */
	static const struct fuse_custom_io io = {.read = channel_read, .writev = channel_writev};

	atomic_store(&ch->init_unique, 0);
	return fuse_session_custom_io(se, &io, fd);
}

void channel_feed_init(struct channel *ch)
{
	atomic_store(&ch->feed_init, true);
}

int channel_resend(struct channel *ch, int fd)
{
	struct fuse_out_header out = {.len = sizeof out, .error = NOTIFY_RESEND};

	return write(fd, &out, sizeof out) < 0 ? -errno : 0;
}

#define MINOR_PRUNE 45 /* of the protocol: Linux 6.18 */

bool channel_can_prune(const struct kept_session *k)
{
	const struct fuse_init_in *init = (const void *)((const struct fuse_in_header *)(const void *)k->init + 1);

	return k->init_len > 0 && init->major == FUSE_KERNEL_VERSION && init->minor >= MINOR_PRUNE;
}

bool channel_can_resend(const struct kept_session *k)
{
	const struct fuse_in_header *in = (const void *)k->init;
	const struct fuse_init_in *init = (const void *)(in + 1);

	return k->init_len >= sizeof *in + offsetof(struct fuse_init_in, flags2) + sizeof init->flags2 && (init->flags & FUSE_INIT_EXT) &&
	       (init->flags2 & (uint32_t)(BIT_HAS_RESEND >> 32));
}
