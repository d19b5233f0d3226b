/* mintfs evaluate: records what a version scored on a dataset. */
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>

#define METRICS_MAX (1u << 20)

/* '{"rmse": 9.8}', a file, or - for standard input */
static int read_metrics(const char *arg, struct buf *out, struct fault *f)
{
	const char *p = arg;
	char piece[16 << 10];
	while (*p == ' ' || *p == '\t' || *p == '\n')
		p++;
	if (*p == '{')
		return buf_puts(out, arg);
	auto_close int fd = strcmp(arg, "-") ? sys_openat(AT_FDCWD, arg, O_RDONLY, 0) : fcntl(0, F_DUPFD_CLOEXEC, 3);
	if (fd < 0)
		return fault_set(f, -fd, "the metrics in %s cannot be read: %s", arg, strerror(-fd));
	for (ssize_t n; (n = read(fd, piece, sizeof piece)) != 0;) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return fault_set(f, errno, "the metrics in %s cannot be read: %s", arg, strerror(errno));
		if (buf_add(out, piece, (size_t)n) < 0)
			return fault_set(f, EFBIG, "the metrics in %s are larger than %u bytes", arg, METRICS_MAX);
	}
	return 0;
}

/* product/…, dataset/…: not the short name of a dataset. */
static bool names_a_mode(const char *text)
{
	size_t len = strcspn(text, "/");
	for (int mode = 0; text[len] && mode < LAYOUT_MODES; mode++)
		if (strlen(layout_mode_name(mode)) == len && !strncmp(text, layout_mode_name(mode), len))
			return true;
	return false;
}

static int resolve_dataset(struct source *s, const char *text, struct source_ref *ret, struct fault *f)
{
	char name[CATALOG_PATH_MAX];
	int n = snprintf(name, sizeof name, "%s%s", names_a_mode(text) || text[0] == '/' ? "" : "dataset/", text);
	if (n < 0 || (size_t)n >= sizeof name)
		return fault_set(f, ENAMETOOLONG, "the name of the dataset is too long");
	int rc = source_resolve(s, name, ret, f);
	if (rc == 0 && !ret->has_version)
		return fault_set(f, EINVAL, "which version of %s? Name it, such as %s/v1", ret->model, ret->model);
	return rc;
}

static int run(const struct command *self, int argc, char **argv)
{
	const char *dataset = NULL, *metrics = NULL;
	const struct cmd_flag flags[] = {{"dataset", 0, NULL, &dataset}, {"metrics", 0, NULL, &metrics}};
	struct cmd_args a;
	struct source_ref version, data;
	struct fault f = FAULT_INIT;
	auto_buf struct buf text = BUF_INIT(METRICS_MAX);
	int64_t id;
	int code = cmd_parse(self, argc, argv, flags, ARRAY_SIZE(flags), 1, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	if (!dataset || !metrics)
		return cmd_usage(self, "--dataset and --metrics are needed");
	auto_source struct source *s = NULL;
	if (read_metrics(metrics, &text, &f) < 0 || source_find_ref(a.v[0], &a.o, true, "evaluations", &s, &version, &f) < 0 || resolve_dataset(s, dataset, &data, &f) < 0)
		return cmd_fail(self, &f);
	if (!version.has_version)
		return cmd_usage(self, "which version of %s? Name it, such as %s/v1", version.model, version.model);
	if (registry_evaluate(s->r, &s->me, version.version_id, data.version_id, buf_text(&text), text.len, &id, &f) < 0)
		return cmd_fail(self, &f);
	if (a.o.json)
		printf("{\n  \"id\": %lld\n}\n", (long long)id);
	else
		printf("recorded as evaluation %lld\n", (long long)id);
	return cmd_done(self);
}

const struct command cmd_evaluate = {
	.name = "evaluate",
	.args = "VERSION --dataset DATASET/vN --metrics FILE|JSON",
	.summary = "record what a version scored on a dataset",
	.help = "Records a result of a committed version on a committed version of a dataset, found after the commit; many for each. 'mintfs compare' shows\n"
		"them side by side. The version itself does not change.\n"
		"\n"
		"      --dataset DATASET/vN\n"
		"                     what it was evaluated on\n"
		"      --metrics FILE|JSON\n"
		"                     a JSON object with numbers; a file, - for standard input, or the object itself\n" HELP_STORE HELP_JSON HELP_HELP "\n"
		"Example:  mintfs evaluate product/P001_all/mlstm/v3 --dataset dataset/holdout/v2 --metrics '{\"rmse\": 9.8}'\n",
	.run = run,
};
