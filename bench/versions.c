/* bench_versions drive MODELDIR N [SIZE] | native DIR N [SIZE]: N versions of three files (SIZE bytes, 64 KiB if not given; a 16th of it; 200 bytes), one
 * after the other; prints milliseconds: all of it, then what of that went into mkdir, the files, and chmod or the transaction.
 *
 * drive: mkdir latest, write, chmod a-w (which commits durably). native: the same directories and files by hand, then one fsync (of the big file) and
 * one SQLite transaction with synchronous=FULL each: what a careful program without MintFS would do at least. */
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static unsigned char content[16 * 1024 * 1024];
static size_t size = 64 * 1024;
static unsigned salt; /* of this run: contents that a store has already would cost nothing */
static double spent[3]; /* ms for mkdir, files, commit */

/* Adds the time since *at to a part, and goes on from now. */
static void spend(unsigned part, double *at)
{
	double now = now_ms();
	spent[part] += now - *at;
	*at = now;
}

static void fill(void)
{
	unsigned long long x = 0x9E3779B97F4A7C15ULL + salt;
	for (size_t i = 0; i + 8 <= size; i += 8) {
		x ^= x << 13, x ^= x >> 7, x ^= x << 17;
		memcpy(content + i, &x, 8);
	}
}

static int put(const char *dir, const char *name, const void *data, size_t len, int sync)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%s", dir, name);
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	if (fd < 0 || write(fd, data, len) != (ssize_t)len || (sync && fsync(fd) < 0) || close(fd) < 0) {
		perror(path);
		return -1;
	}
	return 0;
}

static int put_version(const char *dir, unsigned i, int sync)
{
	char metadata[201];
	int n = snprintf(metadata, sizeof metadata, "{\"metrics\": {\"rmse\": %u.5}, \"epochs\": %u, \"seed\": %u", i % 100, i, salt);
	memset(metadata + n, ' ', sizeof metadata - (size_t)n);
	metadata[199] = '}';
	memcpy(content, &i, sizeof i); /* new bytes for each version: what is stored once already would cost nothing */
	return put(dir, "metadata.json", metadata, 200, 0) || put(dir, "history.bin", content, size / 16, 0) || put(dir, "model.pth", content, size, sync);
}

static int on_drive(const char *model, unsigned n)
{
	char latest[4096];
	snprintf(latest, sizeof latest, "%s/latest", model);
	double at = now_ms();
	for (unsigned i = 0; i < n; i++) {
		int failed = mkdir(latest, 0755) < 0;
		spend(0, &at);
		failed = failed || put_version(latest, i, 0);
		spend(1, &at);
		if (failed || chmod(latest, 0555) < 0) {
			perror(latest);
			return -1;
		}
		spend(2, &at);
	}
	return 0;
}

static int natively(const char *dir, unsigned n)
{
	char path[4096], sql[128];
	sqlite3 *db;
	snprintf(path, sizeof path, "%s/native.db", dir);
	if (sqlite3_open(path, &db) || sqlite3_exec(db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE v(id INTEGER PRIMARY KEY, n INT)", 0, 0, 0))
		return -1;
	double at = now_ms();
	for (unsigned i = 0; i < n; i++) {
		snprintf(path, sizeof path, "%s/v%u", dir, i);
		snprintf(sql, sizeof sql, "INSERT INTO v(n) VALUES(%u)", i);
		int failed = mkdir(path, 0755) < 0;
		spend(0, &at);
		failed = failed || put_version(path, i, 1);
		spend(1, &at);
		if (failed || sqlite3_exec(db, sql, 0, 0, 0)) {
			perror(path);
			return -1;
		}
		spend(2, &at);
	}
	return sqlite3_close(db);
}

int main(int argc, char **argv)
{
	if (argc > 4)
		size = (size_t)atol(argv[4]);
	if (argc < 4 || size < 4096 || size > sizeof content) {
		fprintf(stderr, "usage: bench_versions drive MODELDIR N [SIZE] | native DIR N [SIZE]\n");
		return 2;
	}
	salt = (unsigned)time(NULL) ^ (unsigned)getpid() << 16;
	fill();
	double start = now_ms();
	int rc = !strcmp(argv[1], "drive") ? on_drive(argv[2], (unsigned)atoi(argv[3])) : natively(argv[2], (unsigned)atoi(argv[3]));
	if (rc == 0)
		printf("%.3f %.3f %.3f %.3f\n", now_ms() - start, spent[0], spent[1], spent[2]);
	return rc ? 1 : 0;
}
