/* The channel to the kernel, one step before libfuse: requests and replies that libfuse (3.12 to 3.16) has no words for.
 *
 *   FUSE_TMPFILE   is read as FUSE_CREATE of the name "/", which no other request can have: both have the same body (fs/fuse/dir.c,
 *                  fuse_create_open: struct fuse_create_in and the name, and the name of an unnamed file is "/").
 *   FUSE_INIT      features are added to the reply that libfuse leaves out, each only where the kernel offered it:
 *     PARALLEL_DIROPS       libfuse 3.14 takes the wish and forgets to tell it; without it, lookups in one directory wait for each other
 *     HANDLE_KILLPRIV_V2    else each write first asks for security.capability. It is right since no regular file of the drive ever
 *                           has a set-user-id or set-group-id bit (draft_check_mode refuses them) or capabilities (no such attributes)
 *     DIRECT_IO_ALLOW_MMAP  versions.json is read past the page cache, and may be mapped all the same
 *     PASSTHROUGH           where passthrough.c decided for it (libfuse before 3.17)
 *
 * A reader thread may be cancelled in read(2), libfuse ends its loop so: no lock is held there. */
#include "session.h"

#include <errno.h>
#include <linux/fuse.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* Names that older copies of linux/fuse.h lack. */
#define OPCODE_TMPFILE 51
#define BIT_DIRECT_IO_ALLOW_MMAP (1ULL << 36)
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

int channel_init(struct channel *ch, struct kept_session *kept)
{
	ch->kept = kept;
	return -pthread_key_create(&ch->hand, NULL);
}

void channel_release(struct channel *ch)
{
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
	}
	atomic_store(&h->unique, 0);
	atomic_store(&h->since_ns, 0);
	return h;
}

/* What it did of the request before is forgotten first: the unique says that the rest is about this one. */
static void fill_hand(struct kept_hand *h, const struct fuse_in_header *in)
{
	if (!h || in->opcode == FUSE_FORGET || in->opcode == FUSE_BATCH_FORGET || in->opcode == FUSE_INTERRUPT)
		return;
	atomic_store(&h->counted, 0);
	atomic_store(&h->moving, 0);
	h->once = (struct registry_once){0};
	atomic_store(&h->opcode, in->opcode);
	atomic_store(&h->resent, (in->unique & BIT_RESENT) != 0);
	atomic_store(&h->since_ns, time_monotonic_ns());
	atomic_store(&h->unique, in->unique & ~BIT_RESENT);
}

static void note_init(struct channel *ch, const struct fuse_in_header *in, size_t len)
{
	const struct fuse_init_in *init = (const void *)(in + 1);
	uint64_t offered = 0;

	if (len >= sizeof *in + offsetof(struct fuse_init_in, flags2))
		offered = init->flags;
	if ((offered & FUSE_INIT_EXT) && len >= sizeof *in + offsetof(struct fuse_init_in, flags2) + sizeof init->flags2)
		offered |= (uint64_t)init->flags2 << 32;
	atomic_store(&ch->offered, offered);
	atomic_store(&ch->init_unique, in->unique);
}

static ssize_t channel_read(int fd, void *buf, size_t len, void *userdata)
{
	struct channel *ch = channel_of(userdata);
	struct kept_hand *hand = open_hand(ch);
	ssize_t n = read(fd, buf, len);
	struct fuse_in_header *in = buf;

	if (n < (ssize_t)sizeof *in)
		return n;
	order_request(ch);
	fill_hand(hand, in);
	if (in->opcode == OPCODE_TMPFILE)
		in->opcode = FUSE_CREATE;
	else if (in->opcode == FUSE_INIT)
		note_init(ch, in, (size_t)n);
	return n;
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

static ssize_t channel_writev(int fd, struct iovec *iov, int count, void *userdata)
{
	struct channel *ch = channel_of(userdata);
	const struct fuse_out_header *out = iov[0].iov_base;
	bool is_init = out->unique != 0 && out->unique == atomic_load(&ch->init_unique); /* a notification's unique is 0 */

	if (is_init && out->error == 0)
		amend_init(ch, iov, count);
	ssize_t n = send_reply(ch, fd, iov, count);
	if (is_init && n >= 0) {
		atomic_store(&ch->init_unique, 0);
		if (out->error == 0 && ch->ready)
			ch->ready(ch->ready_arg);
	}
	return n;
}

int channel_attach(struct channel *ch, struct fuse_session *se)
{
	/* No splice: a request in a pipe cannot be looked at, and replies by splice measured no faster than by writev. */
	static const struct fuse_custom_io io = {.read = channel_read, .writev = channel_writev};

	atomic_store(&ch->init_unique, 0);
	return fuse_session_custom_io(se, &io, fuse_session_fd(se));
}
