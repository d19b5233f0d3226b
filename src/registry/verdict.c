/* Verdicts: one table from what the registry decided to errno and exit code. */
#include "registry.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const struct {
	const char *name;
	int error, exit;
} verdicts[VERDICTS] = {
	[VERDICT_OK] = {"ok", 0, 0},
	[VERDICT_NAME] = {"name", EINVAL, 1},
	[VERDICT_PLACE] = {"place", EPERM, 1},
	[VERDICT_KEY_TAKEN] = {"key-taken", EEXIST, 1},
	[VERDICT_EXISTS] = {"exists", EEXIST, 1},
	[VERDICT_NUMBER_USED] = {"number-used", EEXIST, 1},
	[VERDICT_NUMBERS_OUT] = {"numbers-out", EMLINK, 1},
	[VERDICT_NOT_FOUND] = {"not-found", ENOENT, 3},
	[VERDICT_NOT_EMPTY] = {"not-empty", ENOTEMPTY, 1},
	[VERDICT_IMMUTABLE] = {"immutable", EROFS, 1},
	[VERDICT_READ_ONLY] = {"read-only", EROFS, 1},
	[VERDICT_ELSEWHERE] = {"elsewhere", EROFS, 1},
	[VERDICT_BUSY] = {"busy", EBUSY, 1},
	[VERDICT_EMPTY_DRAFT] = {"empty-draft", EINVAL, 1},
	[VERDICT_BAD_METADATA] = {"bad-metadata", EINVAL, 1},
	[VERDICT_TORN] = {"torn", EINVAL, 1},
	[VERDICT_BAD_PROCESS] = {"bad-process", EINVAL, 1},
	[VERDICT_BAD_EVALUATION] = {"bad-evaluation", EINVAL, 1},
	[VERDICT_SPECIAL_FILE] = {"special-file", EPERM, 1},
	[VERDICT_RESERVED] = {"reserved", EPERM, 1},
	[VERDICT_BAD_ALIAS] = {"bad-alias", EINVAL, 1},
	[VERDICT_NOT_DRAFT] = {"not-draft", EINVAL, 1},
	[VERDICT_DENIED] = {"denied", EACCES, 1},
	[VERDICT_DAMAGED] = {"damaged", EIO, 1},
	[VERDICT_NEWER_STORE] = {"newer-store", EPROTONOSUPPORT, 1},
	[VERDICT_NOT_A_STORE] = {"not-a-store", EINVAL, 3},
	[VERDICT_ALIASED] = {"aliased", EBUSY, 1},
	[VERDICT_NOT_COMMITTED] = {"not-committed", EINVAL, 1},
	[VERDICT_RETIRED] = {"retired", ESTALE, 1},
	[VERDICT_SYSTEM] = {"system", EIO, 1},
};

int registry_verdict_errno(enum registry_verdict v) { return (unsigned)v < VERDICTS ? verdicts[v].error : EIO; }
int registry_verdict_exit(enum registry_verdict v) { return (unsigned)v < VERDICTS ? verdicts[v].exit : 1; }
const char *registry_verdict_name(enum registry_verdict v) { return (unsigned)v < VERDICTS ? verdicts[v].name : "unknown"; }

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
		fault_set(f, -error, "%s: %s", what, strerror(-error));
	}
	if (!f->verdict)
		f->verdict = error == -ENOENT ? VERDICT_NOT_FOUND : error == -EBUSY ? VERDICT_BUSY : VERDICT_SYSTEM;
	f->error = -error;
	return error;
}
