/* mintfs watch: what happens in a store, as it happens. Events are rows of the catalog; that there may be new ones is told by the kernel, which sees the
 * catalog's log change, and asked for once in a while besides. */
#include "report.h"

#include <errno.h>
#include <mintfs/cleanup.h>
#include <mintfs/util.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define BATCH 256       /* events a query */
#define LOOK_AGAIN_MS 1000

struct watcher {
	const struct command *self;
	const struct cmd_options *o;
	struct source *s;
	const char *exec;       /* or NULL */
	char under[CATALOG_PATH_MAX]; /* a model, or a directory above models; "": all */
	int64_t seen;           /* id of the newest event told */
	struct { int64_t id, at_ns, model_id; uint32_t number; char *kind, *text; } batch[BATCH];
	unsigned n;
};

static int keep(const struct catalog_event *e, void *arg)
{
	struct watcher *w = arg;
	w->batch[w->n].id = e->id;
	w->batch[w->n].at_ns = e->at_ns;
	w->batch[w->n].model_id = e->model_id;
	w->batch[w->n].number = e->number;
	w->batch[w->n].kind = strdup(e->kind ? e->kind : "");
	w->batch[w->n].text = e->text ? strdup(e->text) : NULL;
	return w->batch[w->n++].kind ? 0 : -ENOMEM;
}

static void forget(struct watcher *w)
{
	for (unsigned i = 0; i < w->n; i++) {
		free(w->batch[i].kind);
		free(w->batch[i].text);
	}
	w->n = 0;
}

static bool is_under(const char *path, const char *under)
{
	size_t n = strlen(under);
	return n == 0 || (!strncmp(path, under, n) && (path[n] == '\0' || path[n] == '/'));
}

static int model_path(struct watcher *w, int64_t model_id, char out[CATALOG_PATH_MAX])
{
	struct catalog_model m;
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(w->s->r, &conn);
	if (rc == 0)
		rc = catalog_model_get(conn, model_id, &m);
	if (rc == 0)
		text_copy(out, CATALOG_PATH_MAX, m.path);
	return rc;
}

static void tell_json(const struct watcher *w, unsigned i, const char *path)
{
	auto_buf struct buf b = BUF_INIT(1u << 20);
	struct json_out j;
	json_init(&j, &b, 0);
	json_object_begin(&j);
	json_field_int(&j, "id", w->batch[i].id);
	json_field_time(&j, "at", w->batch[i].at_ns);
	json_field_string(&j, "event", w->batch[i].kind);
	json_field_version(&j, path, w->batch[i].number);
	json_field_string(&j, "text", w->batch[i].text);
	json_object_end(&j);
	puts(buf_text(&b));
}

static void tell(const struct watcher *w, unsigned i, const char *path)
{
	char time[HUMAN_MAX];
	auto_buf struct buf kind = BUF_INIT(1u << 20);
	text_add_safe(&kind, w->batch[i].kind, NULL);
	printf("%6lld  %s  %-11s  ", (long long)w->batch[i].id, human_time(w->batch[i].at_ns, time), buf_text(&kind));
	text_print(path);
	if (w->batch[i].number)
		printf("/v%u", w->batch[i].number);
	if (w->batch[i].text) {
		printf("  ");
		text_print(w->batch[i].text);
		if (!strcmp(w->batch[i].kind, "alias") && !w->batch[i].number)
			printf(" dropped");
	}
	putchar('\n');
}

static void set_number(const char *name, long long value)
{
	char text[32];
	snprintf(text, sizeof text, "%lld", value);
	setenv(name, text, 1);
}

/* The command is the user's own line; names reach it by the environment only, so the shell reads none of them as its own. */
static int run_command(const struct watcher *w, unsigned i, const char *path)
{
	fflush(stdout);
	pid_t pid = fork();
	if (pid < 0)
		return -errno;
	if (pid == 0) {
		sigset_t none;
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
		set_number("MINTFS_EVENT_ID", w->batch[i].id);
		setenv("MINTFS_EVENT", w->batch[i].kind, 1);
		setenv("MINTFS_EVENT_MODEL", path, 1);
		set_number("MINTFS_EVENT_NUMBER", w->batch[i].number);
		setenv("MINTFS_EVENT_TEXT", w->batch[i].text ? w->batch[i].text : "", 1);
		setenv("MINTFS_STORE", w->s->store, 1);
		execl("/bin/sh", "sh", "-c", w->exec, (char *)NULL);
		_exit(127);
	}
	int status;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	if (status != 0)
		fprintf(stderr, "mintfs watch: the command ended with status %d at event %lld\n", WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
			(long long)w->batch[i].id);
	return 0;
}

static int tell_batch(struct watcher *w)
{
	for (unsigned i = 0; i < w->n; i++) {
		char path[CATALOG_PATH_MAX];
		int rc = model_path(w, w->batch[i].model_id, path);
		w->seen = w->batch[i].id;
		if (rc == -ENOENT || (rc == 0 && !is_under(path, w->under)))
			continue;
		if (rc < 0)
			return rc;
		if (w->o->json)
			tell_json(w, i, path);
		else
			tell(w, i, path);
		if (w->exec && (rc = run_command(w, i, path)) < 0)
			return rc;
	}
	return fflush(stdout) == 0 ? 0 : -errno;
}

static int read_batch(struct watcher *w)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(w->s->r, &conn);
	return rc < 0 ? rc : catalog_event_list(conn, w->seen, BATCH, keep, w);
}

/* All that is there. */
static int tell_new(struct watcher *w)
{
	unsigned n;
	int rc = 0;
	do {
		rc = read_batch(w);
		n = w->n;
		if (rc == 0)
			rc = tell_batch(w);
		forget(w);
	} while (rc == 0 && n == BATCH);
	return rc;
}

/* Until a signal asks for the end. */
static int follow(struct watcher *w)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	auto_close int signals = signalfd(-1, &set, SFD_CLOEXEC);
	auto_close int changes = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (signals < 0)
		return -errno;
	if (changes >= 0)
		inotify_add_watch(changes, w->s->store, IN_MODIFY | IN_CREATE);
	for (int rc;;) {
		if ((rc = tell_new(w)) < 0)
			return rc;
		struct pollfd p[] = {{.fd = signals, .events = POLLIN}, {.fd = changes, .events = POLLIN}};
		if (poll(p, 2, LOOK_AGAIN_MS) < 0 && errno != EINTR)
			return -errno;
		if (p[0].revents & POLLIN)
			return 0;
		char drop[4096];
		while (p[1].revents & POLLIN && read(changes, drop, sizeof drop) > 0)
			;
	}
}

static int begin_at(struct watcher *w, const char *from)
{
	uint64_t id;
	if (from) {
		int rc = parse_u64(from, INT64_MAX, &id);
		w->seen = rc == 0 && id > 0 ? (int64_t)id - 1 : 0;
		return rc;
	}
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(w->s->r, &conn);
	return rc < 0 ? rc : catalog_event_last(conn, &w->seen);
}

static int run(const struct command *self, int argc, char **argv)
{
	const char *from = NULL, *exec = NULL;
	bool once = false;
	const struct cmd_flag flags[] = {{"from", 0, NULL, &from}, {"exec", 0, NULL, &exec}, {"once", 0, &once, NULL}};
	struct cmd_args a;
	struct cmd_target t;
	struct fault f = FAULT_INIT;
	uint64_t ignored;
	int code = cmd_parse(self, argc, argv, flags, ARRAY_SIZE(flags), 0, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	if (from && parse_u64(from, INT64_MAX, &ignored) < 0)
		return cmd_usage(self, "--from takes the number of an event, '%s' is none", from);
	auto_source struct source *s = NULL;
	if (source_find(a.v[0], &a.o, false, "what happens", &s, &t, &f) < 0)
		return cmd_fail(self, &f);
	auto_free struct watcher *w = calloc(1, sizeof *w);
	if (!w || text_copy(w->under, sizeof w->under, t.name) < 0) {
		fault_set(&f, w ? ENAMETOOLONG : ENOMEM, "%s", w ? "the name is too long" : "not enough memory");
		return cmd_fail(self, &f);
	}
	w->self = self;
	w->o = &a.o;
	w->s = s;
	w->exec = exec;
	int rc = begin_at(w, from);
	if (rc == 0)
		rc = once ? tell_new(w) : follow(w);
	if (rc == -EPIPE)
		return EXIT_DONE; /* the reader has seen enough */
	if (rc < 0) {
		fault_set(&f, -rc, "cannot watch %s: %s", s->store, strerror(-rc));
		return cmd_fail(self, &f);
	}
	return cmd_done(self);
}

const struct command cmd_watch = {
	.name = "watch",
	.args = "[NAME] [--from ID] [--exec COMMAND] [--once]",
	.summary = "print what happens in a store, as it happens",
	.help = "Prints an event a line: its number, the time, what happened, where, and a text. Events: minted, committed, discarded, failed (a draft\n"
		"stays, and why), retired, alias, evaluated, ran, updated, not updated. NAME: a model, or a directory above models; without it, all of the store.\n"
		"Ends at Ctrl-C.\n"
		"\n"
		"      --from ID      from this event on, 1 being the first ever; default: what happens from now on\n"
		"      --exec COMMAND run by sh for each event, with MINTFS_EVENT, MINTFS_EVENT_ID, MINTFS_EVENT_MODEL, MINTFS_EVENT_NUMBER and\n"
		"                     MINTFS_EVENT_TEXT in its environment, one at a time\n"
		"      --once         end when all that is there has been told\n" HELP_STORE HELP_JSON HELP_HELP "\n"
		"Example:  mintfs watch product --exec 'test \"$MINTFS_EVENT\" = failed && notify \"$MINTFS_EVENT_MODEL\"'\n",
	.run = run,
};
