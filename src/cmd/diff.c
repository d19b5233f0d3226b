/* mintfs diff: two versions side by side: files, metrics, and the scalar fields of metadata.json. */
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <mintfs/sys.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum change { SAME, ADDED, REMOVED, CHANGED };
static const char *const change_names[] = {"same", "added", "removed", "changed"};
static const char *const change_marks[] = {"=", "+", "-", "~"};
static const enum style change_styles[] = {STYLE_DIM, STYLE_GREEN, STYLE_RED, STYLE_YELLOW};

/* One of the two. */
struct side {
	struct source_ref ref;
	struct files files;
	struct metrics metrics; /* of metadata.json */
	struct metrics fields;  /* its other scalar fields */
};

struct comparing {
	struct source *s;
	struct side a, b;
	bool all;
};

static void side_release(struct side *x)
{
	files_release(&x->files);
	metrics_release(&x->metrics);
	metrics_release(&x->fields);
}

/* ---- reading ---- */

static int sort_field(const char *name, const char *value, const char *json, void *arg)
{
	struct side *x = arg;
	bool metric = !strncmp(name, "metrics.", 8);
	return metric ? metrics_add(&x->metrics, name + 8, value, json) : metrics_add(&x->fields, name, value, json);
}

static int read_metadata(struct source *s, struct side *x, struct fault *f)
{
	char path[64];
	auto_close int fd = -1;
	auto_free char *text = NULL;
	size_t len;
	struct fault why = FAULT_INIT;
	int rc = source_content(s, &x->ref, "metadata.json", &fd, f);
	if (rc == -ENOENT && (!f->error || f->error == ENOENT)) {
		*f = (struct fault)FAULT_INIT;
		return 0;
	}
	if (rc < 0)
		return rc;
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	rc = sys_read_file(AT_FDCWD, path, METADATA_SIZE_MAX, &text, &len);
	if (rc == 0 && metadata_each_value(text, len, sort_field, x, &why) == -EINVAL) {
		fprintf(stderr, "mintfs diff: v%u: %s; its fields are left out\n", x->ref.number, why.text);
		return 0;
	}
	return rc;
}

static int read_side(struct source *s, struct side *x, struct fault *f)
{
	char label[CATALOG_PATH_MAX + 16];
	source_label(&x->ref, label);
	int rc = source_files(s, &x->ref, &x->files, f);
	if (rc == 0)
		rc = read_metadata(s, x, f);
	return rc < 0 ? fault_default(f, -rc, "%s cannot be read: %s", label, strerror(-rc)) : 0;
}

/* The content of a draft's file has no recorded name yet: hashed here, where sizes do not tell already. */
static int want_hash(struct source *s, const struct side *x, struct file_info *file, struct fault *f)
{
	struct blob_id id;
	uint64_t size;
	auto_close int fd = -1;
	if (file->sha256[0])
		return 0;
	int rc = source_content(s, &x->ref, file->path, &fd, f);
	if (rc == 0)
		rc = blob_hash_fd(fd, NULL, &id, &size);
	if (rc < 0)
		return fault_default(f, -rc, "%s of v%u cannot be read: %s", file->path, x->ref.number, strerror(-rc));
	blob_id_hex(&id, file->sha256);
	return 0;
}

static int compare_file(struct comparing *c, struct file_info *a, struct file_info *b, enum change *ret, struct fault *f)
{
	*ret = CHANGED;
	if (a->type != b->type || a->size != b->size)
		return 0;
	if (a->type == CATALOG_FILE) {
		int rc = want_hash(c->s, &c->a, a, f);
		if (rc == 0)
			rc = want_hash(c->s, &c->b, b, f);
		if (rc < 0)
			return rc;
		*ret = strcmp(a->sha256, b->sha256) != 0 ? CHANGED : SAME;
	} else {
		*ret = a->target && b->target && strcmp(a->target, b->target) != 0 ? CHANGED : SAME;
	}
	return 0;
}

/* Both lists are in order of path: one pass. a or b is NULL where the file is in the other only; one is that which there is. */
typedef int pair_fn(enum change change, const struct file_info *one, const struct file_info *a, const struct file_info *b, void *arg);

static int each_file(struct comparing *c, pair_fn *fn, void *arg, struct fault *f)
{
	size_t i = 0, k = 0;
	int rc = 0;
	while (rc == 0 && (i < c->a.files.n || k < c->b.files.n)) {
		bool in_a = i < c->a.files.n, in_b = k < c->b.files.n;
		struct file_info *a = in_a ? &c->a.files.v[i] : NULL, *b = in_b ? &c->b.files.v[k] : NULL;
		int order = !in_b ? -1 : !in_a ? 1 : strcmp(a->path, b->path);
		enum change change = order < 0 ? REMOVED : ADDED;
		if (order == 0)
			rc = compare_file(c, a, b, &change, f);
		i += order <= 0;
		k += order >= 0;
		if (rc == 0)
			rc = fn(change, order <= 0 ? a : b, order <= 0 ? a : NULL, order >= 0 ? b : NULL, arg);
	}
	return rc;
}

/* Names of either, those of a first, each with its value there, or NULL. */
typedef void value_fn(const char *name, const struct metric *a, const struct metric *b, void *arg);

static void each_value(const struct metrics *a, const struct metrics *b, value_fn *fn, void *arg)
{
	for (size_t i = 0; i < a->n; i++)
		fn(a->v[i].name, &a->v[i], metrics_find(b, a->v[i].name), arg);
	for (size_t i = 0; i < b->n; i++)
		if (!metrics_find(a, b->v[i].name))
			fn(b->v[i].name, NULL, &b->v[i], arg);
}

static bool difference(const struct metric *a, const struct metric *b, double *ret)
{
	char *end_a, *end_b;
	if (!a || !b)
		return false;
	double x = strtod(a->json, &end_a), y = strtod(b->json, &end_b);
	if (*end_a || *end_b || !isfinite(x) || !isfinite(y))
		return false;
	*ret = y - x;
	return true;
}

/* ---- JSON ---- */

static int json_file(enum change change, const struct file_info *one, const struct file_info *a, const struct file_info *b, void *arg)
{
	struct json_out *j = arg;
	json_object_begin(j);
	json_field_string(j, "path", one->path);
	json_field_string(j, "change", change_names[change]);
	json_key(j, "size_a");
	a ? json_int(j, (int64_t)a->size) : json_null(j);
	json_key(j, "size_b");
	b ? json_int(j, (int64_t)b->size) : json_null(j);
	json_field_string(j, "sha256_a", a && a->sha256[0] ? a->sha256 : NULL);
	json_field_string(j, "sha256_b", b && b->sha256[0] ? b->sha256 : NULL);
	json_object_end(j);
	return 0;
}

static void json_value(struct json_out *j, const char *name, const struct metric *a, const struct metric *b)
{
	json_field_string(j, "name", name);
	json_key(j, "a");
	json_raw(j, a ? a->json : "null");
	json_key(j, "b");
	json_raw(j, b ? b->json : "null");
}

static void json_metric(const char *name, const struct metric *a, const struct metric *b, void *arg)
{
	struct json_out *j = arg;
	double delta;
	json_object_begin(j);
	json_value(j, name, a, b);
	json_key(j, "delta");
	difference(a, b, &delta) ? json_real(j, delta) : json_null(j);
	json_object_end(j);
}

static void json_one_field(const char *name, const struct metric *a, const struct metric *b, void *arg)
{
	struct json_out *j = arg;
	json_object_begin(j);
	json_value(j, name, a, b);
	json_object_end(j);
}

static int print_json(struct comparing *c, struct json_out *j, struct fault *f)
{
	char label[CATALOG_PATH_MAX + 16];
	json_object_begin(j);
	source_label(&c->a.ref, label);
	json_field_string(j, "a", label);
	source_label(&c->b.ref, label);
	json_field_string(j, "b", label);
	json_key(j, "files");
	json_array_begin(j);
	int rc = each_file(c, json_file, j, f);
	json_array_end(j);
	json_key(j, "metrics");
	json_array_begin(j);
	each_value(&c->a.metrics, &c->b.metrics, json_metric, j);
	json_array_end(j);
	json_key(j, "fields");
	json_array_begin(j);
	each_value(&c->a.fields, &c->b.fields, json_one_field, j);
	json_array_end(j);
	json_object_end(j);
	return rc;
}

/* ---- words ---- */

struct printing { struct table t; bool all; unsigned counts[4]; char title_a[16], title_b[16]; };

static int file_row(enum change change, const struct file_info *one, const struct file_info *a, const struct file_info *b, void *arg)
{
	struct printing *p = arg;
	char size[HUMAN_MAX];
	if (one->type == CATALOG_DIRECTORY && change == SAME)
		return 0;
	p->counts[change]++;
	if (change == SAME && !p->all)
		return 0;
	table_cell(&p->t, change_styles[change], change_marks[change]);
	table_cellf(&p->t, STYLE_PLAIN, "%s%s", one->path, one->type == CATALOG_DIRECTORY ? "/" : "");
	table_cell(&p->t, STYLE_PLAIN, a && a->type == CATALOG_FILE ? human_size(a->size, size) : NULL);
	table_cell(&p->t, STYLE_PLAIN, b && b->type == CATALOG_FILE ? human_size(b->size, size) : NULL);
	if (change == CHANGED && a->size != b->size)
		table_cellf(&p->t, STYLE_DIM, "%s%s", a->size < b->size ? "+" : "-", human_size(a->size < b->size ? b->size - a->size : a->size - b->size, size));
	else
		table_cell(&p->t, STYLE_PLAIN, NULL);
	return 0;
}

static void metric_row(const char *name, const struct metric *a, const struct metric *b, void *arg)
{
	struct printing *p = arg;
	char text[HUMAN_MAX];
	double delta;
	table_cell(&p->t, STYLE_PLAIN, name);
	table_cell(&p->t, STYLE_PLAIN, a ? human_number(a->value, text) : "-");
	table_cell(&p->t, STYLE_PLAIN, b ? human_number(b->value, text) : "-");
	if (difference(a, b, &delta) && delta != 0)
		table_cellf(&p->t, STYLE_BOLD, "%+.4g", delta);
	else
		table_cell(&p->t, STYLE_PLAIN, NULL);
}

static void field_row(const char *name, const struct metric *a, const struct metric *b, void *arg)
{
	struct printing *p = arg;
	if (a && b && !strcmp(a->json, b->json) && !p->all)
		return;
	table_cell(&p->t, STYLE_PLAIN, name);
	table_cell(&p->t, STYLE_PLAIN, a ? a->value : "-");
	table_cell(&p->t, STYLE_PLAIN, b ? b->value : "-");
}

static void columns(struct printing *p, const char *first, bool marked, bool numbers)
{
	table_release(&p->t);
	if (marked)
		table_column(&p->t, "", false);
	table_column(&p->t, first, false);
	table_column(&p->t, p->title_a, numbers);
	table_column(&p->t, p->title_b, numbers);
	if (numbers)
		table_column(&p->t, "DELTA", true);
}

static void title(const struct comparing *c, const struct source_ref *ref, const char *other, char out[16])
{
	if (c->a.ref.number == c->b.ref.number) /* of two models */
		snprintf(out, 16, "%s", other);
	else
		snprintf(out, 16, "V%u", ref->number);
}

static int print_words(struct comparing *c, bool color, struct fault *f)
{
	struct printing p = {.t = TABLE_INIT, .all = c->all};
	char label[CATALOG_PATH_MAX + 16];
	title(c, &c->a.ref, "A", p.title_a);
	title(c, &c->b.ref, "B", p.title_b);
	source_label(&c->a.ref, label);
	text_print(label);
	source_label(&c->b.ref, label);
	printf(" and ");
	text_print(label);
	printf("\n\n");
	columns(&p, "FILE", true, true);
	int rc = each_file(c, file_row, &p, f);
	if (rc == 0)
		rc = table_print(&p.t, 2, color);
	if (rc == 0)
		printf("  %u same, %u changed, %u added, %u removed\n", p.counts[SAME], p.counts[CHANGED], p.counts[ADDED], p.counts[REMOVED]);
	columns(&p, "METRIC", false, true);
	each_value(&c->a.metrics, &c->b.metrics, metric_row, &p);
	if (rc == 0 && p.t.n_cells) {
		putchar('\n');
		rc = table_print(&p.t, 2, color);
	}
	columns(&p, "METADATA", false, false);
	each_value(&c->a.fields, &c->b.fields, field_row, &p);
	if (rc == 0 && p.t.n_cells) {
		putchar('\n');
		rc = table_print(&p.t, 2, color);
	}
	table_release(&p.t);
	return rc < 0 ? fault_default(f, -rc, "the comparison cannot be shown: %s", strerror(-rc)) : 0;
}

/* ---- the two arguments ---- */

static int want_version(struct source *s, const char *name, struct source_ref *ret, struct fault *f)
{
	int rc = source_resolve(s, name, ret, f);
	if (rc == 0 && !ret->has_version)
		return fault_set(f, EINVAL, "%s is a model: name two versions, such as %s/v1 and v2", name, ret->model);
	if (rc == 0 && ret->state == CATALOG_DISCARDED)
		return fault_set(f, ENOENT, "v%u of %s was discarded", ret->number, ret->model);
	return rc;
}

/* B may be said in short: the name of a child of A's model. */
static int find_second(struct source *s, const char *arg, const struct cmd_options *o, const struct source_ref *a, struct source_ref *ret, struct fault *f)
{
	struct cmd_target t;
	struct fault unused = FAULT_INIT;
	char name[CATALOG_PATH_MAX + LAYOUT_NAME_MAX + 2];
	if (!strchr(arg, '/') && strlen(arg) <= LAYOUT_NAME_MAX) {
		snprintf(name, sizeof name, "%s/%s", a->model, arg);
		if (want_version(s, name, ret, &unused) == 0)
			return 0;
	}
	int rc = cmd_find_target(arg, o, &t, f);
	if (rc == 0 && t.store[0] && strcmp(t.store, s->store) != 0)
		return fault_set(f, EXDEV, "the two versions lie in different stores, %s and %s", s->store, t.store);
	return rc < 0 ? rc : want_version(s, t.name, ret, f);
}

static int run(const struct command *self, int argc, char **argv)
{
	bool all = false;
	const struct cmd_flag flags[] = {{"all", 'a', &all, NULL}};
	struct cmd_args a;
	struct cmd_target t;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, flags, 1, 2, 2, &a);
	if (code != CMD_GO_ON)
		return code;
	auto_source struct source *s = NULL;
	auto_buf struct buf b = BUF_INIT(1u << 30);
	struct json_out j;
	auto_free struct comparing *c = calloc(1, sizeof *c);
	json_init(&j, &b, 2);
	int rc = c ? cmd_find_target(a.v[0], &a.o, &t, &f) : -ENOMEM;
	if (rc == 0)
		rc = source_open(&t, false, &s, &f);
	if (rc != 0)
		return cmd_fail(self, &f);
	c->s = s;
	c->all = all;
	rc = want_version(s, t.name, &c->a.ref, &f);
	if (rc == 0)
		rc = find_second(s, a.v[1], &a.o, &c->a.ref, &c->b.ref, &f);
	if (rc == 0)
		rc = read_side(s, &c->a, &f);
	if (rc == 0)
		rc = read_side(s, &c->b, &f);
	if (rc == 0)
		rc = a.o.json ? print_json(c, &j, &f) : print_words(c, a.o.color, &f);
	side_release(&c->a);
	side_release(&c->b);
	if (rc < 0)
		return cmd_fail(self, &f);
	return a.o.json ? cmd_put_json(self, &b) : cmd_done(self);
}

const struct command cmd_diff = {
	.name = "diff",
	.args = "VERSION VERSION [--all]",
	.summary = "compare two versions: files, sizes, metrics, metadata",
	.help = "Files by content (= same, ~ changed, + added, - removed) with their sizes; metrics side by side; and the scalar fields of metadata.json that differ.\n"
		"The second version may be said in short: v2, best, production. Drafts can be compared too; their files are hashed for it where sizes are equal.\n"
		"\n" HELP_TARGET
		"\n"
		"  -a, --all          also files and fields that are the same\n" HELP_STORE HELP_JSON HELP_COLOR HELP_HELP "\n"
		"Example:  mintfs diff /mnt/models/product/P001_all/mlstm/v1 v2\n",
	.run = run,
};
