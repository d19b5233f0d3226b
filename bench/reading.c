/* bench_reading STORE N: what the drive does at each open of a committed file for the sake of lineage. Prints nanoseconds for a thread that opens N files of one version, and microseconds for
 * one that opens the first file of each of 1000 versions. */
#include <mintfs/registry.h>
#include <mintfs/util.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define VERSIONS 1000

static double run(struct registry *r, const struct registry_actor *me, uint64_t n, int64_t versions)
{
	int64_t start = time_monotonic_ns();
	for (uint64_t i = 0; i < n; i++)
		registry_reading(r, 1 + (int64_t)(i % (uint64_t)versions), me);
	return (double)(time_monotonic_ns() - start) / (double)n;
}

int main(int argc, char **argv)
{
	uint64_t n;
	struct registry *r;
	struct fault f = FAULT_INIT;
	struct registry_actor me = {getpid(), getuid(), getgid()};
	if (argc != 3 || parse_u64(argv[2], 1000000000, &n) < 0 || n == 0) {
		fprintf(stderr, "usage: bench_reading STORE N\n");
		return 2;
	}
	struct registry_options o = {.path = argv[1], .serve = true, .mountpoint = "/nowhere"};
	if (registry_open(&o, &r, &f) < 0) {
		fprintf(stderr, "bench_reading: %s\n", f.text);
		return 1;
	}
	double first = run(r, &me, VERSIONS, VERSIONS);
	double again = run(r, &me, n, 1);
	printf("again: %.1f ns, first: %.2f us\n", again, first / 1000);
	registry_close(r);
	return 0;
}
