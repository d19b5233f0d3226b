/* bench_load read|mmap PATH [PROCESSES]: reads a file to its end by read(2), or maps it and touches every page, in as many processes at once; prints
 * milliseconds from the first open to the last close. What a loader of weights does, without the loader. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PIECE (256 * 1024)
#define PAGE 4096

struct shared {
	pthread_barrier_t barrier;
	unsigned long sum; /* of what was touched: keeps the compiler from leaving it out */
	struct { double start, end; int failed; } one[];
};

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static int read_all(int fd)
{
	static char piece[PIECE];
	ssize_t n;
	while ((n = read(fd, piece, sizeof piece)) > 0)
		;
	return n < 0;
}

static int touch_all(int fd, unsigned long *sum)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return 1;
	unsigned char *map = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (map == MAP_FAILED)
		return 1;
	unsigned long local = 0;
	for (off_t at = 0; at < st.st_size; at += PAGE)
		local += map[at];
	*sum += local;
	return munmap(map, (size_t)st.st_size) < 0;
}

static int load(const char *path, int by_mmap, unsigned long *sum)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 1;
	int failed = by_mmap ? touch_all(fd, sum) : read_all(fd);
	return (close(fd) < 0) | failed;
}

int main(int argc, char **argv)
{
	int n = argc > 3 ? atoi(argv[3]) : 1;
	if (argc < 3 || n < 1 || (strcmp(argv[1], "read") && strcmp(argv[1], "mmap"))) {
		fprintf(stderr, "usage: bench_load read|mmap PATH [PROCESSES]\n");
		return 2;
	}
	struct shared *s = mmap(NULL, sizeof *s + (size_t)n * sizeof s->one[0], PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (s == MAP_FAILED)
		return 1;
	pthread_barrierattr_t attr;
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&s->barrier, &attr, (unsigned)n);
	for (int i = 0; i < n; i++)
		if (fork() == 0) {
			pthread_barrier_wait(&s->barrier);
			s->one[i].start = now_ms();
			s->one[i].failed = load(argv[2], argv[1][0] == 'm', &s->sum);
			s->one[i].end = now_ms();
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	double first = s->one[0].start, last = 0;
	int failed = 0;
	for (int i = 0; i < n; i++) {
		first = s->one[i].start < first ? s->one[i].start : first;
		last = s->one[i].end > last ? s->one[i].end : last;
		failed |= s->one[i].failed || s->one[i].end == 0;
	}
	if (failed) {
		fprintf(stderr, "%s: cannot be read\n", argv[2]);
		return 1;
	}
	printf("%.3f\n", last - first);
	return 0;
}
