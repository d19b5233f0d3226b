/* Training a model anew: a version is minted on the drive, the command writes it, the version is committed, and its metrics decide whether it is adopted.
 *
 * The draft is minted by this very program, which holds it: so the end of the command does not end its run, and a program that dies leaves a draft that the next update
 * gives up. */
#include "plan.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static const struct process_training *training_of(const struct plan *pl, const struct step *s) { return process_spec_training(&pl->p.spec, s->c.name); }

bool training_adopted(const struct step *t) { return t->c.state == CATALOG_STEP_DONE; }

/* ---- the drive ---- */

/* The drive's own words, or those of errno. */
static void drive_words(const char *path, int error, char why[FAULT_TEXT_MAX])
{
	ssize_t n = getxattr(path, "user.mintfs.error", why, FAULT_TEXT_MAX - 1);
	if (n > 0)
		why[n] = '\0';
	else
		snprintf(why, FAULT_TEXT_MAX, "%s", strerror(error));
}

static int find_version(const struct plan *pl, int64_t model_id, uint32_t number, struct catalog_version *ret)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(pl->o->r, &conn);
	return rc < 0 ? rc : catalog_version_find(conn, model_id, number, ret);
}

/* Mints a version, as anybody does it. */
static int mint(const struct plan *pl, const struct step *s, struct catalog_version *ret, char why[FAULT_TEXT_MAX])
{
	char model[PATH_MAX], latest[PATH_MAX + 16], target[32] = "";
	uint32_t number = 0;
	int n = snprintf(model, sizeof model, "%s/%s", pl->o->mount, s->c.name);
	if (n < 0 || (size_t)n >= sizeof model)
		return -ENAMETOOLONG;
	snprintf(latest, sizeof latest, "%s/latest", model);
	if (mkdir(latest, 0755) < 0) {
		drive_words(model, errno, why);
		return -EINVAL;
	}
	ssize_t len = readlink(latest, target, sizeof target - 1);
	int rc = len > 0 && layout_classify_child(target, &number) == LAYOUT_CHILD_VERSION ? find_version(pl, s->model.model_id, number, ret) : -EIO;
	if (rc < 0 || ret->state != CATALOG_DRAFT) {
		snprintf(why, FAULT_TEXT_MAX, "%s does not lead to the version that was minted", latest);
		return -EINVAL;
	}
	return 0;
}

int training_give_up(const struct plan *pl, const struct catalog_version *v)
{
	char path[PATH_MAX];
	int rc = plan_version_path(pl, v, path, sizeof path);
	return rc < 0 ? rc : setxattr(path, "user.mintfs.discard", "force", 5, 0) < 0 ? -errno : 0;
}

static int commit(const struct plan *pl, const struct step *s, const struct catalog_version *v, char why[FAULT_TEXT_MAX])
{
	char path[PATH_MAX], message[CATALOG_PATH_MAX + 128];
	int rc = plan_version_path(pl, v, path, sizeof path);
	if (rc < 0)
		return rc;
	/* cppcheck-suppress invalidPrintfArgType_s; it takes one struct for another */
	snprintf(message, sizeof message, "trained by update %lld of %s, %s v%u", (long long)pl->run.id, pl->p.model.path, training_of(pl, s)->dataset, s->dataset.number);
	if (setxattr(path, "user.mintfs.commit", message, strlen(message), 0) == 0)
		return 0;
	drive_words(path, errno, why);
	return -EINVAL;
}

/* ---- conditions ---- */

static int metrics_of(const struct plan *pl, int64_t version_id, char **ret)
{
	struct catalog_version_text text = {0};
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(pl->o->r, &conn);
	if (rc == 0)
		rc = catalog_version_text(conn, version_id, &text);
	if (rc == 0)
		*ret = take_ptr(text.metrics_summary);
	catalog_version_text_release(&text);
	return rc;
}

static bool metric_value(const char *metrics, const char *name, double *ret)
{
	return metrics && process_score(metrics, strlen(metrics), name, ret, NULL) == 0;
}

/* false: why says which condition, with the numbers. */
static bool limit_holds(const struct process_limit *l, const char *metrics, char why[FAULT_TEXT_MAX])
{
	double value;
	if (!metric_value(metrics, l->metric, &value)) {
		snprintf(why, FAULT_TEXT_MAX, "it has no metric %s", l->metric);
		return false;
	}
	if (l->has_min && value < l->min)
		snprintf(why, FAULT_TEXT_MAX, "%s is %.6g, and at least %.6g is asked for", l->metric, value, l->min);
	else if (l->has_max && value > l->max)
		snprintf(why, FAULT_TEXT_MAX, "%s is %.6g, and at most %.6g is asked for", l->metric, value, l->max);
	else
		return true;
	return false;
}

static bool is_not_worse(const struct process_training *t, const char *metrics, const char *before, uint32_t number, char why[FAULT_TEXT_MAX])
{
	double now, then;
	if (!metric_value(metrics, t->not_worse, &now)) {
		snprintf(why, FAULT_TEXT_MAX, "it has no metric %s", t->not_worse);
		return false;
	}
	if (!metric_value(before, t->not_worse, &then))
		return true; /* there is nothing to be worse than */
	if (t->better == PROCESS_HIGHER ? now >= then : now <= then)
		return true;
	snprintf(why, FAULT_TEXT_MAX, "%s is %.6g, which is worse than %.6g of v%u", t->not_worse, now, then, number);
	return false;
}

static int judge(const struct plan *pl, struct step *s, bool *ret_adopt, char why[FAULT_TEXT_MAX])
{
	const struct process_training *t = training_of(pl, s);
	auto_free char *metrics = NULL;
	auto_free char *before = NULL;
	int rc = metrics_of(pl, s->c.model_id, &metrics);
	if (rc == 0)
		rc = metrics_of(pl, s->c.before_id, &before);
	if (rc < 0)
		return rc;
	*ret_adopt = true;
	for (unsigned i = 0; i < t->n_limits && *ret_adopt; i++)
		*ret_adopt = limit_holds(&t->limits[i], metrics, why);
	if (*ret_adopt && t->not_worse)
		*ret_adopt = is_not_worse(t, metrics, before, s->model.number, why);
	if (t->not_worse)
		metric_value(metrics, t->not_worse, &s->c.score);
	else if (t->n_limits)
		metric_value(metrics, t->limits[0].metric, &s->c.score);
	free(s->c.result); /* of before an interruption */
	s->c.result = take_ptr(metrics);
	return 0;
}

static int take_in(struct execution *x, struct step *s)
{
	char why[FAULT_TEXT_MAX] = "";
	bool adopt;
	int rc = judge(x->pl, s, &adopt, why);
	if (rc < 0)
		return rc;
	s->c.state = adopt ? CATALOG_STEP_DONE : CATALOG_STEP_NOT_ADOPTED;
	s->c.ended_ns = time_now_ns();
	rc = plan_set_text(&s->c.reason, adopt ? NULL : why);
	return rc == 0 ? plan_record(x->pl, s) : rc;
}

/* ---- one training ---- */

static int make_task(struct plan *pl, struct step *s, const struct catalog_version *draft, struct task **ret)
{
	char dataset[PATH_MAX], model[PATH_MAX], process[PATH_MAX], draft_dir[PATH_MAX], name[32];
	const char *const values[PLACES] = {[PLACE_DATASET] = dataset, [PLACE_MODEL] = model, [PLACE_PROCESS] = process, [PLACE_DRAFT] = draft_dir};
	int rc = plan_version_path(pl, &s->dataset, dataset, sizeof dataset);
	if (rc == 0)
		rc = plan_version_path(pl, &s->model, model, sizeof model);
	if (rc == 0)
		rc = plan_version_path(pl, &pl->p.version, process, sizeof process);
	if (rc == 0)
		rc = plan_version_path(pl, draft, draft_dir, sizeof draft_dir);
	if (rc < 0)
		return rc;
	snprintf(name, sizeof name, "train-%u", s->c.place);
	return plan_task(pl, name, &training_of(pl, s)->train, training_of(pl, s)->timeout_s, values, s, ret);
}

static struct task *next_training(void *arg)
{
	struct execution *x = arg;
	struct plan *pl = x->pl;
	for (unsigned i = 0; i < pl->n_trainings && x->error == 0; i++) {
		struct step *s = &pl->trainings[i];
		struct catalog_version draft;
		char why[FAULT_TEXT_MAX];
		struct task *t = NULL;
		if (!s->planned || s->c.state != CATALOG_STEP_WAITING)
			continue;
		int rc = mint(pl, s, &draft, why);
		if (rc == -EINVAL) {
			x->error = execution_fail(x, s, why);
			continue;
		}
		s->c.state = CATALOG_STEP_RUNNING;
		s->c.started_ns = time_now_ns();
		s->c.model_id = rc == 0 ? draft.id : 0;
		if (rc == 0)
			rc = plan_record(pl, s);
		if (rc == 0)
			rc = make_task(pl, s, &draft, &t);
		x->error = rc;
		return t;
	}
	return NULL;
}

static int draft_of(const struct plan *pl, const struct step *s, struct catalog_version *ret)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(pl->o->r, &conn);
	return rc < 0 ? rc : catalog_version_get(conn, s->c.model_id, ret);
}

static int training_ended(struct task *t, void *arg)
{
	struct execution *x = arg;
	struct step *s = t->owner;
	struct catalog_version draft;
	char why[FAULT_TEXT_MAX];
	bool failed;
	int rc = execution_ended(s, t, &failed, why);
	if (rc == 0)
		rc = draft_of(x->pl, s, &draft);
	if (rc == 0 && !failed)
		rc = commit(x->pl, s, &draft, why);
	if (rc == 0 && !failed)
		return take_in(x, s);
	if (rc < 0 && rc != -EINVAL)
		return rc;
	training_give_up(x->pl, &draft);
	return execution_fail(x, s, why);
}

/* What an earlier try left: a version that it committed counts, a draft does not, nor one that was retired since. */
static int take_up(struct execution *x, struct step *s)
{
	struct catalog_version v;
	if (!s->planned || s->c.state == CATALOG_STEP_WAITING)
		return 0;
	bool judged = s->c.state == CATALOG_STEP_DONE || s->c.state == CATALOG_STEP_NOT_ADOPTED;
	int rc = s->c.model_id ? draft_of(x->pl, s, &v) : -ENOENT;
	if (rc == 0 && v.state == CATALOG_COMMITTED)
		return judged ? 0 : take_in(x, s);
	if (rc == 0 && v.state == CATALOG_DRAFT)
		training_give_up(x->pl, &v);
	s->c.state = CATALOG_STEP_WAITING;
	s->c.model_id = 0;
	return rc == -ENOENT ? 0 : rc;
}

int trainings_execute(struct plan *pl)
{
	struct execution x = {.pl = pl};
	const struct task_source source = {next_training, training_ended, &x};
	int rc = 0;
	for (unsigned i = 0; i < pl->n_trainings && rc == 0; i++)
		rc = take_up(&x, &pl->trainings[i]);
	return rc < 0 ? rc : execution_run(&x, &source);
}
