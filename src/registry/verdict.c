/* Verdicts: one table from what the registry decided to errno and exit code. */
#include "registry.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
	int error, exit;
} verdicts[VERDICTS] = {
	[VERDICT_OK] = {0, 0},
	[VERDICT_NAME] = {EINVAL, 1},
	[VERDICT_PLACE] = {EPERM, 1},
	[VERDICT_KEY_TAKEN] = {EEXIST, 1},
	[VERDICT_EXISTS] = {EEXIST, 1},
	[VERDICT_NUMBER_USED] = {EEXIST, 1},
	[VERDICT_NUMBERS_OUT] = {EMLINK, 1},
	[VERDICT_NUMBER_FAR] = {ERANGE, 1},
	[VERDICT_NOT_FOUND] = {ENOENT, 3},
	[VERDICT_NOT_EMPTY] = {ENOTEMPTY, 1},
	[VERDICT_IMMUTABLE] = {EROFS, 1},
	[VERDICT_READ_ONLY] = {EROFS, 1},
	[VERDICT_ELSEWHERE] = {EROFS, 1},
	[VERDICT_BUSY] = {EBUSY, 1},
	[VERDICT_EMPTY_DRAFT] = {EINVAL, 1},
	[VERDICT_BAD_METADATA] = {EINVAL, 1},
	[VERDICT_TORN] = {EINVAL, 1},
	[VERDICT_BAD_PROCESS] = {EINVAL, 1},
	[VERDICT_BAD_EVALUATION] = {EINVAL, 1},
	[VERDICT_SPECIAL_FILE] = {EPERM, 1},
	[VERDICT_RESERVED] = {EPERM, 1},
	[VERDICT_BAD_ALIAS] = {EINVAL, 1},
	[VERDICT_NOT_DRAFT] = {ENOENT, 1},
	[VERDICT_DENIED] = {EACCES, 1},
	[VERDICT_DAMAGED] = {EIO, 1},
	[VERDICT_NEWER_STORE] = {EPROTONOSUPPORT, 1},
	[VERDICT_NOT_A_STORE] = {EINVAL, 3},
	[VERDICT_ALIASED] = {EBUSY, 1},
	[VERDICT_NOT_COMMITTED] = {EINVAL, 1},
	[VERDICT_RETIRED] = {ESTALE, 1},
	[VERDICT_SYSTEM] = {EIO, 1},
};

int registry_verdict_errno(enum registry_verdict v) { return (unsigned)v < VERDICTS ? verdicts[v].error : EIO; }
int registry_verdict_exit(enum registry_verdict v) { return (unsigned)v < VERDICTS ? verdicts[v].exit : 1; }

int (refuse)(struct fault *f, enum registry_verdict v, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	fault_vset(f, registry_verdict_errno(v), fmt, ap);
	va_end(ap);
	if (f)
		f->verdict = v;
	return -registry_verdict_errno(v);
}

/* EUCLEAN is a catalog that SQLite, or a rule of ours, finds broken; the words of the C library for it speak of a file system. */
static const char *error_words(int error) { return error == -EUCLEAN ? "the catalog is damaged: 'mintfs fsck' tells where; a backup can be restored" : strerror(-error); }

int (refuse_system)(struct fault *f, int error, const char *fmt, ...)
{
	if (!f)
		return error;
	if (!f->error) {
		char what[FAULT_TEXT_MAX];
		va_list ap;
		va_start(ap, fmt);
		vsnprintf(what, sizeof what, fmt, ap);
		va_end(ap);
		fault_set(f, -error, "%s: %s", what, error_words(error));
	}
	if (!f->verdict)
		f->verdict = error == -ENOENT ? VERDICT_NOT_FOUND : error == -EBUSY ? VERDICT_BUSY : VERDICT_SYSTEM;
	f->error = -error;
	return error;
}
