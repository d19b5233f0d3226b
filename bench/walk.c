/* bench_walk MODE PATH [N]: times what programs do to directories and small files, and prints milliseconds and how many entries that were.
 *   ls      readdir, N times (1)                ls-l    readdir and lstat of each, N times (1)
 *   find    everything below, lstat each        read    everything below, each file read to its end
 *   stat    lstat of one name N times           open    open and close of one file N times
 *   create  N new files of 4 KiB in a directory: create, write, close
 * A program of its own, since a Python loop would cost more than what it measures. */
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static long entries;

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int list(const char *dir, int with_stat)
{
	DIR *d = opendir(dir);
	struct stat st;
	if (!d)
		return -1;
	for (struct dirent *e; (e = readdir(d));) {
		entries++;
		if (with_stat && fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return -1;
	}
	return closedir(d);
}

static int list_again(const char *dir, int with_stat, long n)
{
	for (long i = 0; i < n; i++)
		if (list(dir, with_stat) < 0)
			return -1;
	return 0;
}

static int visit(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)path, (void)st, (void)ftw;
	entries++;
	return type == FTW_NS || type == FTW_DNR ? -1 : 0;
}

static int visit_and_read(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	static char piece[256 * 1024];
	(void)st, (void)ftw;
	entries++;
	if (type != FTW_F)
		return type == FTW_NS || type == FTW_DNR ? -1 : 0;
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd;
	while (n >= 0 && (n = read(fd, piece, sizeof piece)) > 0)
		;
	return n < 0 || close(fd) < 0 ? -1 : 0;
}

static int repeat(const char *path, long n, int with_open)
{
	struct stat st;
	for (long i = 0; i < n; i++) {
		if (!with_open && lstat(path, &st) < 0)
			return -1;
		int fd = with_open ? open(path, O_RDONLY | O_CLOEXEC) : 0;
		if (fd < 0 || (with_open && close(fd) < 0))
			return -1;
		entries++;
	}
	return 0;
}

static int create(const char *dir, long n)
{
	static const char content[4096] = "small";
	char path[4096];
	for (long i = 0; i < n; i++) {
		snprintf(path, sizeof path, "%s/f%06ld", dir, i);
		int fd = open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
		if (fd < 0 || write(fd, content, sizeof content) != (ssize_t)sizeof content || close(fd) < 0)
			return -1;
		entries++;
	}
	return 0;
}

static int work(const char *mode, const char *path, long n)
{
	if (!strcmp(mode, "ls") || !strcmp(mode, "ls-l"))
		return list_again(path, mode[2] != 0, n ? n : 1);
	if (!strcmp(mode, "find") || !strcmp(mode, "read"))
		return nftw(path, *mode == 'f' ? visit : visit_and_read, 64, FTW_PHYS);
	if (!strcmp(mode, "stat") || !strcmp(mode, "open"))
		return repeat(path, n ? n : 100000, *mode == 'o');
	if (!strcmp(mode, "create"))
		return create(path, n ? n : 1000);
	return -2;
}

int main(int argc, char **argv)
{
	double start = now_ms();
	int rc = argc < 3 ? -2 : work(argv[1], argv[2], argc > 3 ? atol(argv[3]) : 0);
	if (rc == -2)
		fprintf(stderr, "usage: bench_walk ls|ls-l|find|read|stat|open|create PATH [N]\n");
	else if (rc < 0)
		perror(argv[2]);
	else
		printf("%.3f %ld\n", now_ms() - start, entries);
	return -rc;
}
