/* Any bytes as a tar archive, or as the manifest of a bundle. The first byte of the input chooses. */
#include <mintfs/manifest.h>
#include <mintfs/util.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tar.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct source { const uint8_t *data; size_t size, at; size_t piece; };

static ssize_t read_source(void *arg, void *out, size_t len)
{
	struct source *s = arg;
	size_t n = s->size - s->at < len ? s->size - s->at : len;
	if (n > s->piece)
		n = s->piece;
	memcpy(out, s->data + s->at, n);
	s->at += n;
	return (ssize_t)n;
}

/* Every answer is a member, the end, or an error with a sentence; what is handed on never is more than there was. */
static void read_tar(struct source *s)
{
	struct tar_entry *e = malloc(sizeof *e);
	struct tar_reader *t = NULL;
	struct fault f = FAULT_INIT;
	uint8_t piece[300];
	int got = -1;
	if (!e || tar_reader_new(read_source, s, &t))
		abort();
	while ((got = tar_next(t, e, &f)) > 0) {
		ssize_t n = 1;
		uint64_t sum = 0;
		if (strlen(e->path) >= TAR_NAME_MAX || strlen(e->target) >= TAR_NAME_MAX || (e->type != TAR_FILE && e->size))
			abort();
		for (int i = 0; i < 3 && n > 0; i++) { /* sometimes not to the end */
			n = tar_read(t, piece, sizeof piece, &f);
			sum += n > 0 ? (uint64_t)n : 0;
		}
		if (sum > e->size || sum > s->size)
			abort();
		if (n < 0) {
			got = (int)n;
			break;
		}
	}
	if ((got < 0) != (f.error != 0) || (got < 0 && !f.text[0]))
		abort();
	if (tar_position(t) > s->size)
		abort();
	tar_reader_free(t);
	free(e);
}

static void read_manifest(const char *text, size_t len)
{
	struct manifest_reader *r;
	size_t counts[2] = {0};
	if (manifest_reader_new(text, len, &r))
		abort();
	for (int round = 0; round < 2; round++) { /* a second reading is the same as the first */
		struct fault f = FAULT_INIT;
		enum manifest_item item = MANIFEST_MODEL;
		int error;
		while ((error = manifest_next(r, &item, &f)) == 0 && item != MANIFEST_END) {
			counts[round]++;
			if (item == MANIFEST_MODEL && !manifest_model(r)->path)
				abort();
			if (item == MANIFEST_ALIAS && !manifest_alias(r)->name)
				abort();
			if (item == MANIFEST_INPUT && (!manifest_input(r)->model || manifest_input(r)->how < MANIFEST_OBSERVED || manifest_input(r)->how > MANIFEST_BOTH))
				abort();
			if (item == MANIFEST_UNKNOWN && !manifest_unknown(r)->text)
				abort();
			if (item == MANIFEST_EVALUATION && (!manifest_evaluation(r)->model || !manifest_evaluation(r)->metrics))
				abort();
			if (item == MANIFEST_ENTRY && !manifest_entry(r)->path)
				abort();
			if (item == MANIFEST_ENTRY && manifest_entry(r)->type == MANIFEST_FILE && !manifest_entry(r)->sha256)
				abort();
		}
		if ((error != 0) != (f.error != 0))
			abort();
		manifest_rewind(r);
	}
	if (counts[0] != counts[1])
		abort();
	manifest_reader_free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	struct source s = {data + 1, size - 1, 0, (data[0] >> 1) ? (size_t)(data[0] >> 1) * 7 : SIZE_MAX};
	if (data[0] & 1)
		read_manifest((const char *)data + 1, size - 1);
	else
		read_tar(&s);
	return 0;
}
