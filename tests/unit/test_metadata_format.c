/* Torn files, built by hand byte for byte, so that no library's habits decide what is tested. */
#include <mintfs/cleanup.h>
#include <mintfs/metadata.h>

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

/* ---- bytes ---- */

static void le(struct buf *b, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		buf_putc(b, (char)(value >> (8 * i)));
}

static void be32(struct buf *b, uint32_t value)
{
	for (int i = 3; i >= 0; i--)
		buf_putc(b, (char)(value >> (8 * i)));
}

static void zeros(struct buf *b, size_t n)
{
	while (n--)
		buf_putc(b, 0);
}

static int memory_file(const void *data, size_t len)
{
	int fd = memfd_create("sample", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, len), (ssize_t)len);
	return fd;
}

static int check(const struct buf *b, const char *name, struct fault *f)
{
	auto_close int fd = memory_file(buf_text(b), b->len);

	return metadata_check_format(fd, name, f);
}

/* The whole is sound, everything shorter down to `from` is torn, and says so. */
static void assert_every_cut_is_torn(const struct buf *b, const char *name, size_t from)
{
	auto_close int fd = memory_file(buf_text(b), b->len);
	struct fault f = FAULT_INIT;

	if (metadata_check_format(fd, name, &f) != 0)
		fail_msg("whole %s: %s", name, f.text);
	assert_int_equal(f.error, 0);
	for (size_t len = b->len; len-- > from;) {
		f = (struct fault)FAULT_INIT;
		assert_int_equal(ftruncate(fd, (off_t)len), 0);
		if (metadata_check_format(fd, name, &f) != -EINVAL)
			fail_msg("%s cut to %zu bytes passes for sound", name, len);
		assert_int_equal(f.error, EINVAL);
		assert_int_equal(strncmp(f.text, name, strlen(name)), 0);
		assert_non_null(strstr(f.text, "torn: "));
		assert_non_null(strstr(f.text, " at byte "));
	}
}

/* ---- zip ---- */

struct zip {
	struct buf b, directory;
	unsigned entries;
	size_t base; /* where the archive begins in b */
};

#define ZIP_INIT {BUF_INIT(1 << 20), BUF_INIT(1 << 16), 0, 0}
#define auto_zip __attribute__((cleanup(zip_release)))

static void zip_release(struct zip *z)
{
	buf_release(&z->b);
	buf_release(&z->directory);
}

static void zip_add(struct zip *z, const char *name, const void *data, size_t len)
{
	uint64_t at = z->b.len - z->base;

	buf_add(&z->b, "PK\x03\x04", 4);
	zeros(&z->b, 14);
	le(&z->b, len, 4);
	le(&z->b, len, 4);
	le(&z->b, strlen(name), 4); /* and no extra field */
	buf_puts(&z->b, name);
	buf_add(&z->b, data, len);
	buf_add(&z->directory, "PK\x01\x02", 4);
	zeros(&z->directory, 16);
	le(&z->directory, len, 4);
	le(&z->directory, len, 4);
	le(&z->directory, strlen(name), 2);
	zeros(&z->directory, 12);
	le(&z->directory, at, 4);
	buf_puts(&z->directory, name);
	z->entries++;
}

static void put_end(struct buf *b, unsigned entries, uint64_t size, uint64_t at, const char *comment, size_t comment_len)
{
	buf_add(b, "PK\x05\x06", 4);
	zeros(b, 4);
	le(b, entries, 2);
	le(b, entries, 2);
	le(b, size, 4);
	le(b, at, 4);
	le(b, comment_len, 2);
	buf_add(b, comment, comment_len);
}

static void put_end64(struct buf *b, uint64_t entries, uint64_t size, uint64_t at, uint64_t own_place)
{
	buf_add(b, "PK\x06\x06", 4);
	le(b, 44, 8);
	zeros(b, 12);
	le(b, entries, 8);
	le(b, entries, 8);
	le(b, size, 8);
	le(b, at, 8);
	buf_add(b, "PK\x06\x07", 4);
	le(b, 0, 4);
	le(b, own_place, 8);
	le(b, 1, 4);
}

static void zip_finish(struct zip *z, const char *comment, size_t comment_len)
{
	uint64_t at = z->b.len - z->base;

	buf_add(&z->b, buf_text(&z->directory), z->directory.len);
	put_end(&z->b, z->entries, z->directory.len, at, comment, comment_len);
}

static void test_a_zip_is_torn_wherever_it_is_cut(void **state)
{
	static const char *const names[] = {"model.pth", "m.pt", "a.npz"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		auto_zip struct zip z = ZIP_INIT;
		zip_add(&z, "archive/data.pkl", "hello", 5);
		zip_add(&z, "archive/data/0", "0123456789abcdef", 16);
		zip_finish(&z, "", 0);
		assert_every_cut_is_torn(&z.b, names[i], 0);
		assert_every_cut_is_torn(&z.b, "last.ckpt", 2); /* these names alone promise nothing */
		assert_every_cut_is_torn(&z.b, "pytorch_model.bin", 2);
	}
}

static void test_a_zip_may_have_a_comment(void **state)
{
	static const char about[] = "about PK\x05\x06 and more than twenty-two bytes";
	auto_zip struct zip z = ZIP_INIT, longest = ZIP_INIT;
	auto_free char *comment = calloc(1, 65535);

	zip_add(&z, "a", "1", 1);
	zip_finish(&z, about, sizeof(about) - 1);
	assert_every_cut_is_torn(&z.b, "m.pth", 0);
	zip_add(&longest, "a", "1", 1);
	zip_finish(&longest, comment, 65535);
	assert_int_equal(check(&longest.b, "m.pth", NULL), 0);
	buf_truncate(&longest.b, longest.b.len - 1);
	assert_int_equal(check(&longest.b, "m.pth", NULL), -EINVAL);
}

static void test_an_empty_zip_is_sound(void **state)
{
	auto_zip struct zip z = ZIP_INIT;

	zip_finish(&z, "", 0);
	assert_int_equal(z.b.len, 22);
	assert_every_cut_is_torn(&z.b, "m.npz", 0);
}

static void test_bytes_behind_a_zip_do_not_tear_it(void **state)
{
	auto_zip struct zip z = ZIP_INIT;

	zip_add(&z, "a", "1", 1);
	zip_finish(&z, "", 0);
	zeros(&z.b, 100);
	assert_int_equal(check(&z.b, "m.pth", NULL), 0);
}

static void test_a_stored_archive_within_does_not_hide_a_cut(void **state)
{
	for (int filled = 0; filled < 2; filled++) {
		auto_zip struct zip inner = ZIP_INIT, outer = ZIP_INIT;
		if (filled)
			zip_add(&inner, "x.npy", "0123", 4);
		zip_finish(&inner, "", 0);
		zip_add(&outer, "inner.npz", inner.b.data, inner.b.len);
		zip_add(&outer, "b", "1", 1);
		zip_finish(&outer, "", 0);
		assert_every_cut_is_torn(&outer.b, "m.pth", 0);
	}
}

static void test_a_zip64_is_torn_wherever_it_is_cut(void **state)
{
	for (int saturated = 0; saturated < 2; saturated++) { /* torch writes both records, with numbers that fit */
		auto_zip struct zip z = ZIP_INIT;
		zip_add(&z, "archive/data.pkl", "hello", 5);
		uint64_t at = z.b.len, size = z.directory.len;
		buf_add(&z.b, z.directory.data, z.directory.len);
		put_end64(&z.b, 1, size, at, z.b.len);
		if (saturated)
			put_end(&z.b, 0xffff, 0xffffffff, 0xffffffff, "", 0);
		else
			put_end(&z.b, 1, size, at, "", 0);
		assert_every_cut_is_torn(&z.b, "m.pth", 0);
	}
}

static void test_a_zip_beyond_four_gigabytes_is_sound(void **state)
{
	auto_zip struct zip head = ZIP_INIT, tail = ZIP_INIT;
	const off_t at = (off_t)5 << 30; /* a hole in between */

	zip_add(&head, "archive/data/0", "", 0);
	auto_close int fd = memory_file(head.b.data, head.b.len);
	buf_add(&tail.b, head.directory.data, head.directory.len);
	put_end64(&tail.b, 1, head.directory.len, (uint64_t)at, (uint64_t)at + head.directory.len);
	put_end(&tail.b, 0xffff, 0xffffffff, 0xffffffff, "", 0);
	assert_int_equal(pwrite(fd, tail.b.data, tail.b.len, at), (ssize_t)tail.b.len);
	assert_int_equal(metadata_check_format(fd, "big.pth", NULL), 0);
	assert_int_equal(ftruncate(fd, at + (off_t)tail.b.len - 1), 0);
	assert_int_equal(metadata_check_format(fd, "big.pth", NULL), -EINVAL);
}

static void test_hostile_offsets_in_a_zip_are_refused(void **state)
{
	static const struct { unsigned entries; uint64_t size, at; } ends[] = {
		{1, 46, 0xfffffff0}, {1, 0xfffffff0, 0}, {1, 0xffffffff, 0xffffffff}, {1, 0, 0}, {0xffff, 46, 0}, {1, 46, 1}, {0, 0, 3},
	};
	static const struct { uint64_t entries, size, at, own; } ends64[] = {
		{1, UINT64_MAX, UINT64_MAX, 60}, {1, UINT64_MAX, 2, 60}, {1, 46, UINT64_MAX, 60}, {UINT64_MAX, 46, 0, 60},
		{1, 46, 0, UINT64_MAX}, {1, 46, 0, UINT64_MAX - 55}, {1, 46, 0, 61},
	};

	for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
		auto_buf struct buf b = BUF_INIT(4096);
		buf_add(&b, "PK\x03\x04", 4);
		zeros(&b, 60);
		put_end(&b, ends[i].entries, ends[i].size, ends[i].at, "", 0);
		assert_int_equal(check(&b, "m.pth", NULL), -EINVAL);
	}
	for (size_t i = 0; i < sizeof(ends64) / sizeof(ends64[0]); i++) {
		auto_buf struct buf b = BUF_INIT(4096);
		buf_add(&b, "PK\x03\x04", 4);
		zeros(&b, 56);
		put_end64(&b, ends64[i].entries, ends64[i].size, ends64[i].at, ends64[i].own);
		put_end(&b, 0xffff, 0xffffffff, 0xffffffff, "", 0);
		assert_int_equal(check(&b, "m.pth", NULL), -EINVAL);
	}
}

static void test_what_does_not_begin_as_a_zip_passes(void **state)
{
	auto_buf struct buf b = BUF_INIT(4096);

	buf_add(&b, "\x80\x02}q\x00.", 6); /* a pickle, as torch.save wrote before 1.6 */
	assert_int_equal(check(&b, "model.pth", NULL), 0);
	buf_truncate(&b, 0);
	buf_puts(&b, "PKXX are weights too");
	assert_int_equal(check(&b, "weights.bin", NULL), 0);
	buf_truncate(&b, 1);
	assert_int_equal(check(&b, "weights.bin", NULL), 0);
}

/* ---- safetensors ---- */

static void put_safetensors(struct buf *b, const char *header, size_t data)
{
	le(b, strlen(header), 8);
	buf_puts(b, header);
	zeros(b, data);
}

static void test_safetensors_are_torn_wherever_they_are_cut(void **state)
{
	auto_buf struct buf b = BUF_INIT(4096), none = BUF_INIT(64);

	put_safetensors(&b, "{\"__metadata__\":{\"data_offsets\":\"pt\"},\"w\":{\"dtype\":\"F32\",\"shape\":[2,2],\"data_offsets\":[8,24]},"
			"\"b\":{\"data_offsets\":[0,8],\"dtype\":\"F32\",\"shape\":[2]}}   ", 24);
	assert_every_cut_is_torn(&b, "m.safetensors", 0);
	put_safetensors(&none, "{}", 0);
	assert_every_cut_is_torn(&none, "m.safetensors", 0);
}

static void test_safetensors_that_do_not_add_up_are_refused(void **state)
{
	static const struct { const char *header; size_t data; } cases[] = {
		{"{\"w\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 9},
		{"{\"w\":{\"dtype\":\"F32\",\"shape\":[2]}}", 0},
		{"{\"w\":{\"data_offsets\":[0]}}", 0},
		{"{\"w\":{\"data_offsets\":[8,0]}}", 0},
		{"{\"w\":{\"data_offsets\":[0,8,9]}}", 8},
		{"{\"w\":{\"data_offsets\":[-8,8]}}", 8},
		{"{\"w\":{\"data_offsets\":[0,1e1]}}", 10},
		{"{\"w\":{\"data_offsets\":[0,18446744073709551616]}}", 0},
		{"{\"w\":{\"data_offsets\":[0,18446744073709551615]}}", 0},
		{"{\"w\":[0,8]}", 8},
		{"[]", 0}, {"", 0}, {"{} {}", 0}, {"{\"w\":{\"data_offsets\":[0,8]}", 8},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		auto_buf struct buf b = BUF_INIT(4096);
		put_safetensors(&b, cases[i].header, cases[i].data);
		if (check(&b, "m.safetensors", NULL) != -EINVAL)
			fail_msg("%s with %zu bytes passes", cases[i].header, cases[i].data);
	}
	auto_buf struct buf b = BUF_INIT(4096);
	le(&b, UINT64_MAX, 8);
	zeros(&b, 100);
	assert_int_equal(check(&b, "m.safetensors", NULL), -EINVAL);
}

/* ---- npy ---- */

static void put_npy(struct buf *b, int version, const char *header, size_t data)
{
	buf_add(b, "\x93NUMPY", 6);
	buf_putc(b, (char)version);
	buf_putc(b, 0);
	le(b, strlen(header), version == 1 ? 2 : 4);
	buf_puts(b, header);
	zeros(b, data);
}

static void test_npy_is_torn_wherever_it_is_cut(void **state)
{
	static const struct { const char *descr, *shape; size_t bytes; } cases[] = {
		{"'<f4'", "(3, 4)", 48},
		{"'<f8'", "()", 8},
		{"'|b1'", "(5,)", 5},
		{"'<U3'", "(2,)", 24},
		{"'|S2'", "(2L,)", 4},
		{"'<M8[ns]'", "(2,)", 16},
		{"'f4'", "(1,)", 4},
		{"'<f4'", "(0, 7)", 0},
		{"[('a', '<f4'), ('b', '<i8', (2, 3)), ('c', [('d', '|u1'), ('e', '<U3')]), ('f', '|V2', 3)]", "(3,)", 3 * (4 + 48 + 13 + 6)},
		{"[(('a (title)', 'a'), '<f4'), ('', '|V4'), ('it\\'s \xc3\xa9', \"<f8\")]", "(2,)", 32},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		for (int version = 1; version <= 3; version++) {
			auto_buf struct buf b = BUF_INIT(4096);
			char header[400];
			snprintf(header, sizeof(header), "{'descr': %s, 'fortran_order': False, 'shape': %s, }       \n",
				 cases[i].descr, cases[i].shape);
			put_npy(&b, version, header, cases[i].bytes);
			assert_every_cut_is_torn(&b, "x.npy", 0);
		}
	}
}

static void test_npy_may_hold_more_than_one_array(void **state)
{
	auto_buf struct buf b = BUF_INIT(4096);

	for (int i = 0; i < 2; i++)
		put_npy(&b, 1, "{'descr': '<f4', 'fortran_order': True, 'shape': (2,)}\n", 8);
	assert_int_equal(check(&b, "x.npy", NULL), 0);
}

static void test_npy_of_unknown_items_is_checked_up_to_its_header(void **state)
{
	auto_buf struct buf b = BUF_INIT(4096), later = BUF_INIT(4096), no = BUF_INIT(4096);

	put_npy(&b, 1, "{'descr': '|O', 'fortran_order': False, 'shape': (1000,)}", 0);
	assert_every_cut_is_torn(&b, "x.npy", 0);
	put_npy(&later, 9, "?", 0);
	assert_int_equal(check(&later, "x.npy", NULL), 0);
	buf_puts(&no, "\x80\x04.");
	assert_int_equal(check(&no, "x.npy", NULL), 0);
}

static void test_hostile_npy_headers_are_refused(void **state)
{
	static const char *const headers[] = {
		"", "{", "{}", "{'descr': '<f4'}", "{'shape': (1,)}", "{'descr': '<f4', 'shape': (1,)", "{'descr': '<f4', 'shape': (1",
		"{'descr': '<f4', 'shape': (-1,)}", "{'descr': '<f4', 'shape': (4294967296, 4294967296)}",
		"{'descr': '<f4', 'shape': (18446744073709551616,)}", "{'descr': '<f8', 'shape': (4611686018427387904,)}",
		"{'descr': [('a', '<f8', (9223372036854775807, 9)), ('b', '<f8')], 'shape': (1,)}", "{'descr': [('a')], 'shape': ()}",
		"{'descr': [, 'shape': ()}", "{'descr': '<f4, 'shape': ()}", "{'descr': 4, 'shape': ()}", "{'descr", "{'descr\\",
		"{'descr': '<f4', 'x", "no dictionary",
	};
	auto_buf struct buf deep = BUF_INIT(1 << 16), b = BUF_INIT(1 << 16);

	for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++) {
		auto_buf struct buf one = BUF_INIT(4096);
		put_npy(&one, 1, headers[i], 0);
		if (check(&one, "x.npy", NULL) != -EINVAL)
			fail_msg("%s passes", headers[i]);
	}
	buf_puts(&deep, "{'descr': ");
	for (int i = 0; i < 6000; i++)
		buf_puts(&deep, "[('a', ");
	put_npy(&b, 2, deep.data, 0);
	assert_int_equal(check(&b, "x.npy", NULL), -EINVAL);
	buf_truncate(&b, 0);
	put_npy(&b, 2, "", 0);
	memset(b.data + 8, 0xff, 4);
	assert_int_equal(check(&b, "x.npy", NULL), -EINVAL);
}

/* ---- png ---- */

static void put_chunk(struct buf *b, const char *type, size_t len)
{
	be32(b, (uint32_t)len);
	buf_puts(b, type);
	zeros(b, len + 4);
}

static void put_png(struct buf *b)
{
	buf_add(b, "\x89PNG\r\n\x1a\n", 8);
	put_chunk(b, "IHDR", 13);
	put_chunk(b, "tEXt", 30);
	put_chunk(b, "IDAT", 100);
	put_chunk(b, "IDAT", 0);
	put_chunk(b, "IEND", 0);
}

static void test_png_is_torn_wherever_it_is_cut(void **state)
{
	auto_buf struct buf b = BUF_INIT(4096);

	put_png(&b);
	assert_every_cut_is_torn(&b, "loss_curve.png", 0);
	buf_puts(&b, "what follows the end is nobody's business");
	assert_int_equal(check(&b, "loss_curve.png", NULL), 0);
}

static void test_png_of_zeros_or_huge_chunks_is_torn(void **state)
{
	auto_buf struct buf b = BUF_INIT(4096);
	struct fault f = FAULT_INIT;

	put_png(&b);
	memset(b.data + 33, 0, b.len - 33); /* as after a power loss */
	assert_int_equal(check(&b, "a.png", &f), -EINVAL);
	assert_string_equal(f.text, "a.png: torn: no png chunk at byte 33");
	memcpy(b.data + 33, "\xff\xff\xff\xffIDAT", 8);
	assert_int_equal(check(&b, "a.png", NULL), -EINVAL);
	memcpy(b.data + 33, "\x7f\xff\xff\xffIDAT", 8);
	assert_int_equal(check(&b, "a.png", NULL), -EINVAL);
	memcpy(b.data, "\xff\xd8\xff\xe0", 4); /* a jpeg by the wrong name */
	assert_int_equal(check(&b, "a.png", NULL), 0);
}

/* ---- hdf5 ---- */

static void put_hdf5(struct buf *b, int version, int width, uint64_t base, uint64_t end)
{
	buf_add(b, "\x89HDF\r\n\x1a\n", 8);
	buf_putc(b, (char)version);
	if (version < 2) {
		zeros(b, 4);
		buf_putc(b, (char)width);
		buf_putc(b, 8);
		zeros(b, version == 0 ? 9 : 13);
	} else {
		buf_putc(b, (char)width);
		buf_putc(b, 8);
		buf_putc(b, 0);
	}
	le(b, base, width);
	le(b, UINT64_MAX, width);
	le(b, end, width);
	zeros(b, 60);
}

static void test_hdf5_is_torn_wherever_it_is_cut(void **state)
{
	static const int widths[] = {2, 4, 8};

	for (int version = 0; version <= 3; version++) {
		for (size_t i = 0; i < 3; i++) {
			auto_buf struct buf b = BUF_INIT(4096);
			put_hdf5(&b, version, widths[i], 0, 300);
			zeros(&b, 300 - b.len);
			assert_every_cut_is_torn(&b, "m.h5", 0);
			assert_every_cut_is_torn(&b, "m.HDF5", 0);
			zeros(&b, 10); /* space a writer took and did not need */
			assert_int_equal(check(&b, "m.h5", NULL), 0);
		}
	}
}

static void test_hdf5_is_found_behind_a_user_block(void **state)
{
	for (size_t block = 512; block <= 4096; block *= 2) {
		auto_buf struct buf own = BUF_INIT(16384), before = BUF_INIT(16384);
		zeros(&own, block);
		put_hdf5(&own, 0, 8, block, block + 300);
		zeros(&own, block + 300 - own.len);
		assert_every_cut_is_torn(&own, "m.h5", block + 8);
		zeros(&before, block); /* put before a finished file, whose addresses know nothing of it */
		put_hdf5(&before, 2, 8, 0, 300);
		zeros(&before, block + 300 - before.len);
		assert_every_cut_is_torn(&before, "m.h5", block + 8);
	}
}

static void test_hostile_hdf5_superblocks_are_refused(void **state)
{
	static const struct { int version, width; uint64_t base, end; int expected; } cases[] = {
		{0, 8, 0, UINT64_MAX, -EINVAL}, {2, 8, 0, UINT64_MAX, -EINVAL}, {0, 8, UINT64_MAX, 5, -EINVAL}, {3, 8, 100, 50, -EINVAL},
		{0, 0, 0, 0, -EINVAL}, {0, 3, 0, 0, -EINVAL}, {9, 8, 0, UINT64_MAX, 0}, {0, 8, 0, 1, 0},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		auto_buf struct buf b = BUF_INIT(4096);
		put_hdf5(&b, cases[i].version, cases[i].width, cases[i].base, cases[i].end);
		assert_int_equal(check(&b, "m.h5", NULL), cases[i].expected);
	}
}

/* ---- names ---- */

static void test_empty_files_of_known_formats_are_torn(void **state)
{
	static const char *const torn[] = {"model.pth", "m.pt", "a.npz", "m.safetensors", "x.npy", "p.png", "m.h5", "MODEL.PTH"};
	static const char *const sound[] = {"weights.bin", "last.ckpt", "README", "a.txt", "pth", "m.pth.tmp", "png."};
	auto_buf struct buf b = BUF_INIT(16);
	struct fault f = FAULT_INIT;

	for (size_t i = 0; i < sizeof(torn) / sizeof(torn[0]); i++)
		assert_int_equal(check(&b, torn[i], &f), -EINVAL);
	assert_string_equal(f.text, "MODEL.PTH: torn: empty at byte 0");
	for (size_t i = 0; i < sizeof(sound) / sizeof(sound[0]); i++)
		assert_int_equal(check(&b, sound[i], NULL), 0);
}

static void test_what_is_unknown_or_no_file_passes(void **state)
{
	auto_buf struct buf b = BUF_INIT(64);
	auto_close int dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	buf_puts(&b, "PK\x03\x04 cut");
	assert_int_equal(check(&b, "archive.zip", NULL), 0);
	assert_int_equal(check(&b, "x.npy", NULL), 0);
	assert_int_equal(check(&b, "x.h5", NULL), 0);
	assert_int_equal(metadata_check_format(dir, "store.h5", NULL), 0);
	assert_int_equal(metadata_check_format(-1, "a.png", NULL), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_zip_is_torn_wherever_it_is_cut),
		cmocka_unit_test(test_a_zip_may_have_a_comment),
		cmocka_unit_test(test_an_empty_zip_is_sound),
		cmocka_unit_test(test_bytes_behind_a_zip_do_not_tear_it),
		cmocka_unit_test(test_a_stored_archive_within_does_not_hide_a_cut),
		cmocka_unit_test(test_a_zip64_is_torn_wherever_it_is_cut),
		cmocka_unit_test(test_a_zip_beyond_four_gigabytes_is_sound),
		cmocka_unit_test(test_hostile_offsets_in_a_zip_are_refused),
		cmocka_unit_test(test_what_does_not_begin_as_a_zip_passes),
		cmocka_unit_test(test_safetensors_are_torn_wherever_they_are_cut),
		cmocka_unit_test(test_safetensors_that_do_not_add_up_are_refused),
		cmocka_unit_test(test_npy_is_torn_wherever_it_is_cut),
		cmocka_unit_test(test_npy_may_hold_more_than_one_array),
		cmocka_unit_test(test_npy_of_unknown_items_is_checked_up_to_its_header),
		cmocka_unit_test(test_hostile_npy_headers_are_refused),
		cmocka_unit_test(test_png_is_torn_wherever_it_is_cut),
		cmocka_unit_test(test_png_of_zeros_or_huge_chunks_is_torn),
		cmocka_unit_test(test_hdf5_is_torn_wherever_it_is_cut),
		cmocka_unit_test(test_hdf5_is_found_behind_a_user_block),
		cmocka_unit_test(test_hostile_hdf5_superblocks_are_refused),
		cmocka_unit_test(test_empty_files_of_known_formats_are_torn),
		cmocka_unit_test(test_what_is_unknown_or_no_file_passes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
