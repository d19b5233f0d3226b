/* What every command does alike: arguments, errors, help, the end of the output. */
#include "cmd.h"
#include "table.h"

#include <errno.h>
#include <langinfo.h>
#include <limits.h>
#include <locale.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- errors and help ---- */

static void complain(const struct command *self, const char *text)
{
	auto_buf struct buf safe = BUF_INIT(1 << 16);
	text_add_safe(&safe, text, NULL);
	fflush(stdout);
	fprintf(stderr, "mintfs %s: %s\n", self->name, buf_text(&safe));
}

int cmd_fail(const struct command *self, const struct fault *f)
{
	complain(self, f->error ? f->text : "it failed, and nobody says why (out of memory?)");
	if (f->verdict)
		return registry_verdict_exit((enum registry_verdict)f->verdict);
	return f->error == ENOENT ? EXIT_NOT_FOUND : EXIT_REFUSED;
}

int cmd_usage(const struct command *self, const char *fmt, ...)
{
	char text[1024];
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	complain(self, text);
	fprintf(stderr, "usage: mintfs %s%s%s\n", self->name, *self->args ? " " : "", self->args);
	return EXIT_USAGE;
}

void cmd_warn(const struct command *self, const char *fmt, ...)
{
	char text[PATH_MAX + 256] = "warning: ";
	size_t n = strlen(text);
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(text + n, sizeof text - n, fmt, ap);
	va_end(ap);
	complain(self, text);
}

void cmd_warn_of_owner(const struct command *self, const char *dir)
{
	struct stat st;
	char owner[64];
	if (stat(dir, &st) < 0 || st.st_uid == geteuid())
		return;
	caller_user_name(st.st_uid, owner, sizeof owner);
	cmd_warn(self, "%s belongs to %s, who can read all that lies in it", dir, owner);
}

void cmd_print_help(const struct command *self)
{
	printf("usage: mintfs %s%s%s\n\n%s", self->name, *self->args ? " " : "", self->args, self->help);
}

int cmd_done(const struct command *self)
{
	struct fault f = FAULT_INIT;
	if (fflush(stdout) == 0 && !ferror(stdout))
		return EXIT_DONE;
	fault_set(&f, EIO, "the output cannot be written: %s", strerror(errno));
	return cmd_fail(self, &f);
}

int cmd_put_json(const struct command *self, struct buf *b)
{
	struct fault f = FAULT_INIT;
	if (b->error) {
		fault_set(&f, -b->error, "the output cannot be made: %s", strerror(-b->error));
		return cmd_fail(self, &f);
	}
	fwrite(buf_text(b), 1, b->len, stdout);
	putchar('\n');
	return cmd_done(self);
}

/* ---- arguments ---- */

/* Widths of characters need a locale that knows them: that of the user, or where it is plain ASCII, C.UTF-8. */
static void set_locale(void)
{
	setlocale(LC_CTYPE, "");
	if (strcmp(nl_langinfo(CODESET), "UTF-8") != 0)
		setlocale(LC_CTYPE, "C.UTF-8");
}

static bool want_color(void)
{
	const char *no = getenv("NO_COLOR"), *term = getenv("TERM");
	return isatty(STDOUT_FILENO) && !(no && *no) && !(term && !strcmp(term, "dumb"));
}

struct parsing {
	const struct command *self;
	int argc, at;
	char **argv;
	const struct cmd_flag *flags;
	size_t n_flags;
	const char *color;
	bool help;
};

static const struct cmd_flag *find_flag(const struct parsing *p, const struct cmd_flag *common, size_t n_common, const char *name, size_t len, char letter)
{
	for (size_t i = 0; i < p->n_flags + n_common; i++) {
		const struct cmd_flag *flag = i < p->n_flags ? &p->flags[i] : &common[i - p->n_flags];
		if (letter ? flag->letter == letter : strlen(flag->name) == len && !strncmp(flag->name, name, len))
			return flag;
	}
	return NULL;
}

/* One option, argv[at]; attached is the value that stands in the same word, or NULL. */
static int take_flag(struct parsing *p, const struct cmd_flag *flag, const char *attached)
{
	const char *word = p->argv[p->at];
	if (!flag->value) {
		*flag->set = true;
		return attached ? cmd_usage(p->self, "the option '--%s' takes no value", flag->name) : CMD_GO_ON;
	}
	if (!attached && p->at + 1 >= p->argc)
		return cmd_usage(p->self, "the option '%s' needs a value", word);
	*flag->value = attached ? attached : p->argv[++p->at];
	return CMD_GO_ON;
}

static int take_word(struct parsing *p, struct cmd_options *o)
{
	const struct cmd_flag common[] = {{"store", 0, NULL, &o->store}, {"json", 0, &o->json, NULL}, {"color", 0, NULL, &p->color}, {"help", 'h', &p->help, NULL}};
	const size_t n = sizeof common / sizeof common[0];
	const char *word = p->argv[p->at];
	if (word[1] != '-') { /* letters may stand together: -lf; the rest of the word is the value of one that takes a value */
		for (const char *c = word + 1; *c; c++) {
			const struct cmd_flag *flag = find_flag(p, common, n, NULL, 0, *c);
			if (!flag)
				return cmd_usage(p->self, "unknown option '-%c'", *c);
			int code = take_flag(p, flag, flag->value && c[1] ? c + 1 : NULL);
			if (code != CMD_GO_ON || flag->value)
				return code;
		}
		return CMD_GO_ON;
	}
	const char *equals = strchr(word, '=');
	const struct cmd_flag *flag = find_flag(p, common, n, word + 2, equals ? (size_t)(equals - word - 2) : strlen(word + 2), 0);
	return flag ? take_flag(p, flag, equals ? equals + 1 : NULL) : cmd_usage(p->self, "unknown option '%s'", word);
}

static int take_color(struct parsing *p, struct cmd_options *o)
{
	if (!p->color || !strcmp(p->color, "auto"))
		o->color = want_color();
	else if (!strcmp(p->color, "always") || !strcmp(p->color, "never"))
		o->color = p->color[0] == 'a';
	else
		return cmd_usage(p->self, "--color is auto, always or never, not '%s'", p->color);
	return CMD_GO_ON;
}

int cmd_parse(const struct command *self, int argc, char **argv, const struct cmd_flag *flags, size_t n_flags, int min_args, int max_args, struct cmd_args *ret)
{
	struct parsing p = {.self = self, .argc = argc, .argv = argv, .flags = flags, .n_flags = n_flags};
	struct cmd_args a = {0};
	bool only_words = false;
	set_locale();
	for (p.at = 1; p.at < argc; p.at++) {
		const char *word = argv[p.at];
		int code = CMD_GO_ON;
		if (!only_words && !strcmp(word, "--"))
			only_words = true;
		else if (!only_words && word[0] == '-' && word[1])
			code = take_word(&p, &a.o);
		else if (a.n == max_args)
			code = cmd_usage(self, "'%s' is too much", word);
		else
			a.v[a.n++] = word;
		if (code != CMD_GO_ON)
			return code;
		if (p.help) {
			cmd_print_help(self);
			return cmd_done(self);
		}
	}
	if (a.n < min_args)
		return cmd_usage(self, "%s", a.n == 0 ? "an argument is missing" : "another argument is missing");
	a.o.store_named = a.o.store != NULL;
	if (!a.o.store)
		a.o.store = getenv("MINTFS_STORE");
	if (a.o.store && !*a.o.store)
		a.o.store = NULL;
	int code = take_color(&p, &a.o);
	if (code == CMD_GO_ON)
		*ret = a;
	return code;
}
