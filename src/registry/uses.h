/* Who uses a version. Private to readers.c and uses.c. Thread-safe. */
#ifndef REGISTRY_USES_H
#define REGISTRY_USES_H

#include "registry.h"

struct uses;
struct uses *uses_new(void); /* NULL: no memory */
void uses_free(struct uses *u); /* NULL is fine */
/* Reads the command line of a process, unless that was done a moment ago. May wait for the process: under no lock, and not on behalf of a commit. */
void uses_look(struct uses *u, struct caller_process p);
/* As far as it is known: a JSON array, to be freed; NULL: no memory. Not whole: only the program's name, or the first arguments. */
char *uses_command(struct uses *u, struct caller_process p, const char *program, bool *ret_whole);
/* In a transaction: a process that is remembered opened files of a version. Beyond some readers of one version the oldest that do not live are summed up. */
int uses_write(struct registry *r, struct catalog_conn *conn, const struct catalog_use *use, int64_t seen_id);

#endif
