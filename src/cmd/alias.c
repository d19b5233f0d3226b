/* mintfs alias: shows, sets, moves and drops aliases, and tells their history. */
#include "report.h"

#include <errno.h>
#include <limits.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct request {
	const struct command *self;
	const struct cmd_options *o;
	struct source *s;
	struct source_ref model;
	const char *name, *version; /* or NULL */
	struct json_out *j;         /* NULL: words */
};

/* ---- setting and dropping ---- */

/* On a drive alone, as `ln -sfn` does it: a link of another name, renamed over the old one, so that the alias is never away. */
static int set_on_drive(const struct request *q, uint32_t number, struct fault *f)
{
	char dir[PATH_MAX], tmp[PATH_MAX + 64], path[PATH_MAX + CATALOG_NAME_MAX], target[16], why[FAULT_TEXT_MAX];
	int n = snprintf(dir, sizeof dir, "%s/%s", q->s->mount, q->model.model);
	if (n < 0 || (size_t)n >= sizeof dir)
		return fault_set(f, ENAMETOOLONG, "the path of the alias is too long");
	snprintf(tmp, sizeof tmp, "%s/alias-%d-%lld", dir, (int)getpid(), (long long)time_monotonic_ns());
	snprintf(path, sizeof path, "%s/%s", dir, q->name);
	snprintf(target, sizeof target, "v%u", number);
	bool first = symlink(target, path) == 0; /* it was not there: done */
	if (first)
		return 0;
	if (errno == EEXIST && symlink(target, tmp) == 0) {
		if (rename(tmp, path) == 0)
			return 0;
		int error = errno;
		unlink(tmp);
		errno = error;
	}
	int error = errno;
	if (error == EACCES || (error == EPERM && drive_attr(dir, "error", why, sizeof why) < 0))
		return fault_set(f, error, "you may not set aliases in %s", dir);
	if (drive_attr(dir, "error", why, sizeof why) == 0 && why[0])
		return fault_set(f, error, "%s", why);
	return fault_set(f, error, "the alias %s cannot be set: %s", q->name, strerror(error));
}

static int set(const struct request *q, struct fault *f)
{
	struct source_ref to;
	struct catalog_alias a;
	char name[CATALOG_PATH_MAX + LAYOUT_NAME_MAX + 2], target[16];
	int n = snprintf(name, sizeof name, "%s/%s", q->model.model, q->version);
	if (n < 0 || (size_t)n >= sizeof name)
		return fault_set(f, ENAMETOOLONG, "the name of the version is too long");
	int rc = source_resolve(q->s, name, &to, f);
	if (rc == 0 && (!to.has_version || to.rest[0]))
		rc = fault_set(f, EINVAL, "an alias leads to a version of the model, such as v3; '%s' is none", q->version);
	if (rc < 0)
		return rc;
	snprintf(target, sizeof target, "v%u", to.number);
	if (q->s->r)
		rc = registry_alias_set(q->s->r, &q->s->me, q->model.model_id, q->name, target, &a, f);
	else
		rc = set_on_drive(q, to.number, f);
	if (rc < 0)
		return fault_default(f, -rc, "the alias %s cannot be set: %s", q->name, strerror(-rc));
	if (q->j) {
		json_object_begin(q->j);
		json_field_string(q->j, "model", q->model.model);
		json_field_string(q->j, "name", q->name);
		json_field_number(q->j, "version", to.number);
		json_object_end(q->j);
		return 0;
	}
	text_print(q->name);
	printf(" -> %s\n", target);
	return 0;
}

static int drop(const struct request *q, struct fault *f)
{
	char path[PATH_MAX];
	int rc;
	if (q->s->r) {
		rc = registry_alias_drop(q->s->r, &q->s->me, q->model.model_id, q->name, f);
	} else {
		int n = snprintf(path, sizeof path, "%s/%s/%s", q->s->mount, q->model.model, q->name);
		if (layout_classify_child(q->name, NULL) != LAYOUT_CHILD_ALIAS)
			return fault_set(f, EPERM, "'%s' is no alias", q->name);
		rc = n < 0 || (size_t)n >= sizeof path ? -ENAMETOOLONG : unlink(path) < 0 ? -errno : 0;
		if (rc == -ENOENT)
			return fault_set(f, ENOENT, "the model has no alias %s", q->name);
	}
	if (rc < 0)
		return fault_default(f, -rc, "the alias %s cannot be dropped: %s", q->name, strerror(-rc));
	if (q->j) {
		json_object_begin(q->j);
		json_field_string(q->j, "model", q->model.model);
		json_field_string(q->j, "name", q->name);
		json_field_string(q->j, "version", NULL);
		json_object_end(q->j);
		return 0;
	}
	text_print(q->name);
	printf(" dropped\n");
	return 0;
}

/* ---- showing ---- */

static void add_link(const struct request *q, const struct link *link, struct table *t)
{
	char text[HUMAN_MAX], user[64];
	caller_user_name(link->uid, user, sizeof user);
	if (q->j) {
		json_object_begin(q->j);
		json_field_string(q->j, "name", link->name);
		json_field_number(q->j, "version", link->number);
		json_field_time(q->j, "set", link->set_ns);
		json_field_string(q->j, "author", link->set_ns ? user : NULL);
		json_object_end(q->j);
		return;
	}
	table_cell(t, STYLE_CYAN, link->name);
	table_cellf(t, STYLE_BOLD, "v%u", link->number);
	table_cell(t, STYLE_PLAIN, link->set_ns ? human_age(link->set_ns, text) : NULL);
	table_cell(t, STYLE_PLAIN, link->set_ns ? user : NULL);
}

static bool is_alias(const struct link *link) { return layout_classify_child(link->name, NULL) == LAYOUT_CHILD_ALIAS; }

static int show_aliases(const struct request *q, struct fault *f)
{
	auto_links struct links links = {0};
	auto_table struct table t = TABLE_INIT;
	size_t shown = 0;
	int rc = source_links(q->s, &q->model, &links, f);
	if (rc < 0)
		return rc;
	table_column(&t, "ALIAS", false);
	table_column(&t, "VERSION", false);
	table_column(&t, "SET", true);
	table_column(&t, "BY", false);
	if (q->j && !q->name)
		json_array_begin(q->j);
	for (size_t i = 0; i < links.n; i++)
		if (q->name ? !strcmp(q->name, links.v[i].name) : is_alias(&links.v[i])) {
			add_link(q, &links.v[i], &t);
			shown++;
		}
	if (q->j && !q->name)
		json_array_end(q->j);
	if (q->name && !shown)
		return fault_set(f, ENOENT, "%s has no alias %s", q->model.model, q->name);
	if (q->j)
		return 0;
	if (!shown) {
		text_print(q->model.model);
		printf(" has no aliases\n");
		return 0;
	}
	return table_print(&t, 0, q->o->color);
}

struct telling { const struct request *q; struct table t; size_t n; };

static int add_event(const struct catalog_alias_event *e, void *arg)
{
	struct telling *h = arg;
	struct json_out *j = h->q->j;
	char text[HUMAN_MAX], user[64];
	h->n++;
	if (!e->author)
		caller_user_name(e->uid, user, sizeof user);
	if (j) {
		json_object_begin(j);
		json_field_string(j, "name", e->name);
		json_field_number(j, "from", e->from);
		json_field_number(j, "to", e->to);
		json_field_time(j, "at", e->at_ns);
		json_field_string(j, "author", e->author ? e->author : user);
		json_object_end(j);
		return 0;
	}
	table_cell(&h->t, STYLE_PLAIN, human_time(e->at_ns, text));
	table_cell(&h->t, STYLE_CYAN, e->name);
	if (e->from)
		table_cellf(&h->t, STYLE_PLAIN, "v%u", e->from);
	else
		table_cell(&h->t, STYLE_DIM, "-");
	if (e->to)
		table_cellf(&h->t, STYLE_BOLD, "v%u", e->to);
	else
		table_cell(&h->t, STYLE_RED, "dropped");
	table_cell(&h->t, STYLE_PLAIN, e->author ? e->author : user);
	return 0;
}

static int show_history(const struct request *q, struct fault *f)
{
	struct telling h = {.q = q, .t = TABLE_INIT};
	struct catalog_conn *conn = NULL;
	int rc = source_need_store(q->s, "the history of aliases", f);
	if (rc < 0)
		return rc;
	table_column(&h.t, "TIME (UTC)", false);
	table_column(&h.t, "ALIAS", false);
	table_column(&h.t, "FROM", true);
	table_column(&h.t, "TO", true);
	table_column(&h.t, "BY", false);
	if (q->j)
		json_array_begin(q->j);
	rc = registry_read_begin(q->s->r, &conn);
	if (rc == 0)
		rc = catalog_alias_history(conn, q->model.model_id, q->name, add_event, &h);
	catalog_read_end(conn);
	if (q->j)
		json_array_end(q->j);
	if (rc == 0 && !h.n && q->name)
		rc = fault_set(f, ENOENT, "%s never had an alias %s", q->model.model, q->name);
	else if (rc == 0 && !q->j)
		rc = table_print(&h.t, 0, q->o->color);
	table_release(&h.t);
	return rc < 0 ? fault_default(f, -rc, "the history cannot be read: %s", strerror(-rc)) : 0;
}

static int run(const struct command *self, int argc, char **argv)
{
	bool delete = false, history = false;
	const struct cmd_flag flags[] = {{"delete", 'd', &delete, NULL}, {"history", 0, &history, NULL}};
	struct cmd_args a;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, flags, 2, 1, 3, &a);
	if (code != CMD_GO_ON)
		return code;
	if (delete && history)
		return cmd_usage(self, "-d and --history do not go together");
	if ((delete && a.n != 2) || (history && a.n == 3))
		return cmd_usage(self, delete ? "-d takes a model and the name of an alias" : "--history takes a model, and perhaps the name of an alias");
	auto_source struct source *s = NULL;
	auto_buf struct buf b = BUF_INIT(1u << 30);
	struct json_out j;
	json_init(&j, &b, 2);
	struct request q = {.self = self, .o = &a.o, .name = a.v[1], .version = a.v[2], .j = a.o.json ? &j : NULL};
	if (source_find_ref(a.v[0], &a.o, delete || a.n == 3, NULL, &s, &q.model, &f) < 0)
		return cmd_fail(self, &f);
	if (q.model.has_version)
		return cmd_usage(self, "the first argument is a model: %s", q.model.model);
	q.s = s;
	int rc = delete ? drop(&q, &f) : history ? show_history(&q, &f) : q.version ? set(&q, &f) : show_aliases(&q, &f);
	if (rc < 0)
		return cmd_fail(self, &f);
	return a.o.json ? cmd_put_json(self, &b) : cmd_done(self);
}

const struct command cmd_alias = {
	.name = "alias",
	.args = "MODEL [NAME [VERSION]] | -d MODEL NAME | --history MODEL [NAME]",
	.summary = "show, set, move or drop aliases; their history",
	.help = "With MODEL, shows its aliases; with NAME, that one. With VERSION (v3, latest, best, or another alias), sets or moves NAME to it; the version must be\n"
		"committed. Every change is kept in the history. On the drive, 'ln -sfn v3 production' does the same.\n"
		"On a drive of somebody else's store, aliases are set as links, where you may write; times and history are not seen.\n"
		"\n" HELP_TARGET
		"\n"
		"  -d, --delete       drop the alias NAME\n"
		"      --history      every change, oldest first\n" HELP_STORE HELP_JSON HELP_COLOR HELP_HELP "\n"
		"Example:  mintfs alias product/P001_all/mlstm production v3 --store /srv/models.store\n",
	.run = run,
};
