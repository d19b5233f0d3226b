/* Headers of a tar archive. What ustar's fields cannot hold - names over 100 bytes or beyond ASCII, numbers beyond their octal digits - goes into an extended
 * header ('x') before the header itself, which then holds what fits. Times are whole seconds: the manifest has them to the nanosecond, and an extended header for each
 * file would cost 1 KiB. */
#include "tar.h"

#include <errno.h>
#include <inttypes.h>
#include <mintfs/util.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>

struct ustar {
	char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], chksum[8], typeflag, linkname[100], magic[6], version[2], uname[32], gname[32],
		devmajor[8], devminor[8], prefix[155], pad[12];
};
_Static_assert(sizeof(struct ustar) == TAR_BLOCK, "a header is a block");

/* Octal digits and a NUL; a number that does not fit is written as the largest, and the extended header tells the true one. */
static bool put_octal(char *field, size_t width, uint64_t value)
{
	uint64_t most = (UINT64_C(1) << (3 * (width - 1))) - 1;
	bool fits = value <= most;
	char digits[24];

	snprintf(digits, sizeof digits, "%0*" PRIo64, (int)width - 1, fits ? value : most);
	memcpy(field, digits, width);
	return fits;
}

static bool is_plain(const char *text, size_t max)
{
	size_t len = strlen(text);

	for (size_t i = 0; i < len; i++)
		if ((unsigned char)text[i] >= 0x80)
			return false;
	return len <= max;
}

/* Names that do not fit are cut at the front: only readers that know no extended headers see them, and the end tells more. */
static void put_name(char *field, size_t width, const char *name)
{
	size_t len = strlen(name);

	memcpy(field, len > width ? name + len - width : name, len > width ? width : len);
}

static void seal_header(struct ustar *u, char type)
{
	unsigned sum = 0;

	u->typeflag = type;
	memcpy(u->magic, "ustar", 6);
	memcpy(u->version, "00", 2);
	memset(u->chksum, ' ', sizeof u->chksum);
	for (size_t i = 0; i < sizeof *u; i++)
		sum += ((const uint8_t *)u)[i];
	snprintf(u->chksum, sizeof u->chksum, "%06o", sum & 0777777);
	u->chksum[7] = ' ';
}

struct records { char *out; size_t len, max; bool overflow; };

/* "LENGTH KEY=VALUE\n", where LENGTH counts itself. */
static void add_record(struct records *r, const char *key, const char *value)
{
	size_t rest = 1 + strlen(key) + 1 + strlen(value) + 1, len = rest + 1;
	char digits[24];

	while (rest + (size_t)snprintf(digits, sizeof digits, "%zu", len) != len)
		len = rest + strlen(digits);
	if (len >= r->max - r->len) {
		r->overflow = true;
		return;
	}
	snprintf(r->out + r->len, r->max - r->len, "%s %s=%s\n", digits, key, value);
	r->len += len;
}

static void add_number(struct records *r, const char *key, uint64_t value)
{
	char digits[24];

	snprintf(digits, sizeof digits, "%" PRIu64, value);
	add_record(r, key, digits);
}

static void extend_name(struct records *r, const char *key, const char *name, bool *binary)
{
	if (!utf8_valid(name, strlen(name)) && !*binary) {
		add_record(r, "hdrcharset", "BINARY"); /* before the names it speaks of */
		*binary = true;
	}
	add_record(r, key, name);
}

int tar_header_make(const struct tar_header *h, uint8_t out[TAR_HEADER_MAX], size_t *ret_len)
{
	static const char types[] = {[TAR_FILE] = '0', [TAR_HARDLINK] = '1', [TAR_SYMLINK] = '2', [TAR_DIRECTORY] = '5'};
	struct ustar u = {0}, x = {0};
	char path[TAR_NAME_MAX + 1];
	const char *target = h->target ? h->target : "";
	int64_t mtime = h->mtime_ns > 0 ? h->mtime_ns / NS_PER_SEC : 0;
	struct records r = {(char *)out + TAR_BLOCK, 0, TAR_HEADER_MAX - 2 * TAR_BLOCK, false};
	bool binary = false;

	if (strlen(h->path) >= TAR_NAME_MAX - 1 || strlen(target) >= TAR_NAME_MAX)
		return -ENAMETOOLONG;
	snprintf(path, sizeof path, "%s%s", h->path, h->type == TAR_DIRECTORY ? "/" : "");
	memset(out, 0, TAR_HEADER_MAX);
	if (!is_plain(path, sizeof u.name))
		extend_name(&r, "path", path, &binary);
	if (!is_plain(target, sizeof u.linkname))
		extend_name(&r, "linkpath", target, &binary);
	put_name(u.name, sizeof u.name, path);
	put_name(u.linkname, sizeof u.linkname, target);
	put_octal(u.mode, sizeof u.mode, h->mode & 07777);
	if (!put_octal(u.uid, sizeof u.uid, h->uid))
		add_number(&r, "uid", h->uid);
	if (!put_octal(u.gid, sizeof u.gid, h->gid))
		add_number(&r, "gid", h->gid);
	if (!put_octal(u.size, sizeof u.size, h->type == TAR_FILE ? h->size : 0))
		add_number(&r, "size", h->size);
	put_octal(u.mtime, sizeof u.mtime, (uint64_t)mtime);
	put_octal(u.devmajor, sizeof u.devmajor, 0);
	put_octal(u.devminor, sizeof u.devminor, 0);
	seal_header(&u, types[h->type]);
	if (r.overflow)
		return -ENAMETOOLONG;
	size_t at = 0;
	if (r.len) {
		memcpy(x.name, "PaxHeader", sizeof "PaxHeader");
		put_octal(x.mode, sizeof x.mode, 0644);
		put_octal(x.uid, sizeof x.uid, 0);
		put_octal(x.gid, sizeof x.gid, 0);
		put_octal(x.size, sizeof x.size, r.len);
		put_octal(x.mtime, sizeof x.mtime, (uint64_t)mtime);
		seal_header(&x, 'x');
		memcpy(out, &x, sizeof x);
		at = TAR_BLOCK + r.len + tar_padding(r.len);
	}
	memcpy(out + at, &u, sizeof u);
	*ret_len = at + TAR_BLOCK;
	return 0;
}
