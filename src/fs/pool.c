/* Threads for what may take long: a commit hashes, a discard removes a tree, an fsync waits for the disk, a copy of 64 MiB reads and writes it. The threads that read requests
 * hand such a request over and go on; its job replies.
 *
 * Three pools, so that an fsync of one training never waits behind the commits and copies of others. In each of them a user has a share that leaves threads for others: commits of terabytes,
 * or a thousand commits that each wait a second for a file that stays open, are held up by each other only. A job never touches the mount (nobody would serve it once the
 * session ends) and holds none of our locks while it waits. */
#include "session.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <unistd.h>

#define LONG_THREADS 28
#define LONG_EACH 7
#define SYNC_THREADS 24
#define SYNC_EACH 6
#define RANGE_THREADS 12
#define RANGE_EACH 3
_Static_assert(LONG_THREADS + SYNC_THREADS + RANGE_THREADS <= KEPT_JOBS, "each of them can be watched");

int pool_start(struct fs *fs)
{
	int r = workq_new(&(struct workq_options){.name = "mintfs-long", .threads = LONG_THREADS, .each = LONG_EACH}, &fs->long_pool);

	if (r == 0)
		r = workq_new(&(struct workq_options){.name = "mintfs-sync", .threads = SYNC_THREADS, .each = SYNC_EACH}, &fs->sync_pool);
	if (r == 0)
		r = workq_new(&(struct workq_options){.name = "mintfs-range", .threads = RANGE_THREADS, .each = RANGE_EACH}, &fs->range_pool);
	if (r < 0)
		pool_stop(fs);
	return r;
}

void pool_stop(struct fs *fs)
{
	workq_free(fs->long_pool);
	workq_free(fs->sync_pool);
	workq_free(fs->range_pool);
	fs->long_pool = fs->sync_pool = fs->range_pool = NULL;
}

struct pool_job {
	struct kept_session *kept;
	uint32_t opcode;
	void (*fn)(void *);
	void *arg;
};

/* There is one for each thread of the pools. */
static struct kept_job *begin_job(struct kept_session *k, uint32_t opcode)
{
	for (unsigned i = 0; i < KEPT_JOBS; i++) {
		int32_t nobody = 0;
		if (!atomic_compare_exchange_strong(&k->jobs[i].tid, &nobody, gettid()))
			continue;
		atomic_store(&k->jobs[i].opcode, opcode);
		atomic_store(&k->jobs[i].since_ns, time_monotonic_ns());
		return &k->jobs[i];
	}
	return NULL;
}

static void run_job(void *arg)
{
	auto_free struct pool_job *j = arg;
	struct kept_job *at = begin_job(j->kept, j->opcode);

	j->fn(j->arg);
	if (at) {
		atomic_store(&at->since_ns, 0);
		atomic_store(&at->tid, 0);
	}
}

int fs_pool_run(struct fs *fs, enum fs_pool which, uid_t uid, void (*fn)(void *), void *arg)
{
	struct pool_job *j = malloc(sizeof *j);
	const struct kept_hand *hand = channel_hand(&fs->channel);
	int r;

	if (!j)
		return -ENOMEM;
	*j = (struct pool_job){.kept = fs->channel.kept, .opcode = hand ? atomic_load(&hand->opcode) : 0, .fn = fn, .arg = arg};
	r = workq_submit_for(which == FS_POOL_SYNC ? fs->sync_pool : which == FS_POOL_RANGE ? fs->range_pool : fs->long_pool, uid, run_job, j);
	if (r < 0)
		free(j);
	return r;
}
