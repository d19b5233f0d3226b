/* The content-addressed store as its callers see it: each call goes to the implementation that was opened. What does
 * not depend on where the bytes lie is done here: names of blobs and the check that a blob holds what its name says. */
#include "store.h"

#include <errno.h>
#include <inttypes.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <string.h>

void blob_id_hex(const struct blob_id *id, char out[BLOB_HEX_SIZE])
{
	hex_encode(id->sha256, BLOB_ID_SIZE, out);
}

int blob_id_parse(const char *hex, struct blob_id *ret)
{
	struct blob_id id = {{0}};
	int r = hex_decode(hex, BLOB_ID_SIZE, id.sha256);

	if (r < 0)
		return r;
	*ret = id;
	return 0;
}

const char *blob_error_text(int error)
{
	const char *text = strerrordesc_np(error);

	return text ? text : "unknown error";
}

void blob_store_close(struct blob_store *s)
{
	if (s)
		s->ops->close(s);
}

int blob_put_batch(struct blob_store *s, struct blob_item *items, size_t n, struct fault *f)
{
	return n == 0 ? 0 : s->ops->put_batch(s, items, n, f);
}

int blob_still_put(struct blob_store *s, const struct blob_item *item)
{
	return s->ops->still_put(s, item);
}

/* What is refused for good is refused again: by the kind of file system, or for want of a right. */
static bool may_do_better(int error)
{
	return error == -EIO || error == -ENOSPC || error == -EDQUOT || error == -EMFILE || error == -ENFILE || error == -ENOMEM || error == -EINTR;
}

int blob_seal(struct blob_store *s, const struct blob_id *id, uint64_t inode)
{
	struct fault f = FAULT_INIT;
	uint64_t size;
	int r = s->ops->seal(s, id, inode, &size);

	if (r == -EMLINK) {
		r = blob_make_private(s, id, size, &f);
		if (r < 0)
			log_warning(s->log, "%s", f.text);
	}
	return may_do_better(r) ? r : 0;
}

int blob_open(struct blob_store *s, const struct blob_id *id)
{
	return s->ops->open(s, id);
}

int blob_size(struct blob_store *s, const struct blob_id *id, uint64_t *ret_size)
{
	return s->ops->size(s, id, ret_size);
}

bool blob_is_sealed(struct blob_store *s, const struct blob_id *id, uint64_t size)
{
	return s->ops->is_sealed(s, id, size);
}

int blob_verify(struct blob_store *s, const struct blob_id *id, uint64_t expected_size, struct fault *f)
{
	char hex[BLOB_HEX_SIZE], found_hex[BLOB_HEX_SIZE];
	auto_close int fd = -1;
	struct blob_id found;
	uint64_t size;
	int r;

	blob_id_hex(id, hex);
	fd = blob_open(s, id);
	if (fd < 0)
		return fault_set(f, -fd, "blob %s: cannot be opened: %s", hex, blob_error_text(-fd));
	r = blob_hash_fd(fd, NULL, &found, &size);
	if (r < 0)
		return fault_set(f, -r, "blob %s: cannot be read: %s", hex, blob_error_text(-r));
	if (size != expected_size)
		return fault_set(f, EIO, "blob %s: holds %" PRIu64 " bytes instead of %" PRIu64, hex, size, expected_size);
	if (!blob_id_equal(id, &found)) {
		blob_id_hex(&found, found_hex);
		return fault_set(f, EIO, "blob %s: its bytes have changed, their SHA-256 is %s", hex, found_hex);
	}
	return 0;
}

int blob_remove(struct blob_store *s, const struct blob_id *id)
{
	return s->ops->remove(s, id);
}

int blob_each(struct blob_store *s, blob_each_fn *fn, void *arg)
{
	return s->ops->each(s, fn, arg);
}

int blob_scan(struct blob_store *s, int first_byte, blob_found_fn *fn, void *arg)
{
	return s->ops->scan(s, first_byte, fn, arg);
}

bool blob_can_protect(struct blob_store *s)
{
	return s->ops->can_protect(s);
}

int blob_set_aside(struct blob_store *s, const char *name, int newdir, const char *newname)
{
	return s->ops->set_aside(s, name, newdir, newname);
}

int blob_make_private(struct blob_store *s, const struct blob_id *id, uint64_t size, struct fault *f)
{
	int r = blob_verify(s, id, size, f);

	if (r == 0)
		r = s->ops->make_private(s, id, size);
	return r < 0 ? fault_default(f, -r, "no copy of it can be made: %s", blob_error_text(-r)) : 0;
}
