/* A draft that was committed by hand, or discarded, while its run goes on: the end of the run is heard of still, and recorded. Of the draft nothing is kept, neither its lock nor
 * its tree; the processes are watched already. What the daemon had not heard by its own end stays unknown. */
#include "live.h"

#include <string.h>

static struct live *take_oldest(struct live_table *t)
{
	struct live *l = t->after;
	t->after = l->next_of_model;
	if (!t->after)
		t->after_tail = &t->after;
	t->n_after--;
	return l;
}

void live_after_begin(struct live_table *t, struct live *l)
{
	if (!t->watch || t->stopped || l->n_chain == 0 || live_run_over(l))
		return; /* its end is on record, or nobody can be watched */
	struct live *a = calloc(1, sizeof *a);
	if (!a)
		return;
	*a = (struct live){.refs = 1, .table = t, .version_id = l->version_id, .model_id = l->model_id, .run_id = l->run_id, .number = l->number, .uid = l->uid, .gid = l->gid,
		.lock_fd = -1, .n_chain = l->n_chain, .holder = l->holder, .holder_gone = l->holder_gone, .wrote_under = l->wrote_under, .chain_ended = l->chain_ended,
		.n_parts = l->n_parts, .cap_parts = l->cap_parts, .status = l->status, .recalled = l->recalled, .after = true};
	a->parts = take_ptr(l->parts);
	memcpy(a->chain, l->chain, sizeof a->chain);
	memcpy(a->chain_status, l->chain_status, sizeof a->chain_status);
	l->n_parts = l->cap_parts = 0;
	if (t->n_after == LIVE_AFTER_MAX) /* one process that commits without end: its last versions are told its end */
		live_put(take_oldest(t));
	*t->after_tail = a;
	t->after_tail = &a->next_of_model;
	t->n_after++;
}

void live_after_end(struct live_table *t, struct live *l)
{
	struct live **p = &t->after;
	while (*p && *p != l)
		p = &(*p)->next_of_model;
	if (!*p)
		return;
	*p = l->next_of_model;
	if (!*p)
		t->after_tail = p;
	t->n_after--;
	live_put(l);
}

void live_after_free(struct live_table *t)
{
	while (t->after)
		live_put(take_oldest(t));
}
