/* Runs a fuzz target over kept inputs, without libFuzzer: in the ordinary suite, by any compiler.
 *
 *   replay_NAME PATH…     files, or directories of files; what is missing is passed over */
#include <mintfs/sys.h>

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define INPUT_MAX ((size_t)16 << 20)

static int play(int dirfd, const char *name)
{
	char *data;
	size_t len;
	int r = sys_read_file(dirfd, name, INPUT_MAX, &data, &len);
	if (r < 0) {
		fprintf(stderr, "%s: %s\n", name, strerror(-r));
		return 1;
	}
	printf("%s\n", name); /* before: the last one printed is the one that failed */
	fflush(stdout);
	char *exact = malloc(len ? len : 1);
	if (!exact)
		abort();
	memcpy(exact, data, len);
	free(data);
	LLVMFuzzerTestOneInput((const uint8_t *)exact, len);
	free(exact);
	return 0;
}

static int play_all(DIR *dir)
{
	int bad = 0;
	for (struct dirent *e; (e = readdir(dir));)
		if (e->d_name[0] != '.')
			bad |= play(dirfd(dir), e->d_name);
	return bad;
}

int main(int argc, char **argv)
{
	int bad = 0;
	for (int i = 1; i < argc; i++) {
		DIR *dir = opendir(argv[i]);
		struct stat st;
		if (dir) {
			bad |= play_all(dir);
			closedir(dir);
		} else if (stat(argv[i], &st) == 0) {
			bad |= play(AT_FDCWD, argv[i]);
		}
	}
	return bad;
}
