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
	*refs = (struct references){0};
}

struct piece { struct references *refs; int64_t last; unsigned n; };

static int take_reference(const struct catalog_reference *x, void *arg)
{
	struct piece *p = arg;
	p->last = x->file_id;
	p->n++;
	if (x->state != CATALOG_COMMITTED && x->retired_ns <= p->refs->retired_since_ns)
		return 0;
	return references_add(p->refs, x->blob);
}

static int read_piece(struct references *refs, struct catalog_conn *conn, struct piece *p)
{
	*p = (struct piece){.refs = refs, .last = p->last};
	return catalog_reference_list(conn, p->last, PIECE_ENTRIES, take_reference, p);
}

int references_newer(struct references *refs, struct catalog_conn *conn, int64_t *ret_last)
{
	struct piece p = {.last = refs->last_file};
	int rc;
	do
		rc = read_piece(refs, conn, &p);
	while (rc == 0 && p.n == PIECE_ENTRIES);
	if (rc == 0)
		*ret_last = p.last;
	return rc;
}

int references_collect(struct registry *r, int64_t retired_since_ns, struct references *ret)
{
	auto_references struct references refs = {.retired_since_ns = retired_since_ns};
	struct piece p = {.n = PIECE_ENTRIES};
	int rc = 0;
	while (rc == 0 && p.n == PIECE_ENTRIES) {
		auto_read struct catalog_conn *conn = NULL;
		rc = catalog_read_begin(r->catalog, &conn);
		if (rc == 0)
			rc = read_piece(&refs, conn, &p);
	}
	if (rc < 0)
		return rc;
	refs.last_file = p.last;
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
