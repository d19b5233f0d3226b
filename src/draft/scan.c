/* Reading the tree of a frozen draft, breadth-first: the array of entries is its own queue, since the children of an entry are
 * appended when its turn comes. So parents stand before children, and the children of a directory together.
 *
 * Nobody works in the tree through the drive now. Whatever does not fit, a name that vanished say, was done behind its back, and
 * the scan fails rather than commit a guess. Every file is probed before it is measured: once nobody can write to it, its size
 * and times are final.
 *
 * To open a file costs more than to hash a small one. So what is to be done with it is done while it is open: the caller's look at it, and the
 * hashing of small files, as long as there are few of them: more work than SCAN_HASH_ALL is left to the threads of tree_hash.c. */
#include "inner.h"

#include <errno.h>
#include <fcntl.h>
#include <mintfs/cleanup.h>
#include <string.h>

#define SCAN_HASH_FILE ((size_t)64 * 1024)
#define SCAN_HASH_ALL ((uint64_t)2 << 20)
#define SCAN_HASH_FIXED 4096 /* of that for each file */

struct scan {
	struct draft *d;
	struct fault *f;
	draft_visit_fn *visit; /* may be NULL */
	void *visit_arg;
	struct blob_hasher *hasher; /* made when it is needed, as is its buffer of SCAN_HASH_FILE bytes */
	char *piece;
	uint64_t hashing;    /* work done here so far */
	struct draft_tree tree;
	size_t cap;          /* of tree.entries */
	struct map64 *links; /* inode number to index + 1 of its first entry, where there are several links */
	unsigned patience;
};

int scan_trouble(struct fault *f, int error, const char *path)
{
	switch (-error) {
	case ENOENT:
	case ENOTDIR:
	case EISDIR:
	case ELOOP:
	case ENXIO:
	case ESTALE:
		return fault_set(f, EIO, "%s was changed in the store while the draft was frozen", path);
	case EXDEV:
		return fault_set(f, EIO, "%s lies on another file system: something is mounted inside the store", path);
	default:
		return fault_set(f, -error, "%s cannot be read: %s", path, strerror(-error));
	}
}

/* Appends an entry and names it. */
static int add_entry(struct scan *s, int64_t parent, const char *name)
{
	struct draft_tree *t = &s->tree;
	const char *dir = parent < 0 ? "" : t->entries[parent].path;
	size_t dir_len = strlen(dir), name_len = strlen(name), at = dir_len ? dir_len + 1 : 0;
	char *path;

	if (at + name_len > DRAFT_PATH_MAX)
		return fault_set(s->f, ENAMETOOLONG, "the path of %s, in a directory %zu bytes deep, is longer than %d bytes", name, dir_len,
			DRAFT_PATH_MAX);
	if (t->n == s->cap) {
		size_t cap = s->cap ? 2 * s->cap : 64;
		struct draft_entry *bigger = reallocarray(t->entries, cap, sizeof(*bigger));
		if (!bigger)
			return -ENOMEM;
		t->entries = bigger;
		s->cap = cap;
		dir = parent < 0 ? "" : t->entries[parent].path;
	}
	path = malloc(at + name_len + 1);
	if (!path)
		return -ENOMEM;
	if (dir_len > 0) {
		memcpy(path, dir, dir_len);
		path[dir_len] = '/';
	}
	memcpy(path + at, name, name_len + 1);
	t->entries[t->n] = (struct draft_entry){.path = path, .name = path + at, .parent = parent, .inode = (int64_t)t->n, .nlink = 1};
	t->n++;
	return 0;
}

static void measure(struct draft_entry *e, enum draft_type type, const struct stat *st)
{
	e->type = type;
	e->mode = st->st_mode & 07777;
	e->uid = st->st_uid;
	e->gid = st->st_gid;
	e->size = (uint64_t)st->st_size;
	e->blocks = (uint64_t)st->st_blocks;
	e->mtime_ns = timespec_ns(st->st_mtim);
	e->ino = st->st_ino;
}

/* If another name of this inode was seen, takes over what is known from there. */
static int find_link(struct scan *s, size_t i, const struct stat *st, bool *ret_found)
{
	struct draft_entry *e = &s->tree.entries[i], *first;
	uintptr_t seen;

	*ret_found = false;
	if (st->st_nlink < 2)
		return 0;
	seen = (uintptr_t)map64_get(s->links, st->st_ino);
	if (seen == 0)
		return map64_put(s->links, st->st_ino, (void *)(uintptr_t)(i + 1)); /* not written through: a number */
	first = &s->tree.entries[seen - 1];
	first->nlink++;
	*e = (struct draft_entry){.path = e->path, .name = e->name, .parent = e->parent, .inode = (int64_t)(seen - 1),
		.type = first->type, .mode = first->mode, .uid = first->uid, .gid = first->gid, .size = first->size, .blocks = first->blocks,
		.mtime_ns = first->mtime_ns, .ino = first->ino, .hashed = first->hashed, .blob = first->blob};
	*ret_found = true;
	return 0;
}

static int make_hasher(struct scan *s)
{
	if (!s->piece)
		s->piece = malloc(SCAN_HASH_FILE);
	if (!s->piece)
		return -ENOMEM;
	return s->hasher ? 0 : blob_hasher_new(&s->hasher);
}

/* Hashes a small file that fd is open for and st describes. */
static int hash_small(struct scan *s, struct draft_entry *e, int fd, const struct stat *st)
{
	struct stat after;
	ssize_t n;
	int r = make_hasher(s);

	if (r < 0)
		return r;
	n = e->size > 0 ? sys_pread_full(fd, s->piece, (size_t)e->size, 0) : 0;
	if (n < 0)
		return scan_trouble(s->f, (int)n, e->path);
	if ((r = sys_fstat(fd, &after)) < 0)
		return scan_trouble(s->f, r, e->path);
	if ((uint64_t)n != e->size || !hash_stat_same(st, &after))
		return scan_trouble(s->f, -ESTALE, e->path);
	if ((r = blob_hasher_add(s->hasher, s->piece, (size_t)n)) < 0 || (r = blob_hasher_finish(s->hasher, &e->blob)) < 0)
		return scan_trouble(s->f, r, e->path);
	e->hashed = true;
	draft_hash_keep(s->d, e->ino, st, &e->blob); /* for another try, should this commit fail */
	return 0;
}

/* Files worth a hand-over to the background may just be hashed there: those are left to tree_hash.c. */
static bool hash_here(struct scan *s, const struct draft_entry *e)
{
	if (e->hashed || e->size > SCAN_HASH_FILE || (off_t)e->size >= s->d->set->hashing.size_min || s->hashing > SCAN_HASH_ALL)
		return false;
	s->hashing += e->size + SCAN_HASH_FIXED;
	return true;
}

static int open_file(struct scan *s, int dir, const struct draft_entry *e, struct stat *ret_st)
{
	auto_close int fd = sys_openat_beneath(dir, e->name, O_RDONLY | O_NONBLOCK | O_NOFOLLOW | O_NOCTTY, 0);
	int r;

	if (fd < 0)
		return scan_trouble(s->f, fd, e->path);
	r = hash_probe(fd, &s->patience);
	if (r == -EBUSY)
		return fault_set(s->f, EBUSY, "%s can still be written: a program has it open or mapped writable", e->path);
	if (r < 0 && r != -EOPNOTSUPP)
		return scan_trouble(s->f, r, e->path);
	r = sys_fstat(fd, ret_st);
	if (r < 0)
		return scan_trouble(s->f, r, e->path);
	if (!S_ISREG(ret_st->st_mode))
		return scan_trouble(s->f, -ESTALE, e->path);
	return take_fd(&fd);
}

static int scan_file(struct scan *s, int dir, size_t i)
{
	struct draft_entry *e = &s->tree.entries[i];
	struct stat st;
	auto_close int fd = open_file(s, dir, e, &st);
	bool linked = false;
	int r = fd < 0 ? fd : find_link(s, i, &st, &linked);

	if (r < 0)
		return r;
	s->tree.n_files++;
	if (linked)
		return 0;
	measure(e, DRAFT_FILE, &st);
	e->hashed = draft_hash_find(s->d, e->ino, &st, &e->blob);
	s->tree.size += e->size;
	if (s->visit)
		r = s->visit(e, fd, s->visit_arg);
	return r == 0 && hash_here(s, e) ? hash_small(s, e, fd, &st) : r;
}

static int scan_symlink(struct scan *s, int dir, size_t i, const struct stat *st)
{
	struct draft_entry *e = &s->tree.entries[i];
	char target[PATH_MAX + 1];
	ssize_t n = sys_readlinkat(dir, e->name, target, sizeof(target));

	if (n < 0)
		return scan_trouble(s->f, n == -EINVAL ? -ESTALE : (int)n, e->path);
	measure(e, DRAFT_SYMLINK, st);
	e->target = strdup(target);
	return e->target ? 0 : -ENOMEM;
}

static void scan_subdirectory(struct scan *s, size_t i, const struct stat *st)
{
	struct draft_entry *e = &s->tree.entries[i];

	measure(e, DRAFT_DIRECTORY, st);
	e->nlink = 2;
	if (e->parent < 0)
		s->tree.n_top_dirs++;
	else
		s->tree.entries[e->parent].nlink++;
}

static int scan_entry(struct scan *s, int dir, int64_t parent, const char *name, unsigned char type)
{
	const struct draft_entry *e;
	struct stat st;
	bool linked = false;
	size_t i = s->tree.n;
	int r = add_entry(s, parent, name);

	if (r < 0 || type == DT_REG)
		return r < 0 ? r : scan_file(s, dir, i);
	e = &s->tree.entries[i];
	r = sys_fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW);
	if (r < 0)
		return scan_trouble(s->f, r, e->path);
	if (S_ISREG(st.st_mode))
		return scan_file(s, dir, i);
	if (S_ISDIR(st.st_mode)) {
		scan_subdirectory(s, i, &st);
		return 0;
	}
	if (!S_ISLNK(st.st_mode))
		return fault_set(s->f, EINVAL, "%s is %s: only files, directories and symbolic links can be committed", e->path,
			sys_kind_of(st.st_mode));
	r = find_link(s, i, &st, &linked);
	return r < 0 ? r : scan_symlink(s, dir, i, &st); /* of each name: entries own their targets */
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b); /* as unsigned bytes */
}

/* Appends the children of a directory; parent -1: the root. */
static int scan_directory(struct scan *s, int64_t parent)
{
	const char *path = parent < 0 ? "." : s->tree.entries[parent].path;
	auto_listing struct listing l = {0};
	size_t first = s->tree.n;
	int r = listing_read(s->d->root, path, &l);

	if (r < 0)
		return scan_trouble(s->f, r, parent < 0 ? "the draft's directory" : path);
	if (l.n > 1)
		qsort(l.names, l.n, sizeof(*l.names), compare_names);
	for (size_t i = 0; r == 0 && i < l.n; i++)
		r = scan_entry(s, dirfd(l.dir), parent, l.names[i], listing_type(&l, i));
	if (r < 0)
		return r;
	if (parent < 0) {
		s->tree.n_top = l.n;
	} else {
		s->tree.entries[parent].first_child = (int64_t)first;
		s->tree.entries[parent].n_children = (uint32_t)l.n;
	}
	return 0;
}

static int scan_tree(struct scan *s)
{
	struct draft_tree *t = &s->tree;
	int r = sys_fstat(s->d->root, &t->root);

	if (r < 0)
		return scan_trouble(s->f, r, "the draft's directory");
	r = scan_directory(s, -1);
	for (size_t i = 0; r == 0 && i < t->n; i++) {
		if (t->entries[i].type == DRAFT_DIRECTORY)
			r = scan_directory(s, (int64_t)i);
	}
	for (size_t i = 0; r == 0 && i < t->n; i++)
		t->entries[i].nlink = t->entries[t->entries[i].inode].nlink;
	return r;
}

int draft_scan_visit(struct draft *d, draft_visit_fn *visit, void *arg, struct draft_tree *ret, struct fault *f)
{
	struct scan s = {.d = d, .f = f, .visit = visit, .visit_arg = arg, .patience = SCAN_PATIENCE};
	int r;

	if (!draft_is_frozen(d))
		return fault_set(f, EINVAL, "the draft is not frozen");
	s.links = map64_new();
	if (!s.links)
		return -ENOMEM;
	r = scan_tree(&s);
	map64_free(s.links);
	blob_hasher_free(s.hasher);
	free(s.piece);
	if (r < 0) {
		draft_tree_release(&s.tree);
		return r;
	}
	*ret = s.tree;
	return 0;
}

int draft_scan(struct draft *d, struct draft_tree *ret, struct fault *f)
{
	return draft_scan_visit(d, NULL, NULL, ret, f);
}

void draft_tree_release(struct draft_tree *t)
{
	for (size_t i = 0; i < t->n; i++) {
		free(t->entries[i].path); /* name is its end */
		free(t->entries[i].target);
	}
	free(t->entries);
	*t = (struct draft_tree){0};
}
