/* The newest refusals, one sentence a node: what user.mintfs.error answers where nothing more lasting is known.
 *
 * A ring of fixed size: an older refusal gives way to a newer one. Entries 0 to used - 1 are valid, each node stands in one of them. */
#include "session.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <string.h>

#define QUIET_NS (10 * NS_PER_SEC) /* a sentence said again within this time is no news */

void errors_init(struct error_ring *e)
{
	pthread_mutex_init(&e->lock, NULL);
	e->used = e->next = 0;
	e->newest_ns = 0;
}

void errors_release(struct error_ring *e)
{
	pthread_mutex_destroy(&e->lock);
}

/* Under the lock. */
static struct error_kept *find(struct error_ring *e, fuse_ino_t ino)
{
	for (unsigned i = 0; i < e->used; i++) {
		if (e->kept[i].ino == ino)
			return &e->kept[i];
	}
	return NULL;
}

bool errors_keep(struct error_ring *e, fuse_ino_t ino, const char *text)
{
	SCOPED_LOCK(&e->lock);
	struct error_kept *k = find(e, ino);
	int64_t now = time_monotonic_ns();
	bool is_news = e->newest_ns == 0 || now - e->newest_ns > QUIET_NS || strcmp(e->newest, text) != 0;

	if (is_news) {
		e->newest_ns = now;
		strncpy(e->newest, text, sizeof e->newest - 1);
	}
	if (!k) {
		k = &e->kept[e->next];
		e->next = (e->next + 1) % ERRORS_KEPT;
		if (e->used < ERRORS_KEPT)
			e->used++;
	}
	k->ino = ino;
	strncpy(k->text, text, sizeof k->text - 1);
	k->text[sizeof k->text - 1] = '\0';
	return is_news;
}

void errors_drop(struct error_ring *e, fuse_ino_t ino)
{
	SCOPED_LOCK(&e->lock);
	struct error_kept *k = find(e, ino);

	if (k)
		k->ino = 0; /* the place is reused in its turn */
}

int errors_find(struct error_ring *e, fuse_ino_t ino, char out[FAULT_TEXT_MAX])
{
	SCOPED_LOCK(&e->lock);
	const struct error_kept *k = find(e, ino);

	if (!k)
		return -ENOENT;
	memcpy(out, k->text, sizeof k->text);
	return 0;
}
