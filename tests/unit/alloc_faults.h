/* Allocations of our own code made to fail (sys_fault_arm "malloc"). For one test program, linked with --wrap of each of these
 * functions (tests/CMakeLists.txt): the rooms are in it as archives, so their calls come here; those of the libraries do not. */
#ifndef TEST_ALLOC_FAULTS_H
#define TEST_ALLOC_FAULTS_H

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <mintfs/sys.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
char *__real_strdup(const char *s);
char *__real_strndup(const char *s, size_t n);
int __real_vasprintf(char **ret, const char *format, va_list args);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
char *__wrap_strdup(const char *s);
char *__wrap_strndup(const char *s, size_t n);
int __wrap_vasprintf(char **ret, const char *format, va_list args);
int __wrap_asprintf(char **ret, const char *format, ...);

static bool allocation_fails(void)
{
	int old = errno;
	bool fails = sys_fault_point("malloc") < 0;
	errno = fails ? ENOMEM : old;
	return fails;
}

void *__wrap_malloc(size_t n) { return allocation_fails() ? NULL : __real_malloc(n); }
void *__wrap_calloc(size_t n, size_t size) { return allocation_fails() ? NULL : __real_calloc(n, size); }
void *__wrap_realloc(void *p, size_t n) { return allocation_fails() ? NULL : __real_realloc(p, n); }
char *__wrap_strdup(const char *s) { return allocation_fails() ? NULL : __real_strdup(s); }
char *__wrap_strndup(const char *s, size_t n) { return allocation_fails() ? NULL : __real_strndup(s, n); }
int __wrap_vasprintf(char **ret, const char *format, va_list args) { return allocation_fails() ? -1 : __real_vasprintf(ret, format, args); }

int __wrap_asprintf(char **ret, const char *format, ...)
{
	va_list args;
	va_start(args, format);
	int n = __wrap_vasprintf(ret, format, args);
	va_end(args);
	return n;
}

#endif
