/* process.json: what a process is made of. A door of the room metadata, which knows documents; nothing is looked up here and nothing is run.
 *
 *   {
 *     "description": "property screening",
 *     "nodes": [
 *       {"name": "activity", "after": [],
 *        "dataset": "dataset/mol",
 *        "model": {"name": "product/activity_all/ridge", "where": ["alias = production"]},
 *        "run": ["python3", "{process}/score.py", "--data", "{dataset}", "--model", "{model}", "--out", "{result}"],
 *        "score": "r2", "weight": 0.1, "timeout": 600}
 *     ],
 *     "models": {
 *       "product/activity_all/ridge": {
 *         "train": ["python3", "{process}/train.py", "--data", "{dataset}", "--out", "{draft}"],
 *         "accept": {"metrics": {"r2": {"min": 0.3}}, "not_worse": "r2"}}
 *     },
 *     "accept": {"min": 0.5, "not_worse": "max"},
 *     "aliases": ["production"]
 *   }
 *
 * Commands are arrays of words: no shell reads them, so a name with blanks or quotes is only a word. Placeholders stand anywhere within a word; `{{` and `}}` are
 * braces. Everything is bounded (PROCESS_…_MAX), unknown fields are refused, and every refusal names the line. Thread-safe, no shared state. */
#ifndef MINTFS_PROCESS_SPEC_H
#define MINTFS_PROCESS_SPEC_H

#include <mintfs/buf.h>
#include <mintfs/error.h>
#include <stdbool.h>
#include <stddef.h>

#define PROCESS_SIZE_MAX (1u << 20) /* bytes of a process.json */
#define PROCESS_NODES_MAX 256
#define PROCESS_LIST_MAX 256        /* words of a command, conditions, aliases, limits */
#define PROCESS_NAME_MAX 128        /* bytes of a node's name with its NUL */
#define PROCESS_TIMEOUT_DEFAULT 3600
#define PROCESS_TIMEOUT_MAX 2592000 /* 30 days, in seconds */

struct process_list { char **v; unsigned n; }; /* owned texts */

/* Which version of a dataset or model: the newest committed one that satisfies all conditions (the grammar of `mintfs find`). */
struct process_selector {
	char *name;                /* dataset/mol, product/P001_all/mlstm */
	struct process_list where;
	unsigned line;             /* of process.json, from 1 */
};

struct process_node {
	char *name;
	unsigned *after; /* indexes of nodes, owned */
	unsigned n_after;
	struct process_selector dataset, model;
	struct process_list run;
	char *score;     /* key in its result; dots lead into objects */
	double weight;   /* 0 to 1; those of all nodes add up to 1 */
	unsigned timeout_s;
	unsigned line;
};

enum process_better { PROCESS_ANY, PROCESS_LOWER, PROCESS_HIGHER };

struct process_limit { char *metric; bool has_min, has_max; double min, max; };

/* How a model is trained anew, and when the result is adopted. */
struct process_training {
	char *model;
	char *dataset;             /* that it is trained on: named, or the one of all its nodes */
	struct process_list train; /* empty: it cannot be trained */
	unsigned timeout_s;
	struct process_limit *limits; /* all must hold */
	unsigned n_limits;
	char *not_worse;           /* metric that must not be worse than the present version's, or NULL */
	enum process_better better; /* of that metric */
	unsigned line;
};

struct process_spec {
	char *description; /* or NULL */
	struct process_node *nodes;
	unsigned n_nodes;
	unsigned *order;   /* of the nodes, each behind all that it is after; of those that could come next the first in the file */
	struct process_training *models;
	unsigned n_models;
	struct process_limit accept;     /* of the weighted sum; metric NULL */
	enum process_better not_worse;   /* of the weighted sum against the present one; PROCESS_ANY: not asked */
	struct process_list aliases;     /* moved to adopted models */
};

/* -EINVAL with "process.json, line N: …", -EFBIG, -ENOMEM. Checked: fields, types, names of nodes (once, printable), `after` (exists, no cycle), weights, placeholders. */
int process_spec_parse(const char *text, size_t len, struct process_spec *ret, struct fault *f);
/* A regular file; anything else is -EINVAL. */
int process_spec_read(int fd, struct process_spec *ret, struct fault *f);
void process_spec_release(struct process_spec *s); /* may be called twice */

/* The training of a model, or NULL. */
const struct process_training *process_spec_training(const struct process_spec *s, const char *model);

/* Placeholders of a word. */
enum process_place { PLACE_DATASET, PLACE_MODEL, PLACE_RESULT, PLACE_RESULTS, PLACE_DRAFT, PLACE_PROCESS, PLACES };
/* A word with its placeholders filled; values[PLACE] must not be NULL where the spec was checked. -EINVAL: an unknown or unclosed placeholder, *ret_bad (may be NULL) points to it. */
int process_word_fill(const char *word, const char *const values[PLACES], struct buf *out, const char **ret_bad);

/* The number at a key of a result: a JSON object, `NaN` allowed but no score. -EINVAL with a sentence: no JSON object, no such key, not a finite number. */
int process_score(const char *result, size_t len, const char *key, double *ret, struct fault *f);

#endif
