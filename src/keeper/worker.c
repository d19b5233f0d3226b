/* The worker's side: its heart, and what it tells the keeper. */
#include "shared.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define BEAT_NS (250 * 1000000L)
#define UPGRADE_STEP_NS (5 * 1000000L)
#define UPGRADE_LIMIT_NS (60 * NS_PER_SEC)

int keeper_pid(struct keep *keep) { return atomic_load(&shared_of(keep)->keeper); }
bool keeper_was_ready(struct keep *keep) { return atomic_load(&shared_of(keep)->ready) != 0; }

static bool is_dead(pid_t pid)
{
	char path[32], state = 0;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	auto_file FILE *f = fopen(path, "re");
	if (!f)
		return errno == ENOENT;
	return fscanf(f, "%*d (%*[^)]) %c", &state) == 1 && (state == 'Z' || state == 'X'); /* nobody may wait for it */
}

bool keeper_has_helper(struct keep *keep)
{
	return getppid() == keeper_pid(keep) || !is_dead(atomic_load(&shared_of(keep)->helper));
}

static void wake(struct keep *keep)
{
	if (getppid() == keeper_pid(keep))
		kill(keeper_pid(keep), SIGUSR1);
}

void keeper_ready(struct keep *keep)
{
	struct keeper_shared *s = shared_of(keep);

	atomic_store(&s->ready, 1);
	atomic_store(&s->ready_worker, (int32_t)getpid());
	wake(keep);
}

static void *beat_main(void *arg)
{
	struct keeper_shared *s = shared_of(arg);
	const struct timespec pause = {.tv_nsec = BEAT_NS};

	for (;;) {
		atomic_store(&s->beat_ns, time_monotonic_ns());
		nanosleep(&pause, NULL);
	}
	return NULL;
}

/* Signals are for other threads. It ends with the process. */
int keeper_beat(struct keep *keep)
{
	pthread_t t;
	sigset_t all, old;
	int r;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	r = pthread_create(&t, NULL, beat_main, keep);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r == 0)
		pthread_detach(t);
	return -r;
}

void keeper_restarts(struct keep *keep, char *out, size_t size)
{
	const struct keeper_shared *s = shared_of(keep);
	unsigned n = atomic_load(&s->restarts);
	char when[TIME_TEXT_MAX];

	if (n == 0) {
		snprintf(out, size, "0");
		return;
	}
	time_utc_text(atomic_load(&s->restarted_ns), when);
	snprintf(out, size, "%u, last %s (%s)", n, when, s->reason);
}

int keeper_upgrade(struct keep *keep, const char *program, bool again, struct fault *f)
{
	struct keeper_shared *s = shared_of(keep);
	const struct timespec pause = {.tv_nsec = UPGRADE_STEP_NS};
	int64_t end = time_monotonic_ns() + UPGRADE_LIMIT_NS;
	uint32_t state = atomic_load(&s->upgrade);

	if (!again) {
		if (state == UPGRADE_ASKED || state == UPGRADE_UNDER_WAY)
			return fault_set(f, EBUSY, "an upgrade is under way already");
		if (text_copy(s->program, sizeof s->program, program) < 0)
			return fault_set(f, ENAMETOOLONG, "the program's name is too long");
		atomic_store(&s->upgrade, UPGRADE_ASKED);
		wake(keep);
	}
	while ((state = atomic_load(&s->upgrade)) == UPGRADE_ASKED || state == UPGRADE_UNDER_WAY) {
		if (time_monotonic_ns() > end)
			return fault_set(f, ETIMEDOUT, "the drive's keeper does not answer");
		nanosleep(&pause, NULL);
	}
	if (state == UPGRADE_DONE)
		return 0;
	return fault_set(f, EPROTO, "%s", s->refusal[0] ? s->refusal : "the upgrade was not carried out");
}
