/* fsck: versions, entry by entry.
 *
 * The entries of a version stand breadth-first in one range of ids: the top, then the children of each directory in the order of the directories. So one pass with a queue of the directories
 * still to come tells whether each entry is where its parent says; the sums are counted on the way. */
#include "fsck.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define PIECE 500 /* versions of one snapshot */

struct range { int64_t parent, from, end; };
struct pass {
	struct fsck *k;
	const struct catalog_version_facts *x;
	struct range *queue;
	size_t head, n, cap;
	int64_t next; /* the id that must come next */
	uint64_t size, n_files, n_dirs;
	bool lost;          /* a content of it is lost or damaged */
	const char *broken; /* the first rule that an entry breaks */
	int64_t broken_at;
};

static int push(struct pass *s, int64_t parent, int64_t from, int64_t n)
{
	if (s->n == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 64;
		struct range *queue = reallocarray(s->queue, cap, sizeof *queue);
		if (!queue)
			return -ENOMEM;
		s->queue = queue;
		s->cap = cap;
	}
	s->queue[s->n++] = (struct range){parent, from, range_end(from, n)};
	return 0;
}

static const char *judge_entry(struct pass *s, const struct catalog_entry_facts *e)
{
	const struct catalog_version *v = &s->x->v;
	while (s->head < s->n && e->id >= s->queue[s->head].end)
		s->head++;
	if (e->version_id != v->id)
		return "belongs to another version";
	if (e->id != s->next)
		return "stands behind a gap";
	if (s->head == s->n || e->id < s->queue[s->head].from || e->parent != s->queue[s->head].parent)
		return "does not stand where its directory says";
	if (!e->name[0] || strchr(e->name, '/') || !strcmp(e->name, ".") || !strcmp(e->name, ".."))
		return "has no proper name";
	if (e->type < CATALOG_FILE || e->type > CATALOG_SYMLINK || e->size < 0)
		return "is nothing that a version holds";
	if (e->inode < v->first_child || e->inode > e->id)
		return "is linked to an entry that is not there";
	if (e->type == CATALOG_FILE && e->blob_size < 0)
		return "has no content on record";
	if (e->type == CATALOG_FILE && e->blob_size != e->size)
		return "has another size than its content";
	if (e->type == CATALOG_DIRECTORY && e->n_children > 0 && (e->first_child <= e->id || range_end(e->first_child, e->n_children) > range_end(v->first_child, s->x->n_entries)))
		return "has children outside of its version";
	return NULL;
}

static int take_entry(const struct catalog_entry_facts *e, void *arg)
{
	struct pass *s = arg;
	const char *why = judge_entry(s, e);
	if (why && !s->broken) {
		s->broken = why;
		s->broken_at = e->id;
	}
	s->next = e->id + 1;
	s->k->sum.entries++;
	if (e->type == CATALOG_FILE) {
		s->n_files++;
		s->size += e->inode == e->id ? (uint64_t)e->size : 0;
		s->lost |= references_has(&s->k->bad, e->blob);
	}
	if (e->type != CATALOG_DIRECTORY)
		return 0;
	s->n_dirs += e->parent == -s->x->v.id;
	return e->n_children > 0 ? push(s, e->id, e->first_child, e->n_children) : 0;
}

static struct problem *note(struct fsck *k, const struct catalog_version *v, struct problem *p)
{
	if (!p)
		return NULL;
	p->model_id = v->model_id;
	p->number = v->number;
	p->id = v->id;
	return p;
}

static int check_entries(struct pass *s, struct catalog_conn *conn)
{
	const struct catalog_version *v = &s->x->v;
	struct fsck *k = s->k;
	int64_t end = range_end(v->first_child, s->x->n_entries);
	s->head = s->n = 0;
	s->next = v->first_child;
	s->size = s->n_files = s->n_dirs = 0;
	s->lost = false;
	s->broken = NULL;
	int rc = v->n_children > 0 ? push(s, -v->id, v->first_child, v->n_children) : 0;
	if (rc == 0)
		rc = catalog_audit_entries(conn, v->first_child, end, take_entry, s);
	if (rc < 0)
		return rc;
	if (!s->broken && s->next != end) {
		s->broken = "is not there";
		s->broken_at = s->next;
	}
	if (s->broken) {
		uint64_t place = (uint64_t)s->broken_at - (uint64_t)v->first_child + 1; /* ids of a hostile catalog may run over */
		return note(k, v, fsck_note(k, FOUND_ENTRIES_BROKEN, "v%u: its entry %lld %s", v->number, (long long)place, s->broken)) ? 0 : -ENOMEM;
	}
	if (s->size == v->size && s->n_files == v->n_files && s->n_dirs == v->n_dirs)
		return 0;
	struct problem *p = note(k, v, fsck_note(k, FOUND_SUMS_WRONG, "v%u is said to hold %u %s of %llu bytes and %u %s at the top, but holds %llu of %llu and %llu", v->number,
		v->n_files, plural(v->n_files, "file", "files"), (unsigned long long)v->size, v->n_dirs, plural(v->n_dirs, "directory", "directories"),
		(unsigned long long)s->n_files, (unsigned long long)s->size, (unsigned long long)s->n_dirs));
	if (!p)
		return -ENOMEM;
	p->sums[0] = s->size;
	p->sums[1] = s->n_files;
	p->sums[2] = s->n_dirs;
	return 0;
}

/* ---- metrics: derived from the summary ---- */

#define CLOSE 1e-4 /* the summary may have been written with fewer digits */

static int parse_summary(const char *summary, struct metadata *ret)
{
	auto_buf struct buf text = BUF_INIT(METADATA_SIZE_MAX + 64);
	buf_puts(&text, "{\"metrics\":");
	buf_puts(&text, summary);
	buf_puts(&text, "}");
	return text.error ? text.error : metadata_parse(buf_text(&text), text.len, ret, NULL);
}

struct comparison { const struct metadata *md; unsigned n; bool differs; };

static int compare_metric(const struct catalog_metric *m, void *arg)
{
	struct comparison *c = arg;
	c->n++;
	for (unsigned i = 0; c->md && i < c->md->n_metrics; i++)
		if (!strcmp(c->md->metrics[i].name, m->name)) {
			double a = c->md->metrics[i].value, b = m->value;
			double larger = fabs(a) > fabs(b) ? fabs(a) : fabs(b);
			c->differs |= fabs(a - b) > CLOSE * larger;
			return 0;
		}
	c->differs = true;
	return 0;
}

/* Equal names count once, and too long ones not at all. */
static unsigned count_names(const struct metadata *md)
{
	unsigned n = 0;
	for (unsigned i = 0; i < md->n_metrics; i++) {
		bool again = strlen(md->metrics[i].name) >= CATALOG_NAME_MAX;
		for (unsigned j = 0; j < i && !again; j++)
			again = !strcmp(md->metrics[i].name, md->metrics[j].name);
		n += !again;
	}
	return n;
}

static int metrics_differ(struct catalog_conn *conn, const struct catalog_version *v, const char *summary, bool *ret)
{
	struct metadata md = {0};
	struct comparison c = {0};
	bool any = summary && strcmp(summary, "{}") != 0 && summary[0];
	if (any && parse_summary(summary, &md) < 0)
		any = false; /* text that nobody can read gives no metrics */
	c.md = any ? &md : NULL;
	int rc = catalog_metric_list(conn, v->model_id, v->number, compare_metric, &c);
	*ret = c.differs || c.n != (any ? count_names(&md) : 0);
	if (any)
		metadata_release(&md);
	return rc;
}

static int check_metrics(struct fsck *k, struct catalog_conn *conn, const struct catalog_version_facts *x)
{
	bool differ = false;
	int rc = metrics_differ(conn, &x->v, x->metrics_summary, &differ);
	if (rc < 0 || !differ)
		return rc;
	return note(k, &x->v, fsck_note(k, FOUND_METRICS_DIFFER, "v%u: the metrics that count for `best` are not those of its metrics_summary", x->v.number)) ? 0 : -ENOMEM;
}

/* ---- versions ---- */

struct versions { struct pass s; struct catalog_conn *conn; int64_t last; unsigned n; };

static int check_version(const struct catalog_version_facts *x, void *arg)
{
	struct versions *l = arg;
	struct fsck *k = l->s.k;
	l->last = x->v.id;
	l->n++;
	if (x->v.state != CATALOG_COMMITTED && x->v.state != CATALOG_RETIRED)
		return 0;
	k->sum.versions++;
	l->s.x = x;
	int rc = check_entries(&l->s, l->conn);
	if (rc == 0 && x->v.state == CATALOG_COMMITTED)
		rc = check_metrics(k, l->conn, x);
	if (rc < 0 || !l->s.lost || x->v.state != CATALOG_COMMITTED)
		return rc;
	return note(k, &x->v, fsck_note(k, FOUND_VERSION_DAMAGED, "v%u has lost a content", x->v.number)) ? 0 : -ENOMEM;
}

struct lost_files { struct fsck *k; struct catalog_conn *conn; struct buf text; unsigned n; };
#define LOST_NAMED 5

static int add_lost(const char *path, const struct catalog_file *file, void *arg)
{
	struct lost_files *l = arg;
	struct catalog_blob row;
	if (file->type != CATALOG_FILE || catalog_blob_find(l->conn, &file->blob, &row) < 0 || !references_has(&l->k->bad, row.id))
		return 0;
	if (l->n++ < LOST_NAMED)
		buf_printf(&l->text, "%s%s", l->n > 1 ? ", " : "", path);
	return 0;
}

/* Which files: asked of damaged versions only. */
static int name_lost_files(struct fsck *k, struct catalog_conn *conn, struct problem *p)
{
	struct lost_files l = {.k = k, .conn = conn, .text = BUF_INIT(1 << 16)};
	int rc = catalog_file_list(conn, p->id, add_lost, &l);
	if (l.n > LOST_NAMED)
		buf_printf(&l.text, " and %u more", l.n - LOST_NAMED);
	char *text = NULL;
	if (rc == 0 && asprintf(&text, "v%u has lost the content of %s", p->number, buf_text(&l.text)) >= 0) {
		free(p->text);
		p->text = text;
	}
	buf_release(&l.text);
	return rc == -EUCLEAN ? 0 : rc; /* its entries are broken, which is told, too */
}

static int check_piece(struct versions *l)
{
	struct fsck *k = l->s.k;
	auto_read struct catalog_conn *conn = NULL;
	l->n = 0;
	int rc = catalog_read_begin(k->r->catalog, &conn);
	l->conn = conn;
	if (rc == 0)
		rc = catalog_audit_versions(conn, l->last, PIECE, check_version, l);
	for (size_t i = 0; rc == 0 && i < k->n; i++)
		if (k->problems[i].kind == FOUND_VERSION_DAMAGED)
			rc = name_lost_files(k, conn, &k->problems[i]);
	return rc;
}

int fsck_versions(struct fsck *k)
{
	struct versions l = {.s = {.k = k}, .n = PIECE};
	int rc = 0;
	while (rc == 0 && l.n == PIECE) {
		rc = check_piece(&l);
		if (rc == 0)
			rc = fsck_settle(k);
	}
	free(l.s.queue);
	return rc;
}

/* ---- repairs ---- */

static int sums_write(struct catalog_conn *conn, void *arg)
{
	const struct problem *p = arg;
	return catalog_rebuild_sums(conn, p->id, p->sums[0], (uint32_t)p->sums[1], (uint32_t)p->sums[2]);
}

int repair_sums(struct fsck *k, const struct problem *p, char *words, size_t size)
{
	struct problem copy = *p;
	int rc = catalog_write(k->r->catalog, true, sums_write, &copy);
	snprintf(words, size, "summed up anew");
	return rc < 0 ? rc : 1;
}

static int write_metrics(struct catalog_conn *conn, const struct catalog_version *v, const char *summary)
{
	struct metadata md = {0};
	if (!summary || parse_summary(summary, &md) < 0)
		return catalog_rebuild_metrics(conn, v->model_id, v->number, NULL, 0);
	auto_free struct catalog_metric *metrics = calloc(md.n_metrics + 1, sizeof *metrics);
	for (unsigned i = 0; metrics && i < md.n_metrics; i++)
		metrics[i] = (struct catalog_metric){md.metrics[i].name, md.metrics[i].value};
	int rc = metrics ? catalog_rebuild_metrics(conn, v->model_id, v->number, metrics, md.n_metrics) : -ENOMEM;
	metadata_release(&md);
	return rc;
}

static int metrics_write(struct catalog_conn *conn, void *arg)
{
	const struct problem *p = arg;
	struct catalog_version v;
	struct catalog_version_text text = {0};
	int rc = catalog_version_get(conn, p->id, &v);
	if (rc < 0 || v.state != CATALOG_COMMITTED)
		return rc;
	rc = catalog_version_text(conn, p->id, &text);
	if (rc == 0)
		rc = write_metrics(conn, &v, text.metrics_summary);
	catalog_version_text_release(&text);
	return rc;
}

int repair_metrics(struct fsck *k, const struct problem *p, char *words, size_t size)
{
	struct problem copy = *p;
	int rc = catalog_write(k->r->catalog, true, metrics_write, &copy);
	snprintf(words, size, "taken anew from metrics_summary");
	return rc < 0 ? rc : 1;
}
