/* Which file is of which format, and the formats that take only a few lines: png, hdf5, safetensors.
 *
 * A commit is refused for what is found here, so the rule is: torn is what no reader of the format could read to its
 * end. What MintFS does not know it lets pass. */
#include "format.h"
#include "scan.h"

#include <errno.h>
#include <inttypes.h>
#include <mintfs/cleanup.h>
#include <mintfs/metadata.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define PNG_CHUNKS_MAX (1u << 20)             /* 8 GiB of a usual file; beyond that we look no further */
#define TENSORS_HEADER_MAX 100000000u         /* what the safetensors library accepts */
#define TENSORS_HEADER_READ_MAX (16u << 20)   /* a larger header is not read, only measured */

int (format_torn)(const struct format_file *file, uint64_t at, const char *fmt, ...)
{
	char words[SCAN_PROBLEM_MAX + 120];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(words, sizeof(words), fmt, ap);
	va_end(ap);
	return fault_set(file->f, EINVAL, "%s: %s at byte %" PRIu64, file->name, words, at);
}

int format_read(const struct format_file *file, uint64_t at, void *data, size_t len, const char *what)
{
	if (at > file->size || len > file->size - at)
		return format_torn(file, file->size, "torn: ends within %s", what);
	ssize_t n = sys_pread_full(file->fd, data, len, (off_t)at);
	if (n < 0)
		return fault_set(file->f, (int)-n, "%s: cannot be read: %s", file->name, strerror((int)-n));
	if ((size_t)n < len)
		return format_torn(file, at + (uint64_t)n, "torn: became shorter while it was read, ends within %s", what);
	return 0;
}

/* Reads the first bytes and compares them with a magic, of which a torn file may have only a part. 1: alike, 0: not,
 * or -errno. */
static int has_magic(const struct format_file *file, uint64_t at, const char *magic, size_t len)
{
	char head[16];

	if (at >= file->size)
		return 0;
	if (len > file->size - at)
		len = (size_t)(file->size - at);
	int r = format_read(file, at, head, len, "its signature");
	return r < 0 ? r : !memcmp(head, magic, len);
}

/* ---- png: a signature, then chunks {length, type, data, checksum} until IEND. What follows IEND is nobody's
 * business. ---- */

static uint32_t be32(const uint8_t *b)
{
	return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

static bool is_png_type(const uint8_t type[4])
{
	for (int i = 0; i < 4; i++)
		if ((uint8_t)((type[i] | 0x20) - 'a') > 25)
			return false;
	return true;
}

static int check_png(const struct format_file *file)
{
	uint8_t head[8];
	uint64_t at = 8;
	int r = has_magic(file, 0, "\x89PNG\r\n\x1a\n", 8);

	if (r <= 0)
		return r;
	for (unsigned chunks = 0; chunks < PNG_CHUNKS_MAX; chunks++) {
		if ((r = format_read(file, at, head, sizeof(head), "a chunk's header, before IEND")) < 0)
			return r;
		uint32_t length = be32(head);
		if (!is_png_type(head + 4) || length > INT32_MAX)
			return format_torn(file, at, "torn: no png chunk");
		if (length + UINT64_C(12) > file->size - at)
			return format_torn(file, file->size, "torn: ends within the %.4s chunk that begins at byte %" PRIu64 ",",
					   (const char *)head + 4, at);
		if (!memcmp(head + 4, "IEND", 4))
			return 0;
		at += length + UINT64_C(12);
	}
	return 0;
}

/* ---- hdf5: a superblock at 0, 512, 1024, 2048 … (behind a user block), which tells where the file ends. Source:
 * HDF5 File Format Specification 3.0, II.A; that the address is absolute while others are relative to the base:
 * H5F__super_read. ---- */

static const char hdf5_magic[8] = "\x89HDF\r\n\x1a\n";

static int check_superblock(const struct format_file *file, uint64_t at)
{
	uint8_t block[64];
	size_t have = file->size - at < sizeof(block) ? (size_t)(file->size - at) : sizeof(block);
	int r = format_read(file, at, block, have, "its superblock");

	if (r < 0)
		return r;
	if (have < 16)
		return format_torn(file, file->size, "torn: ends within its superblock");
	unsigned version = block[8], width = block[version < 2 ? 13 : 9];
	unsigned base_at = version == 0 ? 24 : version == 1 ? 28 : 12;
	if (version > 3 || width == 16 || width == 32)
		return 0;
	if (width != 2 && width != 4 && width != 8)
		return format_torn(file, at + (version < 2 ? 13 : 9), "torn: a superblock with addresses of %u bytes", width);
	if (have < base_at + 3 * width)
		return format_torn(file, file->size, "torn: ends within its superblock");
	uint64_t base = format_le(block + base_at, width), end = format_le(block + base_at + (size_t)2 * width, width);
	/* Where a user block was put before a finished file, the addresses moved with it. */
	if (end < base || end - base > file->size - at)
		return format_torn(file, file->size, "torn: shorter than its superblock says (%" PRIu64 " bytes), ends", end);
	return 0;
}

static int check_hdf5(const struct format_file *file)
{
	for (uint64_t at = 0; at < file->size; at = at ? at * 2 : 512) {
		int r = has_magic(file, at, hdf5_magic, sizeof(hdf5_magic));
		if (r < 0)
			return r;
		/* Behind a user block only the whole signature counts: a short tail there may be anything. */
		if (r && (at == 0 || file->size - at >= sizeof(hdf5_magic)))
			return check_superblock(file, at);
		if (at > UINT64_MAX / 2)
			break;
	}
	return 0;
}

/* ---- safetensors: length of the header in 8 bytes, header in JSON, tensors without gaps to the end of the file.
 * ---- */

static int read_offset(const char *text, const struct scan_token *t, uint64_t *ret)
{
	char digits[24];
	size_t len = t->end - t->start;

	if (t->kind != SCAN_NUMBER || len >= sizeof(digits))
		return -EINVAL;
	memcpy(digits, text + t->start, len);
	digits[len] = '\0';
	return parse_u64(digits, UINT64_MAX, ret) < 0 ? -EINVAL : 0;
}

/* "data_offsets": [begin, end] */
static int read_offsets(struct scan *s, uint64_t *end)
{
	struct scan_token t;
	uint64_t begin = 0;

	if (scan_next(s, &t) < 0 || t.kind != SCAN_ARRAY || scan_next(s, &t) < 0 || read_offset(s->text, &t, &begin) < 0 ||
	    scan_next(s, &t) < 0 || read_offset(s->text, &t, end) < 0 || scan_next(s, &t) < 0 || t.kind != SCAN_ARRAY_END)
		return -EINVAL;
	return begin <= *end ? 0 : -EINVAL;
}

/* One tensor, its opening brace eaten. Raises *end to where its data ends. */
static int read_tensor(struct scan *s, uint64_t *end)
{
	struct scan_token key, value;
	uint64_t tensor_end = 0;
	bool found = false;

	for (;;) {
		if (scan_next(s, &key) < 0)
			return -EINVAL;
		if (key.kind == SCAN_OBJECT_END)
			break;
		if (scan_is(s->text, &key, "data_offsets")) {
			if (read_offsets(s, &tensor_end) < 0)
				return -EINVAL;
			found = true;
		} else if (scan_next(s, &value) < 0 || scan_skip(s, &value) < 0) {
			return -EINVAL;
		}
	}
	if (tensor_end > *end)
		*end = tensor_end;
	return found ? 0 : -EINVAL;
}

/* The header: an object of tensors. On -EINVAL the scanner stands at the trouble. */
static int read_tensors(struct scan *s, uint64_t *end)
{
	struct scan_token key, value;

	if (scan_next(s, &key) < 0 || key.kind != SCAN_OBJECT)
		return -EINVAL;
	for (;;) {
		if (scan_next(s, &key) < 0)
			return -EINVAL;
		if (key.kind == SCAN_OBJECT_END)
			break;
		if (scan_next(s, &value) < 0 || value.kind != SCAN_OBJECT)
			return -EINVAL;
		bool tensor = !scan_is(s->text, &key, "__metadata__");
		if ((tensor ? read_tensor(s, end) : scan_skip(s, &value)) < 0)
			return -EINVAL;
	}
	return scan_next(s, &key);
}

static int check_safetensors(const struct format_file *file)
{
	uint8_t length[8];
	struct scan s;
	uint64_t end = 0;
	int r = format_read(file, 0, length, sizeof(length), "the length of its header");

	if (r < 0)
		return r;
	uint64_t header = format_le(length, 8), rest = file->size - 8;
	if (header > TENSORS_HEADER_MAX)
		return format_torn(file, 0, "torn: a header of %" PRIu64 " bytes, more than any reader takes,", header);
	if (header > rest)
		return format_torn(file, file->size, "torn: ends within its header of %" PRIu64 " bytes", header);
	if (header > TENSORS_HEADER_READ_MAX)
		return 0;
	auto_free char *text = malloc((size_t)header + 1);
	if (!text)
		return fault_set(file->f, ENOMEM, "%s: not enough memory to read its header", file->name);
	if ((r = format_read(file, 8, text, (size_t)header, "its header")) < 0)
		return r;
	scan_init(&s, text, 0, (size_t)header);
	if (read_tensors(&s, &end) < 0) {
		char words[SCAN_PROBLEM_MAX];
		scan_problem(&s, words);
		return format_torn(file, 8 + s.pos, "torn: a header that does not describe tensors (%s)", words);
	}
	if (end != rest - header)
		return format_torn(file, file->size, "torn: its tensors take %" PRIu64 " bytes, but %" PRIu64 " are there; ends",
				   end, rest - header);
	return 0;
}

/* ---- the table ---- */

static const struct {
	const char *ending;
	int (*check)(const struct format_file *file);
	bool sure;
} formats[] = {
	{".pth", format_check_zip, true}, {".pt", format_check_zip, true}, {".npz", format_check_zip, true},
	{".ckpt", format_check_zip, false}, {".bin", format_check_zip, false},
	{".safetensors", check_safetensors, true},
	{".npy", format_check_npy, true},
	{".png", check_png, true},
	{".h5", check_hdf5, true}, {".hdf5", check_hdf5, true},
};

int metadata_check_format(int fd, const char *name, struct fault *f)
{
	const char *ending = strrchr(name, '.');
	struct stat st;
	int r = sys_fstat(fd, &st);

	if (r < 0)
		return fault_set(f, -r, "%s: cannot be read: %s", name, strerror(-r));
	for (size_t i = 0; ending && S_ISREG(st.st_mode) && i < ARRAY_SIZE(formats); i++) {
		if (strcasecmp(ending, formats[i].ending) != 0)
			continue;
		struct format_file file = {fd, (uint64_t)st.st_size, name, formats[i].sure, f};
		if (file.size)
			return formats[i].check(&file);
		return file.sure ? format_torn(&file, 0, "torn: empty") : 0;
	}
	return 0;
}
