/* The life of a drive: made, mounted, served, unmounted.
 *
 * The signals that end it, if its keeper sends them, are blocked in the thread that calls fs_new, and so in all threads that are made from then on; only the
 * thread in fs_serve takes them, while it waits in libfuse's loop (which a signal taken by another thread would not wake).
 *
 * Ending, in this order: the loop; the notifier, while requests are still answered (it may wait in the kernel for a lock that a waiting process
 * holds); the pool, whose jobs reply; the mount; open files and nodes that the kernel never gave back. */
#include "session.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define LOOP_THREADS 16
#define MAX_WRITE (1U << 20)
#define MAX_READAHEAD (8U << 20) /* the kernel takes the least of this and what the device allows */
#define READAHEAD_KB 4096        /* of that device, where we may say it: 128 by default, which suits no model */
#define MAX_BACKGROUND 64        /* readahead and asynchronous requests under way */
#define STOP_POLL_MS 20

static void end_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
}

static int copy_text(const char *from, char **to)
{
	*to = strdup(from ? from : "");
	return *to ? 0 : -ENOMEM;
}

/* What goes by the daemon comes sooner if the kernel asks for more at a time. Measured here, cold by mmap: 256 MiB in 0.3 s instead of 0.5 to 1. Without root it stays
 * as it is. The statx asks nobody, so the mount may be our own. */
static void widen_readahead(const struct fs *fs)
{
	struct statx st;
	char path[64];

	if (statx(AT_FDCWD, fs->mountpoint, AT_STATX_DONT_SYNC, STATX_TYPE, &st) < 0)
		return;
	snprintf(path, sizeof path, "/sys/class/bdi/%u:%u/read_ahead_kb", st.stx_dev_major, st.stx_dev_minor);
	auto_file FILE *f = fopen(path, "we");
	if (f)
		fprintf(f, "%d\n", READAHEAD_KB);
}

/* The reply to INIT is written, and the kernel has acted on it. */
static void begin_serving(void *arg)
{
	struct fs *fs = arg;

	if (fs->resumed) /* fs_serve says so */
		return;
	if (!passthrough_enabled(&fs->passthrough, NULL, 0))
		widen_readahead(fs);
	if (fs->ready)
		fs->ready(fs->ready_arg);
}

/* Open files of trainers are open files here, and each open draft takes two: before the registry takes up those it finds. */
static void raise_file_limit(void)
{
	struct rlimit l;

	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		setrlimit(RLIMIT_NOFILE, &l);
	}
}

int fs_new(const struct fs_options *o, struct fs **ret, struct fault *f)
{
	struct fs *fs = calloc(1, sizeof *fs);
	sigset_t set;
	int r;

	if (!fs)
		return fault_set(f, ENOMEM, "cannot prepare the drive: out of memory");
	raise_file_limit();
	end_signals(&set);
	pthread_sigmask(SIG_BLOCK, &set, &fs->old_signals);
	fs_load_unwinder();
	fs->read_only = o->read_only;
	fs->allow_other = o->allow_other;
	fs->debug = o->debug;
	fs->log = o->log;
	fs->uid = getuid();
	fs->gid = getgid();
	fs->ready = o->ready;
	fs->ready_arg = o->ready_arg;
	fs->ask = o->ask;
	fs->upgrade = o->upgrade;
	fs->keeper = o->keeper;
	fs->has_helper = o->has_helper;
	fs->keeper_arg = o->keeper_arg;
	fs->channel.ready = begin_serving;
	fs->channel.ready_arg = fs;
	open_table_init(&fs->opens);
	passthrough_init(&fs->passthrough);
	fs->passthrough.switched_off = o->no_passthrough;
	errors_init(&fs->errors);
	versions_cache_init(&fs->versions);
	pthread_mutex_init(&fs->listings_lock, NULL);
	fs->listings = map64_new();
	fs->keep = o->keep;
	r = small_files_init(&fs->small);
	if (r == 0)
		r = shares_init(&fs->shares);
	if (r == 0)
		r = channel_init(&fs->channel, fs->keep);
	if (r == 0)
		r = fs->passthrough.routes && fs->listings ? copy_text(o->mountpoint, &fs->mountpoint) : -ENOMEM;
	if (r == 0)
		r = copy_text(o->fsname, &fs->fsname);
	if (r == 0)
		r = notify_new(fs, &fs->notify);
	if (r < 0) {
		fs_free(fs);
		return fault_set(f, -r, "cannot prepare the drive: %s", strerror(-r));
	}
	*ret = fs;
	return 0;
}

void fs_free(struct fs *fs)
{
	if (!fs)
		return;
	notify_free(fs->notify);
	small_files_release(&fs->small);
	shares_release(&fs->shares);
	versions_cache_release(&fs->versions);
	errors_release(&fs->errors);
	passthrough_release(&fs->passthrough);
	pthread_cond_destroy(&fs->opens.released);
	pthread_mutex_destroy(&fs->opens.lock);
	pthread_mutex_destroy(&fs->listings_lock);
	map64_free(fs->listings);
	channel_release(&fs->channel);
	free(fs->mountpoint);
	free(fs->fsname);
	pthread_sigmask(SIG_SETMASK, &fs->old_signals, NULL);
	free(fs);
}

void fs_registry_event(const struct registry_event *e, void *arg)
{
	struct fs *fs = arg;
	notify_version(fs->notify, e);
}

struct registry *fs_registry(struct fs *fs) { return fs->registry; }
bool fs_is_read_only(const struct fs *fs) { return fs->read_only || registry_read_only(fs->registry); }
struct draft_nodes *fs_draft_nodes(struct fs *fs) { return fs->draft_nodes; }

/* Wishes reached libfuse by other words before 3.17. */
static void want(struct fuse_conn_info *conn, unsigned cap, bool on)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	if (on)
		fuse_set_feature_flag(conn, cap);
	else
		fuse_unset_feature_flag(conn, cap);
#else
	if (on && (conn->capable & cap))
		conn->want |= cap;
	else
		conn->want &= ~cap;
#endif
}

/* Not wanted, and why:
 *   WRITEBACK_CACHE   it would switch passthrough off; and without passthrough: what was written would be lost if the daemon is killed, while the kernel
 *                     believes nobody else about size and times of a file it knows: not us of versions.json, not another mount of its draft
 *   CACHE_SYMLINKS    the target of `latest` depends on who asks
 *   EXPORT_SUPPORT    a draft's nodes cannot be found again once the kernel forgot them
 *   HANDLE_KILLPRIV   there is nothing to kill; see channel.c for its better successor
 *   DONT_MASK         the kernel's umask is right
 * Splice is not offered at all: see channel_attach. */
void op_init(void *userdata, struct fuse_conn_info *conn)
{
	struct fs *fs = userdata;
	const struct kept_session *k = fs->channel.kept;
	bool direct = passthrough_decide(&fs->passthrough, registry_store_dirfd(fs->registry), atomic_load(&fs->channel.offered) & BIT_PASSTHROUGH,
		!atomic_load(&k->init_answered) || atomic_load(&k->passthrough));

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	want(conn, FUSE_CAP_PASSTHROUGH, direct);
	conn->max_backing_stack_depth = 1;
#else
	atomic_store(&fs->channel.passthrough, direct);
#endif
	if (!fs->resumed)
		log_info(fs->log, "data path: %s%s", direct ? "passthrough" : "by the daemon: ", direct ? "" : fs->passthrough.reason);
	conn->max_write = MAX_WRITE;
	if (conn->max_readahead > MAX_READAHEAD)
		conn->max_readahead = MAX_READAHEAD;
	conn->max_background = MAX_BACKGROUND;
	conn->time_gran = 1;
	want(conn, FUSE_CAP_ASYNC_READ, true);
	want(conn, FUSE_CAP_ASYNC_DIO, true);
	want(conn, FUSE_CAP_ATOMIC_O_TRUNC, true);
	want(conn, FUSE_CAP_AUTO_INVAL_DATA, true); /* a draft that another mount serves changes behind this kernel's back */
	want(conn, FUSE_CAP_PARALLEL_DIROPS, true);
	want(conn, FUSE_CAP_READDIRPLUS, true);
	want(conn, FUSE_CAP_READDIRPLUS_AUTO, true);
	want(conn, FUSE_CAP_WRITEBACK_CACHE, false);
	want(conn, FUSE_CAP_CACHE_SYMLINKS, false);
	want(conn, FUSE_CAP_EXPORT_SUPPORT, false);
	want(conn, FUSE_CAP_HANDLE_KILLPRIV, false);
	want(conn, FUSE_CAP_DONT_MASK, false);
}

static int add_options(const struct fs *fs, struct fuse_args *args)
{
	auto_free char *opts = NULL;
	auto_free char *fsname = NULL;
	int bad;

	if (asprintf(&fsname, "fsname=%s", fs->fsname[0] ? fs->fsname : "mintfs") < 0) {
		fsname = NULL;
		return -ENOMEM;
	}
	bad = fuse_opt_add_opt_escaped(&opts, fsname) | fuse_opt_add_opt(&opts, "subtype=mintfs,default_permissions,nosuid,nodev");
	if (fs->allow_other)
		bad |= fuse_opt_add_opt(&opts, "allow_other");
	if (fs->read_only)
		bad |= fuse_opt_add_opt(&opts, "ro");
	bad |= fuse_opt_add_arg(args, "mintfs") | fuse_opt_add_arg(args, "-o") | fuse_opt_add_arg(args, opts);
	if (fs->debug)
		bad |= fuse_opt_add_arg(args, "-d");
	return bad ? -ENOMEM : 0;
}

static int make_session(struct fs *fs, struct fault *f)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int r = add_options(fs, &args);

	if (r == 0) {
		fs->session = fuse_session_new(&args, &fs_ops, sizeof fs_ops, fs);
		r = fs->session ? 0 : -EINVAL;
	}
	fuse_opt_free_args(&args);
	if (r < 0)
		return fault_set(f, -r, "cannot prepare a FUSE session: %s", strerror(-r));
	return 0;
}

/* libfuse gets a descriptor of its own: it closes it with the session, and the connection has to outlive that. */
static int attach(struct fs *fs, struct fault *f)
{
	int fd = fcntl(keep_fd(fs->keep, KEEP_FD_FUSE), F_DUPFD_CLOEXEC, 0);
	int r = fd < 0 ? -errno : channel_attach(&fs->channel, fs->session, fd);

	if (r < 0)
		return fault_set(f, -r, "cannot take over the channel to the kernel: %s", strerror(-r));
	return 0;
}

static int mount_session(struct fs *fs, struct fault *f)
{
	int r = make_session(fs, f);

	if (r < 0)
		return r;
	errno = 0;
	if (fuse_session_mount(fs->session, fs->mountpoint) != 0) {
		int error = errno != 0 ? errno : EIO;
		return fault_set(f, error, "cannot mount at %s: %s%s", fs->mountpoint, strerror(error),
			fs->allow_other && fs->uid != 0 ? " (allow_other needs user_allow_other in /etc/fuse.conf)" : "");
	}
	mountpoint_note(fs->keep, fs->mountpoint);
	keep_fd_set(fs->keep, KEEP_FD_FUSE, fuse_session_fd(fs->session));
	return attach(fs, f);
}

/* libfuse hears the kernel's INIT before threads read requests, for which it would not be ready. */
static int hear_init(struct fs *fs)
{
	struct fuse_buf buf = {0};

	channel_feed_init(&fs->channel);
	int r = fuse_session_receive_buf(fs->session, &buf);
	if (r > 0)
		fuse_session_process_buf(fs->session, &buf);
	free(buf.mem);
	return r > 0 ? 0 : r < 0 ? r : -EIO;
}

/* Takes over from a worker that died. Nobody else reads from the connection meanwhile, so what is sent again is exactly what that one left. */
static int resume_session(struct fs *fs, struct fault *f)
{
	const struct kept_session *k = fs->channel.kept;
	int64_t began = time_monotonic_ns();
	struct again_count n;
	int r = make_session(fs, f);

	if (r == 0)
		r = attach(fs, f);
	if (r < 0)
		return r;
	r = again_restore(fs, &n);
	if (r == 0 && k->init_len > 0)
		r = hear_init(fs);
	if (r == 0 && k->init_len > 0)
		r = channel_resend(&fs->channel, keep_fd(fs->keep, KEEP_FD_FUSE));
	if (r < 0)
		return fault_set(f, -r, "cannot take over the mount at %s: %s", fs->mountpoint, strerror(-r));
	log_info(fs->log, "took over %s in %lld ms: %u open files, %u listings, %u nodes of drafts, %u threads were at work", fs->mountpoint,
		(long long)((time_monotonic_ns() - began) / 1000000), n.opens, n.listings, n.nodes, n.requests);
	return 0;
}

/* What ends a drive by a signal is its keeper, who passes on what it was told, or is dead. Anybody else who sends one to a worker (a program that looks for memory asks the largest
 * process to end before it kills it; a terminal tells all it has started) means to be rid of a process, and the drive outlives those. */
static struct { pid_t keeper; void (*end)(int signal); } ending;

static void on_end(int signal, siginfo_t *info, void *context)
{
	(void)context;
	if (info->si_pid == ending.keeper || getppid() != ending.keeper)
		ending.end(signal);
}

/* libfuse's handler stays the one that ends its loop; what was ignored when the program was started (nohup) libfuse lets be, and so do we. */
static int hear_keeper_only(const struct fs *fs)
{
	static const int signals[] = {SIGTERM, SIGINT, SIGHUP};
	struct sigaction sa;

	ending.keeper = fs->keeper; /* not our parent of now: that one may be who took us when the keeper died, just begun */
	for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
		if (sigaction(signals[i], NULL, &sa) < 0)
			return -errno;
		if (sa.sa_handler == SIG_IGN || sa.sa_handler == SIG_DFL)
			continue;
		ending.end = sa.sa_handler;
		sa.sa_sigaction = on_end;
		sa.sa_flags |= SA_SIGINFO;
		if (sigaction(signals[i], &sa, NULL) < 0)
			return -errno;
	}
	return 0;
}

static int run_loop(struct fs *fs)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	sigset_t set;
	int r;

	if (!config)
		return -ENOMEM;
	fuse_loop_cfg_set_clone_fd(config, 0);
	fuse_loop_cfg_set_max_threads(config, LOOP_THREADS);
	fuse_loop_cfg_set_idle_threads(config, LOOP_THREADS); /* none ends for being idle: they come and go at a price */
	end_signals(&set);
	sys_crash_point("session.begin");
	if (fuse_set_signal_handlers(fs->session) != 0 || hear_keeper_only(fs) < 0) {
		fuse_loop_cfg_destroy(config);
		return -EIO;
	}
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	r = fuse_session_loop_mt(fs->session, config);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	fuse_remove_signal_handlers(fs->session);
	fuse_loop_cfg_destroy(config);
	if (r > 0)
		log_info(fs->log, "ending on signal %d", r);
	return r > 0 ? 0 : r;
}

/* A keeper that was killed has taken the helper with it: what that had not told stays untold, and the pipe shall not fill up. */
static bool told_all(struct fs *fs)
{
	bool helped = !fs->has_helper || fs->has_helper(fs->keeper_arg);

	if (!helped)
		notices_drop(fs->keep);
	return notify_stopped(fs->notify) && (!helped || notices_are_out(fs->keep));
}

/* Answers requests until the notifier is out of the kernel. */
static void stop_notify(struct fs *fs)
{
	struct fuse_buf buf = {0};

	notify_stop_begin(fs->notify);
	fuse_session_reset(fs->session);
	while (!told_all(fs)) {
		struct pollfd p = {.fd = fuse_session_fd(fs->session), .events = POLLIN};
		if (poll(&p, 1, STOP_POLL_MS) > 0 && (p.revents & POLLIN) && fuse_session_receive_buf(fs->session, &buf) > 0)
			fuse_session_process_buf(fs->session, &buf);
		else if (p.revents) /* the connection is gone */
			usleep(STOP_POLL_MS * 1000);
	}
	free(buf.mem);
	notify_stop_end(fs->notify);
}

/* Nothing of ours is mounted there any more: libfuse only frees what it remembers. It looks first whether its descriptor, whose number is free again, says POLLERR, and then
 * unmounts nothing (lib/mount.c, fuse_kern_unmount). The end of a pipe that nobody reads says so. */
static void forget_mount(struct fs *fs)
{
	int number = fuse_session_fd(fs->session), ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return; /* some bytes are not freed */
	if (ends[0] == number) { /* the writing end takes its place */
		ends[0] = dup(number);
		close(number);
	}
	if (ends[0] >= 0)
		close(ends[0]);
	if (ends[1] != number) {
		dup3(ends[1], number, O_CLOEXEC);
		close(ends[1]);
	}
	fuse_session_unmount(fs->session);
}

static void end_session(struct fs *fs)
{
	if (fs->session && !fs->resumed) { /* libfuse remembers what it has mounted */
		int fd = keep_fd(fs->keep, KEEP_FD_FUSE);
		keep_fd_set(fs->keep, KEEP_FD_FUSE, -1);
		if (fd >= 0)
			close(fd);
		if (mountpoint_is_ours(fs->keep, fs->mountpoint))
			fuse_session_unmount(fs->session);
		else
			forget_mount(fs);
	}
	if (fs->session)
		fuse_session_destroy(fs->session);
	if (fs->resumed)
		fs_unmount(fs->mountpoint, fs->keep, false);
	fs->session = NULL;
	if (fs->draft_nodes) {
		open_table_release(fs, &fs->opens);
		listings_release(fs);
		draft_nodes_free(fs->draft_nodes);
	}
	fs->draft_nodes = NULL;
	fs->registry = NULL;
}

int fs_serve(struct fs *fs, struct registry *reg, struct fault *f)
{
	int r;

	fs->registry = reg;
	r = draft_nodes_new(fs, &fs->draft_nodes);
	if (r < 0) {
		end_session(fs);
		return fault_set(f, -r, "cannot prepare the drive: %s", strerror(-r));
	}
	fs->resumed = keep_fd(fs->keep, KEEP_FD_FUSE) >= 0;
	r = fs->resumed ? resume_session(fs, f) : mount_session(fs, f);
	if (r == 0) {
		r = pool_start(fs);
		if (r == 0)
			r = notify_start(fs->notify);
		if (r == 0) {
			registry_begin(reg);
			if (fs->resumed && fs->ready)
				fs->ready(fs->ready_arg);
			r = run_loop(fs);
			registry_close_soon(reg);
		}
		if (r < 0)
			fault_set(f, -r, "serving %s: %s", fs->mountpoint, strerror(-r));
		stop_notify(fs);
		pool_stop(fs);
	}
	end_session(fs);
	return r;
}
