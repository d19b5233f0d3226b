/* mintfs: finds the command and runs it. As mount.mintfs it is the mount command. */
#include "cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

const struct command *const commands[] = {
	&cmd_init,
	&cmd_mount,
	&cmd_umount,
	&cmd_upgrade,
	&cmd_commit,
	&cmd_discard,
	&cmd_list,
	&cmd_log,
	&cmd_show,
	&cmd_diff,
	&cmd_status,
	&cmd_find,
	&cmd_lineage,
	&cmd_stale,
	&cmd_blame,
	&cmd_uses,
	&cmd_alias,
	&cmd_path,
	&cmd_watch,
	&cmd_export,
	&cmd_import,
	&cmd_backup,
	&cmd_restore,
	&cmd_retire,
	&cmd_prune,
	&cmd_gc,
	&cmd_fsck,
	&cmd_process,
	&cmd_evaluate,
	&cmd_compare,
	&cmd_version,
	&cmd_help,
	NULL,
};

static const struct command *find(const char *name)
{
	for (const struct command *const *c = commands; *c; c++)
		if (!strcmp((*c)->name, name))
			return *c;
	return NULL;
}

/* Who starts a program may have closed its standard input, output or error. The first files that it opens would get their numbers: what it prints would go into the store's lock
 * file, and the daemon, which puts /dev/null there, would lose what its processes share. What takes their place can be used in the wrong direction only: output to nowhere stays an
 * error. */
static bool hold_standard(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF && open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY) != fd)
			return false;
	return true;
}

int main(int argc, char **argv)
{
	if (!hold_standard())
		return EXIT_REFUSED; /* there is nowhere to say why */
	const char *slash = strrchr(argc > 0 ? argv[0] : "mintfs", '/');
	const char *base = slash ? slash + 1 : argc > 0 ? argv[0] : "mintfs";
	if (!strcmp(base, "mount.mintfs") || !strcmp(base, "mount.fuse.mintfs"))
		return cmd_mount.run(&cmd_mount, argc, argv);
	if (argc < 2)
		return cmd_help.run(&cmd_help, 1, argv), EXIT_USAGE;
	const char *name = argv[1];
	if (!strcmp(name, "--help") || !strcmp(name, "-h"))
		name = "help";
	if (!strcmp(name, "--version") || !strcmp(name, "-V"))
		name = "version";
	const struct command *c = find(name);
	if (!c) {
		fprintf(stderr, "mintfs: there is no command '%s': see 'mintfs help'\n", name);
		return EXIT_USAGE;
	}
	argv[1] = (char *)(uintptr_t)c->name;
	return c->run(c, argc - 1, argv + 1);
}
