/* Any bytes as the config.json of a store. A store is opened by what stands there, so: no guess, and what we write is read again as the same. */
#include <mintfs/metadata.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(condition) \
	do { \
		if (!(condition)) \
			abort(); \
	} while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct metadata_config config = {.format = -77}, again = {.format = -78};
	struct fault f = FAULT_INIT;
	char *text = malloc(size + 1); /* memory of exactly the text's size and a NUL that must not be asked for */

	if (!text)
		return 0;
	memcpy(text, data, size);
	text = realloc(text, size ? size : 1);
	if (!text)
		return 0;
	int r = metadata_config_parse(text, size, &config, &f);
	if (r < 0) {
		MUST(config.format == -77 && (r == -ENOMEM || (f.error && f.text[0])));
	} else {
		struct buf out = BUF_INIT(1u << 20);
		MUST(config.format > 0 && !f.error);
		MUST(metadata_config_generate(&config, &out) == 0);
		MUST(metadata_config_parse(out.data, out.len, &again, NULL) == 0 && again.format == config.format);
		buf_release(&out);
	}
	free(text);
	return 0;
}
