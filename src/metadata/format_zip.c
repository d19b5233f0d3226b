/* Zip archives, as torch.save, numpy.savez and Lightning write them. The last thing a writer writes is the end
 * record, and the directory it points to stands right before it, so a file is whole if the end record is there and
 * its directory where it says.
 *
 *     entries … | central directory | [zip64 end record] [zip64 locator] | end record, comment
 *
 * An archive stored in the archive has an end record too, and a file cut right behind that one ends as a whole one
 * does; but the offsets in it count from its own beginning, so its directory is not found where it says. A comment
 * may hold an end record as well; so every candidate is tried. Source of the layout: PKWARE APPNOTE.TXT 6.3.10, 4.3. */
#include "format.h"

#include <errno.h>
#include <inttypes.h>
#include <mintfs/cleanup.h>
#include <mintfs/error.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define END_SIZE 22
#define END64_SIZE 56
#define LOCATOR_SIZE 20
#define ENTRY_SIZE 46
#define COMMENT_MAX 65535

static const char cut_short[] = "torn: no zip end record, the archive was cut short";

struct directory {
	uint64_t entries, size, at;
	uint64_t limit; /* where the records behind it begin */
};

/* Finds the zip64 records before the end record, where there are any, and takes from them what did not fit into it. */
static int read_end64(const struct format_file *file, uint64_t end_at, struct directory *d)
{
	uint8_t locator[LOCATOR_SIZE], end64[END64_SIZE];
	int r;

	if (end_at < LOCATOR_SIZE + END64_SIZE)
		return 0;
	if ((r = format_read(file, end_at - LOCATOR_SIZE, locator, LOCATOR_SIZE, "its zip64 locator")) < 0)
		return r;
	if (memcmp(locator, "PK\x06\x07", 4) != 0)
		return 0;
	uint64_t at = format_le(locator + 8, 8);
	if (at > end_at - LOCATOR_SIZE - END64_SIZE)
		return format_torn(file, end_at - LOCATOR_SIZE, "torn: the zip64 end record is not where the locator says");
	if ((r = format_read(file, at, end64, END64_SIZE, "its zip64 end record")) < 0)
		return r;
	if (memcmp(end64, "PK\x06\x06", 4) != 0)
		return format_torn(file, at, "torn: no zip64 end record");
	d->limit = at;
	if (d->entries == UINT16_MAX)
		d->entries = format_le(end64 + 32, 8);
	if (d->size == UINT32_MAX)
		d->size = format_le(end64 + 40, 8);
	if (d->at == UINT32_MAX)
		d->at = format_le(end64 + 48, 8);
	return 0;
}

static int check_end(const struct format_file *file, uint64_t end_at, const uint8_t *end)
{
	struct directory d = {format_le(end + 10, 2), format_le(end + 12, 4), format_le(end + 16, 4), end_at};
	uint8_t signature[4];
	int r = read_end64(file, end_at, &d);

	if (r < 0)
		return r;
	if (d.at > d.limit || d.size > d.limit - d.at)
		return format_torn(file, end_at, "torn: the central directory (%" PRIu64 " bytes from byte %" PRIu64
				   " on) goes past its end record", d.size, d.at);
	if (d.entries > d.size / ENTRY_SIZE || (d.entries == 0 && d.at + d.size != d.limit))
		return format_torn(file, end_at, "torn: an end record that does not fit its central directory");
	if (d.entries == 0)
		return 0;
	if ((r = format_read(file, d.at, signature, 4, "its central directory")) < 0)
		return r;
	return memcmp(signature, "PK\x01\x02", 4) ? format_torn(file, d.at, "torn: no central directory") : 0;
}

/* Looks for an end record in the last bytes of the file, from behind. Says what is wrong with the first one it
 * meets. */
static int search_end(const struct format_file *file, const uint8_t *tail, size_t len)
{
	struct fault first = FAULT_INIT;

	for (size_t i = len - END_SIZE + 1; i-- > 0;) {
		if (memcmp(tail + i, "PK\x05\x06", 4) != 0)
			continue;
		struct fault refusal = FAULT_INIT;
		struct format_file candidate = *file;
		candidate.f = &refusal;
		int r = format_le(tail + i + 20, 2) > len - i - END_SIZE
			? format_torn(&candidate, file->size, "torn: ends within the archive's comment")
			: check_end(&candidate, file->size - len + i, tail + i);
		if (r == 0)
			return 0;
		if (r != -EINVAL)
			return fault_set(file->f, -r, "%s", refusal.text);
		if (!first.error)
			first = refusal;
	}
	if (first.error)
		return fault_set(file->f, EINVAL, "%s", first.text);
	return format_torn(file, file->size, "%s", cut_short);
}

/* Does the file begin as an archive does? Where the name leaves it open, a single 'P' is not enough to tell. */
static int begins_as_zip(const struct format_file *file, bool *ret)
{
	static const char magics[][5] = {"PK\x03\x04", "PK\x05\x06", "PK\x07\x08"};
	char head[4];
	size_t len = file->size < 4 ? (size_t)file->size : 4;
	int r = format_read(file, 0, head, len, "its signature");

	if (r < 0)
		return r;
	*ret = false;
	for (size_t i = 0; i < sizeof(magics) / sizeof(magics[0]); i++)
		*ret |= !memcmp(head, magics[i], len) && (len > 1 || file->sure);
	return 0;
}

int format_check_zip(const struct format_file *file)
{
	size_t len = file->size < END_SIZE + COMMENT_MAX ? (size_t)file->size : END_SIZE + COMMENT_MAX;
	bool zip;
	int r = begins_as_zip(file, &zip);

	if (r < 0 || !zip)
		return r;
	if (len < END_SIZE)
		return format_torn(file, file->size, "%s", cut_short);
	auto_free uint8_t *tail = malloc(len);
	if (!tail)
		return fault_set(file->f, ENOMEM, "%s: not enough memory to read its end", file->name);
	r = format_read(file, file->size - len, tail, len, "its end record");
	return r < 0 ? r : search_end(file, tail, len);
}
