/* How many descriptors the open files and listings of each user take. They are descriptors of this process, which has so many for all: one user who opens without end must
 * not shut the drive for the others. So each may have a quarter of them, but root and who mounted the drive. Drafts leave a part to others by themselves (registry, live.c),
 * and directories are known without a descriptor where these are few (draft_use.c); what is left of the whole then is at least an eighth.
 *
 * A share is counted by what an open costs, not by descriptors that exist: that of a node which is open twice is counted twice. What is open stands in records that tell
 * whose it is, so the next worker counts it again. */
#include "session.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <stdint.h>
#include <sys/resource.h>

#define SHARE 4 /* one part of so many */

int shares_init(struct shares *s)
{
	struct rlimit l = {.rlim_cur = 1024};

	getrlimit(RLIMIT_NOFILE, &l);
	s->each = (size_t)l.rlim_cur / SHARE;
	pthread_mutex_init(&s->lock, NULL);
	s->taken = map64_new();
	return s->taken ? 0 : -ENOMEM;
}

void shares_release(struct shares *s)
{
	map64_free(s->taken);
	pthread_mutex_destroy(&s->lock);
}

/* Under the lock. */
static size_t taken_by(const struct shares *s, uid_t uid)
{
	return (uintptr_t)map64_get(s->taken, uid); /* a number */
}

static int set_taken(struct shares *s, uid_t uid, size_t n)
{
	if (n > 0)
		return map64_put(s->taken, uid, (void *)(uintptr_t)n);
	map64_remove(s->taken, uid);
	return 0;
}

static bool is_limited(const struct fs *fs, uid_t uid)
{
	return uid != 0 && uid != fs->uid;
}

int share_take(struct call *c, unsigned n)
{
	struct shares *s = &c->fs->shares;
	uid_t uid = c->who.uid;
	size_t before;

	if (!is_limited(c->fs, uid))
		return 0;
	SCOPED_LOCK(&s->lock);
	before = taken_by(s, uid);
	if (before + n > s->each)
		return fault_set(&c->fault, EMFILE, "you have as many files open as one user may have on this drive: a quarter of its limit of open files");
	return set_taken(s, uid, before + n);
}

void share_again(struct fs *fs, uid_t uid, unsigned n)
{
	struct shares *s = &fs->shares;

	if (!is_limited(fs, uid))
		return;
	SCOPED_LOCK(&s->lock);
	set_taken(s, uid, taken_by(s, uid) + n); /* without memory it is not counted */
}

void share_give(struct fs *fs, uid_t uid, unsigned n)
{
	struct shares *s = &fs->shares;
	size_t before;

	if (!is_limited(fs, uid))
		return;
	SCOPED_LOCK(&s->lock);
	before = taken_by(s, uid);
	set_taken(s, uid, before > n ? before - n : 0);
}
