#include "plan.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int plan_set_text(char **to, const char *text)
{
	char *copy = text ? strdup(text) : NULL;
	if (text && !copy)
		return -ENOMEM;
	free(*to);
	*to = copy;
	return 0;
}

/* ---- opening and closing ---- */

static int make_nodes(struct plan *pl)
{
	const struct process_spec *s = &pl->p.spec;
	pl->nodes = calloc(s->n_nodes, sizeof *pl->nodes);
	if (!pl->nodes)
		return -ENOMEM;
	pl->n_nodes = s->n_nodes;
	for (unsigned i = 0; i < s->n_nodes; i++) {
		pl->nodes[i].c = (struct catalog_process_step){.kind = CATALOG_STEP_NODE, .place = i, .weight = s->nodes[i].weight, .score = NAN, .exit_status = -1};
		if (plan_set_text(&pl->nodes[i].c.name, s->nodes[i].name) < 0)
			return -ENOMEM;
	}
	return 0;
}

/* Its commands run with our rights, and whoever may commit a version of it writes them. */
static int check_trust(const struct plan *pl)
{
	const struct catalog_version *v = &pl->p.version;
	char owner[64];
	if (pl->o->trust || v->uid == 0 || v->uid == pl->o->me.uid)
		return 0;
	caller_user_name(v->uid, owner, sizeof owner);
	return fault_set(pl->f, EACCES, "v%u of %s was committed by %s, and its commands would run with your rights: say --trust if that is meant", v->number, pl->p.model.path, owner);
}

int plan_open(struct plan *pl, const struct process_options *o, const char *name, bool lock, struct fault *f)
{
	*pl = (struct plan){.o = o, .lock_fd = -1, .f = f};
	int rc = registry_process_load(o->r, name, &pl->p, f);
	if (rc == 0)
		rc = check_trust(pl);
	if (rc == 0 && lock)
		rc = registry_process_lock(o->r, &pl->p.model, &pl->lock_fd, f);
	return rc == 0 ? make_nodes(pl) : rc;
}

void plan_close(struct plan *pl)
{
	for (unsigned i = 0; i < pl->n_nodes; i++)
		catalog_process_step_release(&pl->nodes[i].c);
	for (unsigned i = 0; i < pl->n_trainings; i++)
		catalog_process_step_release(&pl->trainings[i].c);
	free(pl->nodes);
	free(pl->trainings);
	if (pl->scratch[0])
		sys_remove_tree(AT_FDCWD, pl->scratch);
	catalog_process_run_release(&pl->run);
	if (pl->lock_fd >= 0)
		close(pl->lock_fd);
	registry_process_release(&pl->p);
}

/* ---- the record ---- */

int plan_take_up(struct plan *pl)
{
	const char *tmp = getenv("TMPDIR");
	int n = snprintf(pl->scratch, sizeof pl->scratch, "%s/mintfs-process.XXXXXX", tmp && tmp[0] == '/' ? tmp : "/tmp");
	if (n < 0 || (size_t)n >= sizeof pl->scratch - (size_t)2 * PROCESS_NAME_MAX || !mkdtemp(pl->scratch)) {
		int error = errno;
		pl->scratch[0] = '\0';
		return fault_set(pl->f, error, "a scratch directory cannot be made in %s: %s", tmp ? tmp : "/tmp", strerror(error));
	}
	char results[PATH_MAX + 16];
	snprintf(results, sizeof results, "%s/results", pl->scratch);
	return mkdir(results, 0700) < 0 ? -errno : 0;
}

/* The run's texts point into host and author: they are copies of its own. */
static int describe_run(struct plan *pl)
{
	char host[256] = "", author[64];
	gethostname(host, sizeof host - 1);
	caller_user_name(pl->o->me.uid, author, sizeof author);
	int rc = plan_set_text(&pl->run.host, host);
	return rc == 0 ? plan_set_text(&pl->run.author, author) : rc;
}

int plan_begin(struct plan *pl, enum catalog_process_kind kind, enum catalog_process_state state, double sum_before)
{
	unsigned n = pl->n_trainings + pl->n_nodes;
	auto_free struct catalog_process_step *steps = calloc(n, sizeof *steps);
	pl->run = (struct catalog_process_run){.process_id = pl->p.model.id, .version_id = pl->p.version.id, .kind = kind, .state = state,
		.started_ns = time_now_ns(), .sum = NAN, .sum_before = sum_before};
	int rc = steps ? describe_run(pl) : -ENOMEM;
	for (unsigned i = 0; rc == 0 && i < n; i++)
		steps[i] = i < pl->n_trainings ? pl->trainings[i].c : pl->nodes[i - pl->n_trainings].c;
	if (rc == 0)
		rc = registry_process_begin(pl->o->r, &pl->run, steps, n, pl->f);
	pl->recorded = rc == 0;
	return rc;
}

int plan_recall(struct step *to, const struct catalog_process_step *c)
{
	char *name = to->c.name;
	catalog_process_step_release(&(struct catalog_process_step){.result = to->c.result, .output = to->c.output, .reason = to->c.reason});
	to->c = *c;
	to->c.name = name;
	to->c.result = to->c.output = to->c.reason = NULL;
	int rc = plan_set_text(&to->c.result, c->result);
	if (rc == 0)
		rc = plan_set_text(&to->c.output, c->output);
	return rc == 0 ? plan_set_text(&to->c.reason, c->reason) : rc;
}

void plan_tell(struct plan *pl, const struct step *s)
{
	if (pl->o->on_step)
		pl->o->on_step(&s->c, &pl->p, pl->o->arg);
}

int plan_record(struct plan *pl, struct step *s)
{
	int rc = registry_process_step(pl->o->r, pl->run.id, &s->c, pl->f);
	plan_tell(pl, s);
	return rc;
}

double plan_sum(const struct plan *pl)
{
	double sum = 0;
	for (unsigned i = 0; i < pl->n_nodes; i++)
		sum += pl->nodes[i].c.weight * pl->nodes[i].c.score;
	return sum;
}

int plan_finish(struct plan *pl, enum catalog_process_state state, const char *reason, const struct catalog_version *adopted, size_t n_adopted)
{
	auto_free struct catalog_process_binding *b = calloc(pl->n_nodes, sizeof *b);
	if (!b)
		return -ENOMEM;
	for (unsigned i = 0; i < pl->n_nodes; i++) {
		const struct catalog_process_step *c = &pl->nodes[i].c;
		b[i] = (struct catalog_process_binding){c->name, c->dataset_id, c->model_id, c->score, c->weight, c->result, pl->run.id};
	}
	pl->run.state = state;
	pl->run.sum = plan_sum(pl);
	pl->run.ended_ns = time_now_ns();
	if (plan_set_text(&pl->run.reason, reason) < 0)
		return -ENOMEM;
	const struct registry_process_end end = {.run = &pl->run, .bindings = b, .n_bindings = pl->n_nodes, .aliases = &pl->p.spec.aliases, .adopted = adopted,
		.n_adopted = n_adopted};
	return registry_process_finish(pl->o->r, &pl->o->me, &end, state == CATALOG_PROCESS_DONE ? pl->f : NULL);
}

/* ---- places ---- */

int plan_version_path(const struct plan *pl, const struct catalog_version *v, char *out, size_t size)
{
	struct catalog_model m;
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(pl->o->r, &conn);
	if (rc == 0)
		rc = catalog_model_get(conn, v->model_id, &m);
	if (rc < 0)
		return rc;
	int n = snprintf(out, size, "%s/%s/v%u", pl->o->mount, m.path, v->number);
	return n < 0 || (size_t)n >= size ? -ENAMETOOLONG : 0;
}

int plan_put_result(const struct plan *pl, const struct step *node)
{
	char path[PATH_MAX + PROCESS_NAME_MAX + 32];
	const char *text = node->c.result ? node->c.result : "{}";
	snprintf(path, sizeof path, "%s/results/%s.json", pl->scratch, node->c.name);
	int fd = sys_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return fd;
	int rc = sys_pwrite_full(fd, text, strlen(text), 0);
	int closed = sys_close(fd);
	return rc < 0 ? rc : closed;
}

static int fill_words(const struct plan *pl, struct task *t, const struct process_list *words, const char *const values[PLACES])
{
	t->argv = calloc((size_t)words->n + 1, sizeof *t->argv);
	if (!t->argv)
		return -ENOMEM;
	for (unsigned i = 0; i < words->n; i++) {
		auto_buf struct buf b = BUF_INIT(PROCESS_SIZE_MAX);
		int rc = process_word_fill(words->v[i], values, &b, NULL);
		if (rc < 0)
			return fault_set(pl->f, -rc, "the word \"%s\" of a command cannot be filled in: %s", words->v[i], strerror(-rc));
		t->argv[i] = b.len ? buf_take(&b) : strdup("");
		if (!t->argv[i])
			return -ENOMEM;
	}
	return 0;
}

int plan_task(const struct plan *pl, const char *name, const struct process_list *words, unsigned timeout_s, const char *const values[PLACES], void *owner, struct task **ret)
{
	struct task *t = task_new();
	if (!t)
		return -ENOMEM;
	int rc = fill_words(pl, t, words, values);
	if (rc == 0 && asprintf(&t->dir, "%s/%s", pl->scratch, name) < 0) {
		t->dir = NULL;
		rc = -ENOMEM;
	}
	if (rc == 0 && mkdir(t->dir, 0700) < 0)
		rc = fault_set(pl->f, errno, "the scratch directory %s cannot be made: %s", t->dir, strerror(errno));
	if (rc < 0) {
		task_free(t);
		return rc;
	}
	t->timeout_s = timeout_s;
	t->owner = owner;
	*ret = t;
	return 0;
}

/* ---- steps as tasks ---- */

int execution_fail(struct execution *x, struct step *s, const char *why)
{
	bool node = s->c.kind == CATALOG_STEP_NODE;
	s->c.state = CATALOG_STEP_FAILED;
	s->c.ended_ns = time_now_ns();
	if (x->failed++ == 0)
		fault_set(x->pl->f, EINVAL, "%s%s%s failed: %s", node ? "the node '" : "the training of ", s->c.name, node ? "'" : "", why);
	int rc = plan_set_text(&s->c.reason, why);
	return rc == 0 ? plan_record(x->pl, s) : rc;
}

int execution_ended(struct step *s, struct task *t, bool *ret_failed, char why[FAULT_TEXT_MAX])
{
	s->c.exit_status = t->start_error ? -1 : t->status;
	int rc = plan_set_text(&s->c.output, t->output.len ? buf_text(&t->output) : NULL);
	task_words(t, why, FAULT_TEXT_MAX);
	*ret_failed = t->start_error || t->timed_out || t->status != 0;
	task_free(t);
	return rc;
}

int execution_run(struct execution *x, const struct task_source *source)
{
	int rc = tasks_run(source, x->pl->o->jobs);
	if (rc == 0)
		rc = x->error;
	return rc == 0 && x->failed ? -EINVAL : rc;
}
