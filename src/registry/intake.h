/* Contents on their way into a store from outside: files in incoming/<name>/, one a content, named by its SHA-256, then linked into blobs/. Private to the registry.
 *
 * The directory is locked as long as its maker lives. Names in it stay until the catalog refers to their contents (or nobody ever will), so that what a sweep
 * takes out of blobs/ meanwhile can be put there again; then they are removed and the blobs sealed: by intake_settle, which first lists them in a file, for after a
 * death intake_sweep goes on with it. What did not
 * come so far stays unsealed, and nobody takes it for a content: after a power cut the name may be there without the bytes. */
#ifndef REGISTRY_INTAKE_H
#define REGISTRY_INTAKE_H

#include <mintfs/blob.h>
#include <mintfs/catalog.h>
#include <mintfs/log.h>

struct intake;
/* All are borrowed; catalog NULL: of a copy, whose catalog is not published before its contents are settled. */
int intake_open(int store_dirfd, struct blob_store *blobs, struct catalog *catalog, struct log *log, struct intake **ret, struct fault *f);
int intake_dirfd(const struct intake *in); /* its directory, for what else its user wants to keep there for a while; what is not a content is removed at the end */
/* Is this content in the store, or on its way? */
bool intake_has(struct intake *in, const struct blob_id *id, uint64_t size);
/* A new file to be filled, open for writing and reading; one at a time. */
int intake_begin(struct intake *in, int *ret_fd, struct fault *f);
/* The file is full, and its content is `id`: it will be put into the blobs, some time before intake_flush returns. Consumes fd. */
int intake_add(struct intake *in, int fd, const struct blob_id *id, uint64_t size, struct fault *f);
void intake_cancel(struct intake *in, int fd); /* it is not wanted */
int intake_flush(struct intake *in, struct fault *f);     /* all that was added is in blobs/, durably */
int intake_put_again(struct intake *in, struct fault *f); /* the same for everything that was added since the last settle */
/* Is a content that the store had, or that was put, still there? blob_still_put has the rules. */
int intake_still_put(struct intake *in, const struct blob_id *id, uint64_t size);
int intake_settle(struct intake *in);                     /* the names go, the blobs are sealed */
void intake_close(struct intake *in);                     /* what is not settled is not wanted; NULL is fine */

/* Clears what dead makers left behind. */
void intake_sweep(int store_dirfd, struct blob_store *blobs, struct catalog *catalog, struct log *log);

#endif
