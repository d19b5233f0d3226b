/* mintfs status: the store as a whole, its drives, and the drafts that are open: who writes them, or why they did not commit. */
#include "report.h"

#include <errno.h>
#include <limits.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DATA_PATH_MAX 256
#define RESTARTS_MAX 256
struct drive { char dir[PATH_MAX]; bool read_only; pid_t pid; int64_t since_ns; char host[CATALOG_NAME_MAX]; };
struct draft_row { struct catalog_version v; char *author, *reason, *model, *run_key, *run_id, *command; struct registry_draft_info info; bool known; };
struct status {
	struct source *s;
	struct catalog_totals totals;
	struct drive *drives;
	size_t n_drives;
	struct draft_row *drafts;
	size_t n_drafts;
	uint64_t disk_free, disk_size;
};

static void release(struct status *st)
{
	for (size_t i = 0; i < st->n_drafts; i++) {
		struct draft_row *d = &st->drafts[i];
		free(d->author);
		free(d->reason);
		free(d->model);
		free(d->run_key);
		free(d->run_id);
		free(d->command);
	}
	free(st->drafts);
	free(st->drives);
}

/* ---- drives: those the catalog knows, and the read-only ones, which write nothing there ---- */

static struct drive *add_drive(struct status *st)
{
	struct drive *drives = realloc(st->drives, (st->n_drives + 1) * sizeof *drives);
	if (!drives)
		return NULL;
	st->drives = drives;
	drives[st->n_drives] = (struct drive){0};
	return &drives[st->n_drives++];
}

static int note_mount(const struct catalog_mount *m, void *arg)
{
	struct status *st = arg;
	bool alive;
	if (registry_mount_alive(st->s->r, m, &alive) < 0 || !alive)
		return 0;
	struct drive *d = add_drive(st);
	if (!d)
		return -ENOMEM;
	*d = (struct drive){.read_only = m->read_only, .pid = m->pid, .since_ns = m->since_ns};
	text_copy(d->dir, sizeof d->dir, m->mountpoint);
	text_copy(d->host, sizeof d->host, m->host);
	return 0;
}

static void note_visible(const char *dir, bool read_only, void *arg)
{
	struct status *st = arg;
	char store[4096];
	for (size_t i = 0; i < st->n_drives; i++)
		if (!strcmp(st->drives[i].dir, dir))
			return;
	struct drive *d = drive_attr(dir, "store", store, sizeof store) == 0 ? add_drive(st) : NULL;
	if (d) {
		d->read_only = read_only;
		text_copy(d->dir, sizeof d->dir, dir);
	}
}

/* ---- drafts ---- */

static char *copy(const char *text) { return text && *text ? strdup(text) : NULL; }

static int note_draft(const struct catalog_version *v, const struct catalog_version_text *text, void *arg)
{
	struct status *st = arg;
	struct draft_row *drafts = realloc(st->drafts, (st->n_drafts + 1) * sizeof *drafts);
	if (!drafts)
		return -ENOMEM;
	st->drafts = drafts;
	drafts[st->n_drafts++] = (struct draft_row){.v = *v, .author = copy(text->author), .reason = copy(text->reason)};
	return 0;
}

static void name_draft(struct catalog_conn *conn, struct draft_row *d)
{
	auto_free struct catalog_model *m = calloc(1, sizeof *m);
	struct catalog_run run;
	if (m && catalog_model_get(conn, d->v.model_id, m) == 0)
		d->model = strdup(m->path);
	if (catalog_run_get(conn, d->v.run_id, &run) < 0)
		return;
	d->run_key = copy(run.key);
	d->run_id = run_name(&run);
	d->command = copy(run.command);
	catalog_run_release(&run);
}

static int read_all(struct status *st, struct fault *f)
{
	struct catalog_conn *conn = NULL;
	struct statvfs disk;
	int rc = source_need_store(st->s, "the status of the store", f);
	if (rc == 0)
		rc = registry_read_begin(st->s->r, &conn);
	if (rc == 0)
		rc = catalog_totals_get(conn, &st->totals);
	if (rc == 0)
		rc = catalog_mount_list(conn, note_mount, st);
	if (rc == 0)
		rc = catalog_draft_list(conn, note_draft, st);
	for (size_t i = 0; rc == 0 && i < st->n_drafts; i++)
		name_draft(conn, &st->drafts[i]);
	catalog_read_end(conn);
	if (rc < 0)
		return fault_default(f, -rc, "the status of %s cannot be read: %s", st->s->store, strerror(-rc));
	drive_each(registry_path(st->s->r), note_visible, st);
	for (size_t i = 0; i < st->n_drafts; i++) /* walks its tree: outside the snapshot */
		st->drafts[i].known = registry_draft_info(st->s->r, &st->drafts[i].v, &st->drafts[i].info) == 0;
	if (sys_statvfs(registry_store_dirfd(st->s->r), &disk) == 0) {
		st->disk_free = (uint64_t)disk.f_bavail * disk.f_frsize;
		st->disk_size = (uint64_t)disk.f_blocks * disk.f_frsize;
	}
	return 0;
}

static const char *why(const struct draft_row *d)
{
	if (!d->known)
		return "its files cannot be read";
	if (d->info.run_alive && !d->reason)
		return d->info.open_files ? "being written" : "its run is alive";
	return d->reason ? d->reason : "its run has ended: finish it, commit it or discard it";
}

/* ---- output ---- */

/* "3, last 2026-01-31 12:00:00 (killed by signal 9)", as the drive says it; "0". */
static bool read_restarts(const struct drive *d, unsigned *ret_n, char *out, size_t size, char **ret_when, char **ret_why)
{
	if (drive_attr(d->dir, "restarts", out, size) < 0)
		return false;
	char *when = strstr(out, ", last "), *why = when ? strstr(when, " (") : NULL;
	*ret_n = (unsigned)strtoul(out, NULL, 10);
	*ret_when = *ret_why = NULL;
	if (!why)
		return true;
	*why = '\0';
	*ret_when = when + strlen(", last ");
	*ret_why = why + 2;
	(*ret_why)[strcspn(*ret_why, ")")] = '\0';
	return true;
}

static void json_restarts(struct json_out *j, const struct drive *d)
{
	char text[RESTARTS_MAX], *when = NULL, *reason = NULL;
	unsigned n;
	if (!read_restarts(d, &n, text, sizeof text, &when, &reason)) {
		json_key(j, "restarts");
		json_null(j);
	} else {
		json_field_int(j, "restarts", n);
	}
	json_field_string(j, "last_restart", when);
	json_field_string(j, "last_restart_reason", reason);
}

static void json_drives(struct json_out *j, const struct status *st)
{
	json_array_begin(j);
	for (size_t i = 0; i < st->n_drives; i++) {
		const struct drive *d = &st->drives[i];
		json_object_begin(j);
		json_field_string(j, "mount", d->dir);
		json_field_bool(j, "read_only", d->read_only);
		char path[DATA_PATH_MAX];
		json_field_string(j, "data_path", drive_attr(d->dir, "datapath", path, sizeof path) == 0 ? path : NULL);
		json_key(j, "pid");
		d->pid ? json_int(j, d->pid) : json_null(j);
		json_field_string(j, "host", d->host[0] ? d->host : NULL);
		json_field_time(j, "since", d->since_ns);
		json_restarts(j, d);
		json_object_end(j);
	}
	json_array_end(j);
}

static void json_drafts(struct json_out *j, const struct status *st)
{
	json_array_begin(j);
	for (size_t i = 0; i < st->n_drafts; i++) {
		const struct draft_row *d = &st->drafts[i];
		json_object_begin(j);
		json_field_version(j, d->model, d->v.number);
		json_field_int(j, "number", d->v.number);
		json_field_time(j, "minted", d->v.minted_ns);
		json_field_string(j, "author", d->author);
		json_field_string(j, "run_id", d->run_id);
		json_key(j, "command");
		json_recorded(j, d->command, "null");
		json_field_bool(j, "run_alive", d->info.run_alive);
		json_key(j, "size");
		d->known ? json_int(j, (int64_t)d->info.bytes) : json_null(j);
		json_key(j, "file_count");
		d->known ? json_int(j, (int64_t)d->info.files) : json_null(j);
		json_field_string(j, "reason", d->reason);
		json_object_end(j);
	}
	json_array_end(j);
}

static void print_json(struct json_out *j, const struct status *st)
{
	const struct catalog_totals *t = &st->totals;
	const struct { const char *name; int64_t value; } counts[] = {{"models", t->models}, {"drafts", t->drafts}, {"committed", t->committed}, {"retired", t->retired},
		{"discarded", t->discarded}, {"files", t->files}, {"blobs", t->blobs}, {"damaged_blobs", t->damaged}, {"logical_bytes", (int64_t)t->logical_bytes},
		{"stored_bytes", (int64_t)t->stored_bytes}, {"disk_free_bytes", (int64_t)st->disk_free}, {"disk_bytes", (int64_t)st->disk_size}};
	json_object_begin(j);
	json_field_string(j, "store", registry_path(st->s->r));
	json_key(j, "mounts");
	json_drives(j, st);
	json_key(j, "totals");
	json_object_begin(j);
	for (size_t i = 0; i < ARRAY_SIZE(counts); i++)
		json_field_int(j, counts[i].name, counts[i].value);
	json_key(j, "dedup_ratio");
	t->stored_bytes ? json_real(j, (double)t->logical_bytes / (double)t->stored_bytes) : json_null(j);
	json_object_end(j);
	json_key(j, "open_drafts");
	json_drafts(j, st);
	json_object_end(j);
}

static void add_drives(struct table *t, const struct status *st)
{
	char age[HUMAN_MAX];
	for (size_t i = 0; i < st->n_drives; i++) {
		const struct drive *d = &st->drives[i];
		table_cell(t, STYLE_DIM, i ? "" : "mounted on");
		if (d->pid)
			table_cellf(t, STYLE_PLAIN, "%s%s, process %d, since %s", d->dir, d->read_only ? ", read-only" : "", (int)d->pid, human_age(d->since_ns, age));
		else
			table_cellf(t, STYLE_PLAIN, "%s%s", d->dir, d->read_only ? ", read-only" : "");
		char path[DATA_PATH_MAX]; /* how the bytes of files go, and if not past the daemon, why */
		if (drive_attr(d->dir, "datapath", path, sizeof path) == 0) {
			table_cell(t, STYLE_DIM, "data path");
			table_cell(t, STYLE_PLAIN, path);
		}
		char text[RESTARTS_MAX], *when = NULL, *reason = NULL;
		unsigned n;
		if (read_restarts(d, &n, text, sizeof text, &when, &reason) && when) {
			table_cell(t, STYLE_DIM, "restarts");
			table_cellf(t, STYLE_YELLOW, "%u of its worker, the last at %s UTC: %s", n, when, reason);
		}
	}
	if (st->n_drives == 0) {
		table_cell(t, STYLE_DIM, "mounted on");
		table_cell(t, STYLE_PLAIN, "nothing");
	}
}

static int print_summary(const struct status *st, bool color)
{
	const struct catalog_totals *c = &st->totals;
	char a[HUMAN_MAX], b[HUMAN_MAX];
	auto_table struct table t = TABLE_INIT;
	table_column(&t, NULL, false);
	table_column(&t, NULL, false);
	table_cell(&t, STYLE_DIM, "store");
	table_cell(&t, STYLE_BOLD, registry_path(st->s->r));
	add_drives(&t, st);
	if (c->damaged) {
		table_cell(&t, STYLE_DIM, "damaged");
		table_cellf(&t, STYLE_RED, "%lld %s: 'mintfs fsck' names the versions", (long long)c->damaged, plural((uint64_t)c->damaged, "content", "contents"));
	}
	table_cell(&t, STYLE_DIM, "models");
	table_cellf(&t, STYLE_PLAIN, "%lld", (long long)c->models);
	table_cell(&t, STYLE_DIM, "versions");
	table_cellf(&t, STYLE_PLAIN, "%lld committed, %lld open %s, %lld retired, %lld discarded", (long long)c->committed, (long long)c->drafts,
		plural((uint64_t)c->drafts, "draft", "drafts"), (long long)c->retired, (long long)c->discarded);
	table_cell(&t, STYLE_DIM, "files");
	table_cellf(&t, STYLE_PLAIN, "%lld, %s", (long long)c->files, human_size(c->logical_bytes, a));
	table_cell(&t, STYLE_DIM, "stored");
	table_cellf(&t, STYLE_PLAIN, "%lld %s, %s", (long long)c->blobs, plural((uint64_t)c->blobs, "content", "contents"), human_size(c->stored_bytes, a));
	if (c->stored_bytes) {
		table_cell(&t, STYLE_DIM, "dedup ratio");
		table_cellf(&t, STYLE_PLAIN, "%.2f", (double)c->logical_bytes / (double)c->stored_bytes);
	}
	if (st->disk_size) {
		table_cell(&t, STYLE_DIM, "disk");
		table_cellf(&t, STYLE_PLAIN, "%s free of %s", human_size(st->disk_free, a), human_size(st->disk_size, b));
	}
	return table_print(&t, 0, color);
}

/* The run's own id; else the program, which says more than the name MintFS gave the run. */
static void add_run(struct table *t, const struct draft_row *d)
{
	char words[40];
	if (d->run_key || !d->command) {
		table_cell(t, STYLE_PLAIN, d->run_key ? d->run_key : d->run_id);
		return;
	}
	auto_buf struct buf line = BUF_INIT(1 << 20);
	command_words(d->command, &line);
	text_copy(words, sizeof words, line.len < sizeof words ? buf_text(&line) : "");
	if (!words[0])
		snprintf(words, sizeof words, "%.*s...", (int)sizeof words - 4, buf_text(&line));
	table_cell(t, STYLE_PLAIN, words);
}

static int print_drafts(const struct status *st, bool color)
{
	static const struct { const char *title; bool right; } columns[] = {{"OPEN DRAFT", false}, {"RUN", false}, {"AUTHOR", false}, {"AGE", true}, {"SIZE", true},
		{"FILES", true}, {"STATE", false}};
	char text[HUMAN_MAX];
	auto_table struct table t = TABLE_INIT;
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++)
		table_column(&t, columns[i].title, columns[i].right);
	for (size_t i = 0; i < st->n_drafts; i++) {
		const struct draft_row *d = &st->drafts[i];
		table_cellf(&t, STYLE_BOLD, "%s/v%u", d->model ? d->model : "?", d->v.number);
		add_run(&t, d);
		table_cell(&t, STYLE_PLAIN, d->author);
		table_cell(&t, STYLE_PLAIN, human_age(d->v.minted_ns, text));
		table_cell(&t, STYLE_PLAIN, d->known ? human_size(d->info.bytes, text) : "-");
		table_cellf(&t, STYLE_PLAIN, d->known ? "%llu" : "-", (unsigned long long)d->info.files);
		table_cell(&t, d->reason ? STYLE_RED : d->info.run_alive ? STYLE_GREEN : STYLE_YELLOW, why(d));
	}
	if (st->n_drafts)
		putchar('\n');
	return table_print(&t, 0, color);
}

static int run(const struct command *self, int argc, char **argv)
{
	struct cmd_args a;
	struct cmd_target t;
	struct status st = {0};
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, NULL, 0, 0, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	auto_source struct source *s = NULL;
	auto_buf struct buf b = BUF_INIT(1u << 30);
	struct json_out j;
	json_init(&j, &b, 2);
	int rc = cmd_find_store(a.v[0], &a.o, &t, &f);
	if (rc == 0)
		rc = source_open(&t, false, &s, &f);
	st.s = s;
	if (rc == 0)
		rc = read_all(&st, &f);
	if (rc == 0 && a.o.json)
		print_json(&j, &st);
	else if (rc == 0 && (rc = print_summary(&st, a.o.color)) == 0)
		rc = print_drafts(&st, a.o.color);
	release(&st);
	if (rc < 0) {
		fault_default(&f, -rc, "the status cannot be shown: %s", strerror(-rc));
		return cmd_fail(self, &f);
	}
	return a.o.json ? cmd_put_json(self, &b) : cmd_done(self);
}

const struct command cmd_status = {
	.name = "status",
	.args = "[STORE|DIR]",
	.summary = "show the store, its mounts and its open drafts",
	.help = "Where the store is mounted, what it holds, how much is saved by storing equal contents once, and the open drafts: which run, how old, how large,\n"
		"and whether it is at work or why it did not commit. The argument is a store or a directory on a drive; default: the working directory, if it lies on\n"
		"a drive, else --store or MINTFS_STORE. Only for the owner of the store, and root.\n"
		"\n" HELP_STORE HELP_JSON HELP_COLOR HELP_HELP "\n"
		"Example:  mintfs status /mnt/models\n",
	.run = run,
};
