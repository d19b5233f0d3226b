/* mintfs process: check, show, run and update processes; their history and reports. */
#include "process.h"

#include <errno.h>
#include <math.h>
#include <mintfs/util.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#define WATCH_MS 1000

/* ---- what is told while it goes on ---- */

static const char *step_words(const struct catalog_process_step *s)
{
	bool train = s->kind == CATALOG_STEP_TRAIN;
	switch (s->state) {
	case CATALOG_STEP_WAITING: return !train ? "would run" : s->model_id ? "would be taken over" : "would be trained";
	case CATALOG_STEP_RUNNING: return train ? "training" : "running";
	case CATALOG_STEP_DONE: return train ? "adopted" : "done";
	case CATALOG_STEP_FAILED: return "failed";
	case CATALOG_STEP_KEPT: return "keeps its result";
	case CATALOG_STEP_NOT_ADOPTED: return "not adopted";
	case CATALOG_STEP_SKIPPED: return "skipped";
	}
	return "?";
}

static void tell_step(const struct catalog_process_step *s, const struct registry_process *p, void *arg)
{
	const struct process_call *c = arg;
	if (c->n_told)
		++*c->n_told;
	if (c->plan)
		process_step_json(c->plan, c->s, s);
	if (c->o->json)
		return;
	fputs(s->kind == CATALOG_STEP_TRAIN ? "model " : "node  ", stdout);
	text_print(s->name);
	printf(": %s", step_words(s));
	if (!isnan(s->score) && s->state != CATALOG_STEP_RUNNING)
		printf(", %.6g", s->score);
	if (s->reason) {
		fputs(": ", stdout);
		text_print(s->reason);
	}
	putchar('\n');
	fflush(stdout);
}

static int need_mount(const struct process_call *c, struct fault *f)
{
	struct drive_mount m;
	if (!c->s->mount[0])
		return fault_set(f, ENOENT, "the store %s is not mounted: its commands read datasets and models on the drive; mount it first", c->s->store);
	if (drive_mounted_on(c->s->mount, &m) == 0 && m.read_only)
		return fault_set(f, EROFS, "the drive %s is mounted read-only", c->s->mount);
	return 0;
}

static struct process_options options(const struct process_call *c)
{
	return (struct process_options){.r = c->s->r, .me = c->s->me, .mount = c->s->mount, .jobs = c->jobs, .trust = c->trust, .on_step = tell_step, .arg = (void *)(uintptr_t)c};
}

/* ---- subcommands ---- */

static int run_command(const struct process_call *c)
{
	struct fault f = FAULT_INIT;
	const struct process_options o = options(c);
	int64_t id = 0;
	int rc = need_mount(c, &f);
	if (rc == 0)
		rc = process_run(&o, c->name, &id, &f);
	if (rc < 0)
		return cmd_fail(c->self, &f);
	return process_report_run(c, id, true);
}

static int nothing_to_do(const struct process_call *c)
{
	if (c->o->json)
		puts("{\n  \"updated\": false,\n  \"reason\": \"nothing has changed\"\n}");
	else
		puts("nothing to do: every node is bound to the newest that it may be");
	return cmd_done(c->self);
}

/* update --dry-run: the steps are told as they are found. */
static int plan_command(const struct process_call *call)
{
	struct fault f = FAULT_INIT;
	auto_buf struct buf b = BUF_INIT(1u << 30);
	struct json_out j;
	unsigned n = 0;
	struct process_call c = *call;
	json_init(&j, &b, 2);
	c.plan = c.o->json ? &j : NULL;
	c.n_told = &n;
	const struct process_options o = options(&c);
	const struct process_update u = {.dataset = c.dataset, .dry_run = true};
	int64_t id = 0;
	json_object_begin(&j);
	json_field_bool(&j, "planned", true);
	json_key(&j, "steps");
	json_array_begin(&j);
	if (need_mount(&c, &f) < 0 || process_update(&o, c.name, &u, &id, &f) < 0)
		return cmd_fail(c.self, &f);
	json_array_end(&j);
	json_object_end(&j);
	if (c.o->json)
		return cmd_put_json(c.self, &b);
	return n ? cmd_done(c.self) : nothing_to_do(&c);
}

static int update_command(const struct process_call *c)
{
	if (c->dry_run)
		return plan_command(c);
	struct fault f = FAULT_INIT;
	const struct process_options o = options(c);
	const struct process_update u = {.dataset = c->dataset};
	int64_t id = 0;
	int rc = need_mount(c, &f);
	if (rc == 0)
		rc = process_update(&o, c->name, &u, &id, &f);
	if (rc < 0)
		return cmd_fail(c->self, &f);
	return id ? process_report_run(c, id, true) : nothing_to_do(c);
}

static int parse_run(const struct process_call *c, int64_t *ret)
{
	uint64_t id;
	if (!c->run || parse_u64(c->run, INT64_MAX, &id) < 0)
		return cmd_usage(c->self, "--run takes the number that 'mintfs process begin' printed");
	*ret = (int64_t)id;
	return 0;
}

static int begin_command(const struct process_call *c)
{
	struct fault f = FAULT_INIT;
	const struct process_options o = options(c);
	int64_t id = 0;
	if (process_begin(&o, c->name, &id, &f) < 0)
		return cmd_fail(c->self, &f);
	printf("%lld\n", (long long)id);
	return cmd_done(c->self);
}

static int node_command(const struct process_call *c)
{
	struct fault f = FAULT_INIT;
	const struct process_options o = options(c);
	int64_t id = 0;
	int code = c->second ? parse_run(c, &id) : cmd_usage(c->self, "which node? 'mintfs process show %s' lists them", c->name);
	if (code)
		return code;
	if (need_mount(c, &f) < 0 || process_node(&o, c->name, id, c->second, &f) < 0)
		return cmd_fail(c->self, &f);
	return cmd_done(c->self);
}

static int end_command(const struct process_call *c)
{
	struct fault f = FAULT_INIT;
	const struct process_options o = options(c);
	int64_t id = 0;
	int code = parse_run(c, &id);
	if (code)
		return code;
	if (process_end(&o, c->name, id, &f) < 0)
		return cmd_fail(c->self, &f);
	return process_report_run(c, id, true);
}

static int export_command(const struct process_call *c)
{
	struct fault f = FAULT_INIT;
	struct registry_process p;
	auto_buf struct buf out = BUF_INIT(16u << 20);
	if (!c->airflow)
		return cmd_usage(c->self, "export knows --airflow");
	if (registry_process_load(c->s->r, c->name, &p, &f) < 0)
		return cmd_fail(c->self, &f);
	int rc = process_airflow(&p, c->s->store, &out);
	registry_process_release(&p);
	if (rc < 0) {
		fault_set(&f, -rc, "the DAG of %s cannot be written: %s", c->name, strerror(-rc));
		return cmd_fail(c->self, &f);
	}
	fwrite(buf_text(&out), 1, out.len, stdout);
	return cmd_done(c->self);
}

/* ---- watch ---- */

struct seen { int64_t last; bool dataset; };

static int look_at_event(const struct catalog_event *e, void *arg)
{
	struct seen *s = arg;
	s->last = e->id;
	s->dataset |= !strcmp(e->kind, "committed"); /* whether it matters to the process, the update finds out */
	return 0;
}

static int read_events(const struct process_call *c, struct seen *s)
{
	auto_read struct catalog_conn *conn = NULL;
	int rc = registry_read_begin(c->s->r, &conn);
	s->dataset = false;
	return rc < 0 ? rc : catalog_event_list(conn, s->last, 1u << 20, look_at_event, s);
}

static bool signalled(int signals, int ms)
{
	struct pollfd p = {.fd = signals, .events = POLLIN};
	return poll(&p, 1, ms) > 0 && p.revents & POLLIN;
}

/* One update after the other. One that fails is told, and the watch goes on: the next version of a dataset may be better. */
static int watch_command(const struct process_call *c)
{
	struct fault f = FAULT_INIT;
	struct seen seen = {.last = 0, .dataset = true};
	sigset_t set;
	int code = EXIT_DONE;
	if (need_mount(c, &f) < 0)
		return cmd_fail(c->self, &f);
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	auto_close int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	int rc = read_events(c, &seen);
	for (seen.dataset = true; rc == 0;) {
		if (seen.dataset && (code = update_command(c)) == EXIT_NOT_FOUND)
			return code;
		fflush(stdout);
		if (signalled(signals, WATCH_MS))
			return EXIT_DONE;
		rc = read_events(c, &seen);
	}
	fault_set(&f, -rc, "cannot watch %s: %s", c->s->store, strerror(-rc));
	return cmd_fail(c->self, &f);
}

/* ---- which ---- */

static const struct sub {
	const char *name;
	int (*run)(const struct process_call *c);
	bool writes;
} subs[] = {
	{"show", process_show_command, false},
	{"run", run_command, true},
	{"update", update_command, true},
	{"history", process_history_command, false},
	{"report", process_report_command, false},
	{"watch", watch_command, true},
	{"export", export_command, false},
	{"begin", begin_command, true},
	{"node", node_command, true},
	{"end", end_command, true},
};

static const struct sub *find_sub(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(subs); i++)
		if (!strcmp(subs[i].name, name))
			return &subs[i];
	return NULL;
}

static int run(const struct command *self, int argc, char **argv)
{
	const char *jobs = "1";
	struct cmd_args a;
	struct cmd_target t;
	struct fault f = FAULT_INIT;
	uint64_t n = 1;
	struct process_call c = {.self = self, .o = &a.o};
	const struct cmd_flag flags[] = {{"jobs", 'j', NULL, &jobs}, {"run", 0, NULL, &c.run}, {"dataset", 0, NULL, &c.dataset}, {"dry-run", 'n', &c.dry_run, NULL},
		{"airflow", 0, &c.airflow, NULL}, {"trust", 0, &c.trust, NULL}};
	int code = cmd_parse(self, argc, argv, flags, ARRAY_SIZE(flags), 1, 3, &a);
	if (code != CMD_GO_ON)
		return code;
	const struct sub *sub = find_sub(a.v[0]);
	bool check = !strcmp(a.v[0], "check");
	if (!sub && !check)
		return cmd_usage(self, "'%s' is none of check, show, run, update, history, report, watch, export", a.v[0]);
	if (a.n < 2)
		return cmd_usage(self, "%s which process? 'mintfs list process' lists them", a.v[0]);
	if (parse_u64(jobs, 64, &n) < 0 || n == 0)
		return cmd_usage(self, "-j takes a number from 1 to 64");
	if (c.dry_run && strcmp(a.v[0], "update") != 0)
		return cmd_usage(self, "--dry-run is for update: '%s' would be carried out", a.v[0]);
	c.jobs = (unsigned)n;
	auto_source struct source *s = NULL;
	int rc = cmd_find_target(a.v[1], &a.o, &t, &f);
	if (rc < 0 && check && access(a.v[1], F_OK) == 0) { /* a file that lies on no drive */
		f = (struct fault)FAULT_INIT;
		rc = cmd_find_target(NULL, &a.o, &t, &f);
	}
	if (rc < 0 || source_open(&t, sub && sub->writes, &s, &f) < 0 || source_need_store(s, "processes", &f) < 0)
		return cmd_fail(self, &f);
	c.s = s;
	c.name = t.name;
	c.second = a.v[2];
	return check ? process_check_command(&c, a.v[1]) : sub->run(&c);
}

const struct command cmd_process = {
	.name = "process",
	.args = "check|show|run|update|history|report|watch|export NAME",
	.summary = "run a DAG of nodes, each on a dataset and a model; update it when data change",
	.help = "A process is process/NAME/vN/process.json, versioned like everything; mintfs-process(5) describes that file.\n"
		"\n"
		"  check NAME|FILE    is it right? Names the line of what is wrong. A commit asks the same\n"
		"  show NAME          its nodes, and the versions they are bound to\n"
		"  run NAME           binds every node to the newest versions that its selectors mean, and runs all in the order of the DAG\n"
		"  update NAME        trains the models of changed datasets, adopts those that meet their conditions, runs what depends on a change, and\n"
		"                     moves associations and aliases if the whole meets its condition. Goes on with one that was interrupted,\n"
		"                     unless something newer was associated since\n"
		"  history NAME       its runs and updates\n"
		"  report NAME [ID]   one of them, with numbers and reasons; default: the newest\n"
		"  watch NAME         updates whenever a dataset gets a new version, until Ctrl-C\n"
		"  export NAME --airflow\n"
		"                     an Airflow DAG that runs it, one operator a node (by the commands begin, node and end)\n"
		"\n"
		"NAME: screening, process/screening/v2, or a path on the drive.\n"
		"\n"
		"  -j, --jobs N       so many commands at once (default 1)\n"
		"      --dataset DATASET[/vN]\n"
		"                     update: only changes of this one count, or: it changes to this version\n"
		"  -n, --dry-run      update: show what would be done\n"
		"      --trust        run, update, watch, node: also where somebody else committed the process. Its commands run with your rights\n"
		"      --run ID       node, end: of the run that begin began\n" HELP_STORE HELP_JSON HELP_COLOR HELP_HELP "\n"
		"Example:  mintfs process update screening --dataset mol\n",
	.run = run,
};
