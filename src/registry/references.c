/* Which contents are needed: those of committed versions, and of versions retired not long ago. For sweeps and fsck. */
#include "keeping.h"

#include <errno.h>

#define PIECE_ENTRIES 50000 /* of one snapshot: some 50 ms */
#define BLOBS_MAX (INT64_C(1) << 36) /* an id beyond is damage; a bit for each would not fit into memory */

int references_add(struct references *refs, int64_t blob)
{
	size_t word = (size_t)(blob / 64);
	if (blob <= 0 || blob > BLOBS_MAX)
		return -EUCLEAN;
	if (word >= refs->n_words) {
		size_t n = word + word / 2 + 1024;
		uint64_t *bits = realloc(refs->bits, n * sizeof *bits);
		if (!bits)
			return -ENOMEM;
		for (size_t i = refs->n_words; i < n; i++)
			bits[i] = 0;
		refs->bits = bits;
		refs->n_words = n;
	}
	refs->bits[word] |= UINT64_C(1) << (blob % 64);
	return 0;
}

bool references_has(const struct references *refs, int64_t blob)
{
	size_t word = (size_t)(blob / 64);
	return blob > 0 && word < refs->n_words && (refs->bits[word] >> (blob % 64) & 1);
}

void references_release(struct references *refs)
{
	free(refs->bits);
	free(refs->open);
	*refs = (struct references){0};
}

/* Rows of a draft that is being committed: more of them may come, below ids that have been passed by then. */
static int note_open(struct references *refs, const struct catalog_reference *x)
{
	struct open_range *o = refs->n_open > 0 ? &refs->open[refs->n_open - 1] : NULL;
	if (!o || o->end != x->ahead_end) {
		struct open_range *open = reallocarray(refs->open, refs->n_open + 1, sizeof *open);
		if (!open)
			return -ENOMEM;
		refs->open = open;
		o = &open[refs->n_open++];
		*o = (struct open_range){.end = x->ahead_end, .upto = x->file_id - 1};
	}
	o->seen = x->file_id;
	return 0;
}

struct piece { struct references *refs; int64_t last; unsigned n; bool ranges; /* note them: they are passed for the first time */ };

static int take_reference(const struct catalog_reference *x, void *arg)
{
	struct piece *p = arg;
	bool ahead = p->refs->with_drafts && x->ahead_end != 0;
	p->last = x->file_id;
	p->n++;
	if (ahead && p->ranges) {
		int rc = note_open(p->refs, x);
		if (rc < 0)
			return rc;
	}
	if (x->blob == 0 || (!ahead && x->state != CATALOG_COMMITTED && x->retired_ns <= p->refs->retired_since_ns))
		return 0;
	return references_add(p->refs, x->blob);
}

/* Entries behind p->last. */
static int read_piece(struct references *refs, struct catalog_conn *conn, struct piece *p, int64_t end)
{
	*p = (struct piece){.refs = refs, .last = p->last, .ranges = p->ranges};
	return catalog_reference_list(conn, p->last, end, PIECE_ENTRIES, take_reference, p);
}

static int read_upto(struct references *refs, struct catalog_conn *conn, struct piece *p, int64_t end)
{
	int rc;
	do
		rc = read_piece(refs, conn, p, end);
	while (rc == 0 && p->n == PIECE_ENTRIES);
	return rc;
}

int references_newer(struct references *refs, struct catalog_conn *conn)
{
	int rc = 0;
	size_t known = refs->n_open; /* those that are noted below are seen as they are now */
	for (size_t i = 0; rc == 0 && i < known; i++) {
		struct piece p = {.last = refs->open[i].upto};
		rc = read_upto(refs, conn, &p, refs->open[i].end);
		refs->open[i].seen = p.last;
	}
	struct piece p = {.last = refs->last_file, .ranges = true};
	if (rc == 0)
		rc = read_upto(refs, conn, &p, INT64_MAX);
	refs->last_seen = p.last;
	return rc;
}

void references_keep(struct references *refs)
{
	refs->last_file = refs->last_seen;
	for (size_t i = 0; i < refs->n_open; i++)
		refs->open[i].upto = refs->open[i].seen;
}

int references_collect(struct registry *r, int64_t retired_since_ns, bool with_drafts, struct references *ret)
{
	auto_references struct references refs = {.retired_since_ns = retired_since_ns, .with_drafts = with_drafts};
	struct piece p = {.n = PIECE_ENTRIES, .ranges = true};
	int rc = 0;
	while (rc == 0 && p.n == PIECE_ENTRIES) {
		auto_read struct catalog_conn *conn = NULL;
		rc = catalog_read_begin(r->catalog, &conn);
		if (rc == 0)
			rc = read_piece(&refs, conn, &p, INT64_MAX);
	}
	if (rc < 0)
		return rc;
	refs.last_seen = p.last;
	references_keep(&refs);
	*ret = refs;
	refs = (struct references){0};
	return 0;
}

static int take_row(const struct catalog_blob *b, void *arg)
{
	struct blob_rows *l = arg;
	if (l->n == l->cap) {
		size_t cap = l->cap ? 2 * l->cap : 256;
		struct catalog_blob *v = reallocarray(l->v, cap, sizeof *v);
		if (!v)
			return -ENOMEM;
		l->v = v;
		l->cap = cap;
	}
	l->v[l->n++] = *b;
	return 0;
}

int blob_rows_read(struct registry *r, uint8_t first_byte, struct blob_rows *ret)
{
	ret->n = 0;
	auto_read struct catalog_conn *conn = NULL;
	int rc = catalog_read_begin(r->catalog, &conn);
	return rc < 0 ? rc : catalog_blob_shard(conn, first_byte, take_row, ret);
}

void blob_rows_release(struct blob_rows *l)
{
	free(l->v);
	*l = (struct blob_rows){0};
}
