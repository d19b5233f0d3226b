/* Private to process_parse.c and process_check.c. */
#ifndef METADATA_PROCESS_H
#define METADATA_PROCESS_H

#include "document.h"

#include <mintfs/process_spec.h>

#define PROCESS_FILE_NAME "process.json"

/* While it is read: what a node is after is known by name only. */
struct draft_node {
	struct process_node node;
	struct process_list after;
	size_t pos; /* of its text */
};
struct draft_spec {
	struct process_spec spec; /* without nodes */
	struct draft_node *nodes;
	unsigned n_nodes;
};

/* Names, `after` into indexes, cycles and order, weights, placeholders. */
int process_check_nodes(const struct document *d, struct draft_spec *s);
/* Trainings: each of a model of some node, with the dataset that it is trained on. */
int process_check_models(const struct document *d, struct process_spec *s);

#endif
