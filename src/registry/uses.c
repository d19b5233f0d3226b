/* Who uses a version: the command of each process that reads one, and who of them lives.
 *
 * The command line is read from /proc by the thread of readers.c, never by a handler or a commit: it waits for the memory of somebody else's process. It is read when a
 * process is first seen and again before each batch, since a shell may have become another program. What ended before is known by its name alone, which the identification
 * of the caller brought along.
 *
 * Lock: one over the slots, held for copying only. */
#include "uses.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define COMMAND_MAX 4096 /* bytes of JSON; of a longer command the first arguments are kept */

#define READERS_MAX 64 /* of a version that are kept apart */
#define SLOTS 256 /* processes whose command is remembered; others push each other out, and are read anew */
#define FRESH_NS (NS_PER_SEC / 10)

struct slot {
	struct caller_process process; /* pid 0: empty */
	int64_t read_ns;
	char *command; /* owned */
	bool whole;
};

struct uses {
	pthread_mutex_t lock;
	struct slot slots[SLOTS];
};

struct uses *uses_new(void)
{
	struct uses *u = calloc(1, sizeof *u);
	if (u)
		pthread_mutex_init(&u->lock, NULL);
	return u;
}

void uses_free(struct uses *u)
{
	if (!u)
		return;
	for (size_t i = 0; i < SLOTS; i++)
		free(u->slots[i].command);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

static struct slot *slot_of(struct uses *u, struct caller_process p) { return &u->slots[(unsigned)p.pid % SLOTS]; }

/* json: an array of strings; cut in place behind the last one that has room. */
static void cut_command(char *json, bool *ret_whole)
{
	size_t len = strlen(json), end = 1; /* end: behind the last argument that has room */
	bool quoted = false;
	*ret_whole = len <= COMMAND_MAX;
	if (*ret_whole)
		return;
	for (size_t i = 1; i < COMMAND_MAX - 1; i++) {
		if (quoted && json[i] == '\\')
			i++;
		else if (json[i] == '"' && (quoted = !quoted) == false)
			end = i + 1;
	}
	memcpy(json + end, "]", 2);
}

static char *name_alone(const char *program)
{
	struct buf b = BUF_INIT(1024);
	struct json_out j;
	json_init(&j, &b, 0);
	json_array_begin(&j);
	if (program[0])
		json_string(&j, program);
	json_array_end(&j);
	return buf_take(&b);
}

void uses_look(struct uses *u, struct caller_process p)
{
	struct caller_details d;
	int64_t now = time_monotonic_ns();
	bool whole = true;
	pthread_mutex_lock(&u->lock);
	struct slot *s = slot_of(u, p);
	bool fresh = caller_same(s->process, p) && now - s->read_ns < FRESH_NS;
	pthread_mutex_unlock(&u->lock);
	if (fresh)
		return;
	caller_details_read(p, &d);
	if (d.command)
		cut_command(d.command, &whole);
	auto_free char *command = NULL;
	if (d.command && strcmp(d.command, "[]") != 0)
		command = take_ptr(d.command);
	else if (d.command && d.program)
		command = name_alone(d.program);
	if (command) { /* else it has ended: what was known of it stands */
		pthread_mutex_lock(&u->lock);
		free(s->command);
		*s = (struct slot){p, now, take_ptr(command), whole};
		pthread_mutex_unlock(&u->lock);
	}
	caller_details_release(&d);
}

char *uses_command(struct uses *u, struct caller_process p, const char *program, bool *ret_whole)
{
	SCOPED_LOCK(&u->lock);
	const struct slot *s = slot_of(u, p);
	bool known = caller_same(s->process, p);
	*ret_whole = known && s->whole;
	return known ? strdup(s->command) : name_alone(program);
}

/* ---- recording ---- */

struct living { const struct registry *r; bool found; };

static int find_living(const char *boot_id, pid_t pid, uint64_t start, void *arg)
{
	struct living *l = arg;
	l->found = strcmp(boot_id, l->r->boot_id) == 0 && caller_alive((struct caller_process){pid, start});
	return l->found;
}

struct readers_of { int64_t ids[READERS_MAX + 1]; size_t n; };

static int add_reader(const struct catalog_use *u, void *arg)
{
	struct readers_of *x = arg;
	if (u->command_id && x->n < ARRAY_SIZE(x->ids))
		x->ids[x->n++] = u->command_id;
	return 0;
}

/* The oldest that does not live: a server that opened its files a month ago is not pushed out by what runs for a moment. */
static int choose(struct registry *r, struct catalog_conn *conn, int64_t version_id, int64_t *ret_command)
{
	struct readers_of x = {.n = 0};
	int rc = catalog_use_list(conn, version_id, add_reader, &x);
	for (size_t i = x.n; rc >= 0 && i-- > 0;) {
		struct living l = {r, false};
		rc = catalog_use_process_list(conn, version_id, x.ids[i], find_living, &l);
		if (rc >= 0 && !l.found) {
			*ret_command = x.ids[i];
			return 0;
		}
	}
	if (rc < 0 || x.n == 0)
		return rc < 0 ? rc : -ENOENT;
	*ret_command = x.ids[x.n - 1];
	return 0;
}

int uses_write(struct registry *r, struct catalog_conn *conn, const struct catalog_use *use, int64_t seen_id)
{
	int64_t times, n;
	int rc = catalog_use_put(conn, use, seen_id, &times);
	if (rc < 0 || times > 1)
		return rc;
	rc = catalog_use_count(conn, use->version_id, &n);
	for (; rc == 0 && n > READERS_MAX; n--) {
		int64_t oldest;
		rc = choose(r, conn, use->version_id, &oldest);
		if (rc == 0)
			rc = catalog_use_sum_up(conn, use->version_id, oldest);
	}
	return rc;
}

/* ---- asking ---- */

struct asking { struct registry *r; struct catalog_conn *conn; registry_use_fn *fn; void *arg; struct registry_use now; };

static int look_at_process(const char *boot_id, pid_t pid, uint64_t start, void *arg)
{
	struct asking *a = arg;
	if (strcmp(boot_id, a->r->boot_id) != 0 || !caller_alive((struct caller_process){pid, start}))
		return 0;
	if (a->now.n_living < REGISTRY_USE_PIDS)
		a->now.pids[a->now.n_living] = pid;
	a->now.n_living++;
	return 0;
}

static int give_use(const struct catalog_use *u, void *arg)
{
	struct asking *a = arg;
	a->now = (struct registry_use){.use = u};
	int rc = u->command_id ? catalog_use_process_list(a->conn, u->version_id, u->command_id, look_at_process, a) : 0;
	return rc ? rc : a->fn(&a->now, a->arg);
}

int registry_use_list(struct registry *r, struct catalog_conn *conn, int64_t version_id, registry_use_fn *fn, void *arg)
{
	struct asking a = {.r = r, .conn = conn, .fn = fn, .arg = arg};
	return catalog_use_list(conn, version_id, give_use, &a);
}
