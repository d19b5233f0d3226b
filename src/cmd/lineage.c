/* mintfs lineage: what a version was made from, and what was made from it, as a tree, JSON, or a graph for dot or mermaid.
 *
 * The graph is walked breadth-first, one query a version; what is NODES_MAX away is not walked to. As a tree, what hangs below a version is shown where it stands first. */
#include "report.h"

#include <errno.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_DEFAULT 5
#define DEPTH_MAX 1000
#define NODES_MAX 200000

struct node {
	int64_t id; /* of a version; below 0: of one elsewhere, of which no more is known than its name and digest */
	char *name; /* owned: dataset/mol/v3 */
	char digest[BLOB_HEX_SIZE]; /* of one elsewhere, where it is known */
	enum catalog_state state;
	uint32_t distance;
	size_t first, n; /* its edges */
	bool walked, printed;
};
struct edge { size_t to; enum catalog_how how; }; /* index of the other node */

/* One direction of the graph, from a root at nodes[0]. */
struct graph {
	struct catalog_conn *conn;
	bool down, cut; /* cut: there is more than NODES_MAX */
	struct node *nodes;
	size_t n_nodes, at;
	struct edge *edges;
	size_t n_edges;
	struct map64 *index; /* version id → index + 1 */
};

static void graph_release(struct graph *g)
{
	for (size_t i = 0; i < g->n_nodes; i++)
		free(g->nodes[i].name);
	free(g->nodes);
	free(g->edges);
	map64_free(g->index);
}

static int add_node(struct graph *g, int64_t id, const char *model, uint32_t number, enum catalog_state state, uint32_t distance, size_t *ret)
{
	uintptr_t known = (uintptr_t)map64_get(g->index, (uint64_t)id);
	if (known) {
		*ret = known - 1;
		return 0;
	}
	if ((g->n_nodes & (g->n_nodes - 1)) == 0) {
		struct node *grown = reallocarray(g->nodes, g->n_nodes ? 2 * g->n_nodes : 1, sizeof *grown);
		if (!grown)
			return -ENOMEM;
		g->nodes = grown;
	}
	struct node node = {.id = id, .state = state, .distance = distance};
	if (asprintf(&node.name, "%s/v%u", model, number) < 0)
		return -ENOMEM;
	*ret = g->n_nodes;
	g->nodes[g->n_nodes++] = node;
	return map64_put(g->index, (uint64_t)id, (void *)(uintptr_t)g->n_nodes);
}

static int add_edge(const struct catalog_edge *e, void *arg)
{
	struct graph *g = arg;
	size_t to;
	if (g->n_nodes >= NODES_MAX && !map64_get(g->index, (uint64_t)e->version_id)) {
		g->cut = true;
		return 0;
	}
	if ((g->n_edges & (g->n_edges - 1)) == 0) {
		struct edge *grown = reallocarray(g->edges, g->n_edges ? 2 * g->n_edges : 1, sizeof *grown);
		if (!grown)
			return -ENOMEM;
		g->edges = grown;
	}
	int rc = add_node(g, e->version_id, e->model, e->number, e->state, g->nodes[g->at].distance + 1, &to);
	if (rc < 0)
		return rc;
	g->edges[g->n_edges++] = (struct edge){to, e->how};
	return 0;
}

static int add_elsewhere(const struct catalog_elsewhere *e, enum catalog_how how, void *arg)
{
	struct graph *g = arg;
	const struct catalog_edge edge = {.version_id = -e->id, .how = how, .number = e->number, .state = CATALOG_COMMITTED, .model = e->model};
	int rc = add_edge(&edge, g);
	if (rc == 0 && e->has_digest && map64_get(g->index, (uint64_t)-e->id))
		blob_id_hex(&e->digest, g->nodes[(uintptr_t)map64_get(g->index, (uint64_t)-e->id) - 1].digest);
	return rc;
}

static int walk(struct graph *g, uint32_t depth)
{
	int rc = 0;
	for (g->at = 0; rc == 0 && g->at < g->n_nodes; g->at++) {
		int64_t id = g->nodes[g->at].id;
		if (g->nodes[g->at].distance >= depth || id < 0)
			continue;
		size_t before = g->n_edges;
		rc = catalog_lineage_list(g->conn, id, g->down, add_edge, g);
		if (rc == 0 && !g->down)
			rc = catalog_elsewhere_input_list(g->conn, id, add_elsewhere, g);
		g->nodes[g->at].first = before;
		g->nodes[g->at].n = g->n_edges - before;
		g->nodes[g->at].walked = true;
	}
	return rc;
}

static int graph_read(struct catalog_conn *conn, const struct source_ref *root, bool down, uint32_t depth, struct graph *g)
{
	size_t unused;
	*g = (struct graph){.conn = conn, .down = down, .index = map64_new()};
	int rc = g->index ? add_node(g, root->version_id, root->model, root->number, root->state, 0, &unused) : -ENOMEM;
	return rc < 0 ? rc : walk(g, depth);
}

/* ---- tree ---- */

/* The way down to the row at hand, so that nothing recurses: graphs may be deep. */
struct level { size_t node, next; bool last; };
struct tree { const struct graph *g; bool color; struct level *stack; size_t depth, cap; };

static void print_node(struct tree *t, const struct node *n, const struct edge *by)
{
	for (size_t i = 1; i + 1 < t->depth; i++)
		fputs(t->stack[i].last ? "   " : "│  ", stdout);
	if (by)
		fputs(t->stack[t->depth - 1].last ? "└─ " : "├─ ", stdout);
	fputs(style_on(by ? STYLE_PLAIN : STYLE_BOLD, t->color), stdout);
	text_print(n->name);
	fputs(style_off(by ? STYLE_PLAIN : STYLE_BOLD, t->color), stdout);
	if (n->id < 0)
		printf("  %snot in this store%s%.12s%s", style_on(STYLE_YELLOW, t->color), n->digest[0] ? ", digest " : "", n->digest, style_off(STYLE_YELLOW, t->color));
	else if (n->state != CATALOG_COMMITTED)
		printf("  %s%s%s", style_on(state_style(n->state), t->color), catalog_state_name(n->state), style_off(state_style(n->state), t->color));
	if (by && by->how != CATALOG_OBSERVED)
		printf("  %s%s%s", style_on(STYLE_DIM, t->color), by->how == CATALOG_BOTH ? "observed and declared" : "declared", style_off(STYLE_DIM, t->color));
	if (n->printed && n->n)
		printf("  %s(see above)%s", style_on(STYLE_DIM, t->color), style_off(STYLE_DIM, t->color));
	putchar('\n');
}

/* As deep as the graph has versions: one that is a step away stands as far down as the first way that leads to it. */
static int push(struct tree *t, size_t node, bool last)
{
	if (t->depth == t->cap) {
		size_t cap = t->cap ? 2 * t->cap : 64;
		struct level *stack = reallocarray(t->stack, cap, sizeof *stack);
		if (!stack)
			return -ENOMEM;
		t->stack = stack;
		t->cap = cap;
	}
	t->stack[t->depth++] = (struct level){.node = node, .last = last};
	return 0;
}

static int print_tree(struct graph *g, bool color)
{
	struct tree t = {.g = g, .color = color};
	int rc = push(&t, 0, true);
	if (rc == 0)
		print_node(&t, &g->nodes[0], NULL);
	g->nodes[0].printed = true;
	while (rc == 0 && t.depth > 0) {
		struct level *top = &t.stack[t.depth - 1];
		struct node *n = &g->nodes[top->node];
		if (top->next == n->n) {
			t.depth--;
			continue;
		}
		const struct edge *e = &g->edges[n->first + top->next++];
		struct node *child = &g->nodes[e->to];
		if ((rc = push(&t, e->to, top->next == n->n)) < 0)
			break;
		print_node(&t, child, e);
		if (child->printed)
			t.depth--;
		child->printed = true;
	}
	free(t.stack);
	return rc;
}

/* ---- graphs for other programs ---- */

/* Names hold any printable character: what would end a label is written as that program wants it. */
static void put_label(const char *name, bool dot)
{
	auto_buf struct buf safe = BUF_INIT(1 << 16);
	text_add_safe(&safe, name, NULL);
	for (const char *c = buf_text(&safe); *c; c++) {
		if (dot && (*c == '"' || *c == '\\'))
			printf("\\%c", *c);
		else if (!dot && strchr("\"#&<>;[]{}()|`\\", *c))
			printf("#%d;", *c);
		else
			putchar(*c);
	}
}

#define NODE_ID_MAX 24

static const char *node_id(int64_t id, char out[NODE_ID_MAX])
{
	snprintf(out, NODE_ID_MAX, "%c%lld", id < 0 ? 'e' : 'n', (long long)(id < 0 ? -id : id));
	return out;
}

static void put_nodes(const struct graph *g, bool dot, const struct graph *without)
{
	char id[NODE_ID_MAX];
	for (size_t i = 0; i < g->n_nodes; i++) {
		const struct node *n = &g->nodes[i];
		if (without && map64_get(without->index, (uint64_t)n->id))
			continue;
		printf("  %s[%s\"", node_id(n->id, id), dot ? "label=" : "");
		put_label(n->name, dot);
		printf("\"]%s\n", dot ? ";" : "");
	}
}

static void put_edges(const struct graph *g, bool dot)
{
	char a[NODE_ID_MAX], b[NODE_ID_MAX];
	for (size_t i = 0; g->edges && i < g->n_nodes; i++)
		for (size_t k = 0; k < g->nodes[i].n; k++) {
			const struct edge *e = &g->edges[g->nodes[i].first + k];
			int64_t from = g->down ? g->nodes[i].id : g->nodes[e->to].id, to = g->down ? g->nodes[e->to].id : g->nodes[i].id;
			if (dot)
				printf("  %s -> %s%s;\n", node_id(from, a), node_id(to, b), e->how == CATALOG_DECLARED ? " [style=dashed]" : "");
			else
				printf("  %s %s %s\n", node_id(from, a), e->how == CATALOG_DECLARED ? "-.->" : "-->", node_id(to, b));
		}
}

static void print_graph(const struct graph *up, const struct graph *down, bool dot)
{
	puts(dot ? "digraph lineage {\n  rankdir=LR;\n  node [shape=box];" : "graph LR");
	if (up)
		put_nodes(up, dot, NULL);
	if (down)
		put_nodes(down, dot, up);
	if (up)
		put_edges(up, dot);
	if (down)
		put_edges(down, dot);
	if (dot)
		puts("}");
}

/* ---- JSON ---- */

static void json_nodes(struct json_out *j, const struct graph *g, const struct graph *without)
{
	for (size_t i = 0; i < g->n_nodes; i++) {
		const struct node *n = &g->nodes[i];
		if (without && map64_get(without->index, (uint64_t)n->id))
			continue;
		json_object_begin(j);
		json_field_string(j, "version", n->name);
		json_field_string(j, "state", n->id < 0 ? "elsewhere" : catalog_state_name(n->state));
		if (n->id < 0)
			json_field_string(j, "digest", n->digest[0] ? n->digest : NULL);
		json_field_int(j, "distance", g->down ? (int64_t)n->distance : -(int64_t)n->distance);
		json_object_end(j);
	}
}

static void json_edges(struct json_out *j, const struct graph *g)
{
	for (size_t i = 0; i < g->n_nodes; i++)
		for (size_t k = 0; k < g->nodes[i].n; k++) {
			const struct edge *e = &g->edges[g->nodes[i].first + k];
			json_object_begin(j);
			json_field_string(j, "from", g->nodes[g->down ? i : e->to].name);
			json_field_string(j, "to", g->nodes[g->down ? e->to : i].name);
			json_field_string(j, "how", catalog_how_name(e->how));
			json_object_end(j);
		}
}

static int put_json(const struct command *self, const struct source_ref *ref, const struct graph *up, const struct graph *down)
{
	auto_buf struct buf b = BUF_INIT(1u << 30);
	struct json_out j;
	char root[sizeof ref->model + 16];
	snprintf(root, sizeof root, "%s/v%u", ref->model, ref->number);
	json_init(&j, &b, 2);
	json_object_begin(&j);
	json_field_string(&j, "version", root);
	json_key(&j, "nodes");
	json_array_begin(&j);
	if (up)
		json_nodes(&j, up, NULL);
	if (down)
		json_nodes(&j, down, up);
	json_array_end(&j);
	json_key(&j, "edges"); /* from an input to what was made from it */
	json_array_begin(&j);
	if (up)
		json_edges(&j, up);
	if (down)
		json_edges(&j, down);
	json_array_end(&j);
	json_field_bool(&j, "complete", !(up && up->cut) && !(down && down->cut));
	json_object_end(&j);
	return cmd_put_json(self, &b);
}

/* ---- the command ---- */

enum form { FORM_TREE, FORM_JSON, FORM_DOT, FORM_MERMAID };

static int print_one(struct graph *g, bool color, bool titled, const char *title, const char *none)
{
	if (titled)
		printf("%s%s%s\n", style_on(STYLE_DIM, color), title, style_off(STYLE_DIM, color));
	int rc = print_tree(g, color);
	if (g->n_nodes == 1)
		printf("   %s\n", none);
	if (g->cut)
		printf("   ... and more than %d others\n", NODES_MAX);
	return rc;
}

static int print_trees(const struct command *self, struct graph *up, struct graph *down, bool color)
{
	struct fault f = FAULT_INIT;
	int rc = up ? print_one(up, color, down != NULL, "made from", "nothing is known that it was made from") : 0;
	if (rc == 0 && up && down)
		putchar('\n');
	if (rc == 0 && down)
		rc = print_one(down, color, up != NULL, "made into", "nothing was made from it");
	if (rc < 0) {
		fault_set(&f, -rc, "the tree cannot be shown: %s", strerror(-rc));
		return cmd_fail(self, &f);
	}
	return cmd_done(self);
}

static int show(const struct command *self, struct source *s, const struct source_ref *ref, bool want_up, bool want_down, uint32_t depth, enum form form, bool color)
{
	__attribute__((cleanup(graph_release))) struct graph up = {0}, down = {0};
	struct fault f = FAULT_INIT;
	struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(s->r, &conn);
	if (rc == 0 && want_up)
		rc = graph_read(conn, ref, false, depth, &up);
	if (rc == 0 && want_down)
		rc = graph_read(conn, ref, true, depth, &down);
	catalog_read_end(conn);
	if (rc < 0) {
		fault_set(&f, -rc, "the lineage of %s/v%u cannot be read: %s", ref->model, ref->number, strerror(-rc));
		return cmd_fail(self, &f);
	}
	struct graph *u = want_up ? &up : NULL, *d = want_down ? &down : NULL;
	if (form == FORM_JSON)
		return put_json(self, ref, u, d);
	if (form == FORM_TREE)
		return print_trees(self, u, d, color);
	print_graph(u, d, form == FORM_DOT);
	return cmd_done(self);
}

static int run(const struct command *self, int argc, char **argv)
{
	bool up = false, down = false, both = false, dot = false, mermaid = false;
	const char *depth_text = NULL;
	const struct cmd_flag flags[] = {{"up", 0, &up, NULL}, {"down", 0, &down, NULL}, {"both", 0, &both, NULL}, {"depth", 0, NULL, &depth_text}, {"dot", 0, &dot, NULL},
		{"mermaid", 0, &mermaid, NULL}};
	struct cmd_args a;
	struct source_ref ref;
	struct fault f = FAULT_INIT;
	uint64_t depth = DEPTH_DEFAULT;
	int code = cmd_parse(self, argc, argv, flags, sizeof flags / sizeof flags[0], 1, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	if (depth_text && (parse_u64(depth_text, DEPTH_MAX, &depth) < 0 || depth == 0))
		return cmd_usage(self, "--depth takes a number from 1 to %d, not '%s'", DEPTH_MAX, depth_text);
	if (up + down + both > 1)
		return cmd_usage(self, "--up, --down and --both exclude each other");
	if (dot + mermaid + a.o.json > 1)
		return cmd_usage(self, "--dot, --mermaid and --json exclude each other");
	auto_source struct source *s = NULL;
	if (source_find_ref(a.v[0], &a.o, false, "lineage", &s, &ref, &f) < 0)
		return cmd_fail(self, &f);
	if (!ref.has_version)
		return cmd_usage(self, "%s is a model: name a version, such as %s/latest", ref.model, ref.model);
	return show(self, s, &ref, !down, !up, (uint32_t)depth, a.o.json ? FORM_JSON : dot ? FORM_DOT : mermaid ? FORM_MERMAID : FORM_TREE, a.o.color);
}

const struct command cmd_lineage = {
	.name = "lineage",
	.args = "VERSION [--up|--down|--both] [--depth N] [--dot|--mermaid]",
	.summary = "show what a version was made from, and what from it",
	.help = "As a tree: the versions it was made from, what they were made from, and so on; and what was made from it. Inputs were observed by the drive unless\n"
		"something else is said. Edges stay when a version is retired; what was discarded was not made. An input of an imported version that did not come with it\n"
		"is shown by its name at its origin as \"not in this store\", until a version with its digest comes.\n"
		"\n" HELP_TARGET
		"\n"
		"      --up           only what it was made from\n"
		"      --down         only what was made from it\n"
		"      --both         both (default)\n"
		"      --depth N      so many steps (default 5)\n"
		"      --dot          a graph for Graphviz; declared inputs are dashed\n"
		"      --mermaid      a graph for Mermaid\n" HELP_STORE HELP_JSON HELP_COLOR HELP_HELP "\n"
		"Example:  mintfs lineage product/P001_all/mlstm/production --up\n",
	.run = run,
};
