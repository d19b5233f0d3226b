/* mintfs commit: a draft becomes a version. Where a daemon serves the draft, it is asked by an attribute; else the registry does it here. */
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static int commit(struct source *s, const struct source_ref *ref, const char *message, struct fault *f)
{
	char dir[PATH_MAX], label[CATALOG_PATH_MAX + 16];
	int rc = source_serving(s, ref, dir, sizeof dir, f);
	source_label(ref, label);
	if (rc == 0)
		return source_ask(dir, "commit", message ? message : "", label, f);
	if (rc != -ENOENT || !s->r)
		return rc;
	rc = registry_commit(s->r, &s->me, ref->version_id, message, f);
	return rc < 0 ? fault_default(f, -rc, "%s is not committed: %s", label, strerror(-rc)) : 0;
}

struct telling { const struct command *self; const struct cmd_options *o; const struct source_ref *ref; bool was; };

static int tell(const struct version_info *v, void *arg)
{
	const struct telling *t = arg;
	char size[HUMAN_MAX];
	if (t->o->json) {
		auto_buf struct buf b = BUF_INIT(1u << 30);
		struct json_out j;
		json_init(&j, &b, 2);
		json_object_begin(&j);
		json_version_fields(&j, t->ref->model, v, NULL);
		json_object_end(&j);
		return cmd_put_json(t->self, &b);
	}
	printf("v%u of ", v->v.number);
	text_print(t->ref->model);
	if (t->was)
		printf(" is %s already\n", catalog_state_name(v->v.state));
	else if (v->v.id)
		printf(" committed: %u %s, %s\n", v->v.n_files, plural(v->v.n_files, "file", "files"), human_size(v->v.size, size));
	else
		printf(" committed: %s\n", human_size(v->v.size, size));
	return cmd_done(t->self);
}

static int run(const struct command *self, int argc, char **argv)
{
	const char *message = NULL;
	const struct cmd_flag flags[] = {{"message", 'm', NULL, &message}};
	struct cmd_args a;
	struct cmd_target t;
	struct source_ref ref;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, flags, 1, 1, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	auto_source struct source *s = NULL;
	if (source_find(a.v[0], &a.o, true, NULL, &s, &t, &f) < 0 || pick_draft(s, a.v[0], t.name, true, &ref, &f) < 0)
		return cmd_fail(self, &f);
	bool was = ref.state == CATALOG_COMMITTED;
	if (!was && commit(s, &ref, message, &f) < 0)
		return cmd_fail(self, &f);
	ref.state = CATALOG_COMMITTED;
	struct telling telling = {self, &a.o, &ref, was};
	code = source_version(s, &ref, tell, &telling, &f);
	return code < 0 ? cmd_fail(self, &f) : code;
}

const struct command cmd_commit = {
	.name = "commit",
	.args = "VERSION [-m MESSAGE]",
	.summary = "freeze a draft: it becomes an immutable version",
	.help = "Hashes what is not hashed yet, stores it, and records the version, durably. Refused, with the reason, while a file is open for writing,\n"
		"when there is no file, when metadata.json is no JSON object, or when a file of a known format is torn; the draft then stays as it was.\n"
		"Committing a committed version changes nothing.\n"
		"\n" HELP_TARGET
		"MODEL alone, or latest where your run has no draft, means the only open draft of the model.\n"
		"A draft is committed by who made it, by the owner of the model, and by its group if that may write there.\n"
		"\n"
		"  -m, --message TEXT what is to be remembered of it\n" HELP_STORE HELP_JSON HELP_HELP "\n"
		"Example:  mintfs commit /mnt/models/product/P001_all/mlstm/latest -m 'with holidays'\n",
	.run = run,
};
