/* Discard and retire, where a drive serves the store or where none does; and amounts as people write them. */
#include "keep.h"
#include "report.h"

#include <errno.h>
#include <mintfs/cleanup.h>
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

int source_discard(struct source *s, const struct source_ref *ref, bool force, struct fault *f)
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

/* ---- retire ---- */

struct serving { struct source *s; char *out; size_t size; bool found; };

static int look_at_mount(const struct catalog_mount *m, void *arg)
{
	struct serving *v = arg;
	char store[4096];
	bool alive;
	if (m->read_only || registry_mount_alive(v->s->r, m, &alive) < 0 || !alive)
		return 0;
	if (drive_attr(m->mountpoint, "store", store, sizeof store) < 0) /* not to be seen from here: another mount namespace */
		return 0;
	v->found = text_copy(v->out, v->size, m->mountpoint) == 0;
	return v->found;
}

/* A living drive that may change the store. -ENOENT: none that could be reached. */
static int find_drive(struct source *s, char *out, size_t size)
{
	struct serving v = {.s = s, .out = out, .size = size};
	struct catalog_conn *conn = NULL;
	if (!s->r)
		return text_copy(out, size, s->mount);
	int rc = registry_read_begin(s->r, &conn);
	if (rc == 0)
		rc = catalog_mount_list(conn, look_at_mount, &v);
	catalog_read_end(conn);
	return rc < 0 ? rc : v.found ? 0 : -ENOENT;
}

static int retire_on_drive(const char *mount, const struct source_ref *ref, bool force, const char *message, const char *label, struct fault *f)
{
	auto_buf struct buf value = BUF_INIT(1u << 20);
	char dir[PATH_MAX], version[PATH_MAX];
	int n = snprintf(dir, sizeof dir, "%s/%s", mount, ref->model);
	buf_printf(&value, "v%u%s", ref->number, force ? " force" : "");
	if (message)
		buf_printf(&value, "\n%s", message);
	if (n < 0 || (size_t)n >= sizeof dir || snprintf(version, sizeof version, "%s/v%u", dir, ref->number) >= (int)sizeof version)
		return fault_set(f, ENAMETOOLONG, "the path of %s on the drive is too long", label);
	if (value.error)
		return fault_set(f, -value.error, "the message is too long");
	int rc = source_ask(dir, "retire", buf_text(&value), label, f);
	if (rc == 0)
		wait_until_gone(version);
	return rc;
}

int source_retire(struct source *s, const struct source_ref *ref, bool force, const char *message, struct fault *f)
{
	char mount[PATH_MAX], label[CATALOG_PATH_MAX + 16];
	const struct registry_retire how = {.message = message, .force = force};
	source_label(ref, label);
	int rc = find_drive(s, mount, sizeof mount);
	if (rc == 0)
		rc = retire_on_drive(mount, ref, force, message, label, f);
	bool kernel_refuses = (rc == -EACCES || rc == -EPERM) && s->r;
	if (kernel_refuses) /* by the mode of the directory: who made the version, or owns the store, may do it by the registry's rules all the same */
		*f = (struct fault)FAULT_INIT;
	if (rc == -ENOENT || kernel_refuses)
		rc = registry_retire(s->r, &s->me, ref->version_id, &how, f);
	return rc < 0 ? fault_default(f, -rc, "%s is not retired: %s", label, strerror(-rc)) : 0;
}

/* ---- what both answer ---- */

int cmd_tell_end(const struct command *self, const struct cmd_options *o, const struct source_ref *ref, enum catalog_state now, const char *words)
{
	if (o->json) {
		auto_buf struct buf b = BUF_INIT(1 << 20);
		struct json_out j;
		json_init(&j, &b, 2);
		json_object_begin(&j);
		json_field_version(&j, ref->model, ref->number);
		json_field_int(&j, "number", ref->number);
		json_field_string(&j, "state", catalog_state_name(now));
		json_object_end(&j);
		return cmd_put_json(self, &b);
	}
	printf("v%u of ", ref->number);
	text_print(ref->model);
	printf(" %s\n", words);
	return cmd_done(self);
}

void json_stream(struct buf *b)
{
	if (b->len < 1u << 16 || b->error)
		return;
	fwrite(buf_text(b), 1, b->len, stdout);
	buf_truncate(b, 0);
}

/* ---- amounts ---- */

struct unit { const char *name; uint64_t factor; };

static int parse_amount(const char *text, const struct unit *units, uint64_t *ret)
{
	char digits[24];
	size_t n = strspn(text, "0123456789");
	uint64_t value;
	if (n == 0 || n >= sizeof digits)
		return -EINVAL;
	memcpy(digits, text, n);
	digits[n] = '\0';
	int rc = parse_u64(digits, UINT64_MAX, &value);
	if (rc < 0)
		return rc;
	for (; units->name; units++)
		if (!strcmp(text + n, units->name)) {
			if (value > (uint64_t)INT64_MAX / units->factor)
				return -ERANGE;
			*ret = value * units->factor;
			return 0;
		}
	if (text[n] != '\0' || value != 0) /* a number without its unit could mean anything */
		return -EINVAL;
	*ret = 0;
	return 0;
}

int parse_duration(const char *text, int64_t *ret_ns)
{
	static const struct unit units[] = {{"s", NS_PER_SEC}, {"m", 60 * NS_PER_SEC}, {"min", 60 * NS_PER_SEC}, {"h", 3600 * NS_PER_SEC}, {"d", 86400 * NS_PER_SEC},
		{"w", 7LL * 86400 * NS_PER_SEC}, {NULL, 0}};
	uint64_t ns;
	int rc = parse_amount(text, units, &ns);
	if (rc == 0)
		*ret_ns = (int64_t)ns;
	return rc;
}

int parse_bytes(const char *text, uint64_t *ret)
{
	static const struct unit units[] = {{"", 1}, {"k", 1 << 10}, {"K", 1 << 10}, {"M", 1 << 20}, {"G", 1 << 30}, {NULL, 0}};
	return parse_amount(text, units, ret);
}
