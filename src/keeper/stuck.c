/* A worker that was killed and does not end: what for? Told by what the kernel says of its threads. */
#include "shared.h"

#include <mintfs/task.h>
#include <mintfs/util.h>
#include <string.h>

struct stuck {
	pid_t worker;
	char *place;  /* of the kernel, where a thread waits for something else than our connection; "": none does */
	bool lives;   /* one has not ended */
	bool for_us;  /* one waits for our connection */
	bool at_work; /* one has the processor, or would */
};

static bool see_stuck(const struct task *t, void *arg)
{
	struct stuck *s = arg;
	char place[KEEPER_PLACE_MAX];

	s->lives |= t->state != 'Z' && t->state != 'X';
	if (t->state == TASK_RUNS)
		s->at_work = true;
	if (t->state != TASK_DISK)
		return true;
	if (task_waits_in(s->worker, t->tid, place, sizeof place) < 0 || strcmp(place, "0") == 0)
		text_copy(place, sizeof place, "the kernel");
	if (strncmp(place, "fuse_", 5) == 0 || strncmp(place, "request_wait", 12) == 0)
		s->for_us = true;
	else
		text_copy(s->place, sizeof place, place);
	return true;
}

enum keeper_stuck keeper_stuck_in(pid_t worker, char place[KEEPER_PLACE_MAX])
{
	struct stuck s = {.worker = worker, .place = place};

	place[0] = '\0';
	task_each(worker, see_stuck, &s);
	if (!s.lives)
		return KEEPER_STUCK_NOT;
	if (s.for_us)
		return KEEPER_STUCK_FOR_US;
	if (place[0])
		return KEEPER_STUCK_DISK;
	return s.at_work ? KEEPER_STUCK_AT_WORK : KEEPER_STUCK_FOR_US; /* what cannot be seen was most often that */
}
