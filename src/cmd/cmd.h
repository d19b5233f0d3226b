/* The command line: one file a command, each with its descriptor. A command stands on the registry; no rule is known here.
 *
 * Exit codes: 0 done, 1 refused, 2 usage, 3 not found. Errors are one sentence on standard error: "mintfs COMMAND: sentence". */
#ifndef MINTFS_CMD_H
#define MINTFS_CMD_H

#include <mintfs/registry.h>
#include <stdbool.h>

enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2, EXIT_NOT_FOUND = 3 };

struct command {
	const char *name;
	const char *args;    /* "MODEL [-n N]" */
	const char *summary; /* one line for `mintfs help` */
	const char *help;    /* paragraphs for --help, after the usage line */
	int (*run)(const struct command *self, int argc, char **argv); /* argv[0] is the command's name; returns the exit code */
};

/* One a line, as in main.c: commands come and go. */
/* One a line, as in main.c: commands come and go. */
extern const struct command cmd_init;
extern const struct command cmd_mount;
extern const struct command cmd_umount;
extern const struct command cmd_upgrade;
extern const struct command cmd_commit;
extern const struct command cmd_discard;
extern const struct command cmd_list;
extern const struct command cmd_log;
extern const struct command cmd_show;
extern const struct command cmd_diff;
extern const struct command cmd_status;
extern const struct command cmd_find;
extern const struct command cmd_lineage;
extern const struct command cmd_stale;
extern const struct command cmd_blame;
extern const struct command cmd_uses;
extern const struct command cmd_alias;
extern const struct command cmd_path;
extern const struct command cmd_watch;
extern const struct command cmd_export;
extern const struct command cmd_import;
extern const struct command cmd_backup;
extern const struct command cmd_restore;
extern const struct command cmd_retire;
extern const struct command cmd_prune;
extern const struct command cmd_gc;
extern const struct command cmd_fsck;
extern const struct command cmd_process;
extern const struct command cmd_evaluate;
extern const struct command cmd_compare;
extern const struct command cmd_version;
extern const struct command cmd_help;
extern const struct command *const commands[]; /* NULL at the end; in the order of help */

/* ---- common.c: arguments, errors, help ---- */

/* Prints "mintfs NAME: sentence"; returns the exit code that fits f's verdict (VERDICT_NOT_FOUND and -ENOENT: 3, else 1). */
int cmd_fail(const struct command *self, const struct fault *f);
int cmd_usage(const struct command *self, const char *fmt, ...) __attribute__((format(printf, 2, 3))); /* sentence and usage line; EXIT_USAGE */
void cmd_warn(const struct command *self, const char *fmt, ...) __attribute__((format(printf, 2, 3)));  /* "mintfs NAME: warning: sentence" */
void cmd_warn_of_owner(const struct command *self, const char *dir); /* where a store in dir is somebody else's to read than the caller's */
void cmd_print_help(const struct command *self);                                                     /* on standard output */

/* Options that every command takes; cmd_parse fills them. */
struct cmd_options {
	const char *store; /* --store, else MINTFS_STORE, else NULL */
	bool store_named;  /* by --store */
	bool json;
	bool color;        /* standard output is a terminal and nobody minds, or --color=always */
};

/* An option of the command's own: --name or -letter. Exactly one of set and value is not NULL. */
struct cmd_flag {
	const char *name;
	char letter; /* 0: none */
	bool *set;
	const char **value; /* the option takes a value */
};

#define CMD_ARGS_MAX 64
struct cmd_args {
	struct cmd_options o;
	const char *v[CMD_ARGS_MAX]; /* what is left; NULL behind the last */
	int n;
};

#define CMD_GO_ON (-1)
/* Takes apart argv. CMD_GO_ON; or the exit code: help was printed, or a sentence on what is wrong. Options may stand anywhere; "--" ends them.
 * Fewer than min_args or more than max_args (<= CMD_ARGS_MAX) are a usage error. Sets the locale of characters from the environment. */
int cmd_parse(const struct command *self, int argc, char **argv, const struct cmd_flag *flags, size_t n_flags, int min_args, int max_args, struct cmd_args *ret);

/* Writes b and a newline to standard output (b takes part in the errors); cmd_done flushes it and says where that failed. Return the exit code. */
int cmd_put_json(const struct command *self, struct buf *b);
int cmd_done(const struct command *self);

/* Paragraphs that the help texts share. */
#define HELP_TARGET \
	"A name is a path on a drive (/mnt/models/product/P001_all/mlstm/v2), or MODEL, MODEL/vN, MODEL/latest, MODEL/best or MODEL/ALIAS\n" \
	"in the store of --store or MINTFS_STORE. The drive may be mounted or not.\n"
#define HELP_STORE "      --store DIR    the store; default: that of the drive a path lies on, or MINTFS_STORE\n"
#define HELP_JSON "      --json         print JSON\n"
#define HELP_COLOR "      --color WHEN   auto (default), always or never; NO_COLOR is honoured\n"
#define HELP_HELP "  -h, --help         print this\n"

/* ---- target.c: what an argument names ---- */

struct cmd_target {
	char store[4096];  /* absolute path of the store, as the drive or the user says it */
	char mount[4096];  /* the drive's mount point the argument lies on, or "" */
	char name[4096];   /* path relative to the drive's root ("": the root itself), or the name as given */
};
/* arg NULL: the working directory if it lies on a drive, else the store of --store / MINTFS_STORE with name "". On a path, the links of models are followed. */
int cmd_find_target(const char *arg, const struct cmd_options *o, struct cmd_target *ret, struct fault *f);

/* For commands on a whole store: arg is a store, or something on a drive of it; NULL as above. */
int cmd_find_store(const char *arg, const struct cmd_options *o, struct cmd_target *ret, struct fault *f);

/* Adds "/tail", where both are not empty: -ENAMETOOLONG. */
int path_append(char *out, size_t size, const char *tail);
/* user.mintfs.NAME of a path, NUL-terminated; -errno. */
int drive_attr(const char *path, const char *name, char *out, size_t size);
/* The mount point, in this mount namespace, of a drive of the store; one that is not read-only if there is any. -ENOENT. */
int drive_find(const char *store, char *out, size_t size);
/* What is mounted on dir (absolute): its type and, of a drive, its store. -ENOENT: nothing. */
struct drive_mount { char type[128], store[4096]; bool read_only; };
int drive_mounted_on(const char *dir, struct drive_mount *ret);
/* Each drive of the store in this mount namespace. */
typedef void drive_fn(const char *dir, bool read_only, void *arg);
void drive_each(const char *store, drive_fn *fn, void *arg);

#endif
