/* fsck: hashing contents, at a pace, and from where an earlier run was interrupted.
 *
 * Contents are hashed in the order of their names, so a place is one name. It stands in run/verify, a few lines of text:
 *
 *   mintfs verify 1
 *   after <sha256, the last that was looked at> <bytes hashed so far>
 *   bad <sha256>            … each that was found damaged; they are hashed again, since they may have been healed
 *
 * It is written every few seconds and at an interruption, and removed at the end of a whole run. A file that cannot be understood means: from the beginning. */
#include "fsck.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define PLACE "run/verify"
#define PLACE_HEAD "mintfs verify 1\n"
#define PLACE_MAX (4u << 20)
#define SAVE_NS (5 * NS_PER_SEC)
#define PIECE (1u << 20)
#define NAP_NS (NS_PER_SEC / 10)

struct bad_list { struct blob_id *v; size_t n, cap; };

struct verify {
	struct fsck *k;
	struct blob_hasher *hasher;
	char *piece;
	struct blob_id after, resume; /* the last looked at; the one to resume behind */
	bool any, resuming;
	uint64_t done, all, hashed;   /* bytes: of the whole run, of the store, of this process */
	int64_t began_ns, saved_ns;
	struct bad_list earlier, bad; /* of the run that is resumed, and of both */
};

static int add_bad(struct bad_list *l, const struct blob_id *id)
{
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 16;
		struct blob_id *v = reallocarray(l->v, cap, sizeof *v);
		if (!v)
			return -ENOMEM;
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n++] = *id;
	return 0;
}

static bool is_bad(const struct bad_list *l, const struct blob_id *id)
{
	for (size_t i = 0; i < l->n; i++)
		if (blob_id_equal(&l->v[i], id))
			return true;
	return false;
}

/* ---- the place ---- */

static int parse_line(struct verify *v, const char *line)
{
	char hex[BLOB_HEX_SIZE];
	struct blob_id id;
	uint64_t bytes;
	if (sscanf(line, "after %64[0-9a-f] %" SCNu64, hex, &bytes) == 2 && blob_id_parse(hex, &v->resume) == 0) {
		v->resuming = true;
		v->done = bytes;
		return 0;
	}
	return sscanf(line, "bad %64[0-9a-f]", hex) == 1 && blob_id_parse(hex, &id) == 0 ? add_bad(&v->earlier, &id) : -EINVAL;
}

static void load_place(struct verify *v)
{
	auto_free char *text = NULL;
	size_t len;
	char *save = NULL;
	if (sys_read_file(v->k->r->dirfd, PLACE, PLACE_MAX, &text, &len) < 0 || strncmp(text, PLACE_HEAD, strlen(PLACE_HEAD)) != 0)
		return;
	int rc = 0;
	for (char *line = strtok_r(text + strlen(PLACE_HEAD), "\n", &save); line && rc == 0; line = strtok_r(NULL, "\n", &save))
		rc = parse_line(v, line);
	if (rc == 0 && v->resuming)
		return;
	v->resuming = false;
	v->done = 0;
	v->earlier.n = 0;
}

/* Where it cannot be written (a read-only store) the next run begins anew. */
static void save_place(struct verify *v)
{
	auto_buf struct buf text = BUF_INIT(PLACE_MAX);
	char hex[BLOB_HEX_SIZE];
	if (!v->any)
		return;
	blob_id_hex(&v->after, hex);
	buf_puts(&text, PLACE_HEAD);
	buf_printf(&text, "after %s %" PRIu64 "\n", hex, v->done);
	for (size_t i = 0; i < v->bad.n; i++) {
		blob_id_hex(&v->bad.v[i], hex);
		buf_printf(&text, "bad %s\n", hex);
	}
	if (!text.error)
		sys_write_file_durably(v->k->r->dirfd, PLACE, buf_text(&text), text.len, 0600);
	v->saved_ns = time_monotonic_ns();
}

/* ---- hashing ---- */

static int keep_pace(struct verify *v)
{
	uint64_t rate = v->k->how->rate;
	while (rate > 0) {
		int64_t due = v->began_ns + (int64_t)((double)v->hashed / (double)rate * NS_PER_SEC), left = due - time_monotonic_ns();
		if (left <= 0)
			break;
		if (!fsck_go_on(v->k))
			return -ECANCELED;
		struct timespec nap = ns_timespec(left < NAP_NS ? left : NAP_NS);
		nanosleep(&nap, NULL);
	}
	return fsck_go_on(v->k) ? 0 : -ECANCELED;
}

static int hash(struct verify *v, int fd, struct blob_id *ret, uint64_t *ret_size)
{
	uint64_t at = 0;
	ssize_t n;
	posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
	posix_fadvise(fd, 0, 0, POSIX_FADV_NOREUSE); /* what trainers use stays in the page cache (Linux 6.3) */
	do {
		n = sys_pread_full(fd, v->piece, PIECE, (off_t)at);
		int rc = n < 0 ? (int)n : blob_hasher_add(v->hasher, v->piece, (size_t)n);
		if (rc == 0) {
			at += (uint64_t)n;
			v->hashed += (uint64_t)n;
			rc = keep_pace(v);
		}
		if (rc < 0) {
			struct blob_id rest;
			blob_hasher_finish(v->hasher, &rest); /* ready for the next */
			return rc;
		}
		if (v->k->how->progress)
			v->k->how->progress(v->done + at, v->all, v->k->how->arg);
	} while (n == PIECE);
	*ret_size = at;
	return blob_hasher_finish(v->hasher, ret);
}

static int look(struct verify *v, const struct blob_id *id, uint64_t size, char *text, size_t text_size)
{
	char hex[BLOB_HEX_SIZE], found_hex[BLOB_HEX_SIZE];
	struct blob_id found;
	uint64_t found_size;
	auto_close int fd = blob_open(v->k->r->blobs, id);
	if (fd < 0)
		return fd == -ENOENT ? 1 : fd; /* retired and freed meanwhile; what is really missing the scan has told */
	int rc = hash(v, fd, &found, &found_size);
	if (rc < 0)
		return rc;
	if (found_size == size && blob_id_equal(&found, id))
		return 1;
	blob_id_hex(id, hex);
	blob_id_hex(&found, found_hex);
	snprintf(text, text_size, "the content %s has changed: the SHA-256 of its %" PRIu64 " bytes is %s", hex, found_size, found_hex);
	return 0;
}

int verify_blob(struct verify *v, const struct blob_id *id, uint64_t size, char *text, size_t text_size)
{
	if (v->resuming && memcmp(id, &v->resume, sizeof *id) <= 0 && !is_bad(&v->earlier, id))
		return 1;
	bool counted = v->resuming && memcmp(id, &v->resume, sizeof *id) <= 0;
	int rc = look(v, id, size, text, text_size);
	if (rc == -ECANCELED || rc == -ENOMEM)
		return rc;
	if (rc == 0 && add_bad(&v->bad, id) < 0)
		return -ENOMEM;
	if (!counted) {
		v->after = *id;
		v->any = true;
		v->done += size;
	}
	if (time_monotonic_ns() - v->saved_ns > SAVE_NS)
		save_place(v);
	return rc;
}

uint64_t verify_done(const struct verify *v) { return v->hashed; }

/* ---- begin and end ---- */

static int sum_up(struct registry *r, uint64_t *ret)
{
	struct catalog_totals t;
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	if (rc == 0)
		rc = catalog_totals_get(conn, &t);
	if (rc == 0)
		*ret = t.stored_bytes;
	return rc;
}

int verify_begin(struct fsck *k, struct verify **ret)
{
	struct verify *v = calloc(1, sizeof *v);
	if (!v)
		return -ENOMEM;
	v->k = k;
	v->piece = malloc(PIECE);
	int rc = v->piece ? blob_hasher_new(&v->hasher) : -ENOMEM;
	if (rc == 0)
		rc = sum_up(k->r, &v->all);
	if (rc < 0) {
		verify_end(v, false);
		return rc;
	}
	if (!k->how->restart)
		load_place(v);
	v->after = v->resume;
	v->any = v->resuming;
	k->sum.resumed = v->resuming;
	v->began_ns = v->saved_ns = time_monotonic_ns();
	*ret = v;
	return 0;
}

void verify_end(struct verify *v, bool complete)
{
	if (!v)
		return;
	if (complete)
		sys_unlinkat(v->k->r->dirfd, PLACE, 0);
	else if (v->hasher)
		save_place(v);
	blob_hasher_free(v->hasher);
	free(v->piece);
	free(v->earlier.v);
	free(v->bad.v);
	free(v);
}
