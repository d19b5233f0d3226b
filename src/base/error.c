/* Refusals in words: see the door. A sentence is made in a scratch buffer first, because its arguments may point into the
 * sentence it replaces. The names stand in parentheses, for to the analyzer of clang they are macros as well. */
#include <mintfs/error.h>

#include "text.h"

int fault_vset(struct fault *f, int error, const char *fmt, va_list ap)
{
	if (f) {
		text_vformat(f->text, sizeof(f->text), fmt, ap);
		f->error = error;
		f->verdict = 0;
	}
	return -error;
}

int (fault_set)(struct fault *f, int error, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fault_vset(f, error, fmt, ap);
	va_end(ap);
	return -error;
}

int (fault_default)(struct fault *f, int error, const char *fmt, ...)
{
	va_list ap;

	if (!f || f->error)
		return -error;
	va_start(ap, fmt);
	fault_vset(f, error, fmt, ap);
	va_end(ap);
	return -error;
}
