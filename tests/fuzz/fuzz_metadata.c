/* Any bytes as metadata.json and as config.json: nothing may crash, and what is accepted must stay so when it is written anew. */
#include <mintfs/metadata.h>

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int count_field(const char *name, const char *value, void *arg)
{
	if (!name || !value)
		abort();
	++*(size_t *)arg;
	return 0;
}

/* The summary is the metrics object again: the same metrics must come out of it. */
static void check_summary(const struct metadata *md)
{
	struct metadata again;
	struct buf text = BUF_INIT(METADATA_SIZE_MAX);

	buf_printf(&text, "{\"metrics\":%s}", md->metrics_summary);
	if (text.error) { /* escapes may make it longer than a document may be */
		buf_release(&text);
		return;
	}
	if (metadata_parse(text.data, text.len, &again, NULL) < 0)
		abort();
	if (strcmp(md->metrics_summary, again.metrics_summary) != 0 || md->n_metrics != again.n_metrics)
		abort();
	for (unsigned i = 0; i < md->n_metrics; i++) {
		if (strcmp(md->metrics[i].name, again.metrics[i].name) != 0 || md->metrics[i].value != again.metrics[i].value)
			abort();
		if (!isfinite(md->metrics[i].value))
			abort();
	}
	metadata_release(&again);
	buf_release(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct metadata md;
	struct metadata_config config;
	struct fault f = FAULT_INIT;
	size_t fields = 0;
	int parsed = metadata_parse(text, size, &md, &f);

	if (parsed == 0) {
		check_summary(&md);
		metadata_release(&md);
	} else if (!f.error || !f.text[0]) {
		abort(); /* every refusal says why */
	}
	int walked = metadata_each_field(text, size, count_field, &fields, NULL);
	if (parsed == 0 && walked < 0 && walked != -EFBIG)
		abort();
	metadata_config_parse(text, size, &config, NULL);
	return 0;
}
