/* process.json into a struct: fields and their types. What must hold between them is checked by process_check.c. */
#include "process.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <string.h>

/* ---- lists ---- */

static int grow(void **v, unsigned n, size_t size)
{
	if (n & (n - 1)) /* room is made at 0, 1, 2, 4 … */
		return 0;
	void *grown = reallocarray(*v, n ? 2 * (size_t)n : 1, size);
	if (!grown)
		return -ENOMEM;
	*v = grown;
	return 0;
}

static int no_memory(const struct document *d) { return fault_set(d->f, ENOMEM, "%s: not enough memory", d->name); }

static int add_text(const struct document *d, const char *key, const struct scan_token *value, void *arg)
{
	struct process_list *l = arg;
	auto_free char *text = NULL;
	int rc = document_text(d, key, value, &text);
	if (rc < 0)
		return rc;
	if (grow((void **)&l->v, l->n, sizeof *l->v) < 0)
		return no_memory(d);
	l->v[l->n++] = take_ptr(text);
	return 0;
}

/* A word of a command may be empty, as in `sh -c ''`. */
static int add_word(const struct document *d, const char *key, const struct scan_token *value, void *arg)
{
	struct process_list *l = arg;
	if (value->kind != SCAN_STRING || value->end - value->start > 2)
		return add_text(d, key, value, arg);
	if (grow((void **)&l->v, l->n, sizeof *l->v) < 0 || !(l->v[l->n] = strdup("")))
		return no_memory(d);
	l->n++;
	return 0;
}

static int read_list(const struct document *d, const char *key, const struct scan_token *value, void *to)
{
	return document_array(d, key, value, PROCESS_LIST_MAX, add_text, to);
}

static int read_words(const struct document *d, const char *key, const struct scan_token *value, void *to)
{
	struct process_list *l = to;
	if (value->kind == SCAN_STRING)
		return document_refuse(d, value->start, "\"%s\" must be an array of words, [\"python3\", \"train.py\", …]: no shell reads it", key);
	int rc = document_array(d, key, value, PROCESS_LIST_MAX, add_word, l);
	return rc == 0 && (l->n == 0 || !l->v[0][0]) ? document_refuse(d, value->start, "\"%s\" holds no command", key) : rc;
}

static int read_text(const struct document *d, const char *key, const struct scan_token *value, void *to) { return document_text(d, key, value, to); }

static int read_timeout(const struct document *d, const char *key, const struct scan_token *value, void *to)
{
	double seconds = 0;
	int rc = document_number(d, key, value, &seconds);
	if (rc < 0)
		return rc;
	if (seconds < 1 || seconds > PROCESS_TIMEOUT_MAX || seconds != (unsigned)seconds)
		return document_refuse(d, value->start, "\"%s\" is a whole number of seconds from 1 to %d", key, PROCESS_TIMEOUT_MAX);
	*(unsigned *)to = (unsigned)seconds;
	return 0;
}

/* ---- nodes ---- */

static const struct field SELECTOR[] = {
	{"name", read_text, offsetof(struct process_selector, name), true},
	{"where", read_list, offsetof(struct process_selector, where), false},
};

/* A name alone, or {"name": …, "where": […]}. */
static int read_selector(const struct document *d, const char *key, const struct scan_token *value, void *to)
{
	struct process_selector *s = to;
	char what[64];
	s->line = document_line(d, value->start);
	if (value->kind == SCAN_STRING)
		return document_text(d, key, value, &s->name);
	if (value->kind != SCAN_OBJECT)
		return document_refuse(d, value->start, "\"%s\" must be a name, or {\"name\": …, \"where\": [conditions]}", key);
	snprintf(what, sizeof what, "\"%s\"", key);
	return document_object(d, what, value, SELECTOR, ARRAY_SIZE(SELECTOR), s);
}

static int read_weight(const struct document *d, const char *key, const struct scan_token *value, void *to)
{
	int rc = document_number(d, key, value, to);
	if (rc == 0 && !(*(double *)to >= 0 && *(double *)to <= 1))
		return document_refuse(d, value->start, "\"%s\" is a share from 0 to 1, such as 0.25", key);
	return rc;
}

static const struct field NODE[] = {
	{"name", read_text, offsetof(struct draft_node, node.name), true},
	{"after", read_list, offsetof(struct draft_node, after), false},
	{"dataset", read_selector, offsetof(struct draft_node, node.dataset), true},
	{"model", read_selector, offsetof(struct draft_node, node.model), true},
	{"run", read_words, offsetof(struct draft_node, node.run), true},
	{"score", read_text, offsetof(struct draft_node, node.score), true},
	{"weight", read_weight, offsetof(struct draft_node, node.weight), true},
	{"timeout", read_timeout, offsetof(struct draft_node, node.timeout_s), false},
};

static int add_node(const struct document *d, const char *key, const struct scan_token *value, void *arg)
{
	struct draft_spec *s = arg;
	if (grow((void **)&s->nodes, s->n_nodes, sizeof *s->nodes) < 0)
		return no_memory(d);
	struct draft_node *n = &s->nodes[s->n_nodes++];
	*n = (struct draft_node){.node = {.timeout_s = PROCESS_TIMEOUT_DEFAULT, .line = document_line(d, value->start)}, .pos = value->start};
	return document_object(d, "a node", value, NODE, ARRAY_SIZE(NODE), n);
}

static int read_nodes(const struct document *d, const char *key, const struct scan_token *value, void *to)
{
	struct draft_spec *s = to;
	int rc = document_array(d, key, value, PROCESS_NODES_MAX, add_node, s);
	return rc == 0 && s->n_nodes == 0 ? document_refuse(d, value->start, "a process needs at least one node") : rc;
}

/* ---- models ---- */

static int read_bound(const struct document *d, const char *key, const struct scan_token *value, void *to)
{
	struct process_limit *l = to;
	bool is_min = key[1] == 'i';
	int rc = document_number(d, key, value, is_min ? &l->min : &l->max);
	*(is_min ? &l->has_min : &l->has_max) = true;
	return rc;
}

static const struct field LIMIT[] = {
	{"min", read_bound, 0, false},
	{"max", read_bound, 0, false},
};

static int add_limit(const struct document *d, const char *key, const struct scan_token *value, void *to)
{
	struct process_training *t = to;
	char what[PROCESS_NAME_MAX];
	if (t->n_limits == PROCESS_LIST_MAX)
		return document_refuse(d, value->start, "more than %d metrics are asked for", PROCESS_LIST_MAX);
	if (grow((void **)&t->limits, t->n_limits, sizeof *t->limits) < 0)
		return no_memory(d);
	struct process_limit *l = &t->limits[t->n_limits++];
	*l = (struct process_limit){.metric = strdup(key)};
	if (!l->metric)
		return no_memory(d);
	snprintf(what, sizeof what, "the metric \"%s\"", key);
	int rc = document_object(d, what, value, LIMIT, ARRAY_SIZE(LIMIT), l);
	return rc == 0 && !l->has_min && !l->has_max ? document_refuse(d, value->start, "%s needs \"min\" or \"max\"", what) : rc;
}

static int read_limits(const struct document *d, const char *key, const struct scan_token *value, void *to)
{
	static const struct field any[] = {{NULL, add_limit, 0, false}};
	return document_object(d, "\"metrics\"", value, any, 1, to);
}

static int read_mode(const struct document *d, const char *key, const struct scan_token *value, void *to)
{
	if (value->kind != SCAN_STRING || !(scan_is(d->text, value, "min") || scan_is(d->text, value, "max")))
		return document_refuse(d, value->start, "\"%s\" is \"min\" (lower is better) or \"max\" (higher is better)", key);
	*(enum process_better *)to = scan_is(d->text, value, "min") ? PROCESS_LOWER : PROCESS_HIGHER;
	return 0;
}

static const struct field NOT_WORSE[] = {
	{"metric", read_text, offsetof(struct process_training, not_worse), true},
	{"mode", read_mode, offsetof(struct process_training, better), false},
};

/* A metric's name alone, or {"metric": …, "mode": "min"|"max"}. */
static int read_not_worse(const struct document *d, const char *key, const struct scan_token *value, void *to)
{
	struct process_training *t = to;
	int rc = value->kind == SCAN_STRING ? document_text(d, key, value, &t->not_worse)
		: document_object(d, "\"not_worse\"", value, NOT_WORSE, ARRAY_SIZE(NOT_WORSE), t);
	if (rc < 0 || t->better != PROCESS_ANY)
		return rc;
	enum metadata_best_mode mode = metadata_mode_of(t->not_worse);
	if (mode == METADATA_BEST_UNKNOWN)
		return document_refuse(d, value->start, "whether a higher \"%s\" is better is not known: say {\"metric\": \"%s\", \"mode\": \"min\" or \"max\"}", t->not_worse, t->not_worse);
	t->better = mode == METADATA_BEST_MIN ? PROCESS_LOWER : PROCESS_HIGHER;
	return 0;
}

static const struct field ACCEPT_MODEL[] = {
	{"metrics", read_limits, 0, false},
	{"not_worse", read_not_worse, 0, false},
};

static int read_accept_model(const struct document *d, const char *key, const struct scan_token *value, void *to)
{
	return document_object(d, "\"accept\"", value, ACCEPT_MODEL, ARRAY_SIZE(ACCEPT_MODEL), to);
}

static const struct field TRAINING[] = {
	{"dataset", read_text, offsetof(struct process_training, dataset), false},
	{"train", read_words, offsetof(struct process_training, train), false},
	{"timeout", read_timeout, offsetof(struct process_training, timeout_s), false},
	{"accept", read_accept_model, 0, false},
};

static int add_model(const struct document *d, const char *key, const struct scan_token *value, void *to)
{
	struct draft_spec *s = to;
	struct process_spec *spec = &s->spec;
	if (spec->n_models == PROCESS_NODES_MAX)
		return document_refuse(d, value->start, "more than %d models", PROCESS_NODES_MAX);
	if (process_spec_training(spec, key))
		return document_refuse(d, value->start, "\"%s\" stands twice in \"models\"", key);
	if (grow((void **)&spec->models, spec->n_models, sizeof *spec->models) < 0)
		return no_memory(d);
	struct process_training *t = &spec->models[spec->n_models++];
	*t = (struct process_training){.model = strdup(key), .timeout_s = PROCESS_TIMEOUT_DEFAULT, .line = document_line(d, value->start)};
	return t->model ? document_object(d, "a model", value, TRAINING, ARRAY_SIZE(TRAINING), t) : no_memory(d);
}

static int read_models(const struct document *d, const char *key, const struct scan_token *value, void *to)
{
	static const struct field any[] = {{NULL, add_model, 0, false}};
	return document_object(d, "\"models\"", value, any, 1, to);
}

/* ---- the whole ---- */

static const struct field ACCEPT[] = {
	{"min", read_bound, offsetof(struct process_spec, accept), false},
	{"max", read_bound, offsetof(struct process_spec, accept), false},
	{"not_worse", read_mode, offsetof(struct process_spec, not_worse), false},
};

static int read_accept(const struct document *d, const char *key, const struct scan_token *value, void *to)
{
	return document_object(d, "\"accept\"", value, ACCEPT, ARRAY_SIZE(ACCEPT), to);
}

static const struct field SPEC[] = {
	{"description", read_text, offsetof(struct draft_spec, spec.description), false},
	{"nodes", read_nodes, 0, true},
	{"models", read_models, 0, false},
	{"accept", read_accept, offsetof(struct draft_spec, spec), false},
	{"aliases", read_list, offsetof(struct draft_spec, spec.aliases), false},
};

static void list_release(struct process_list *l)
{
	for (unsigned i = 0; i < l->n; i++)
		free(l->v[i]);
	free(l->v);
	*l = (struct process_list){0};
}

static void selector_release(struct process_selector *s)
{
	free(s->name);
	list_release(&s->where);
}

static void node_release(struct process_node *n)
{
	free(n->name);
	free(n->after);
	selector_release(&n->dataset);
	selector_release(&n->model);
	list_release(&n->run);
	free(n->score);
}

void process_spec_release(struct process_spec *s)
{
	for (unsigned i = 0; i < s->n_nodes; i++)
		node_release(&s->nodes[i]);
	for (unsigned i = 0; i < s->n_models; i++) {
		struct process_training *t = &s->models[i];
		for (unsigned k = 0; k < t->n_limits; k++)
			free(t->limits[k].metric);
		free(t->limits);
		free(t->model);
		free(t->dataset);
		free(t->not_worse);
		list_release(&t->train);
	}
	free(s->description);
	free(s->nodes);
	free(s->models);
	free(s->order);
	list_release(&s->aliases);
	*s = (struct process_spec){0};
}

static void draft_spec_release(struct draft_spec *s)
{
	for (unsigned i = 0; i < s->n_nodes; i++) {
		node_release(&s->nodes[i].node);
		list_release(&s->nodes[i].after);
	}
	free(s->nodes);
	process_spec_release(&s->spec);
}

/* The nodes move from the draft, which knows what they are after by name, into the spec. */
static int take_nodes(const struct document *d, struct draft_spec *s)
{
	s->spec.nodes = calloc(s->n_nodes, sizeof *s->spec.nodes);
	if (!s->spec.nodes)
		return no_memory(d);
	for (unsigned i = 0; i < s->n_nodes; i++) {
		s->spec.nodes[i] = s->nodes[i].node;
		s->nodes[i].node = (struct process_node){0};
	}
	s->spec.n_nodes = s->n_nodes;
	return 0;
}

int process_spec_parse(const char *text, size_t len, struct process_spec *ret, struct fault *f)
{
	const struct document d = {PROCESS_FILE_NAME, text, f};
	struct draft_spec s = {0};
	struct scan_token whole;
	if (len > PROCESS_SIZE_MAX)
		return fault_set(f, EFBIG, PROCESS_FILE_NAME ": larger than %u bytes", PROCESS_SIZE_MAX);
	int rc = document_open(&d, len, &whole);
	if (rc == 0)
		rc = document_object(&d, "a process", &whole, SPEC, ARRAY_SIZE(SPEC), &s);
	if (rc == 0)
		rc = process_check_nodes(&d, &s);
	if (rc == 0)
		rc = take_nodes(&d, &s);
	if (rc == 0)
		rc = process_check_models(&d, &s.spec);
	if (rc == 0) {
		*ret = s.spec;
		s.spec = (struct process_spec){0};
	}
	draft_spec_release(&s);
	return rc;
}

int process_spec_read(int fd, struct process_spec *ret, struct fault *f)
{
	struct stat st;
	int rc = sys_fstat(fd, &st);
	if (rc < 0)
		return fault_set(f, -rc, PROCESS_FILE_NAME ": cannot be read: %s", strerror(-rc));
	if (!S_ISREG(st.st_mode))
		return fault_set(f, EINVAL, PROCESS_FILE_NAME " is %s: it must be a file", sys_kind_of(st.st_mode));
	if (st.st_size > (off_t)PROCESS_SIZE_MAX)
		return fault_set(f, EFBIG, PROCESS_FILE_NAME ": larger than %u bytes", PROCESS_SIZE_MAX);
	auto_free char *text = malloc((size_t)st.st_size + 1);
	ssize_t n = text ? sys_pread_full(fd, text, (size_t)st.st_size, 0) : -ENOMEM;
	return n < 0 ? fault_set(f, (int)-n, PROCESS_FILE_NAME ": cannot be read: %s", strerror((int)-n)) : process_spec_parse(text, (size_t)n, ret, f);
}

const struct process_training *process_spec_training(const struct process_spec *s, const char *model)
{
	for (unsigned i = 0; i < s->n_models; i++)
		if (!strcmp(s->models[i].model, model))
			return &s->models[i];
	return NULL;
}
