/* gc: frees the contents that nobody needs.
 *
 *   references (a bit a content) → each of the 256 directories: what is there, less what is needed → in small groups: look again and remove, in one transaction
 *
 * A commit puts its contents first and records them later, in a transaction that looks whether they are still there and else puts them again (commit.c). A removal runs in a
 * transaction too, and there is one at a time in a store; in it the entries that came since the references were read are looked at, those ahead of a commit as well. So a content goes only
 * while nobody refers to it, and who was about to refer to it finds it gone. The grace period only spares such commits the second time, and gives readers of a retired version time to end.
 *
 * Removed is unlinked within the transaction and freed after it: the bytes hang at a descriptor until then, since to free gigabytes takes long and everybody waits for the
 * transaction. A death in between leaves contents that are gone and not recorded as freed; nobody needs them, and the next gc records it. */
#include "intake.h"
#include "keeping.h"

#include <errno.h>
#include <string.h>

#define GROUP 64 /* removals of one transaction: a few milliseconds */

struct victim { struct blob_id id; uint64_t size; bool gone, removed; int fd; };

struct sweep {
	struct registry *r;
	const struct registry_gc *how;
	struct registry_gc_result sum;
	struct references refs;
	struct blob_rows rows; /* of the directory at hand */
	size_t at;             /* the next of them */
	int64_t young_ns;      /* what was changed after that stays */
	int64_t now_ns;
	struct victim group[GROUP];
	unsigned n;
	enum { MAY_CLEAR_UNKNOWN, MAY_CLEAR, MAY_NOT_CLEAR } flag; /* the immutable one, which a drive that root mounted sets in an ordinary user's store, too */
};

static int remove_one(struct sweep *s, struct catalog_conn *conn, struct victim *v)
{
	struct catalog_blob row = {0};
	int rc = catalog_blob_find(conn, &v->id, &row);
	v->removed = false;
	if (rc < 0 && rc != -ENOENT)
		return rc;
	if (row.id && references_has(&s->refs, row.id))
		return 0;
	rc = blob_remove(s->r->blobs, &v->id);
	if (rc == 0 && row.id)
		rc = catalog_absent_set(conn, row.id, CATALOG_FREED, s->now_ns, NULL);
	v->removed = rc == 0;
	return rc;
}

static int sweep_write(struct catalog_conn *conn, void *arg)
{
	struct sweep *s = arg;
	int rc = references_newer(&s->refs, conn);
	for (unsigned i = 0; rc == 0 && i < s->n; i++)
		rc = remove_one(s, conn, &s->group[i]);
	sys_crash_point("gc.in-transaction");
	return rc;
}

static void count_victim(struct sweep *s, const struct victim *v)
{
	if (v->gone)
		return;
	s->sum.freed++;
	s->sum.freed_bytes += v->size;
	if (s->how->fn)
		s->how->fn(&v->id, v->size, s->how->arg);
}

static int sweep_group(struct sweep *s)
{
	int rc = 0;
	for (unsigned i = 0; i < s->n && !s->how->dry_run; i++)
		s->group[i].fd = s->group[i].gone ? -1 : blob_open(s->r->blobs, &s->group[i].id); /* keeps the bytes: see above. Without it, it only takes longer. */
	if (s->n > 0 && !s->how->dry_run) {
		rc = catalog_write(s->r->catalog, false, sweep_write, s);
		if (rc == 0)
			references_keep(&s->refs);
		sys_crash_point("gc.recorded");
	}
	for (unsigned i = 0; i < s->n; i++) {
		struct victim *v = &s->group[i];
		if (rc == 0 && (s->how->dry_run || v->removed))
			count_victim(s, v);
		if (!s->how->dry_run && v->fd >= 0)
			close(v->fd);
	}
	s->n = 0;
	return rc;
}

static int add_victim(struct sweep *s, const struct blob_id *id, uint64_t size, bool gone)
{
	s->group[s->n++] = (struct victim){.id = *id, .size = size, .gone = gone, .fd = -1};
	return s->n == GROUP ? sweep_group(s) : 0;
}

/* A row whose content is neither needed nor there: a death between removal and record. */
static int pass_row(struct sweep *s, const struct catalog_blob *row)
{
	return row->absence == CATALOG_PRESENT && !references_has(&s->refs, row->id) ? add_victim(s, &row->sha256, row->size, true) : 0;
}

static int pass_rows_before(struct sweep *s, const struct blob_id *id)
{
	int rc = 0;
	while (rc == 0 && s->at < s->rows.n && (!id || memcmp(&s->rows.v[s->at].sha256, id, sizeof *id) < 0))
		rc = pass_row(s, &s->rows.v[s->at++]);
	return rc;
}

/* Tried once, and only where it matters. */
static bool may_clear_flag(struct sweep *s)
{
	if (s->flag == MAY_CLEAR_UNKNOWN)
		s->flag = blob_can_protect(s->r->blobs) ? MAY_CLEAR : MAY_NOT_CLEAR;
	return s->flag == MAY_CLEAR;
}

static void count_sealed(struct sweep *s, const struct blob_id *id, uint64_t size)
{
	s->sum.sealed++;
	s->sum.sealed_bytes += size;
	if (s->how->sealed)
		s->how->sealed(id, size, s->how->arg);
}

static int look_at_blob(const struct blob_found *b, void *arg)
{
	struct sweep *s = arg;
	if (!b->is_blob) /* strays are for fsck */
		return 0;
	int rc = pass_rows_before(s, &b->id);
	const struct catalog_blob *row = s->at < s->rows.n && blob_id_equal(&s->rows.v[s->at].sha256, &b->id) ? &s->rows.v[s->at++] : NULL;
	if (rc < 0)
		return rc;
	if (row && references_has(&s->refs, row->id)) {
		s->sum.kept++;
		s->sum.kept_bytes += b->size;
		return 0;
	}
	if (b->ctime_ns > s->young_ns) {
		s->sum.young++;
		s->sum.young_bytes += b->size;
		return 0;
	}
	if (b->immutable && !may_clear_flag(s)) {
		count_sealed(s, &b->id, b->size);
		return 0;
	}
	return add_victim(s, &b->id, b->size, false);
}

static int sweep_shard(struct sweep *s, uint8_t shard)
{
	s->at = 0;
	int rc = blob_rows_read(s->r, shard, &s->rows);
	if (rc == 0)
		rc = blob_scan(s->r->blobs, shard, look_at_blob, s);
	return rc == 0 ? pass_rows_before(s, NULL) : rc;
}

/* A content whose row is not found by its digest looks as if nobody needed it: one byte of a damaged index is enough. */
static int check_rows(struct registry *r)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	return rc == 0 ? catalog_audit_blobs(conn) : rc;
}

int registry_gc(struct registry *r, const struct registry_gc *how, struct registry_gc_result *ret, struct fault *f)
{
	struct sweep s = {.r = r, .how = how, .now_ns = time_now_ns()};
	if (r->read_only && !how->dry_run)
		return refuse(f, VERDICT_READ_ONLY, "the store is open for reading only: nothing can be freed");
	s.young_ns = s.now_ns - how->grace_ns;
	int rc = check_rows(r);
	if (rc == 0 && !how->dry_run) /* first what imports that died have brought: it holds the space of contents that are swept */
		intake_sweep(r->dirfd, r->blobs, r->catalog, r->log);
	if (rc == 0)
		rc = references_collect(r, s.young_ns, true, &s.refs);
	for (unsigned shard = 0; rc == 0 && shard < 256; shard++)
		rc = sweep_shard(&s, (uint8_t)shard);
	if (rc == 0)
		rc = sweep_group(&s);
	references_release(&s.refs);
	blob_rows_release(&s.rows);
	if (s.sum.freed > 0 && !how->dry_run)
		log_info(r->log, "gc: %llu contents freed, %llu bytes", (unsigned long long)s.sum.freed, (unsigned long long)s.sum.freed_bytes);
	if (rc < 0)
		return refuse_system(f, rc, "the contents cannot be swept");
	*ret = s.sum;
	return 0;
}
