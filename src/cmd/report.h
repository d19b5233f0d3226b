/* What several commands say of a version, as JSON and in words; and metrics taken apart. */
#ifndef MINTFS_CMD_REPORT_H
#define MINTFS_CMD_REPORT_H

#include "source.h"
#include "table.h"

/* Members of the JSON object of a version: model, version, number, state, minted, created, author, message, reason, run_id, size, file_count, metrics, links.
 * What is not known is null; times are UTC, "2025-07-15 18:40:00". links may be NULL: the member is left out. */
void json_version_fields(struct json_out *j, const char *model, const struct version_info *v, const struct links *links);
void json_field_time(struct json_out *j, const char *key, int64_t at_ns);
void json_field_number(struct json_out *j, const char *key, uint32_t number); /* "v3", or null for 0 */
void json_field_version(struct json_out *j, const char *model, uint32_t number); /* "model" and "version": with these begins what is told of any version. NULL, 0: null */
void json_field_exit(struct json_out *j, const char *key, int status); /* a wait status as a shell tells it (128 + signal), or null for -1 */
void json_field_links(struct json_out *j, const struct links *links);               /* "links": [{"name", "version"}, …] */

void json_recorded(struct json_out *j, const char *json, const char *none);         /* what the catalog has as JSON, whoever wrote it; none: stands for NULL. What is no JSON is null */

enum style state_style(enum catalog_state state);
int64_t version_time(const struct catalog_version *v); /* of the commit, or of a draft's mint */

/* A run's command, recorded as a JSON array of arguments, as one would type it in a shell. -EINVAL */
int command_words(const char *json, struct buf *out);
void fact_command(struct table *t, const char *json); /* as a fact, if it is known */

/* Metrics as compact JSON, flattened: name and value as text. */
struct metric { char *name, *value, *json; }; /* json: of its own type; value is a text for people */
struct metrics { struct metric *v; size_t n; };
int metrics_parse(const char *json, struct metrics *ret); /* NULL: none */
int metrics_add(struct metrics *m, const char *name, const char *value, const char *json);
const struct metric *metrics_find(const struct metrics *m, const char *name); /* NULL if it is not there */
void metrics_release(struct metrics *m);
#define auto_metrics __attribute__((cleanup(metrics_release)))

/* The draft that commit and discard mean: a version as named; or, where a model or latest is named that is no draft of ours, the only open draft of the model.
 * A version that is no draft is given as it is. arg: as the user wrote it. */
int pick_draft(struct source *s, const char *arg, const char *name, bool model_alone, struct source_ref *ret, struct fault *f);

#endif
