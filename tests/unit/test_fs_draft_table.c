/* Room fs: the table of draft nodes, on a real directory tree, without a mount. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "draft_table.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#define MANY_DIRS 1000

struct env {
	char path[128];
	int store;
	struct drafts *drafts;
	struct draft *draft; /* version 1 */
	struct draft_nodes *nodes;
	struct draft_node *root; /* of version 1, in use */
};

static struct draft_top top_of(struct draft *d)
{
	return (struct draft_top){.draft = d, .version_id = draft_id(d), .model_id = 7, .number = (uint32_t)draft_id(d), .fd = draft_root(d)};
}

static struct draft *make_draft(struct env *e, int64_t id)
{
	struct draft *d = NULL;

	assert_int_equal(drafts_make(e->drafts, id, getuid(), getgid(), 0755), 0);
	assert_int_equal(draft_get(e->drafts, id, &d), 0);
	return d;
}

static void new_table(struct env *e, size_t max_dir_fds)
{
	struct draft_top top = top_of(e->draft);

	if (e->nodes) {
		draft_node_put(e->nodes, e->root);
		draft_nodes_free(e->nodes);
	}
	assert_int_equal(draft_table_new(NULL, max_dir_fds, &e->nodes), 0);
	assert_int_equal(draft_node_root(e->nodes, &top, &e->root), 0);
}

static int setup(void **state)
{
	const char *tmp = getenv("TMPDIR");
	struct env *e = calloc(1, sizeof(*e));

	snprintf(e->path, sizeof(e->path), "%s/mintfs-nodes-XXXXXX", tmp ? tmp : "/tmp");
	assert_non_null(mkdtemp(e->path));
	e->store = open(e->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(e->store >= 0);
	assert_int_equal(drafts_open(e->store, true, NULL, NULL, NULL, &e->drafts, NULL), 0);
	e->draft = make_draft(e, 1);
	new_table(e, MANY_DIRS);
	*state = e;
	return 0;
}

static int teardown(void **state)
{
	struct env *e = *state;

	draft_node_put(e->nodes, e->root);
	draft_nodes_free(e->nodes);
	draft_put(e->draft);
	drafts_close(e->drafts);
	close(e->store);
	assert_int_equal(sys_remove_tree(AT_FDCWD, e->path), 0);
	free(e);
	return 0;
}

/* ---- what a handler does, in short ---- */

static int base(const struct env *e) { return draft_root(e->draft); }

static void put_file(int dirfd, const char *path, const char *text)
{
	int fd = openat(dirfd, path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(close(fd), 0);
}

static int try_lookup(struct env *e, struct draft_node *parent, const char *name, struct fuse_entry_param *entry)
{
	auto_dirfd struct draft_dir dir = DRAFT_DIR_INIT;
	struct stat st;
	int r = draft_node_dir(e->nodes, parent, &dir);

	if (r == 0)
		r = sys_fstatat(dir.fd, name, &st, AT_SYMLINK_NOFOLLOW);
	return r < 0 ? r : draft_node_remember(e->nodes, parent, name, &st, entry);
}

/* Looks a name up; the node, in use (and counted once by the kernel). */
static struct draft_node *lookup(struct env *e, struct draft_node *parent, const char *name)
{
	struct fuse_entry_param entry;
	struct draft_node *node = NULL;

	assert_int_equal(try_lookup(e, parent, name, &entry), 0);
	assert_int_equal(draft_node_get(e->nodes, entry.ino, &node), 0);
	return node;
}

static fuse_ino_t lookup_ino(struct env *e, struct draft_node *parent, const char *name)
{
	struct fuse_entry_param entry;

	assert_int_equal(try_lookup(e, parent, name, &entry), 0);
	return entry.ino;
}

static int remove_name(struct env *e, struct draft_node *parent, const char *name, int flags)
{
	auto_dirfd struct draft_dir dir = DRAFT_DIR_INIT;
	struct draft_node *node;
	struct stat st;
	int r = draft_node_dir(e->nodes, parent, &dir);

	if (r == 0)
		r = sys_fstatat(dir.fd, name, &st, AT_SYMLINK_NOFOLLOW);
	if (r < 0)
		return r;
	node = draft_node_leaving(e->nodes, parent->root, dir.fd, name, &st);
	r = sys_unlinkat(dir.fd, name, flags);
	if (r == 0)
		draft_node_left(e->nodes, node, parent, name);
	draft_node_put(e->nodes, node);
	return r;
}

static int move(struct env *e, struct draft_node *from, const char *name, struct draft_node *to, const char *new_name)
{
	auto_dirfd struct draft_dir a = DRAFT_DIR_INIT, b = DRAFT_DIR_INIT;
	char *copy = strdup(new_name);
	struct draft_node *node;
	struct stat st;
	int r = draft_node_dir(e->nodes, from, &a);

	if (r == 0)
		r = draft_node_dir(e->nodes, to, &b);
	if (r == 0) {
		draft_renames_lock(e->nodes);
		r = sys_fstatat(a.fd, name, &st, AT_SYMLINK_NOFOLLOW);
		if (r == 0) {
			node = draft_node_leaving(e->nodes, from->root, a.fd, name, &st);
			r = sys_renameat2(a.fd, name, b.fd, new_name, 0);
			if (r == 0)
				draft_node_moved(e->nodes, node, to, &copy);
		}
		draft_renames_unlock(e->nodes);
		if (r == 0)
			draft_node_put(e->nodes, node);
	}
	free(copy);
	return r;
}

static bool is_remembered(struct env *e, fuse_ino_t ino)
{
	struct draft_node *node;

	if (draft_node_get(e->nodes, ino, &node) < 0)
		return false;
	draft_node_put(e->nodes, node);
	return true;
}

static unsigned open_descriptors(void)
{
	auto_dir DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	while (readdir(dir))
		n++;
	return n;
}

/* ---- tests ---- */

static void test_a_node_is_remembered_until_as_many_lookups_are_forgotten_as_were_counted(void **state)
{
	struct env *e = *state;
	fuse_ino_t ino;

	put_file(base(e), "a", "1");
	ino = lookup_ino(e, e->root, "a");
	assert_true(lookup_ino(e, e->root, "a") == ino);
	assert_true(lookup_ino(e, e->root, "a") == ino);
	draft_node_forget(e->nodes, ino, 2);
	assert_true(is_remembered(e, ino));
	draft_node_forget(e->nodes, ino, 1);
	assert_false(is_remembered(e, ino));
	assert_int_equal(draft_table_count(e->nodes), 1); /* the root, which we hold */
}

static void test_a_directory_stays_while_a_child_is_remembered_and_goes_with_it(void **state)
{
	struct env *e = *state;
	struct draft_node *d, *f;
	fuse_ino_t d_ino, f_ino;

	assert_int_equal(mkdirat(base(e), "d", 0755), 0);
	put_file(base(e), "d/f", "1");
	d = lookup(e, e->root, "d");
	f = lookup(e, d, "f");
	d_ino = d->ino;
	f_ino = f->ino;
	draft_node_put(e->nodes, d);
	draft_node_put(e->nodes, f);
	draft_node_forget(e->nodes, d_ino, 1);
	assert_true(is_remembered(e, d_ino));
	draft_node_forget(e->nodes, f_ino, 1);
	assert_false(is_remembered(e, f_ino));
	assert_false(is_remembered(e, d_ino));
}

static void test_an_entry_carries_the_tagged_inode_number_and_short_timeouts(void **state)
{
	struct env *e = *state;
	struct fuse_entry_param entry;
	struct stat st;

	put_file(base(e), "a", "12345");
	assert_int_equal(fstatat(base(e), "a", &st, 0), 0);
	assert_int_equal(try_lookup(e, e->root, "a", &entry), 0);
	assert_true(entry.ino == node_make(NODE_DRAFT, st.st_ino));
	assert_true(entry.attr.st_ino == entry.ino);
	assert_int_equal(entry.attr.st_size, 5);
	assert_true(entry.attr_timeout == TIMEOUT_DRAFT && entry.entry_timeout == TIMEOUT_DRAFT);
}

static void test_an_unlinked_file_is_reached_until_it_is_forgotten(void **state)
{
	struct env *e = *state;
	auto_dirfd struct draft_dir at = DRAFT_DIR_INIT;
	struct draft_node *f;
	struct stat st;
	unsigned before;
	int fd;

	put_file(base(e), "f", "still here");
	before = open_descriptors();
	f = lookup(e, e->root, "f");
	assert_int_equal(open_descriptors(), before);
	assert_int_equal(remove_name(e, e->root, "f", 0), 0);
	assert_int_equal(draft_node_stat(e->nodes, f, &st), 0);
	assert_int_equal(st.st_nlink, 0);
	assert_int_equal(draft_node_reach(e->nodes, f, &at, &st), 0);
	fd = sys_reopen(at.fd, O_RDONLY);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(open_descriptors(), before + 1);
	draft_node_forget(e->nodes, f->ino, 1);
	draft_node_put(e->nodes, f);
	assert_int_equal(open_descriptors(), before);
}

static void test_a_new_file_never_gets_the_inode_number_of_an_unlinked_one_that_is_remembered(void **state)
{
	struct env *e = *state;
	fuse_ino_t ino;

	put_file(base(e), "f", "1");
	ino = lookup_ino(e, e->root, "f");
	assert_int_equal(remove_name(e, e->root, "f", 0), 0);
	for (int i = 0; i < 50; i++) {
		put_file(base(e), "g", "2");
		assert_true(lookup_ino(e, e->root, "g") != ino);
		assert_int_equal(remove_name(e, e->root, "g", 0), 0);
	}
}

static void test_of_two_hard_links_either_name_may_go(void **state)
{
	struct env *e = *state;
	struct draft_node *f;
	struct stat st;
	unsigned before;

	put_file(base(e), "x", "1");
	before = open_descriptors();
	f = lookup(e, e->root, "x");
	draft_node_put(e->nodes, f);
	assert_int_equal(linkat(base(e), "x", base(e), "y", 0), 0);
	assert_int_equal(linkat(base(e), "x", base(e), "z", 0), 0);
	assert_true(lookup_ino(e, e->root, "y") == f->ino);
	assert_int_equal(remove_name(e, e->root, "x", 0), 0); /* known as y: nothing to keep open */
	assert_int_equal(open_descriptors(), before);
	assert_int_equal(draft_node_stat(e->nodes, f, &st), 0);
	assert_int_equal(remove_name(e, e->root, "y", 0), 0); /* z is a name we do not know of */
	assert_int_equal(open_descriptors(), before + 1);
	assert_int_equal(draft_node_stat(e->nodes, f, &st), 0);
	assert_true(lookup_ino(e, e->root, "z") == f->ino); /* now we do */
	assert_int_equal(open_descriptors(), before);
	assert_int_equal(draft_node_stat(e->nodes, f, &st), 0);
	assert_int_equal(st.st_nlink, 1);
}

static void test_an_open_file_is_pinned_until_its_last_close(void **state)
{
	struct env *e = *state;
	struct draft_node *f;
	fuse_ino_t ino;
	unsigned before;

	put_file(base(e), "f", "1");
	before = open_descriptors();
	f = lookup(e, e->root, "f");
	ino = f->ino;
	for (int i = 0; i < 2; i++) {
		auto_close int pin = openat(base(e), "f", O_PATH | O_CLOEXEC);
		draft_node_opened(e->nodes, f, &pin);
	}
	draft_node_forget(e->nodes, ino, 1);
	draft_node_put(e->nodes, f);
	assert_int_equal(open_descriptors(), before + 1);
	draft_nodes_closed(e->nodes, ino);
	assert_true(is_remembered(e, ino));
	assert_int_equal(open_descriptors(), before + 1);
	draft_nodes_closed(e->nodes, ino);
	assert_false(is_remembered(e, ino));
	assert_int_equal(open_descriptors(), before);
}

/* As after the death of a worker, where no descriptor is left. */
static void test_an_open_without_a_descriptor_for_the_pin_counts_and_leaves_room_for_one(void **state)
{
	struct env *e = *state;
	struct draft_node *f;
	int none = -EMFILE;

	put_file(base(e), "f", "1");
	f = lookup(e, e->root, "f");
	draft_node_opened(e->nodes, f, &none);
	assert_int_equal(f->fd, -1);
	assert_int_equal(f->opens, 1);
	auto_close int pin = openat(base(e), "f", O_PATH | O_CLOEXEC);
	draft_node_opened(e->nodes, f, &pin);
	assert_true(f->fd >= 0);
	draft_node_forget(e->nodes, f->ino, 1);
	draft_nodes_closed(e->nodes, f->ino);
	draft_nodes_closed(e->nodes, f->ino);
	draft_node_put(e->nodes, f);
}

static void test_an_unnamed_file_is_pinned_from_birth_and_a_name_ends_that(void **state)
{
	struct env *e = *state;
	auto_close int fd = openat(base(e), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600), pin = -1;
	struct fuse_entry_param entry;
	struct draft_node *f;
	struct stat st;
	unsigned before;

	if (fd < 0 && errno == EOPNOTSUPP)
		skip();
	assert_true(fd >= 0);
	pin = sys_reopen(fd, O_PATH);
	assert_int_equal(fstat(fd, &st), 0);
	before = open_descriptors();
	assert_int_equal(draft_node_remember_unnamed(e->nodes, e->root, &pin, &st, &entry), 0);
	assert_int_equal(pin, -1);
	assert_int_equal(draft_node_get(e->nodes, entry.ino, &f), 0);
	assert_int_equal(draft_node_stat(e->nodes, f, &st), 0);
	assert_int_equal(sys_linkat_fd(fd, base(e), "named"), 0);
	draft_node_put(e->nodes, f);
	assert_int_equal(open_descriptors(), before);
	assert_true(lookup_ino(e, e->root, "named") == entry.ino);
	assert_int_equal(open_descriptors(), before - 1);
	assert_int_equal(draft_node_stat(e->nodes, f, &st), 0);
}

static void test_a_moved_file_and_all_below_a_moved_directory_are_found(void **state)
{
	struct env *e = *state;
	struct draft_node *a, *b, *f;
	struct stat st;

	for (size_t budget = 0; budget <= MANY_DIRS; budget += MANY_DIRS) {
		new_table(e, budget);
		assert_int_equal(mkdirat(base(e), "a", 0755), 0);
		assert_int_equal(mkdirat(base(e), "a/b", 0755), 0);
		put_file(base(e), "a/b/f", "1");
		a = lookup(e, e->root, "a");
		b = lookup(e, a, "b");
		f = lookup(e, b, "f");
		assert_int_equal(move(e, e->root, "a", e->root, "A"), 0);
		assert_int_equal(draft_node_stat(e->nodes, f, &st), 0);
		assert_int_equal(move(e, a, "b", e->root, "B"), 0);
		assert_int_equal(draft_node_stat(e->nodes, f, &st), 0);
		assert_int_equal(move(e, b, "f", a, "F"), 0);
		assert_int_equal(draft_node_stat(e->nodes, f, &st), 0);
		assert_int_equal(faccessat(base(e), "A/F", F_OK, 0), 0);
		assert_int_equal(remove_name(e, a, "F", 0), 0);
		assert_int_equal(remove_name(e, e->root, "A", AT_REMOVEDIR), 0);
		assert_int_equal(remove_name(e, e->root, "B", AT_REMOVEDIR), 0);
		assert_int_equal(draft_node_stat(e->nodes, b, &st), 0); /* removed, not yet forgotten */
		draft_node_put(e->nodes, a);
		draft_node_put(e->nodes, b);
		draft_node_put(e->nodes, f);
	}
}

static void test_directories_keep_no_more_descriptors_than_the_budget_and_work_beyond_it(void **state)
{
	struct env *e = *state;
	struct draft_node *up, *down;
	unsigned before;

	new_table(e, 3);
	before = open_descriptors();
	up = e->root;
	for (int depth = 0; depth < 20; depth++) {
		auto_dirfd struct draft_dir dir = DRAFT_DIR_INIT;
		assert_int_equal(draft_node_dir(e->nodes, up, &dir), 0);
		assert_int_equal(mkdirat(dir.fd, "sub", 0755), 0);
		down = lookup(e, up, "sub");
		if (up != e->root)
			draft_node_put(e->nodes, up);
		up = down;
	}
	assert_int_equal(open_descriptors(), before + 3);
	draft_node_forget(e->nodes, up->ino, 1);
	draft_node_put(e->nodes, up);
}

static void test_a_node_whose_file_was_taken_away_behind_our_back_is_stale(void **state)
{
	struct env *e = *state;
	struct draft_node *d, *f;
	struct draft_dir dir;
	struct stat st;

	assert_int_equal(mkdirat(base(e), "d", 0755), 0);
	put_file(base(e), "d/f", "1");
	d = lookup(e, e->root, "d");
	f = lookup(e, e->root, "d");
	draft_node_put(e->nodes, f);
	f = lookup(e, d, "f");
	assert_int_equal(unlinkat(base(e), "d/f", 0), 0);
	assert_int_equal(draft_node_stat(e->nodes, f, &st), -ESTALE);
	assert_int_equal(symlinkat("elsewhere", base(e), "d/f"), 0);
	assert_int_equal(draft_node_stat(e->nodes, f, &st), -ESTALE);
	draft_node_put(e->nodes, f);
	draft_node_put(e->nodes, d);

	new_table(e, 0); /* so that nothing is kept of the directory */
	d = lookup(e, e->root, "d");
	assert_int_equal(unlinkat(base(e), "d/f", 0), 0);
	assert_int_equal(unlinkat(base(e), "d", AT_REMOVEDIR), 0);
	assert_int_equal(draft_node_dir(e->nodes, d, &dir), -ESTALE);
	draft_node_put(e->nodes, d);
}

static void test_a_file_with_the_inode_number_of_a_known_one_gets_another_node(void **state)
{
	struct env *e = *state;
	struct draft *other = make_draft(e, 2);
	struct draft_top top = top_of(other);
	struct draft_node *root, *kept;
	struct fuse_entry_param first, second, again;
	struct stat st;

	put_file(base(e), "a", "1");
	assert_int_equal(try_lookup(e, e->root, "a", &first), 0);
	kept = lookup(e, e->root, "a");
	assert_int_equal(draft_node_root(e->nodes, &top, &root), 0);
	assert_int_equal(fstatat(base(e), "a", &st, 0), 0);
	assert_int_equal(draft_node_remember(e->nodes, root, "b", &st, &second), 0); /* as if ext4 had given the number again */
	assert_true(second.ino != first.ino);
	assert_int_equal(draft_node_remember(e->nodes, root, "b", &st, &again), 0);
	assert_true(again.ino == second.ino);
	assert_int_equal(draft_node_stat(e->nodes, kept, &st), 0); /* whoever holds the old one still works on the old file */
	draft_node_put(e->nodes, kept);
	draft_node_forget(e->nodes, first.ino, 2);
	assert_false(is_remembered(e, first.ino));
	assert_int_equal(draft_node_remember(e->nodes, root, "b", &st, &again), 0); /* also when its number would be free */
	assert_true(again.ino == second.ino);
	draft_node_forget(e->nodes, second.ino, 3);
	assert_false(is_remembered(e, second.ino));
	assert_int_equal(draft_node_remember(e->nodes, root, "b", &st, &again), 0);
	assert_true(again.ino == first.ino);
	draft_node_forget(e->nodes, again.ino, 1);
	draft_node_put(e->nodes, root);
	draft_put(other);
}

struct names {
	unsigned n;
	char seen[256];
};

static void note_name(fuse_ino_t parent, const char *name, void *arg)
{
	struct names *names = arg;

	names->n++;
	snprintf(names->seen + strlen(names->seen), sizeof(names->seen) - strlen(names->seen), "%s;", name);
}

static void test_the_end_of_a_version_hands_out_the_names_of_its_nodes_and_no_others(void **state)
{
	struct env *e = *state;
	struct draft *other = make_draft(e, 2);
	struct draft_top top = top_of(other);
	struct draft_node *d, *f, *g, *root;
	struct fuse_entry_param entry;
	struct names names = {0};

	assert_int_equal(draft_node_root(e->nodes, &top, &root), 0);
	assert_int_equal(mkdirat(base(e), "d", 0755), 0);
	put_file(base(e), "d/f", "123");
	put_file(draft_root(other), "g", "123");
	d = lookup(e, e->root, "d");
	f = lookup(e, d, "f");
	g = lookup(e, root, "g");
	draft_nodes_gone(e->nodes, 1, note_name, &names);
	assert_int_equal(names.n, 2);
	assert_non_null(strstr(names.seen, "d;"));
	assert_non_null(strstr(names.seen, "f;"));
	assert_true(draft_node_is_gone(e->nodes, f));
	assert_false(draft_node_is_gone(e->nodes, g));
	assert_int_equal(try_lookup(e, d, "f", &entry), -ESTALE); /* told no more, by a lookup that began before */
	assert_int_equal(draft_twins_id(e->nodes, d->ino), 0);
	draft_node_put(e->nodes, d);
	draft_node_put(e->nodes, f);
	draft_node_put(e->nodes, g);
	draft_node_put(e->nodes, root);
	draft_put(other);
}

static void test_a_path_is_told_from_the_root_of_the_version(void **state)
{
	struct env *e = *state;
	char buffer[PATH_MAX];
	struct draft_node *d, *f;
	const char *path;

	assert_int_equal(mkdirat(base(e), "d", 0755), 0);
	put_file(base(e), "d/f", "123");
	d = lookup(e, e->root, "d");
	f = lookup(e, d, "f");
	assert_int_equal(draft_node_path(e->nodes, e->root, buffer, &path), 0);
	assert_string_equal(path, "");
	assert_int_equal(draft_node_path(e->nodes, f, buffer, &path), 0);
	assert_string_equal(path, "d/f");
	assert_int_equal(remove_name(e, d, "f", 0), 0);
	assert_int_equal(draft_node_path(e->nodes, f, buffer, &path), -ESTALE);
	draft_node_put(e->nodes, d);
	draft_node_put(e->nodes, f);
}

static void test_the_end_of_a_version_that_nobody_knows_is_nothing(void **state)
{
	struct env *e = *state;
	struct names names = {0};

	draft_nodes_gone(e->nodes, 99, note_name, &names);
	assert_int_equal(names.n, 0);
}

/* ---- threads ---- */

/* Nodes by number: as for the kernel, they are in use only while something is done with them. */
struct race {
	struct env *e;
	fuse_ino_t a, b, file;
	_Atomic bool stop;
	_Atomic int failure;
	_Atomic long rounds;
};

static int move_by_number(struct race *x, fuse_ino_t from, const char *name, fuse_ino_t to, const char *new_name)
{
	struct draft_nodes *n = x->e->nodes;
	struct draft_node *f = NULL, *t = NULL;
	int r = draft_node_get(n, from, &f);

	if (r == 0)
		r = draft_node_get(n, to, &t);
	if (r == 0)
		r = move(x->e, f, name, t, new_name);
	draft_node_put(n, f);
	draft_node_put(n, t);
	return r;
}

static void *mover(void *arg)
{
	struct race *x = arg;
	fuse_ino_t root = x->e->root->ino;

	for (int i = 0; (i < 1500 || atomic_load(&x->rounds) == 0) && atomic_load(&x->failure) == 0; i++) {
		int r = move_by_number(x, x->a, "f", x->b, "g");
		if (r == 0)
			r = move_by_number(x, root, "a", root, "c");
		if (r == 0)
			r = move_by_number(x, x->b, "g", x->a, "f");
		if (r == 0)
			r = move_by_number(x, root, "c", root, "a");
		if (r < 0)
			atomic_store(&x->failure, r);
	}
	atomic_store(&x->stop, true);
	return NULL;
}

static void *watcher(void *arg)
{
	struct race *x = arg;

	while (!atomic_load(&x->stop) && atomic_load(&x->failure) == 0) {
		auto_dirfd struct draft_dir at = DRAFT_DIR_INIT;
		struct draft_node *file = NULL;
		struct stat st;
		int r = draft_node_get(x->e->nodes, x->file, &file);
		if (r == 0)
			r = draft_node_stat(x->e->nodes, file, &st);
		if (r == 0)
			r = draft_node_reach(x->e->nodes, file, &at, &st);
		if (r < 0)
			atomic_store(&x->failure, r);
		draft_dir_release(&at);
		draft_node_put(x->e->nodes, file);
		atomic_fetch_add(&x->rounds, 1);
	}
	return NULL;
}

/* A kernel that looks up and forgets all the time. */
static void *visitor(void *arg)
{
	struct race *x = arg;

	for (unsigned i = 0; !atomic_load(&x->stop) && atomic_load(&x->failure) == 0; i++) {
		fuse_ino_t in[] = {x->a, x->b, x->e->root->ino};
		struct fuse_entry_param entry;
		struct draft_node *dir = NULL;
		int r = draft_node_get(x->e->nodes, in[i % 3], &dir);
		if (r == 0)
			r = try_lookup(x->e, dir, "h", &entry);
		draft_node_put(x->e->nodes, dir);
		if (r == 0)
			draft_node_forget(x->e->nodes, entry.ino, 1);
		else if (r != -ENOENT)
			atomic_store(&x->failure, r);
	}
	return NULL;
}

static void run_race(struct env *e, size_t budget)
{
	struct race x = {.e = e};
	struct draft_node *a;
	pthread_t threads[4];

	new_table(e, budget);
	assert_int_equal(mkdirat(base(e), "a", 0755), 0);
	assert_int_equal(mkdirat(base(e), "b", 0755), 0);
	put_file(base(e), "a/f", "1");
	put_file(base(e), "a/h", "1");
	put_file(base(e), "h", "1");
	a = lookup(e, e->root, "a");
	x.a = a->ino;
	x.b = lookup_ino(e, e->root, "b");
	x.file = lookup_ino(e, a, "f");
	draft_node_put(e->nodes, a);
	pthread_create(&threads[0], NULL, mover, &x);
	pthread_create(&threads[1], NULL, watcher, &x);
	pthread_create(&threads[2], NULL, watcher, &x);
	pthread_create(&threads[3], NULL, visitor, &x);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(atomic_load(&x.failure), 0);
	assert_true(atomic_load(&x.rounds) > 0);
}

static void test_a_file_is_always_found_while_it_and_its_directory_are_renamed(void **state)
{
	run_race(*state, MANY_DIRS);
}

static void test_a_file_is_always_found_while_renamed_beyond_the_budget_for_descriptors(void **state)
{
	run_race(*state, 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_a_node_is_remembered_until_as_many_lookups_are_forgotten_as_were_counted),
		T(test_a_directory_stays_while_a_child_is_remembered_and_goes_with_it),
		T(test_an_entry_carries_the_tagged_inode_number_and_short_timeouts),
		T(test_an_unlinked_file_is_reached_until_it_is_forgotten),
		T(test_a_new_file_never_gets_the_inode_number_of_an_unlinked_one_that_is_remembered),
		T(test_of_two_hard_links_either_name_may_go),
		T(test_an_open_file_is_pinned_until_its_last_close),
		T(test_an_open_without_a_descriptor_for_the_pin_counts_and_leaves_room_for_one),
		T(test_an_unnamed_file_is_pinned_from_birth_and_a_name_ends_that),
		T(test_a_moved_file_and_all_below_a_moved_directory_are_found),
		T(test_directories_keep_no_more_descriptors_than_the_budget_and_work_beyond_it),
		T(test_a_node_whose_file_was_taken_away_behind_our_back_is_stale),
		T(test_a_file_with_the_inode_number_of_a_known_one_gets_another_node),
		T(test_the_end_of_a_version_hands_out_the_names_of_its_nodes_and_no_others),
		T(test_a_path_is_told_from_the_root_of_the_version),
		T(test_the_end_of_a_version_that_nobody_knows_is_nothing),
		T(test_a_file_is_always_found_while_it_and_its_directory_are_renamed),
		T(test_a_file_is_always_found_while_renamed_beyond_the_budget_for_descriptors),
	};
	return cmocka_run_group_tests_name("fs: draft table", tests, NULL, NULL);
}
