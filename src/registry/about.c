/* What a version tells of itself, taken from its metadata.json at the commit. */
#include "commit.h"
#include "digest.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define METRIC_PREFIX "metrics."

static int64_t find_top(const struct draft_tree *t, const char *name)
{
	for (size_t i = 0; i < t->n_top; i++)
		if (!strcmp(t->entries[i].name, name))
			return (int64_t)i;
	return -1;
}

int about_prepare(struct commit_work *w)
{
	bool ours = w->generated >= 0 || (w->has_metadata && w->metadata.generated);
	return digest_of_tree(&w->tree, ours ? find_top(&w->tree, METADATA_NAME) : -1, &w->digest);
}

static int add_metrics(struct catalog_conn *conn, int64_t version_id, const struct metadata *md)
{
	int rc = 0;
	for (unsigned i = 0; rc == 0 && i < md->n_metrics; i++) {
		char name[CATALOG_NAME_MAX + sizeof METRIC_PREFIX];
		struct catalog_fact f = {.name = name, .is_number = true, .number = md->metrics[i].value};
		int n = snprintf(name, sizeof name, METRIC_PREFIX "%s", md->metrics[i].name);
		rc = (size_t)n < sizeof name ? catalog_facts_add(conn, version_id, &f, 1) : 0;
	}
	return rc;
}

static int add_text(struct catalog_conn *conn, int64_t version_id, const char *name, const char *text)
{
	struct catalog_fact f = {.name = name, .text = text};
	return text ? catalog_facts_add(conn, version_id, &f, 1) : 0;
}

int about_write(struct catalog_conn *conn, const struct commit_work *w)
{
	const struct metadata *md = &w->metadata;
	int64_t id = w->v.id;
	struct catalog_about a = {.has_digest = true, .digest = w->digest, .description = md->description, .maintainer = md->maintainer, .source = md->source,
		.labels = md->labels, .params = md->params};
	int rc = catalog_about_set(conn, id, &a);
	for (unsigned i = 0; rc == 0 && i < md->n_facts; i++) {
		const struct metadata_fact *from = &md->facts[i];
		struct catalog_fact f = {from->name, from->text, from->is_number, from->number};
		rc = catalog_facts_add(conn, id, &f, 1);
	}
	if (rc == 0)
		rc = add_metrics(conn, id, md);
	if (rc == 0)
		rc = add_text(conn, id, "maintainer", md->maintainer);
	return rc == 0 ? add_text(conn, id, "source", md->source) : rc;
}
