/* What a draft must be to be committed; and the metadata.json that MintFS writes where the trainer left none. */
#include "commit.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static bool is_metadata(const struct draft_entry *e) { return e->parent < 0 && !strcmp(e->name, METADATA_NAME); }

static int check_metadata(struct commit_work *w, int fd)
{
	w->has_metadata = true;
	int rc = metadata_read(fd, &w->metadata, w->f);
	if ((rc == -EINVAL || rc == -EFBIG) && w->f)
		w->f->verdict = VERDICT_BAD_METADATA;
	return rc == -EFBIG ? -EINVAL : rc;
}

static int check_format(struct commit_work *w, const struct draft_entry *e, int fd)
{
	struct fault why = FAULT_INIT;
	int rc = metadata_check_format(fd, e->name, &why);
	if (rc == -EINVAL && strchr(e->path, '/'))
		return refuse(w->f, VERDICT_TORN, "%.*s/%s", (int)(strrchr(e->path, '/') - e->path), e->path, why.text);
	return rc == -EINVAL ? refuse(w->f, VERDICT_TORN, "%s", why.text) : rc;
}

static bool is_process(struct commit_work *w, const struct draft_entry *e)
{
	struct catalog_model m;
	if (e->parent >= 0 || strcmp(e->name, PROCESS_NAME) != 0)
		return false;
	auto_read struct catalog_conn *conn = NULL;
	return catalog_read_begin(w->r->catalog, &conn) == 0 && catalog_model_get(conn, w->v.model_id, &m) == 0 && m.mode == LAYOUT_PROCESS;
}

/* A process that could not be run is told so when it is committed, with the line, and not when its run is due. */
static int check_process(struct commit_work *w, int fd)
{
	struct process_spec spec;
	int rc = process_spec_read(fd, &spec, w->f);
	if (rc == -EINVAL || rc == -EFBIG) {
		w->f->verdict = VERDICT_BAD_PROCESS;
		return -EINVAL;
	}
	if (rc < 0)
		return rc;
	rc = registry_process_check(w->r, &spec, w->f);
	process_spec_release(&spec);
	return rc;
}

int commit_check_file(struct commit_work *w, const struct draft_entry *e, int fd)
{
	if (is_metadata(e))
		return check_metadata(w, fd);
	return is_process(w, e) ? check_process(w, fd) : check_format(w, e, fd);
}

/* The format goes by the name: a second name of an inode is looked at for itself. */
static int check_second_name(struct commit_work *w, const struct draft_entry *e)
{
	auto_close int fd = sys_openat_beneath(draft_root(w->d), e->path, O_RDONLY, 0);
	return fd < 0 ? refuse_system(w->f, fd, "%s cannot be read", e->path) : commit_check_file(w, e, fd);
}

/* Of what is no file. */
static const char *kind_of(const struct draft_entry *e) { return e->type == DRAFT_DIRECTORY ? "directory" : "symbolic link"; }

int commit_check_rest(struct commit_work *w)
{
	for (size_t i = 0; i < w->tree.n; i++) {
		const struct draft_entry *e = &w->tree.entries[i];
		int rc = 0;
		if (is_metadata(e) && e->type != DRAFT_FILE)
			return refuse(w->f, VERDICT_BAD_METADATA, "%s is a %s: it must be a file with one JSON object", METADATA_NAME, kind_of(e));
		if (e->type != DRAFT_FILE && is_process(w, e))
			return refuse(w->f, VERDICT_BAD_PROCESS, "%s is a %s: it must be a file", PROCESS_NAME, kind_of(e));
		if (e->type == DRAFT_FILE && e->inode != (int64_t)i)
			rc = check_second_name(w, e);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* ---- the metadata.json of MintFS ---- */

/* A new entry at the top, at its place by name: indexes behind it move up by one. On success the strings belong to the tree. */
static int tree_insert_top(struct draft_tree *t, const struct draft_entry *entry, int64_t *ret_index)
{
	struct draft_entry *entries = realloc(t->entries, (t->n + 1) * sizeof *entries);
	if (!entries)
		return -ENOMEM;
	t->entries = entries;
	int64_t at = 0;
	while ((size_t)at < t->n_top && strcmp(entries[at].name, entry->name) < 0)
		at++;
	memmove(entries + at + 1, entries + at, (t->n - (size_t)at) * sizeof *entries);
	entries[at] = *entry;
	entries[at].parent = -1;
	t->n++;
	t->n_top++;
	for (int64_t i = 0; (size_t)i < t->n; i++) {
		struct draft_entry *e = &entries[i];
		if (i == at) {
			e->inode = at;
			continue;
		}
		e->parent += e->parent >= at;
		e->inode += e->inode >= at;
		if (e->type == DRAFT_DIRECTORY)
			e->first_child += e->first_child >= at;
	}
	*ret_index = at;
	return 0;
}

static int describe_files(const struct draft_tree *t, struct metadata_file **ret_files, char (**ret_hex)[BLOB_HEX_SIZE], size_t *ret_n)
{
	auto_free struct metadata_file *files = calloc(t->n + 1, sizeof *files);
	auto_free char(*hex)[BLOB_HEX_SIZE] = calloc(t->n + 1, sizeof *hex);
	if (!files || !hex)
		return -ENOMEM;
	size_t n = 0;
	for (size_t i = 0; i < t->n; i++) {
		const struct draft_entry *e = &t->entries[i];
		if (e->type != DRAFT_FILE)
			continue;
		blob_id_hex(&e->blob, hex[n]);
		files[n] = (struct metadata_file){.path = e->path, .type = "file", .size = e->size, .sha256 = hex[n]};
		n++;
	}
	*ret_files = take_ptr(files);
	*ret_hex = take_ptr(hex);
	*ret_n = n;
	return 0;
}

/* files NULL: the list is left out. */
static int generate_record(struct commit_work *w, const struct catalog_model *m, const struct catalog_run *run, const struct metadata_file *files, size_t n,
	char *const *inputs, unsigned n_inputs, struct buf *out)
{
	char version[16];
	snprintf(version, sizeof version, "v%u", w->v.number);
	struct metadata_record record = {.model = m->path, .version = version, .run_id = run->key, .command = run->command, .cwd = run->cwd, .user = run->user,
		.host = run->host, .git_commit = run->git_commit, .git_dirty = run->git_dirty, .started_ns = run->started_ns ? run->started_ns : w->v.minted_ns,
		.ended_ns = run->ended_ns ? run->ended_ns : time_now_ns(), .files = files, .n_files = n,
		.inputs = (const char *const *)inputs, .n_inputs = n_inputs};
	return metadata_generate(&record, out);
}

static int generate(struct commit_work *w, struct buf *out)
{
	struct catalog_model m;
	struct catalog_run run = {.git_dirty = -1};
	auto_free struct metadata_file *files = NULL;
	auto_free char(*hex)[BLOB_HEX_SIZE] = NULL;
	size_t n = 0;
	char **inputs = NULL;
	unsigned n_inputs = 0;
	struct catalog_conn *conn = NULL;
	run_wait_observed(w->r, w->v.run_id);
	int rc = catalog_read_begin(w->r->catalog, &conn);
	if (rc == 0)
		rc = catalog_model_get(conn, w->v.model_id, &m);
	if (rc == 0 && (rc = catalog_run_get(conn, w->v.run_id, &run)) == -ENOENT)
		rc = 0;
	catalog_read_end(conn);
	if (rc == 0)
		rc = describe_files(&w->tree, &files, &hex, &n);
	if (rc == 0)
		rc = lineage_names(w->r, &w->lineage, &inputs, &n_inputs);
	if (rc == 0)
		rc = generate_record(w, &m, &run, files, n, inputs, n_inputs, out);
	if (rc == -EFBIG) { /* so many files that no reader would take it; the catalog lists them all the same */
		buf_release(out);
		*out = (struct buf)BUF_INIT(METADATA_SIZE_MAX);
		rc = generate_record(w, &m, &run, NULL, 0, inputs, n_inputs, out);
	}
	catalog_run_release(&run);
	for (unsigned i = 0; i < n_inputs; i++)
		free(inputs[i]);
	free(inputs);
	return rc;
}

/* Made anew: the file of an earlier try may have become a blob, which must not change. */
static int write_file(struct commit_work *w, const struct buf *text, struct stat *st)
{
	staging_metadata_name(w->v.id, w->generated_path);
	int rc = sys_unlinkat(w->r->dirfd, w->generated_path, 0);
	if (rc < 0 && rc != -ENOENT)
		return rc;
	int fd = sys_openat(w->r->dirfd, w->generated_path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	if (fd < 0)
		return fd;
	rc = sys_pwrite_full(fd, buf_text(text), text->len, 0);
	if (rc == 0)
		rc = sys_fstat(fd, st);
	int closed = sys_close(fd);
	rc = rc != 0 ? rc : closed;
	if (rc < 0)
		sys_unlinkat(w->r->dirfd, w->generated_path, 0);
	return rc;
}

static int hash_text(const struct buf *text, struct blob_id *ret)
{
	struct blob_hasher *h;
	int rc = blob_hasher_new(&h);
	if (rc < 0)
		return rc;
	rc = blob_hasher_add(h, buf_text(text), text->len);
	if (rc == 0)
		rc = blob_hasher_finish(h, ret);
	blob_hasher_free(h);
	return rc;
}

int commit_write_metadata(struct commit_work *w)
{
	auto_buf struct buf text = BUF_INIT(METADATA_SIZE_MAX);
	auto_free char *name = strdup(METADATA_NAME);
	struct stat st;
	struct draft_entry e = {.name = name, .path = name, .type = DRAFT_FILE, .mode = 0644, .nlink = 1, .hashed = true, .uid = w->tree.root.st_uid,
		.gid = w->tree.root.st_gid};
	int rc = name ? generate(w, &text) : -ENOMEM;
	if (rc == 0)
		rc = hash_text(&text, &e.blob);
	if (rc == 0)
		rc = write_file(w, &text, &st);
	if (rc != 0)
		return refuse_system(w->f, rc, "%s cannot be written", METADATA_NAME);
	e.size = (uint64_t)st.st_size;
	e.blocks = (uint64_t)st.st_blocks;
	e.mtime_ns = timespec_ns(st.st_mtim);
	rc = tree_insert_top(&w->tree, &e, &w->generated);
	if (rc < 0) {
		sys_unlinkat(w->r->dirfd, w->generated_path, 0);
		return rc;
	}
	take_ptr(name); /* the tree's now */
	w->tree.n_files++;
	w->tree.size += e.size;
	return 0;
}
