/* Threads for what may take long: a commit hashes, a discard removes a tree, an fsync waits for the disk. The threads that read requests hand such
 * a request over and go on; its job replies.
 *
 * Two pools, so that an fsync of one training never waits behind the commits of others. A job never touches the mount (nobody would serve it once the
 * session ends) and holds none of our locks while it waits. */
#include "session.h"

#include <errno.h>

#define LONG_THREADS 8
#define SYNC_THREADS 8

int pool_start(struct fs *fs)
{
	int r = workq_new(&(struct workq_options){.name = "mintfs-long", .threads = LONG_THREADS}, &fs->long_pool);

	if (r == 0)
		r = workq_new(&(struct workq_options){.name = "mintfs-sync", .threads = SYNC_THREADS}, &fs->sync_pool);
	if (r < 0)
		pool_stop(fs);
	return r;
}

void pool_stop(struct fs *fs)
{
	workq_free(fs->long_pool);
	workq_free(fs->sync_pool);
	fs->long_pool = fs->sync_pool = NULL;
}

int fs_pool_run(struct fs *fs, enum fs_pool which, void (*fn)(void *), void *arg)
{
	return workq_submit(which == FS_POOL_SYNC ? fs->sync_pool : fs->long_pool, fn, arg);
}
