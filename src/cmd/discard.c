/* mintfs discard: a draft is given up. Like commit, through the drive that serves it. */
#include "report.h"

#include <errno.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define GONE_LIMIT_NS (2 * NS_PER_SEC) /* the kernel believes in a name for a second at most */

/* The drive tells the kernel after it has answered us: whoever called may look for the name at once. */
static void wait_until_gone(const char *dir)
{
	struct stat st;
	int64_t until = time_monotonic_ns() + GONE_LIMIT_NS;
	while (lstat(dir, &st) == 0 && time_monotonic_ns() < until) {
		struct timespec nap = ns_timespec(NS_PER_SEC / 200);
		nanosleep(&nap, NULL);
	}
}

static int discard(struct source *s, const struct source_ref *ref, bool force, struct fault *f)
{
	char dir[PATH_MAX], label[CATALOG_PATH_MAX + 16];
	source_label(ref, label);
	if (ref->state == CATALOG_COMMITTED)
		return fault_set(f, EROFS, "%s is committed: it cannot be discarded", label);
	int rc = ref->state == CATALOG_DRAFT ? source_serving(s, ref, dir, sizeof dir, f) : -ENOENT;
	if (rc == 0 && (rc = source_ask(dir, "discard", force ? "force" : "1", label, f)) == 0)
		wait_until_gone(dir);
	if (rc == 0)
		return 0;
	if (rc != -ENOENT || !s->r)
		return rc;
	rc = registry_discard(s->r, &s->me, ref->version_id, force ? REGISTRY_DISCARD_FORCE : 0, f);
	return rc < 0 ? fault_default(f, -rc, "%s is not discarded: %s", label, strerror(-rc)) : 0;
}

static int run(const struct command *self, int argc, char **argv)
{
	bool force = false;
	const struct cmd_flag flags[] = {{"force", 'f', &force, NULL}};
	struct cmd_args a;
	struct cmd_target t;
	struct source_ref ref;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, flags, 1, 1, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	auto_source struct source *s = NULL;
	if (cmd_find_target(a.v[0], &a.o, &t, &f) < 0 || source_open(&t, true, &s, &f) < 0 || pick_draft(s, a.v[0], t.name, false, &ref, &f) < 0 ||
	    discard(s, &ref, force, &f) < 0)
		return cmd_fail(self, &f);
	if (a.o.json) {
		auto_buf struct buf b = BUF_INIT(1 << 20);
		struct json_out j;
		json_init(&j, &b, 2);
		json_object_begin(&j);
		json_field_string(&j, "model", ref.model);
		json_field_number(&j, "version", ref.number);
		json_field_int(&j, "number", ref.number);
		json_field_string(&j, "state", catalog_state_name(CATALOG_DISCARDED));
		json_object_end(&j);
		return cmd_put_json(self, &b);
	}
	printf("v%u of ", ref.number);
	text_print(ref.model);
	printf(" discarded; the number is not used again\n");
	return cmd_done(self);
}

const struct command cmd_discard = {
	.name = "discard",
	.args = "VERSION [--force]",
	.summary = "give up a draft",
	.help = "Removes a draft and all its files. Its number is never used again. Refused while files of it are open. A committed version cannot be discarded.\n"
		"\n" HELP_TARGET
		"A draft is given up by who made it, by the owner of the model, and by its group if that may write there.\n"
		"\n"
		"  -f, --force        also while files are open; whoever has them open goes on, into nothing\n" HELP_STORE HELP_JSON HELP_HELP "\n"
		"Example:  mintfs discard /mnt/models/product/P001_all/mlstm/v3\n",
	.run = run,
};
