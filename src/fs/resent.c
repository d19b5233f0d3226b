/* Requests that come again: an earlier worker had read them and died before it answered (FUSE_NOTIFY_RESEND, Linux 6.9). It may have carried them out.
 *
 * The kernel holds the locks of the directories that a request names from before it is sent until it is answered, and nobody else writes in a draft that we serve. So
 * for most of them the state of the file system tells: a name that a resent MKDIR finds is the one it made, a name that a resent UNLINK misses is the one it
 * removed (each class says so where it meets the error). What cannot be seen there the thread that read the request had noted in its hand (kept.h): a mint, an
 * exchange of two names, a lookup that was counted for an answer which the kernel never got, an open file that nobody knows the handle of.
 *
 * What a hand held goes to `unfinished` when its worker is dead, before anything else happens: a second death then loses nothing. */
#include "session.h"

#include <string.h>

static struct kept_hand *find_unfinished(struct kept_session *k, uint64_t unique)
{
	for (uint32_t i = 0; i < KEPT_UNFINISHED; i++) {
		if (atomic_load(&k->unfinished[i].unique) == unique)
			return &k->unfinished[i];
	}
	return NULL;
}

/* from tells more than what is there already, or nothing: its thread may have died before it had looked here. */
static void merge_hand(struct kept_hand *to, const struct kept_hand *from)
{
	if (atomic_load(&from->counted))
		atomic_store(&to->counted, atomic_load(&from->counted));
	if (atomic_load(&from->moving))
		atomic_store(&to->moving, atomic_load(&from->moving));
	if (from->once.version_id)
		to->once = from->once;
	atomic_store(&to->unique, atomic_load(&from->unique));
}

static void empty_hand(struct kept_hand *h)
{
	atomic_store(&h->unique, 0);
	atomic_store(&h->counted, 0);
	atomic_store(&h->moving, 0);
	h->once = (struct registry_once){0};
}

unsigned resent_collect(struct kept_session *k)
{
	unsigned n = 0;

	for (unsigned i = 0; i < KEPT_HANDS; i++) {
		struct kept_hand *h = &k->hands[i];
		uint64_t unique = atomic_load(&h->unique);
		if (unique == 0)
			continue;
		struct kept_hand *u = find_unfinished(k, unique);
		if (!u) {
			u = &k->unfinished[k->next_unfinished % KEPT_UNFINISHED];
			k->next_unfinished++;
			empty_hand(u);
		}
		merge_hand(u, h);
		atomic_store(&h->unique, 0);
		atomic_store(&h->since_ns, 0);
		n++;
	}
	for (unsigned i = 0; i < KEPT_JOBS; i++) { /* what they were at comes again as a request */
		atomic_store(&k->jobs[i].since_ns, 0);
		atomic_store(&k->jobs[i].tid, 0);
	}
	return n;
}

void resent_begin(struct call *c)
{
	struct kept_hand *u = find_unfinished(c->fs->channel.kept, c->unique);
	uint64_t counted;

	open_drop_ghost(c->fs, c->unique);
	listings_drop_ghost(c->fs, c->unique);
	if (!u)
		return;
	c->hand->once = u->once;
	atomic_store(&c->hand->moving, atomic_load(&u->moving));
	counted = atomic_exchange(&u->counted, 0);
	if (counted)
		node_forget(c->fs, counted, 1);
}
