/* mintfs upgrade: this program takes over a drive in use. Nobody who uses it notices more than a moment's pause. */
#include "source.h"

#include <errno.h>
#include <limits.h>
#include <mintfs/util.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

static int own_program(char out[PATH_MAX], struct fault *f)
{
	ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
	if (n < 0)
		return fault_set(f, errno, "cannot find out what program this is: %s", strerror(errno));
	out[n] = '\0';
	return access(out, X_OK) == 0 ? 0 : fault_set(f, ENOENT, "%s is not there any more", out);
}

static int find_drive(const char *arg, char dir[PATH_MAX], struct fault *f)
{
	struct drive_mount m;
	if (!realpath(arg, dir))
		return fault_set(f, errno, errno == ENOENT ? "%s does not exist" : "cannot look at %s (%s)", arg, strerror(errno));
	if (drive_mounted_on(dir, &m) < 0 || strcmp(m.type, "fuse.mintfs") != 0)
		return fault_set(f, EINVAL, "no MintFS drive is mounted on %s", dir);
	return 0;
}

static int take_over(const char *dir, const char *program, struct fault *f)
{
	char reason[FAULT_TEXT_MAX];
	if (setxattr(dir, "user.mintfs.upgrade", program, strlen(program), 0) == 0)
		return 0;
	int error = errno;
	if (error == EOPNOTSUPP)
		return fault_set(f, error, "%s is served by a MintFS that cannot be replaced while it is in use: unmount it and mount it again", dir);
	if (error == EACCES) /* said by the kernel: the reason that stands there is of something else */
		return fault_set(f, error, "%s is not upgraded: only who mounted it, and root, may do that", dir);
	if ((error == EPROTO || error == EPERM || error == EBUSY || error == EINVAL || error == ETIMEDOUT || error == ENOENT) &&
	    drive_attr(dir, "error", reason, sizeof reason) == 0)
		return fault_set(f, error, "%s is not upgraded: %s", dir, reason);
	return fault_set(f, error, "%s is not upgraded: %s", dir, strerror(error));
}

static int run(const struct command *self, int argc, char **argv)
{
	char dir[PATH_MAX], program[PATH_MAX];
	struct cmd_args a;
	struct fault f = FAULT_INIT;
	int code = cmd_parse(self, argc, argv, NULL, 0, 1, 1, &a);
	if (code != CMD_GO_ON)
		return code;
	if (own_program(program, &f) < 0 || find_drive(a.v[0], dir, &f) < 0 || take_over(dir, program, &f) < 0)
		return cmd_fail(self, &f);
	if (a.o.json) {
		auto_buf struct buf b = BUF_INIT(1 << 20);
		struct json_out j;
		json_init(&j, &b, 2);
		json_object_begin(&j);
		json_field_string(&j, "upgraded", dir);
		json_field_string(&j, "program", program);
		json_object_end(&j);
		return cmd_put_json(self, &b);
	}
	return cmd_done(self);
}

const struct command cmd_upgrade = {
	.name = "upgrade",
	.args = "DIR",
	.summary = "let this program take over a drive in use",
	.help = "After an installation: the drive on DIR, mounted by another build of mintfs, is served by this one from now on. Open files, mappings, working directories and what is\n"
		"under way go on; whoever uses the drive waits for a moment at most. Refused where the two do not understand each other, or this program cannot be run: then the\n"
		"old one goes on, as it does if this one does not get ready. For who mounted the drive, and root.\n"
		"\n" HELP_JSON HELP_HELP "\n"
		"Example:  /usr/local/bin/mintfs upgrade /mnt/models\n",
	.run = run,
};
