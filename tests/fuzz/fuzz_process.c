/* Any bytes as process.json, as a word of a command, and as a result. */
#include <mintfs/process_spec.h>

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_order(const struct process_spec *s)
{
	bool placed[PROCESS_NODES_MAX] = {false};
	for (unsigned i = 0; i < s->n_nodes; i++) {
		const struct process_node *n = &s->nodes[s->order[i]];
		for (unsigned k = 0; k < n->n_after; k++)
			if (!placed[n->after[k]])
				abort(); /* a node stands before one that it is after */
		if (placed[s->order[i]])
			abort();
		placed[s->order[i]] = true;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const values[PLACES] = {"d", "m", "r", "rs", NULL, "p"};
	struct process_spec s;
	struct fault f = FAULT_INIT;
	double score;
	if (process_spec_parse((const char *)data, size, &s, &f) == 0) {
		check_order(&s);
		process_spec_release(&s);
	} else if (!f.error || !f.text[0]) {
		abort(); /* every refusal says why */
	}
	process_score((const char *)data, size, "a.b", &score, NULL);
	char *word = malloc(size + 1);
	struct buf out = BUF_INIT(1u << 20);
	if (word) {
		memcpy(word, data, size);
		word[size] = '\0';
		process_word_fill(word, values, &out, NULL);
	}
	buf_release(&out);
	free(word);
	return 0;
}
