/* bench_fill STORE MODELS VERSIONS BIG [EDGES]: fills the catalog of a fresh store with VERSIONS committed versions of three files each, spread over MODELS models, and one
 * model more with BIG versions (product/BIG_all/mlstm). Each version has labels and a metric, and EDGES inputs among the versions before it. All files have one content, which is put into the store once. It writes the catalog directly, since it is the size of
 * the catalog that is wanted, not the time to get there. */
#include <mintfs/cleanup.h>
#include <mintfs/registry.h>
#include <mintfs/sys.h>
#include <mintfs/util.h>

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define BATCH 500

struct fill {
	struct catalog *catalog;
	struct blob_id blob;
	uint64_t blob_size;
	int64_t parent, model;
	const char *product;
	uint32_t from, to; /* numbers to commit in this transaction */
	unsigned edges;    /* inputs of each version */
	uint64_t random;
};

static int add_dir(struct catalog_conn *conn, int64_t parent, const char *name, bool is_model, int64_t *ret)
{
	struct catalog_dir d = {.parent = parent, .is_model = is_model, .mode = 0755, .mtime_ns = time_now_ns()};
	int rc = catalog_dir_find(conn, parent, name, &d);
	if (rc == 0) {
		*ret = d.id;
		return 0;
	}
	text_copy(d.name, sizeof d.name, name);
	return catalog_dir_add(conn, &d, ret);
}

static int make_model(struct catalog_conn *conn, void *arg)
{
	struct fill *f = arg;
	char scope[64], path[128];
	int64_t product, dir;
	struct layout_model l;
	enum layout_kind kind;
	snprintf(scope, sizeof scope, "%s_all", f->product);
	snprintf(path, sizeof path, "product/%s/mlstm", scope);
	int rc = layout_classify(path, &kind, &l, NULL);
	if (rc == 0)
		rc = add_dir(conn, CATALOG_DIR_ROOT, "product", false, &product);
	if (rc == 0)
		rc = add_dir(conn, product, scope, false, &dir);
	if (rc == 0)
		rc = add_dir(conn, dir, "mlstm", true, &f->model);
	if (rc < 0)
		return rc;
	struct catalog_model m = {.id = f->model, .mode = LAYOUT_PRODUCT};
	text_copy(m.path, sizeof m.path, l.path);
	text_copy(m.key, sizeof m.key, l.key);
	text_copy(m.identifier, sizeof m.identifier, l.identifier);
	text_copy(m.type, sizeof m.type, l.type);
	return catalog_model_add(conn, &m);
}

static uint64_t next_random(struct fill *f)
{
	f->random ^= f->random << 13;
	f->random ^= f->random >> 7;
	f->random ^= f->random << 17;
	return f->random;
}

/* Mostly versions of not long ago, as trainings use them: the graph is deep. */
static int add_inputs(struct catalog_conn *conn, struct fill *f, int64_t id)
{
	int rc = 0;
	for (unsigned i = 0; rc == 0 && id > 1 && i < f->edges; i++) {
		uint64_t reach = (uint64_t)id - 1, back = next_random(f) % (i == 0 || reach < 1000 ? reach : 1000);
		rc = catalog_input_add(conn, id, id - 1 - (int64_t)back, CATALOG_OBSERVED);
	}
	return rc;
}

static int add_facts(struct catalog_conn *conn, struct fill *f, int64_t id, double rmse)
{
	static const char *const kinds[] = {"assay", "synthetic", "survey", "log"};
	double rows = (double)(next_random(f) % 10000);
	char text[32];
	struct catalog_about about = {.has_digest = true, .digest = f->blob};
	snprintf(text, sizeof text, "%.0f", rows);
	struct catalog_fact facts[] = {{"metrics.rmse", NULL, true, rmse}, {"labels.rows", text, true, rows}, {"labels.kind", kinds[next_random(f) % 4], false, 0}};
	memcpy(about.digest.sha256, &f->random, sizeof f->random);
	int rc = catalog_about_set(conn, id, &about);
	return rc < 0 ? rc : catalog_facts_add(conn, id, facts, ARRAY_SIZE(facts));
}

static int add_version(struct catalog_conn *conn, struct fill *f, uint32_t number)
{
	static const char *const names[] = {"loss_curve.png", "metadata.json", "model.pth"};
	struct catalog_entry entries[3];
	char metrics[64];
	struct catalog_version v = {.model_id = f->model, .number = number, .minted_ns = time_now_ns(), .mode = 0755};
	struct catalog_model m;
	int64_t id;
	for (int i = 0; i < 3; i++)
		entries[i] = (struct catalog_entry){.name = names[i], .type = CATALOG_FILE, .mode = 0444, .size = f->blob_size, .blocks = 8, .mtime_ns = v.minted_ns,
			.nlink = 1, .parent = -1, .inode = i, .blob = f->blob};
	int rc = catalog_model_get(conn, f->model, &m);
	if (rc < 0)
		return rc;
	m.last_number = number;
	rc = catalog_model_update(conn, &m);
	if (rc == 0)
		rc = catalog_version_add(conn, &v, "bench", &id);
	if (rc < 0)
		return rc;
	double rmse = 5.0 + 10.0 / number;
	struct catalog_metric metric = {"rmse", rmse};
	snprintf(metrics, sizeof metrics, "{\"rmse\":%.6g}", rmse);
	struct catalog_commit c = {.version_id = id, .committed_ns = v.minted_ns, .mtime_ns = v.minted_ns, .mode = 0555, .size = 3 * f->blob_size, .n_files = 3,
		.n_top = 3, .metrics_summary = metrics, .entries = entries, .n_entries = 3, .metrics = &metric, .n_metrics = 1};
	rc = catalog_version_commit(conn, &c);
	if (rc == 0)
		rc = add_facts(conn, f, id, rmse);
	return rc < 0 ? rc : add_inputs(conn, f, id);
}

static int add_versions(struct catalog_conn *conn, void *arg)
{
	struct fill *f = arg;
	int rc = 0;
	for (uint32_t n = f->from; rc == 0 && n <= f->to; n++)
		rc = add_version(conn, f, n);
	return rc;
}

static int fill_model(struct fill *f, const char *product, uint32_t versions)
{
	f->product = product;
	int rc = catalog_write(f->catalog, false, make_model, f);
	for (uint32_t done = 0; rc == 0 && done < versions; done = f->to) {
		f->from = done + 1;
		f->to = done + BATCH < versions ? done + BATCH : versions;
		rc = catalog_write(f->catalog, false, add_versions, f);
	}
	return rc;
}

static int put_content(int dirfd, struct fill *f)
{
	static const char text[] = "the content of every file of this benchmark\n";
	struct blob_store *blobs;
	struct fault fault = FAULT_INIT;
	int rc = sys_write_file_durably(dirfd, "bench-content", text, sizeof text - 1, 0644);
	if (rc < 0)
		return rc;
	auto_close int fd = sys_openat(dirfd, "bench-content", O_RDONLY, 0);
	if (fd < 0)
		return fd;
	rc = blob_hash_fd(fd, NULL, &f->blob, &f->blob_size);
	if (rc == 0)
		rc = blob_store_open_local(dirfd, false, NULL, &blobs, &fault);
	if (rc < 0)
		return rc;
	struct blob_item item = {.dirfd = dirfd, .path = "bench-content", .id = f->blob, .size = f->blob_size};
	rc = blob_put_batch(blobs, &item, 1, &fault);
	sys_unlinkat(dirfd, "bench-content", 0);
	if (rc == 0)
		blob_seal(blobs, &f->blob, 0);
	blob_store_close(blobs);
	return rc;
}

int main(int argc, char **argv)
{
	uint64_t models, versions, big, edges = 0;
	struct fill f = {.random = 88172645463325252ULL};
	struct fault fault = FAULT_INIT;
	if (argc < 5 || argc > 6 || (argc == 6 && parse_u64(argv[5], 100, &edges) < 0) || parse_u64(argv[2], 1000000, &models) < 0 || parse_u64(argv[3], 10000000, &versions) < 0 || parse_u64(argv[4], 1000000, &big) < 0) {
		fprintf(stderr, "usage: bench_fill STORE MODELS VERSIONS BIG [EDGES]\n");
		return 2;
	}
	f.edges = (unsigned)edges;
	int dirfd = sys_openat(AT_FDCWD, argv[1], O_RDONLY | O_DIRECTORY, 0);
	int rc = dirfd < 0 ? dirfd : put_content(dirfd, &f);
	if (rc == 0)
		rc = catalog_open(dirfd, false, NULL, &f.catalog, &fault);
	for (uint64_t i = 0; rc == 0 && i < models; i++) {
		char product[32];
		snprintf(product, sizeof product, "P%06u", (unsigned)i);
		rc = fill_model(&f, product, (uint32_t)(versions / models));
	}
	if (rc == 0 && big)
		rc = fill_model(&f, "BIG", (uint32_t)big);
	if (rc == 0)
		rc = catalog_sync(f.catalog);
	catalog_close(f.catalog);
	if (rc < 0)
		fprintf(stderr, "bench_fill: %s %s\n", strerror(-rc), fault.text);
	return rc < 0;
}
