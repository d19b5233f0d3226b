/* mintfs gc: frees the contents that nobody needs. */
#include "keep.h"
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

struct listing { struct json_out *j; struct buf *b; bool verbose; };

static void list(const struct listing *l, const struct blob_id *id, uint64_t size, bool sealed)
{
	if (!l->verbose)
		return;
	char hex[BLOB_HEX_SIZE], text[HUMAN_MAX];
	blob_id_hex(id, hex);
	if (l->j) {
		json_object_begin(l->j);
		json_field_string(l->j, "sha256", hex);
		json_field_int(l->j, "size", (int64_t)size);
		json_field_bool(l->j, "sealed", sealed);
		json_object_end(l->j);
		json_stream(l->b);
	} else {
		printf("%s  %s%s\n", hex, human_size(size, text), sealed ? "  stays: sealed by root" : "");
	}
}

static void tell_content(const struct blob_id *id, uint64_t size, void *arg) { list(arg, id, size, false); }
static void tell_sealed(const struct blob_id *id, uint64_t size, void *arg) { list(arg, id, size, true); }

/* The rest is done: a sentence on standard error, and an exit status that a script sees. */
static int refuse_sealed(const struct command *self, const struct registry_gc_result *sum, const char *store)
{
	struct fault f = FAULT_INIT;
	char text[HUMAN_MAX];
	fault_set(&f, EPERM, "%llu %s of %s cannot be freed: root mounted the store once and sealed %s (chattr +i), which only root can undo: let root run 'mintfs gc %s' (-v names %s)",
		(unsigned long long)sum->sealed, plural(sum->sealed, "content", "contents"), human_size(sum->sealed_bytes, text), plural(sum->sealed, "it", "them"), store,
		plural(sum->sealed, "it", "each"));
	return cmd_fail(self, &f);
}

static void tell_sum(const struct registry_gc_result *sum, bool dry_run, const char *grace, int64_t grace_ns)
{
	char text[HUMAN_MAX];
	printf(dry_run ? "would free %llu %s, %s\n" : "freed %llu %s, %s\n", (unsigned long long)sum->freed, plural(sum->freed, "content", "contents"),
		human_size(sum->freed_bytes, text));
	if (sum->young > 0)
		printf("not needed either, but not older than %s: %llu, %s\n", grace, (unsigned long long)sum->young, human_size(sum->young_bytes, text));
	if (grace_ns > 0) /* what was retired a moment ago is not freed: nobody should wonder why */
		printf("in use, or retired not longer than %s ago: ", grace);
	else
		printf("in use: ");
	printf("%llu, %s\n", (unsigned long long)sum->kept, human_size(sum->kept_bytes, text));
}

static void json_sum(struct json_out *j, const struct registry_gc_result *sum, bool dry_run)
{
	json_field_bool(j, "dry_run", dry_run);
	json_field_int(j, "freed", (int64_t)sum->freed);
	json_field_int(j, "freed_bytes", (int64_t)sum->freed_bytes);
	json_field_int(j, "young", (int64_t)sum->young);
	json_field_int(j, "young_bytes", (int64_t)sum->young_bytes);
	json_field_int(j, "kept", (int64_t)sum->kept);
	json_field_int(j, "kept_bytes", (int64_t)sum->kept_bytes);
	json_field_int(j, "sealed", (int64_t)sum->sealed);
	json_field_int(j, "sealed_bytes", (int64_t)sum->sealed_bytes);
}

static int run(const struct command *self, int argc, char **argv)
{
	bool dry_run = false, verbose = false;
	const char *grace = NULL;
	const struct cmd_flag flags[] = {{"dry-run", 'n', &dry_run, NULL}, {"grace", 0, NULL, &grace}, {"verbose", 'v', &verbose, NULL}};
	struct registry_gc how = {.grace_ns = REGISTRY_GC_GRACE_NS};
	struct registry_gc_result sum;
	struct cmd_args a;
	struct cmd_target t;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, flags, 3, 0, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	if (grace && parse_duration(grace, &how.grace_ns) < 0)
		return cmd_usage(self, "--grace takes a time, such as 30min, 12h, 7d or 0, not '%s'", grace);
	auto_source struct source *s = NULL;
	auto_buf struct buf b = BUF_INIT(1u << 30);
	struct json_out j = {0};
	struct listing l = {.j = a.o.json ? &j : NULL, .b = &b, .verbose = verbose};
	how.dry_run = dry_run;
	how.fn = tell_content;
	how.sealed = tell_sealed;
	how.arg = &l;
	json_init(&j, &b, 2);
	json_object_begin(&j);
	if (verbose) {
		json_key(&j, "contents");
		json_array_begin(&j);
	}
	if (cmd_find_store(a.v[0], &a.o, &t, &f) < 0 || source_open(&t, !dry_run, &s, &f) < 0 || source_need_store(s, "what the store holds", &f) < 0 ||
	    registry_gc(s->r, &how, &sum, &f) < 0)
		return cmd_fail(self, &f);
	if (verbose)
		json_array_end(&j);
	json_sum(&j, &sum, dry_run);
	json_object_end(&j);
	if (!a.o.json)
		tell_sum(&sum, dry_run, grace ? grace : "1h", how.grace_ns);
	code = a.o.json ? cmd_put_json(self, &b) : cmd_done(self);
	return code == EXIT_DONE && sum.sealed > 0 ? refuse_sealed(self, &sum, t.store) : code;
}

const struct command cmd_gc = {
	.name = "gc",
	.args = "[STORE|DIR] [--dry-run] [--grace TIME]",
	.summary = "free what no committed version holds",
	.help = "Frees the contents that only retired versions held, and what failed commits and imports left behind. May run at any time, beside trainings, readers and commits;\n"
		"may be interrupted, and run again. What is younger than the grace period stays: versions retired, and contents stored, less than TIME ago.\n"
		"The argument is a store or a directory on a drive; default: the working directory, if it lies on a drive, else --store or MINTFS_STORE.\n"
		"Only for the owner of the store, and root. What a drive that root mounted sealed (chattr +i) in an ordinary user's store, only root frees: the rest goes, and\n"
		"the exit status is 1.\n"
		"\n"
		"  -n, --dry-run      only say what would be freed\n"
		"      --grace TIME   30min, 12h, 7d, 0; default: 1h\n"
		"  -v, --verbose      name each content\n" HELP_STORE HELP_JSON HELP_HELP "\n"
		"Example:  mintfs gc /srv/models.store --dry-run\n",
	.run = run,
};
