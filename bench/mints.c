/* bench_mints MODELDIR N: N processes say mkdir MODELDIR/latest at once (a barrier in shared memory lets them go together), then prints the milliseconds
 * from the first start to the last end, and the median of one. bench_mints MODELDIR 1 COUNT: one process mints COUNT times by `next`. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

struct shared {
	pthread_barrier_t barrier;
	struct { double start, end; int failed; } one[];
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return x < y ? -1 : x > y;
}

static int report(const double *took, int n, double all)
{
	double *sorted = malloc((size_t)n * sizeof *sorted);
	if (!sorted)
		return 1;
	for (int i = 0; i < n; i++)
		sorted[i] = took[i];
	qsort(sorted, (size_t)n, sizeof *sorted, by_value);
	printf("%.3f %.3f\n", all, sorted[n / 2]);
	free(sorted);
	return 0;
}

static int one_after_another(const char *path, int n)
{
	double *took = malloc((size_t)n * sizeof *took), begin = now_ms();
	for (int i = 0; took && i < n; i++) {
		double start = now_ms();
		if (mkdir(path, 0755) < 0) {
			perror(path);
			return 1;
		}
		took[i] = now_ms() - start;
	}
	int rc = took ? report(took, n, now_ms() - begin) : 1;
	free(took);
	return rc;
}

static int all_at_once(const char *path, int n)
{
	struct shared *s = mmap(NULL, sizeof *s + (size_t)n * sizeof s->one[0], PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	double *took = malloc((size_t)n * sizeof *took);
	if (s == MAP_FAILED || !took)
		return 1;
	pthread_barrierattr_t attr;
	pthread_barrierattr_init(&attr);
	pthread_barrierattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(&s->barrier, &attr, (unsigned)n);
	for (int i = 0; i < n; i++)
		if (fork() == 0) {
			pthread_barrier_wait(&s->barrier);
			s->one[i].start = now_ms();
			s->one[i].failed = mkdir(path, 0755) < 0;
			s->one[i].end = now_ms();
			pthread_barrier_wait(&s->barrier); /* nobody ends, and gives work to the drive, while others are measured */
			_exit(0);
		}
	while (wait(NULL) > 0)
		;
	double first = s->one[0].start, last = 0;
	int failed = 0;
	for (int i = 0; i < n; i++) {
		first = s->one[i].start < first ? s->one[i].start : first;
		last = s->one[i].end > last ? s->one[i].end : last;
		took[i] = s->one[i].end - s->one[i].start;
		failed += s->one[i].failed;
	}
	if (failed)
		fprintf(stderr, "%d mints failed\n", failed);
	int rc = report(took, n, last - first);
	free(took);
	return failed ? 1 : rc;
}

int main(int argc, char **argv)
{
	char path[4096];
	if (argc < 3) {
		fprintf(stderr, "usage: bench_mints MODELDIR PROCESSES | MODELDIR 1 COUNT\n");
		return 2;
	}
	snprintf(path, sizeof path, "%s/%s", argv[1], argc > 3 ? "next" : "latest");
	return argc > 3 ? one_after_another(path, atoi(argv[3])) : all_at_once(path, atoi(argv[2]));
}
