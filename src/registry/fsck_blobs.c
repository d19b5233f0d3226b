/* fsck: the catalog against the contents, one of the 256 directories at a time.
 *
 * Rows are read before the directory: a commit puts contents first and records them later, so a row that was read has its file, unless it is lost. What came after the
 * references were collected is not looked at. A sweep may take what is retired meanwhile: so what seems to be missing is looked for once more before it is told. */
#include "fsck.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define WORK_NS (60 * NS_PER_SEC) /* what changed less than a minute ago may be a commit under way */

#define UNPROTECTED_NAMED 3 /* a store that was copied by other means has lost the flag of all its contents */

struct shard {
	struct fsck *k;
	struct blob_rows rows;
	size_t at;
	uint64_t unneeded, unneeded_bytes;
	uint64_t immutable;   /* contents that are needed and have the flag */
	uint64_t unprotected; /* that lack it */
	struct blob_id first[UNPROTECTED_NAMED]; /* of these */
};

static struct problem *note(struct fsck *k, const struct catalog_blob *row, struct problem *p)
{
	if (!p)
		return NULL;
	p->has_blob = true;
	p->blob = row->sha256;
	p->size = row->size;
	p->id = row->id;
	return p;
}

static int note_bad(struct fsck *k, const struct catalog_blob *row, struct problem *p)
{
	return note(k, row, p) ? references_add(&k->bad, row->id) : -ENOMEM;
}

/* ---- missing ---- */

struct missing { struct fsck *k; const struct catalog_blob *row; bool is, freed; /* it is gone: and should be there, or was freed */ };

static int look_for_missing(void *arg)
{
	struct missing *m = arg;
	struct catalog_blob now = {0};
	uint64_t size;
	auto_read struct catalog_conn *conn = NULL;
	int rc = blob_size(m->k->r->blobs, &m->row->sha256, &size);
	m->is = m->freed = false;
	if (rc != -ENOENT)
		return 0;
	rc = catalog_read_begin(m->k->r->catalog, &conn);
	if (rc == 0)
		rc = catalog_blob_find(conn, &m->row->sha256, &now);
	m->freed = rc == 0 && now.absence == CATALOG_FREED;
	m->is = rc == 0 && !m->freed;
	return rc;
}

/* A sweep takes a content away first and records that then, in one transaction: what seems to be missing is looked for again under the store's lock. */
static bool still_missing(struct fsck *k, const struct catalog_blob *row)
{
	struct missing m = {.k = k, .row = row};
	return look_for_missing(&m) == 0 && m.is && (k->r->read_only || (catalog_locked(k->r->catalog, look_for_missing, &m) == 0 && m.is));
}

/* On one snapshot: a commit that brings it back ends both at once. */
static bool is_freed_and_held(struct fsck *k, const struct blob_id *id)
{
	auto_read struct catalog_conn *conn = NULL;
	struct catalog_blob now;
	bool held = false;
	return catalog_read_begin(k->r->catalog, &conn) == 0 && catalog_blob_find(conn, id, &now) == 0 && now.absence == CATALOG_FREED &&
		catalog_blob_committed(conn, id, &held) == 0 && held;
}

/* A sweep frees what is retired while we look; what a committed version holds it never should. To ask for one reads all entries, so most are told by what is held by now. */
static bool freed_though_held(struct fsck *k, const struct catalog_blob *row)
{
	struct missing m = {.k = k, .row = row};
	if (look_for_missing(&m) < 0 || !m.freed)
		return false;
	if (!k->later.bits && references_collect(k->r, INT64_MAX, false, &k->later) < 0)
		return false;
	return references_has(&k->later, row->id) && is_freed_and_held(k, &row->sha256);
}

static int pass_row(struct fsck *k, const struct catalog_blob *row)
{
	char hex[BLOB_HEX_SIZE];
	if (!references_has(&k->live, row->id) || !(still_missing(k, row) || freed_though_held(k, row)))
		return 0;
	k->sum.contents++;
	blob_id_hex(&row->sha256, hex);
	return note_bad(k, row, fsck_note(k, FOUND_BLOB_MISSING, "the content %s (%" PRIu64 " bytes) is missing", hex, row->size));
}

static int pass_rows_before(struct shard *s, const struct blob_id *id)
{
	int rc = 0;
	while (rc == 0 && s->at < s->rows.n && (!id || memcmp(&s->rows.v[s->at].sha256, id, sizeof *id) < 0))
		rc = pass_row(s->k, &s->rows.v[s->at++]);
	return rc;
}

/* ---- there ---- */

/* The inode that is looked at, so that a repair takes that one away and not what healed it meanwhile. */
static uint64_t inode_of(struct fsck *k, const struct blob_id *id)
{
	struct stat st;
	auto_close int fd = blob_open(k->r->blobs, id);
	return fd >= 0 && sys_fstat(fd, &st) == 0 ? st.st_ino : 0;
}

static int note_damaged(struct fsck *k, const struct catalog_blob *row, enum finding kind, const char *text)
{
	struct problem *p = fsck_note(k, kind, "%s", text);
	if (p)
		p->ino = inode_of(k, &row->sha256);
	return note_bad(k, row, p);
}

static int verify(struct fsck *k, const struct catalog_blob *row)
{
	char text[FAULT_TEXT_MAX], hex[BLOB_HEX_SIZE];
	int rc = verify_blob(k->verify, &row->sha256, row->size, text, sizeof text);
	if (rc == 0)
		return note_damaged(k, row, FOUND_BLOB_DAMAGED, text);
	if (rc >= 0 || rc == -ECANCELED || rc == -ENOMEM)
		return rc < 0 ? rc : 0;
	blob_id_hex(&row->sha256, hex);
	return note(k, row, fsck_note(k, FOUND_BLOB_UNREADABLE, "the content %s cannot be read: %s", hex, strerror(-rc))) ? 0 : -ENOMEM;
}

static int check_seal(struct fsck *k, const struct catalog_blob *row, const struct blob_found *b)
{
	char hex[BLOB_HEX_SIZE];
	blob_id_hex(&row->sha256, hex);
	if (b->sealed || b->ctime_ns > k->began_ns - WORK_NS)
		return 0;
	if (b->links > 1)
		return note(k, row, fsck_note(k, FOUND_BLOB_UNSEALED, "the content %s has another name by which it can be changed", hex)) ? 0 : -ENOMEM;
	return note(k, row, fsck_note(k, FOUND_BLOB_UNSEALED, "the content %s is not read-only", hex)) ? 0 : -ENOMEM;
}

static int check_blob(struct fsck *k, const struct catalog_blob *row, const struct blob_found *b)
{
	char text[256], hex[BLOB_HEX_SIZE];
	blob_id_hex(&row->sha256, hex);
	k->sum.contents++;
	if (b->size != row->size) {
		snprintf(text, sizeof text, "the content %s holds %" PRIu64 " bytes instead of %" PRIu64, hex, b->size, row->size);
		return note_damaged(k, row, FOUND_BLOB_SIZE, text);
	}
	int rc = check_seal(k, row, b);
	if (rc == 0 && row->absence != CATALOG_PRESENT && !note(k, row, fsck_note(k, FOUND_BLOB_RETURNED, "the content %s is there, though it is recorded as %s", hex,
			row->absence == CATALOG_FREED ? "freed" : "damaged")))
		rc = -ENOMEM;
	return rc == 0 && k->verify ? verify(k, row) : rc;
}

static void look_at_flag(struct shard *s, const struct blob_found *b)
{
	s->immutable += b->immutable;
	if (!b->lacks_flag || b->ctime_ns > s->k->began_ns - WORK_NS) /* a commit seals last */
		return;
	if (s->unprotected < UNPROTECTED_NAMED)
		s->first[s->unprotected] = b->id;
	s->unprotected++;
}

static int note_stray(struct fsck *k, const char *name)
{
	struct problem *p = fsck_note(k, FOUND_STRAY, "blobs/%s belongs to nothing", name);
	if (!p)
		return -ENOMEM;
	return asprintf(&p->name, "blobs/%s", name) < 0 ? -ENOMEM : 0;
}

static int look_at_blob(const struct blob_found *b, void *arg)
{
	struct shard *s = arg;
	if (!b->is_blob)
		return note_stray(s->k, b->name);
	int rc = pass_rows_before(s, &b->id);
	const struct catalog_blob *row = s->at < s->rows.n && blob_id_equal(&s->rows.v[s->at].sha256, &b->id) ? &s->rows.v[s->at++] : NULL;
	if (rc < 0)
		return rc;
	if (row && references_has(&s->k->live, row->id)) {
		look_at_flag(s, b);
		return check_blob(s->k, row, b);
	}
	s->unneeded++;
	s->unneeded_bytes += b->size;
	return 0;
}

static int check_shard(struct shard *s, uint8_t shard)
{
	s->at = 0;
	int rc = blob_rows_read(s->k->r, shard, &s->rows);
	if (rc == 0)
		rc = blob_scan(s->k->r->blobs, shard, look_at_blob, s);
	if (rc == 0)
		rc = pass_rows_before(s, NULL);
	return rc == 0 ? fsck_settle(s->k) : rc;
}

static int look_beside(const struct blob_found *b, void *arg) { return note_stray(arg, b->name); }

/* Nothing is said where it could not have been set, or not by the one who asks. In a store of somebody else than root, contents have it from a drive that root mounted; where none has it there never was
 * such a drive, and its owner could not take the flag off again. */
static int note_unprotected(struct fsck *k, const struct shard *s)
{
	char hex[BLOB_HEX_SIZE];
	auto_buf struct buf names = BUF_INIT(1024);
	if (s->unprotected == 0 || k->r->read_only || (k->r->owner != 0 && s->immutable == 0) || !blob_can_protect(k->r->blobs))
		return 0;
	for (uint64_t i = 0; i < s->unprotected && i < UNPROTECTED_NAMED; i++) {
		blob_id_hex(&s->first[i], hex);
		buf_printf(&names, "%s%s", i ? ", " : "", hex);
	}
	if (s->unprotected > UNPROTECTED_NAMED)
		buf_printf(&names, ", …");
	struct problem *p = fsck_note(k, FOUND_BLOB_UNPROTECTED, "%" PRIu64 " %s (chattr +i), so root could change %s: %s%s", s->unprotected,
		plural(s->unprotected, "content lacks the immutable flag", "contents lack the immutable flag"), plural(s->unprotected, "it", "them"), buf_text(&names),
		k->how->repair ? "" : "; 'mintfs fsck --repair' sets it again");
	if (p && s->unprotected == 1) {
		p->has_blob = true;
		p->blob = s->first[0];
	}
	return p ? 0 : -ENOMEM;
}

int fsck_blobs(struct fsck *k)
{
	struct shard s = {.k = k};
	int rc = blob_scan(k->r->blobs, BLOB_BESIDE, look_beside, k);
	for (unsigned i = 0; rc == 0 && i < 256; i++)
		rc = check_shard(&s, (uint8_t)i);
	blob_rows_release(&s.rows);
	if (rc == 0)
		rc = note_unprotected(k, &s);
	if (rc == 0 && s.unneeded > 0 && !k->live_unknown && /* nobody shall be told to sweep what may be needed */
	    !fsck_note(k, FOUND_BLOB_UNNEEDED, "%" PRIu64 " %s of %" PRIu64 " %s held by no committed version: 'mintfs gc' frees %s", s.unneeded,
		    plural(s.unneeded, "content", "contents"), s.unneeded_bytes, plural(s.unneeded, "bytes is", "bytes are"), plural(s.unneeded, "it", "them")))
		rc = -ENOMEM;
	return rc;
}

/* ---- repairs ---- */

struct mark { const struct problem *p; struct blob_store *blobs; bool marked; };

/* Within the transaction, hence under the store's lock: a commit may have brought it back. */
static int mark_write(struct catalog_conn *conn, void *arg)
{
	struct mark *m = arg;
	struct catalog_blob now;
	uint64_t size;
	m->marked = false;
	if (blob_size(m->blobs, &m->p->blob, &size) != -ENOENT)
		return 0;
	bool held = true; /* if not, it was retired and swept since it was looked at */
	int rc = catalog_blob_find(conn, &m->p->blob, &now);
	if (rc == 0 && now.absence == CATALOG_FREED)
		rc = catalog_blob_committed(conn, &m->p->blob, &held);
	if (rc < 0 || !held)
		return rc;
	m->marked = true;
	return catalog_absent_set(conn, m->p->id, CATALOG_DAMAGED, time_now_ns(), m->p->text);
}

int repair_missing(struct fsck *k, const struct problem *p, char *words, size_t size)
{
	struct mark m = {p, k->r->blobs, false};
	int rc = catalog_write(k->r->catalog, true, mark_write, &m);
	sys_crash_point("fsck.recorded");
	snprintf(words, size, m.marked ? "recorded as damaged; a commit of the same content heals it" : "it came back, or was freed, meanwhile");
	return rc < 0 ? rc : !m.marked;
}

struct aside { struct fsck *k; const struct problem *p; char name[ASIDE_NAME_MAX]; bool moved; };

static int set_aside_locked(void *arg)
{
	struct aside *a = arg;
	char path[BLOB_HEX_SIZE + 1], hex[BLOB_HEX_SIZE];
	if (inode_of(a->k, &a->p->blob) != a->p->ino)
		return 0;
	blob_id_hex(&a->p->blob, hex);
	snprintf(path, sizeof path, "%.2s/%s", hex, hex + 2);
	char prefix[16];
	snprintf(prefix, sizeof prefix, "blob-%.2s", hex);
	int rc = aside_put(a->k->r, true, path, prefix, a->name);
	a->moved = rc == 0;
	return rc == -ENOENT ? 0 : rc;
}

/* First out of the way, then recorded: a death in between leaves a missing content, which reads and commits know what to do with. */
int repair_damaged(struct fsck *k, const struct problem *p, char *words, size_t size)
{
	struct aside a = {.k = k, .p = p};
	int rc = catalog_locked(k->r->catalog, set_aside_locked, &a);
	if (rc == 0)
		rc = repair_missing(k, p, words, size);
	if (rc < 0)
		return rc;
	if (a.moved)
		snprintf(words, size, "moved to %s, and recorded as damaged; a commit of the same content heals it", a.name);
	return a.moved ? 0 : rc;
}

/* Who could write to it may have done so. */
int repair_unsealed(struct fsck *k, const struct problem *p, char *words, size_t size)
{
	struct fault f = FAULT_INIT;
	int rc = blob_make_private(k->r->blobs, &p->blob, p->size, &f);
	if (rc == -EIO) {
		struct problem damaged = *p;
		damaged.ino = inode_of(k, &p->blob);
		return repair_damaged(k, &damaged, words, size);
	}
	if (rc == 0)
		rc = blob_seal(k->r->blobs, &p->blob, 0);
	snprintf(words, size, "hashed, and sealed");
	return rc < 0 ? rc : 1;
}

static int returned_write(struct catalog_conn *conn, void *arg) { return catalog_absent_drop(conn, *(int64_t *)arg); }

int repair_returned(struct fsck *k, const struct problem *p, char *words, size_t size)
{
	int64_t id = p->id;
	int rc = blob_verify(k->r->blobs, &p->blob, p->size, NULL);
	if (rc == -EIO) {
		struct problem damaged = *p;
		damaged.ino = inode_of(k, &p->blob);
		return repair_damaged(k, &damaged, words, size);
	}
	if (rc == 0)
		rc = catalog_write(k->r->catalog, true, returned_write, &id);
	snprintf(words, size, "hashed, and recorded as there");
	return rc < 0 ? rc : 1;
}

struct protecting { struct fsck *k; int refused; /* of one of them: the others get theirs */ };

/* Who could write to it since it lost the flag may have done so; that is what --verify is for. What nobody needs gets none: a sweep would have to take it off. */
static int protect_one(const struct blob_found *b, void *arg)
{
	struct protecting *t = arg;
	struct catalog_blob row;
	auto_read struct catalog_conn *conn = NULL;
	if (!b->is_blob || !b->lacks_flag)
		return 0;
	int rc = catalog_read_begin(t->k->r->catalog, &conn);
	if (rc == 0)
		rc = catalog_blob_find(conn, &b->id, &row);
	if (rc == 0 && references_has(&t->k->live, row.id)) {
		int sealed = blob_seal(t->k->r->blobs, &b->id, 0);
		t->refused = t->refused == 0 ? sealed : t->refused;
	}
	if (rc == -ENOENT)
		rc = 0;
	return rc == 0 && !fsck_go_on(t->k) ? -ECANCELED : rc;
}

int repair_unprotected(struct fsck *k, const struct problem *p, char *words, size_t size)
{
	struct protecting t = {.k = k};
	int rc = 0;
	for (int shard = 0; rc == 0 && shard < 256; shard++)
		rc = blob_scan(k->r->blobs, shard, protect_one, &t);
	snprintf(words, size, "set again");
	rc = rc == 0 ? t.refused : rc;
	return rc < 0 ? rc : 1;
}
