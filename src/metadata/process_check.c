/* What must hold between the parts of a process.json; its placeholders; and the score in a result. */
#include "process.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <stdlib.h>
#include <string.h>

#define WEIGHTS_SLACK 1e-6 /* 0.1 and 0.2 are no binary fractions */

/* A sentence about a node or model, whose line is known rather than its place. */
#define refuse_line(d, line, fmt, ...) fault_set((d)->f, EINVAL, "%s, line %u: " fmt, (d)->name, line, __VA_ARGS__)

/* ---- placeholders ---- */

static const char *const PLACE_NAMES[PLACES] = {"dataset", "model", "result", "results", "draft", "process"};

static enum process_place find_place(const char *name, size_t len)
{
	for (int p = 0; p < PLACES; p++)
		if (strlen(PLACE_NAMES[p]) == len && !memcmp(PLACE_NAMES[p], name, len))
			return (enum process_place)p;
	return PLACES;
}

int process_word_fill(const char *word, const char *const values[PLACES], struct buf *out, const char **ret_bad)
{
	for (const char *p = word; *p; p++) {
		if ((*p == '{' || *p == '}') && p[1] == *p) {
			buf_putc(out, *p++);
			continue;
		}
		if (*p != '{' && *p != '}') {
			buf_putc(out, *p);
			continue;
		}
		const char *end = *p == '{' ? strchr(p, '}') : NULL;
		enum process_place place = end ? find_place(p + 1, (size_t)(end - p - 1)) : PLACES;
		if (place == PLACES || !values[place]) {
			if (ret_bad)
				*ret_bad = p;
			return -EINVAL;
		}
		buf_puts(out, values[place]);
		p = end;
	}
	return out->error;
}

/* Only the places of the mask, and those of must at least once. */
static int check_words(const struct document *d, unsigned line, const char *what, const struct process_list *words, unsigned may, unsigned must)
{
	unsigned used = 0;
	for (unsigned i = 0; i < words->n; i++) {
		for (int p = 0; p < PLACES; p++) {
			auto_buf struct buf out = BUF_INIT(PROCESS_SIZE_MAX);
			const char *values[PLACES];
			const char *bad = NULL;
			for (int k = 0; k < PLACES; k++)
				values[k] = may & (1u << k) ? k == p ? "\x01" : "" : NULL; /* a byte that no text of a process.json holds shows where it is used */
			int rc = process_word_fill(words->v[i], values, &out, &bad);
			if (rc < 0 && rc != -EINVAL)
				return rc;
			if (rc < 0)
				return refuse_line(d, line, "%s: the placeholder at \"%.40s\" is none of those known there (literal braces are written {{ and }})", what, bad);
			if (strchr(buf_text(&out), '\x01'))
				used |= 1u << p;
		}
	}
	for (int p = 0; p < PLACES; p++)
		if (must & ~used & (1u << p))
			return refuse_line(d, line, "%s does not name {%s}: MintFS would not know where to find it", what, PLACE_NAMES[p]);
	return 0;
}

/* ---- nodes ---- */

static int check_name(const struct document *d, const struct process_node *n)
{
	if (strlen(n->name) >= PROCESS_NAME_MAX)
		return refuse_line(d, n->line, "the name of a node has more than %d bytes", PROCESS_NAME_MAX - 1);
	if (n->name[0] == '.' || strchr(n->name, '/'))
		return refuse_line(d, n->line, "'%s' cannot be the name of a node: it is used as a file name", n->name);
	return 0;
}

static unsigned find_node(const struct draft_spec *s, const char *name)
{
	unsigned i = 0;
	while (i < s->n_nodes && strcmp(s->nodes[i].node.name, name) != 0)
		i++;
	return i;
}

static int link_after(const struct document *d, struct draft_spec *s, struct draft_node *n)
{
	n->node.after = calloc(n->after.n ? n->after.n : 1, sizeof *n->node.after);
	if (!n->node.after)
		return fault_set(d->f, ENOMEM, "%s: not enough memory", d->name);
	for (unsigned i = 0; i < n->after.n; i++) {
		unsigned at = find_node(s, n->after.v[i]);
		if (at == s->n_nodes)
			return refuse_line(d, n->node.line, "the node '%s' is after '%s', and there is no such node", n->node.name, n->after.v[i]);
		for (unsigned k = 0; k < n->node.n_after; k++)
			if (n->node.after[k] == at)
				return refuse_line(d, n->node.line, "the node '%s' is after '%s' twice", n->node.name, n->after.v[i]);
		n->node.after[n->node.n_after++] = at;
	}
	return 0;
}

static bool is_ready(const struct process_node *n, const bool *placed)
{
	for (unsigned i = 0; i < n->n_after; i++)
		if (!placed[n->after[i]])
			return false;
	return true;
}

/* Of those left over, one in a cycle: from any of them on, each leads to another one left over, so n steps end in a cycle. */
static const struct process_node *in_cycle(const struct draft_spec *s, const bool *placed)
{
	unsigned at = 0;
	while (placed[at])
		at++;
	for (unsigned steps = 0; steps < s->n_nodes; steps++) {
		const struct process_node *n = &s->nodes[at].node;
		for (unsigned i = 0; i < n->n_after; i++)
			if (!placed[n->after[i]]) {
				at = n->after[i];
				break;
			}
	}
	return &s->nodes[at].node;
}

static int order_nodes(const struct document *d, struct draft_spec *s)
{
	auto_free bool *placed = calloc((size_t)s->n_nodes + 1, sizeof *placed);
	s->spec.order = calloc((size_t)s->n_nodes + 1, sizeof *s->spec.order);
	if (!placed || !s->spec.order)
		return fault_set(d->f, ENOMEM, "%s: not enough memory", d->name);
	for (unsigned n = 0; n < s->n_nodes; n++) {
		unsigned at = 0;
		while (at < s->n_nodes && (placed[at] || !is_ready(&s->nodes[at].node, placed)))
			at++;
		if (at == s->n_nodes) {
			const struct process_node *c = in_cycle(s, placed);
			return refuse_line(d, c->line, "the node '%s' is after itself: its 'after' leads in a cycle", c->name);
		}
		placed[at] = true;
		s->spec.order[n] = at;
	}
	return 0;
}

static int check_weights(const struct document *d, const struct draft_spec *s)
{
	double sum = 0;
	for (unsigned i = 0; i < s->n_nodes; i++)
		sum += s->nodes[i].node.weight;
	if (fabs(sum - 1) <= WEIGHTS_SLACK)
		return 0;
	return refuse_line(d, s->nodes[s->n_nodes - 1].node.line, "the weights of all nodes add up to %.6g: they must add up to 1", sum);
}

#define RUN_MAY (1u << PLACE_DATASET | 1u << PLACE_MODEL | 1u << PLACE_RESULT | 1u << PLACE_RESULTS | 1u << PLACE_PROCESS)
#define TRAIN_MAY (1u << PLACE_DATASET | 1u << PLACE_MODEL | 1u << PLACE_DRAFT | 1u << PLACE_PROCESS)

int process_check_nodes(const struct document *d, struct draft_spec *s)
{
	int rc = 0;
	for (unsigned i = 0; i < s->n_nodes && rc == 0; i++) {
		const struct process_node *n = &s->nodes[i].node;
		rc = check_name(d, n);
		if (rc == 0 && find_node(s, n->name) < i)
			rc = refuse_line(d, n->line, "there are two nodes '%s'", n->name);
		if (rc == 0)
			rc = check_words(d, n->line, "\"run\"", &n->run, RUN_MAY, 1u << PLACE_RESULT);
	}
	for (unsigned i = 0; i < s->n_nodes && rc == 0; i++)
		rc = link_after(d, s, &s->nodes[i]);
	if (rc == 0)
		rc = order_nodes(d, s);
	return rc == 0 ? check_weights(d, s) : rc;
}

/* ---- models ---- */

/* The dataset of all nodes with this model; NULL with *ret_many: they differ. */
static const char *dataset_of(const struct process_spec *s, const char *model, bool *ret_many)
{
	const char *found = NULL;
	for (unsigned i = 0; i < s->n_nodes; i++) {
		const struct process_node *n = &s->nodes[i];
		if (strcmp(n->model.name, model) != 0)
			continue;
		if (found && strcmp(found, n->dataset.name) != 0) {
			*ret_many = true;
			return NULL;
		}
		found = n->dataset.name;
	}
	return found;
}

int process_check_models(const struct document *d, struct process_spec *s)
{
	for (unsigned i = 0; i < s->n_models; i++) {
		struct process_training *t = &s->models[i];
		bool many = false;
		const char *dataset = dataset_of(s, t->model, &many);
		if (!dataset && !many)
			return refuse_line(d, t->line, "no node uses the model %s", t->model);
		if (many && !t->dataset)
			return refuse_line(d, t->line, "the nodes of the model %s have different datasets: name the one it is trained on, \"dataset\": …", t->model);
		if (!t->dataset && !(t->dataset = strdup(dataset)))
			return fault_set(d->f, ENOMEM, "%s: not enough memory", d->name);
		if (t->train.n == 0 && (t->n_limits || t->not_worse))
			return refuse_line(d, t->line, "the model %s has a condition for its adoption, but no \"train\"", t->model);
		int rc = t->train.n ? check_words(d, t->line, "\"train\"", &t->train, TRAIN_MAY, 1u << PLACE_DRAFT) : 0;
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- results ---- */

struct score { const char *key; bool found, is_number; double number; };

static int take_score(const char *name, const char *value, const char *json, void *arg)
{
	struct score *s = arg;
	(void)value;
	if (!strcmp(name, s->key)) { /* of equal keys the last one */
		s->found = true;
		s->is_number = *json == '-' || isdigit((unsigned char)*json);
		s->number = s->is_number ? strtod(json, NULL) : 0;
	}
	return 0;
}

int process_score(const char *result, size_t len, const char *key, double *ret, struct fault *f)
{
	struct fault why = FAULT_INIT;
	struct score s = {.key = key};
	int rc = metadata_each_value(result, len, take_score, &s, &why);
	if (rc < 0) {
		const char *words = strchr(why.text, ':'); /* behind the name of another file */
		return fault_set(f, EINVAL, "its result is no JSON object:%s", words ? words + 1 : " it cannot be read");
	}
	if (!s.found)
		return fault_set(f, EINVAL, "its result has no \"%s\"", key);
	if (!s.is_number || !isfinite(s.number))
		return fault_set(f, EINVAL, "\"%s\" in its result is no number", key);
	*ret = s.number;
	return 0;
}
