/* Tells the kernel what to forget after a commit, a discard or a retirement.
 *
 * The kernel takes the locks of directories for it, which a process may hold that waits for an answer of ours: so this has a queue and a thread of its own,
 * and nothing ever waits for it. What a request itself has done is told only after its answer (notify_hold): whoever asked holds such a lock until
 * then, and should the daemon be killed meanwhile, the two could wait for each other for ever, the thread in the kernel and the caller for its answer. It follows that a caller may see its old entries for a moment after a commit: for at most their short timeouts, and
 * what they lead to answers as committed. */
#include "draft_table.h"
#include "session.h"

#include <errno.h>
#include <linux/fuse.h>
#include <mintfs/cleanup.h>
#include <stdio.h>
#include <string.h>

struct item {
	struct item *next;
	struct registry_event event;
};

struct notify {
	struct fs *fs;
	pthread_t thread;
	pthread_mutex_t lock; /* the rest; never held while the kernel is told */
	pthread_cond_t work;
	struct item *head, *tail;
	struct notify_hold *holds; /* threads whose events wait */
	unsigned settling;         /* threads that look at the nodes of a version */
	bool started, stopping, stopped;
};

int notify_new(struct fs *fs, struct notify **ret)
{
	struct notify *n = calloc(1, sizeof *n);

	if (!n)
		return -ENOMEM;
	n->fs = fs;
	pthread_mutex_init(&n->lock, NULL);
	pthread_cond_init(&n->work, NULL);
	*ret = n;
	return 0;
}

/* -ENOENT: the kernel does not know the name, which is as good. */
static void forget_name(fuse_ino_t parent, const char *name, void *arg)
{
	struct fs *fs = arg;
	int r = fuse_lowlevel_notify_inval_entry(fs->session, parent, name, strlen(name));

	if (r < 0 && r != -ENOENT)
		log_debug(fs->log, "cannot invalidate %s in node %#llx: %s", name, (unsigned long long)parent, strerror(-r));
}

/* FUSE_NOTIFY_PRUNE of linux/fuse.h: the kernel drops what it caches of these nodes and nobody uses. One that does not know the notice drops it when it wants
 * the memory. */
#define NOTICE_PRUNE 9
#define PRUNE_MAX 100
struct prune {
	struct fs *fs;
	struct fuse_out_header head;
	struct { uint32_t count, padding; uint64_t spare; } what;
	uint64_t nodes[PRUNE_MAX];
};

static void prune_send(struct prune *p)
{
	size_t size = p->what.count * sizeof p->nodes[0];
	struct iovec iov[] = {{&p->head, sizeof p->head}, {&p->what, sizeof p->what}, {p->nodes, size}};

	p->head = (struct fuse_out_header){.len = (uint32_t)(sizeof p->head + sizeof p->what + size), .error = NOTICE_PRUNE};
	if (p->what.count > 0 && channel_can_prune(p->fs->channel.kept))
		notices_send(p->fs->keep, iov, 3);
	p->what.count = 0;
}

/* A directory that goes on: its attributes are others now, and unless somebody is in it the kernel need not know it. */
static void tell_twin(fuse_ino_t ino, void *arg)
{
	struct prune *p = arg;

	fuse_lowlevel_notify_inval_inode(p->fs->session, ino, -1, 0);
	if (p->what.count == PRUNE_MAX)
		prune_send(p);
	p->nodes[p->what.count++] = ino;
}

static void tell(struct fs *fs, const struct registry_event *e)
{
	struct prune prune = {.fs = fs};
	char name[16];

	draft_nodes_gone(fs->draft_nodes, e->version_id, forget_name, fs);
	fuse_lowlevel_notify_inval_inode(fs->session, node_make(NODE_VERSION, (uint64_t)e->version_id), -1, 0); /* -1: attributes only */
	draft_twins_each(fs->draft_nodes, e->version_id, tell_twin, &prune);
	prune_send(&prune);
	draft_twins_relieve(fs->draft_nodes, e->version_id, forget_name, fs);
	if (e->kind != REGISTRY_COMMITTED) { /* no name leads there any more */
		snprintf(name, sizeof name, "v%u", e->number);
		forget_name(layout_dir_node(fs, e->model_id), name, fs);
	}
}

static void *notify_main(void *arg)
{
	struct notify *n = arg;

	pthread_mutex_lock(&n->lock);
	for (;;) {
		while (!n->head && !n->stopping)
			pthread_cond_wait(&n->work, &n->lock);
		if (n->stopping)
			break;
		struct item *it = n->head;
		n->head = it->next;
		pthread_mutex_unlock(&n->lock);
		tell(n->fs, &it->event);
		free(it);
		pthread_mutex_lock(&n->lock);
	}
	n->stopped = true;
	pthread_mutex_unlock(&n->lock);
	return NULL;
}

/* The caller has blocked the signals that end the program; the thread inherits that. */
int notify_start(struct notify *n)
{
	SCOPED_LOCK(&n->lock);

	n->stopping = n->stopped = false;
	int r = pthread_create(&n->thread, NULL, notify_main, n);
	n->started = r == 0;
	return -r;
}

/* Under the lock. */
static void append(struct notify *n, struct item *it)
{
	if (n->head)
		n->tail->next = it;
	else
		n->head = it;
	n->tail = it;
	pthread_cond_signal(&n->work);
}

/* The hold of the calling thread. Under the lock. */
static struct notify_hold *find_hold(const struct notify *n)
{
	struct notify_hold *h = n->holds;

	while (h && !pthread_equal(h->thread, pthread_self()))
		h = h->next;
	return h;
}

void notify_hold_begin(struct notify *n, struct notify_hold *h)
{
	SCOPED_LOCK(&n->lock);

	*h = (struct notify_hold){.next = n->holds, .thread = pthread_self()};
	n->holds = h;
}

void notify_hold_end(struct notify *n, struct notify_hold *h)
{
	struct notify_hold **p = &n->holds;
	SCOPED_LOCK(&n->lock);

	while (*p != h)
		p = &(*p)->next;
	*p = h->next;
	while (h->first) {
		struct item *it = h->first;
		h->first = it->next;
		it->next = NULL;
		append(n, it);
	}
}

/* Before whoever commits removes the draft's tree, and before its answer. The nodes are there until the end of the session, which waits for this. */
static void settle_version(struct notify *n, int64_t version_id)
{
	struct catalog_conn *conn = NULL;
	{
		SCOPED_LOCK(&n->lock);
		if (!n->started || n->stopping)
			return;
		n->settling++;
	}
	if (draft_twins_has(n->fs->draft_nodes, version_id) && registry_read_begin(n->fs->registry, &conn) == 0)
		draft_twins_settle(n->fs->draft_nodes, conn, version_id);
	catalog_read_end(conn);
	SCOPED_LOCK(&n->lock);
	n->settling--;
}

void notify_version(struct notify *n, const struct registry_event *e)
{
	struct item *it;

	if (e->kind == REGISTRY_COMMITTED)
		settle_version(n, e->version_id);
	it = malloc(sizeof *it);

	if (!it) /* the timeouts of the entries will do */
		return;
	*it = (struct item){.event = *e};
	SCOPED_LOCK(&n->lock);
	if (!n->started || n->stopping) {
		free(it);
		return;
	}
	struct notify_hold *h = find_hold(n);
	if (h) {
		it->next = h->first;
		h->first = it;
	} else {
		append(n, it);
	}
}

void notify_stop_begin(struct notify *n)
{
	SCOPED_LOCK(&n->lock);

	n->stopping = true;
	pthread_cond_signal(&n->work);
}

bool notify_stopped(struct notify *n)
{
	SCOPED_LOCK(&n->lock);
	return (!n->started || n->stopped) && n->settling == 0;
}

void notify_stop_end(struct notify *n)
{
	bool started;
	{
		SCOPED_LOCK(&n->lock);
		started = n->started;
		n->started = false;
	}
	if (started)
		pthread_join(n->thread, NULL);
	while (n->head) {
		struct item *it = n->head;
		n->head = it->next;
		free(it);
	}
}

void notify_free(struct notify *n)
{
	if (!n)
		return;
	pthread_cond_destroy(&n->work);
	pthread_mutex_destroy(&n->lock);
	free(n);
}
