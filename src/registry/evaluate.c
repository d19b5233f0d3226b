/* Evaluations: what a committed version scored on a dataset, found after its commit. The version itself does not change. */
#include "registry.h"

#include <errno.h>
#include <string.h>

#define METRICS_MAX (1u << 20)

static int ignore_field(const char *name, const char *value, void *arg) { return 0; }

/* Read as the metrics of a metadata.json are. */
int evaluation_metrics_read(const char *text, size_t len, char **ret, struct fault *f)
{
	auto_buf struct buf whole = BUF_INIT(METRICS_MAX + 64);
	struct metadata md;
	struct fault why = FAULT_INIT;
	if (metadata_each_field(text, len, ignore_field, NULL, NULL) == -EINVAL) /* one object, and nothing behind it */
		return refuse(f, VERDICT_BAD_METADATA, "the metrics are no JSON object such as {\"rmse\": 9.8}");
	buf_puts(&whole, "{\"metrics\":");
	buf_add(&whole, text, len);
	int rc = buf_puts(&whole, "\n}");
	if (rc == -EFBIG)
		return refuse(f, VERDICT_BAD_METADATA, "the metrics are larger than %u bytes", METRICS_MAX);
	if (rc == 0)
		rc = metadata_parse(buf_text(&whole), whole.len, &md, &why);
	if (rc == -EINVAL || rc == -EFBIG)
		return refuse(f, VERDICT_BAD_METADATA, "the metrics are no JSON object such as {\"rmse\": 9.8}");
	if (rc != 0)
		return rc;
	if (md.n_metrics == 0)
		rc = refuse(f, VERDICT_BAD_METADATA, "the metrics hold no number: write an object such as {\"rmse\": 9.8}");
	else
		*ret = take_ptr(md.metrics_summary);
	metadata_release(&md);
	return rc;
}

/* ---- names ---- */

static bool is_blank(const char *name) { return name[strspn(name, " ")] == '\0'; }

static bool holds_command(const char *name)
{
	size_t left = strlen(name), n;
	for (; left > 0; name++, left--)
		if (utf8_command(name, left, &n))
			return true;
	return false;
}

static int check_name(const char *name, const char *value, void *arg)
{
	struct fault *f = arg;
	if (is_blank(name))
		return refuse(f, VERDICT_BAD_EVALUATION, "the metric with the value %.40s has %s", value, *name ? "a name of blanks only" : "no name");
	if (holds_command(name))
		return refuse(f, VERDICT_BAD_EVALUATION, "the name of the metric '%.40s' holds a control character (shown as '?')", name);
	if (strlen(name) >= CATALOG_NAME_MAX)
		return refuse(f, VERDICT_BAD_EVALUATION, "the name of the metric '%.40s...' is longer than %d bytes", name, CATALOG_NAME_MAX - 1);
	return 0;
}

/* By these names people compare. A metadata.json may have any: what a training wrote is not lost for a name, and an evaluation that is on record goes into bundles and out of them. */
static int check_names(const char *metrics, struct fault *f)
{
	int rc = metadata_each_field(metrics, strlen(metrics), check_name, f, NULL);
	if (rc == -EFBIG) /* so long that it is not even told */
		return refuse(f, VERDICT_BAD_EVALUATION, "the name of a metric is longer than %d bytes", CATALOG_NAME_MAX - 1);
	return rc;
}

/* ---- to record ---- */

struct evaluate_job { struct catalog_evaluation e; int64_t id; struct fault fault; };

/* ds: it is to be a dataset. */
static int check_version(struct catalog_conn *conn, int64_t id, bool ds, struct fault *f)
{
	struct catalog_version v;
	struct catalog_model m;
	int rc = catalog_version_get(conn, id, &v);
	if (rc == 0)
		rc = catalog_model_get(conn, v.model_id, &m);
	if (rc != 0)
		return rc;
	if (v.state != CATALOG_COMMITTED)
		return refuse(f, VERDICT_BAD_EVALUATION, "v%u of %s is %s: only committed versions are evaluated, on committed datasets", v.number, m.path, catalog_state_name(v.state));
	if (ds && m.mode != LAYOUT_DATASET)
		return refuse(f, VERDICT_BAD_EVALUATION, "%s is no dataset", m.path);
	if (!ds && (m.mode == LAYOUT_DATASET || m.mode == LAYOUT_PROCESS))
		return refuse(f, VERDICT_BAD_EVALUATION, "%s is no model", m.path);
	return 0;
}

static int evaluate_write(struct catalog_conn *conn, void *arg)
{
	struct evaluate_job *j = arg;
	j->fault = (struct fault)FAULT_INIT;
	int rc = check_version(conn, j->e.version_id, false, &j->fault);
	if (rc == 0)
		rc = check_version(conn, j->e.dataset_id, true, &j->fault);
	return rc == 0 ? catalog_evaluation_add(conn, &j->e, &j->id) : rc;
}

int registry_evaluate(struct registry *r, const struct registry_actor *who, int64_t version_id, int64_t dataset_id, const char *metrics, size_t len, int64_t *ret_id, struct fault *f)
{
	auto_free char *compact = NULL;
	char author[64];
	if (r->read_only)
		return refuse(f, VERDICT_READ_ONLY, "the store is opened read-only: nothing is recorded");
	int rc = evaluation_metrics_read(metrics, len, &compact, f);
	if (rc == 0)
		rc = check_names(compact, f);
	if (rc < 0)
		return refuse_system(f, rc, "the metrics cannot be read");
	caller_user_name(who->uid, author, sizeof author);
	struct evaluate_job j = {.e = {.version_id = version_id, .dataset_id = dataset_id, .at_ns = time_now_ns(), .uid = who->uid, .author = author, .metrics = compact}};
	rc = catalog_write(r->catalog, true, evaluate_write, &j);
	if (rc < 0 && f && j.fault.error)
		*f = j.fault;
	if (rc < 0)
		return refuse_system(f, rc, "the evaluation cannot be recorded");
	*ret_id = j.id;
	return 0;
}
