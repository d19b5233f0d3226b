/* Entries of committed versions: by id, by name, a directory's range, and whole versions with their paths. */
#include "internal.h"

#include <string.h>

#define FILE_COLUMNS \
	"SELECT f.id, f.version_id, f.parent, f.name, f.type, f.mode, f.uid, f.gid, f.size, f.blocks, f.mtime_ns, f.nlink," \
	" coalesce(f.inode, f.id), f.first_child, f.n_children, b.sha256 FROM files f LEFT JOIN blobs b ON b.id = f.blob "
#define PATH_BYTES_MAX (1u << 20) /* of one entry's path: far deeper than any file system goes */

static int file_row(struct sql_stmt *st, struct catalog_file *ret)
{
	struct catalog_file file = {
		.id = sql_int(st, 0),
		.version_id = sql_int(st, 1),
		.parent = sql_int(st, 2),
		.type = (enum catalog_type)sql_int(st, 4),
		.mode = (mode_t)sql_int(st, 5),
		.uid = (uid_t)sql_int(st, 6),
		.gid = (gid_t)sql_int(st, 7),
		.size = (uint64_t)sql_int(st, 8),
		.blocks = (uint64_t)sql_int(st, 9),
		.mtime_ns = sql_int(st, 10),
		.nlink = (uint32_t)sql_int(st, 11),
		.inode = sql_int(st, 12),
		.first_child = sql_int(st, 13),
		.n_children = (uint32_t)sql_int(st, 14),
	};
	const void *sha256 = sql_blob(st, 15, BLOB_ID_SIZE);
	if (sha256)
		memcpy(file.blob.sha256, sha256, BLOB_ID_SIZE);
	else if (file.type == CATALOG_FILE)
		return -EUCLEAN;
	sql_copy(st, 3, file.name, sizeof file.name);
	int error = sql_error(st);
	if (!error)
		*ret = file;
	return error;
}

int catalog_file_get(struct catalog_conn *conn, int64_t id, struct catalog_file *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(conn->db, FILE_COLUMNS "WHERE f.id = ?", id, &st);
	return error ? error : file_row(st, ret);
}

int catalog_file_find(struct catalog_conn *conn, int64_t parent, const char *name, struct catalog_file *ret)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_prepare(conn->db, FILE_COLUMNS "WHERE f.parent = ? AND f.name = ?", &st);
	if (error)
		return error;
	sql_bind_int(st, parent);
	sql_bind_text(st, name);
	error = sql_first(st);
	return error ? error : file_row(st, ret);
}

int catalog_file_range(struct catalog_conn *conn, int64_t from, int64_t end, catalog_file_fn *fn, void *arg)
{
	auto_stmt struct sql_stmt *st = NULL;
	struct catalog_file file;
	int r = sql_prepare(conn->db, FILE_COLUMNS "WHERE f.id >= ? AND f.id < ? ORDER BY f.id", &st);
	if (r)
		return r;
	sql_bind_int(st, from);
	sql_bind_int(st, end);
	while ((r = sql_step(st)) > 0) {
		r = file_row(st, &file);
		if (!r)
			r = fn(&file, arg);
		if (r)
			return r;
	}
	return r;
}

int catalog_file_target(struct catalog_conn *conn, int64_t id, char *out, size_t size)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(conn->db, "SELECT target FROM files WHERE id = ? AND type = 3", id, &st);
	if (error)
		return error;
	const char *target = sql_text(st, 0);
	return target ? text_copy(out, size, target) : -EUCLEAN;
}

/* ---- a whole version ----
 * Entries stand in breadth-first order, so the directories' children come in the order of the directories themselves: a queue of
 * the directories still to come is all there is to remember. */

struct pending {
	struct pending *next;
	int64_t end; /* id after the last child */
	char path[]; /* with the final '/' */
};

struct walk {
	struct pending *head, **tail;
	catalog_file_path_fn *fn;
	void *arg;
};

static void walk_release(struct walk *w)
{
	while (w->head) {
		struct pending *p = w->head;
		w->head = p->next;
		free(p);
	}
}

static void walk_drop_head(struct walk *w)
{
	struct pending *p = w->head;
	w->head = p->next;
	if (!w->head)
		w->tail = &w->head;
	free(p);
}

static int walk_push(struct walk *w, const char *path, int64_t end)
{
	size_t len = strlen(path);
	struct pending *p = malloc(sizeof *p + len + 2);
	if (!p)
		return -ENOMEM;
	p->next = NULL;
	p->end = end;
	memcpy(p->path, path, len);
	if (len > 0)
		p->path[len++] = '/';
	p->path[len] = '\0';
	*w->tail = p;
	w->tail = &p->next;
	return 0;
}

static int walk_entry(const struct catalog_file *file, void *arg)
{
	struct walk *w = arg;
	while (w->head && file->id >= w->head->end)
		walk_drop_head(w);
	if (!w->head)
		return -EUCLEAN; /* in nobody's range */
	size_t dir_len = strlen(w->head->path), name_len = strlen(file->name);
	if (dir_len + name_len >= PATH_BYTES_MAX)
		return -EUCLEAN;
	auto_free char *path = malloc(dir_len + name_len + 1);
	if (!path)
		return -ENOMEM;
	memcpy(path, w->head->path, dir_len);
	memcpy(path + dir_len, file->name, name_len + 1);
	if (file->type == CATALOG_DIRECTORY && file->n_children > 0) {
		int error = walk_push(w, path, range_end(file->first_child, file->n_children));
		if (error)
			return error;
	}
	return w->fn(path, file, w->arg);
}

static int version_range(struct sql *db, int64_t version_id, int64_t *ret_first, int64_t *ret_top_end, int64_t *ret_end)
{
	auto_stmt struct sql_stmt *st = NULL;
	int error = sql_find(db, "SELECT first_child, n_children, n_entries FROM versions WHERE id = ?", version_id, &st);
	if (error)
		return error;
	*ret_first = sql_int(st, 0);
	*ret_top_end = range_end(*ret_first, sql_int(st, 1));
	*ret_end = range_end(*ret_first, sql_int(st, 2));
	return 0;
}

int catalog_file_list(struct catalog_conn *conn, int64_t version_id, catalog_file_path_fn *fn, void *arg)
{
	__attribute__((cleanup(walk_release))) struct walk w = {.fn = fn, .arg = arg};
	int64_t first, top_end, end;
	w.tail = &w.head;
	int error = version_range(conn->db, version_id, &first, &top_end, &end);
	if (error || first == end)
		return error;
	error = walk_push(&w, "", top_end);
	return error ? error : catalog_file_range(conn, first, end, walk_entry, &w);
}
