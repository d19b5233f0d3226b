/* mintfs show: all that is known of a version, or of a model. */
#include "show.h"

#include <errno.h>
#include <limits.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a version ---- */

static void read_digest(struct showing *w, struct catalog_conn *conn, const struct catalog_version *v)
{
	struct blob_id digest;
	if (registry_version_digest(w->s->r, conn, v, &digest) == 0)
		blob_id_hex(&digest, w->digest);
}

static void read_drive_digest(struct showing *w)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof path, "%s/%s/v%u", w->s->mount, w->ref->model, w->ref->number);
	if (n < 0 || (size_t)n >= sizeof path || drive_attr(path, "digest", w->digest, sizeof w->digest) < 0)
		w->digest[0] = '\0';
}

static int add_input(struct showing *w, char *name, const char *how, bool unknown)
{
	struct input *grown = realloc(w->inputs, (w->n_inputs + 1) * sizeof *grown);
	if (grown)
		w->inputs = grown;
	char *own_how = strdup(how);
	if (!grown || !name || !own_how) {
		free(name);
		free(own_how);
		return -ENOMEM;
	}
	w->inputs[w->n_inputs++] = (struct input){name, own_how, unknown, false};
	return 0;
}

/* MODEL/vN; to be freed. */
static int version_name(const struct showing *w, int64_t version_id, char **ret)
{
	struct catalog_version v;
	auto_free struct catalog_model *m = calloc(1, sizeof *m);
	int rc = m ? catalog_version_get(w->conn, version_id, &v) : -ENOMEM;
	if (rc == 0)
		rc = catalog_model_get(w->conn, v.model_id, m);
	if (rc < 0)
		return rc;
	return asprintf(ret, "%s/v%u", m->path, v.number) < 0 ? -ENOMEM : 0;
}

static int add_edge(const struct catalog_edge *e, void *arg)
{
	struct showing *w = arg;
	char *name = NULL;
	int rc = version_name(w, e->version_id, &name);
	return rc < 0 ? rc : add_input(w, name, catalog_how_name(e->how), false);
}

/* Without its dataset. */
static int new_evaluation(struct showing *w, const struct catalog_evaluation *e, struct evaluation **ret)
{
	struct evaluation *grown = reallocarray(w->evaluations, w->n_evaluations + 1, sizeof *grown);
	if (!grown)
		return -ENOMEM;
	w->evaluations = grown;
	struct evaluation *x = &grown[w->n_evaluations++];
	*x = (struct evaluation){.metrics = strdup(e->metrics), .author = e->author ? strdup(e->author) : NULL, .at_ns = e->at_ns};
	*ret = x;
	return !x->metrics || (e->author && !x->author) ? -ENOMEM : 0;
}

static int add_evaluation(const struct catalog_evaluation *e, void *arg)
{
	struct showing *w = arg;
	struct evaluation *x;
	if (e->version_id != w->version_id)
		return 0; /* of another version, on this dataset */
	int rc = new_evaluation(w, e, &x);
	return rc < 0 ? rc : version_name(w, e->dataset_id, &x->dataset);
}

static int add_evaluation_elsewhere(const struct catalog_elsewhere *dataset, const struct catalog_evaluation *e, void *arg)
{
	struct evaluation *x;
	int rc = new_evaluation(arg, e, &x);
	if (rc < 0)
		return rc;
	x->elsewhere = true;
	return asprintf(&x->dataset, "%s/v%u", dataset->model, dataset->number) < 0 ? -ENOMEM : 0;
}

static int read_evaluations(struct showing *w, struct catalog_conn *conn, int64_t version_id)
{
	w->conn = conn;
	w->version_id = version_id;
	int rc = catalog_evaluation_list(conn, version_id, add_evaluation, w);
	return rc < 0 ? rc : catalog_elsewhere_evaluation_list(conn, version_id, add_evaluation_elsewhere, w);
}

static int add_elsewhere(const struct catalog_elsewhere *e, enum catalog_how how, void *arg)
{
	char *name = NULL;
	if (asprintf(&name, "%s/v%u", e->model, e->number) < 0)
		return -ENOMEM;
	int rc = add_input(arg, name, catalog_how_name(how), false);
	struct showing *w = arg;
	if (rc == 0)
		w->inputs[w->n_inputs - 1].elsewhere = true;
	return rc;
}

static int add_unknown(const char *text, const char *reason, void *arg) { return add_input(arg, strdup(text), reason, true); }

static int read_inputs(struct showing *w, struct catalog_conn *conn, int64_t version_id)
{
	w->conn = conn;
	int rc = catalog_lineage_list(conn, version_id, false, add_edge, w);
	if (rc == 0)
		rc = catalog_elsewhere_input_list(conn, version_id, add_elsewhere, w);
	return rc < 0 ? rc : catalog_input_unknown_list(conn, version_id, add_unknown, w);
}

static int show_read(const struct version_info *v, void *arg)
{
	struct showing *w = arg;
	struct catalog_conn *conn = NULL;
	int rc = 0;
	if (w->s->r && registry_read_begin(w->s->r, &conn) == 0) {
		w->has_run = catalog_run_get(conn, v->v.run_id, &w->run) == 0;
		catalog_about_get(conn, v->v.id, &w->about); /* there may be none */
		read_digest(w, conn, &v->v);
		w->has_retirement = catalog_retirement_get(conn, v->v.id, &w->retirement) == 0;
		rc = read_inputs(w, conn, v->v.id);
		if (rc == 0)
			rc = read_evaluations(w, conn, v->v.id);
	} else if (!w->s->r) {
		read_drive_digest(w);
	}
	catalog_read_end(conn);
	return rc < 0 ? rc : show_tell(w, v);
}

static int show_version(struct showing *w, struct fault *f)
{
	int rc = source_links(w->s, w->ref, &w->links, f);
	if (rc == 0 && w->ref->state != CATALOG_DISCARDED)
		rc = source_files(w->s, w->ref, &w->files, f);
	if (rc == 0)
		rc = source_version(w->s, w->ref, show_read, w, f);
	links_release(&w->links);
	files_release(&w->files);
	if (w->has_run)
		catalog_run_release(&w->run);
	catalog_about_release(&w->about);
	for (size_t i = 0; i < w->n_inputs; i++) {
		free(w->inputs[i].name);
		free(w->inputs[i].how);
	}
	free(w->inputs);
	for (size_t i = 0; i < w->n_evaluations; i++) {
		free(w->evaluations[i].dataset);
		free(w->evaluations[i].metrics);
		free(w->evaluations[i].author);
	}
	free(w->evaluations);
	if (w->has_retirement)
		catalog_retirement_release(&w->retirement);
	return rc;
}

/* ---- a file of a version ---- */

/* Leaves of the files of the version what lies in the directory at `path`; *ret is the entry of that path itself, owned by the caller. -ENOENT */
static int pick_file(struct files *files, const char *path, struct file_info *ret)
{
	size_t len = strlen(path), kept = 0;
	bool found = false;
	while (len > 0 && path[len - 1] == '/')
		len--;
	for (size_t i = 0; i < files->n; i++) {
		struct file_info *file = &files->v[i];
		bool below = !strncmp(file->path, path, len);
		if (below && file->path[len] == '/') {
			files->v[kept++] = *file;
		} else if (below && !file->path[len]) {
			*ret = *file;
			found = true;
		} else {
			free(file->path);
			free(file->target);
		}
	}
	files->n = kept;
	return found ? 0 : -ENOENT;
}

static int show_file(struct showing *w, struct fault *f)
{
	char label[CATALOG_PATH_MAX + 16];
	struct file_info file = {0};
	source_label(w->ref, label);
	int rc = w->ref->state == CATALOG_DISCARDED ? 0 : source_files(w->s, w->ref, &w->files, f);
	if (rc == 0 && (rc = pick_file(&w->files, w->ref->rest, &file)) < 0)
		fault_set(f, ENOENT, "%s has no file %s", label, w->ref->rest);
	else if (rc == 0)
		rc = show_tell_file(w, &file);
	free(file.path);
	free(file.target);
	files_release(&w->files);
	return rc < 0 ? fault_default(f, -rc, "%s in %s cannot be shown: %s", w->ref->rest, label, strerror(-rc)) : 0;
}

/* ---- a model ---- */

static void json_model(struct json_out *j, const struct model_info *m, const struct links *links)
{
	static const char *const modes[] = {[METADATA_BEST_UNKNOWN] = NULL, [METADATA_BEST_MIN] = "min", [METADATA_BEST_MAX] = "max"};
	json_object_begin(j);
	json_field_string(j, "model", m->path);
	json_field_string(j, "key", m->key);
	json_field_number(j, "newest", m->newest);
	json_field_number(j, "best", m->best);
	json_field_string(j, "best_metric", m->best_metric[0] ? m->best_metric : NULL);
	json_field_string(j, "best_mode", m->best_metric[0] ? modes[m->best_mode] : NULL);
	json_field_int(j, "versions", m->n_versions);
	json_field_int(j, "drafts", m->n_drafts);
	json_field_int(j, "size", (int64_t)m->size);
	json_field_time(j, "changed", m->changed_ns);
	json_field_links(j, links);
	json_object_end(j);
}

static int print_model(const struct showing *w, const struct model_info *m)
{
	char text[CATALOG_NAME_MAX + 64], size[HUMAN_MAX];
	auto_table struct table t = TABLE_INIT;
	table_facts(&t);
	table_fact(&t, "key", m->key);
	snprintf(text, sizeof text, "%u, %s", m->n_versions, human_size(m->size, size));
	table_fact(&t, "versions", text);
	snprintf(text, sizeof text, "%u", m->n_drafts);
	table_fact(&t, "open drafts", text);
	if (m->best_metric[0]) {
		snprintf(text, sizeof text, "by %s, %s", m->best_metric, m->best_mode == METADATA_BEST_MAX ? "the highest" : "the lowest");
		table_fact(&t, "best is", text);
	}
	for (size_t i = 0; i < w->links.n; i++) {
		snprintf(text, sizeof text, "%s -> v%u", w->links.v[i].name, w->links.v[i].number);
		table_cell(&t, STYLE_DIM, i ? "" : "links");
		table_cell(&t, STYLE_CYAN, text);
	}
	table_fact_time(&t, "last change", m->changed_ns);
	printf("%s", style_on(STYLE_BOLD, w->o->color));
	text_print(m->path);
	printf("%s\n", style_off(STYLE_BOLD, w->o->color));
	return table_print(&t, 2, w->o->color);
}

static int show_model(struct showing *w, struct fault *f)
{
	auto_free struct model_info *m = calloc(1, sizeof *m);
	int rc = m ? source_model(w->s, w->ref, m, f) : -ENOMEM;
	if (rc == 0)
		rc = source_links(w->s, w->ref, &w->links, f);
	if (rc == 0 && w->j)
		json_model(w->j, m, &w->links);
	else if (rc == 0)
		rc = print_model(w, m);
	links_release(&w->links);
	return rc < 0 ? fault_default(f, -rc, "%s cannot be shown: %s", w->ref->model, strerror(-rc)) : 0;
}

static int run(const struct command *self, int argc, char **argv)
{
	struct cmd_args a;
	struct source_ref ref;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, NULL, 0, 1, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	auto_source struct source *s = NULL;
	auto_buf struct buf b = BUF_INIT(1u << 30);
	struct json_out j;
	json_init(&j, &b, 2);
	if (source_find_ref(a.v[0], &a.o, false, NULL, &s, &ref, &f) < 0)
		return cmd_fail(self, &f);
	struct showing w = {.self = self, .o = &a.o, .s = s, .ref = &ref, .j = a.o.json ? &j : NULL};
	int rc = !ref.has_version ? show_model(&w, &f) : ref.rest[0] ? show_file(&w, &f) : show_version(&w, &f);
	if (rc < 0)
		return cmd_fail(self, &f);
	return a.o.json ? cmd_put_json(self, &b) : cmd_done(self);
}

const struct command cmd_show = {
	.name = "show",
	.args = "VERSION[/FILE]|MODEL",
	.summary = "tell all that is known of a version, a file of it, or a model",
	.help = "Of a version: state, times, author, message, the digest of its tree, what its metadata.json says (description, maintainer, source, labels,\n"
		"parameters, metrics), the versions it was made from, its evaluations, the run that made it (command, directory, git commit, host, times,\n"
		"exit), links, and its files with size and SHA-256, and which of them fsck found damaged. Of a retired one also when, by whom and why it was retired; of a draft why it did not commit.\n"
		"Of a file: size and SHA-256; of a directory what lies in it.\n"
		"Of a model: its numbers, links and what decides best.\n"
		"On a drive of somebody else's store, the owner stands for the author, and of the run only its name is known.\n"
		"\n" HELP_TARGET
		"\n" HELP_STORE HELP_JSON HELP_COLOR HELP_HELP "\n"
		"Example:  mintfs show product/P001_all/mlstm/best --store /srv/models.store\n",
	.run = run,
};
