/* Versions on their way between stores and the rest of the world: bundles (a tar archive with a manifest) out and in, and existing folders of models in. The format of a
 * bundle stands in docs/spec/bundle.md. All of it streams: memory does not grow with the size of versions. No rule of the registry is known here. */
#ifndef MINTFS_BUNDLE_H
#define MINTFS_BUNDLE_H

#include <mintfs/registry.h>

/* How far it is; called now and then. total 0: not known. */
typedef void bundle_progress_fn(uint64_t done, uint64_t total, void *arg);
struct bundle_watcher { bundle_progress_fn *progress; void *arg; }; /* progress may be NULL */

/* ---- out ---- */
struct bundle_export {
	const struct registry_ref *refs; /* models, then all their committed versions, or versions; committed ones only */
	size_t n_refs;
	bool all;            /* every model, instead */
	const char *program; /* "mintfs 0.1.0" */
	struct bundle_watcher watcher;
};
struct bundle_totals { uint64_t models, versions, files, bytes /* of contents, each once */, archive; };
/* Writes the bundle to fd (a file or a pipe). Each content is read, and compared with its hash, as it goes: -EIO with a sentence where it is damaged or missing; what was
 * written then is torn, and no import takes it. [slow] */
int bundle_export(struct registry *r, const struct bundle_export *what, int fd, struct bundle_totals *ret, struct fault *f);

/* ---- in ---- */
struct bundle_import {
	bool renumber;
	registry_imported_fn *imported; /* what became of each version and alias, at the end; may be NULL */
	void *arg;
	struct bundle_watcher watcher;
};
/* Reads a bundle from fd to its end and takes it in: all of it or nothing. -EINVAL with a sentence: no bundle, torn, or not what its manifest tells. [slow] */
int bundle_import(struct registry *r, const struct registry_actor *who, const struct bundle_import *how, int fd, struct registry_import_totals *ret, struct fault *f);

/* ---- an existing folder ---- */
struct bundle_tree_note { const char *path /* in the folder */, *reason; bool taken; /* by this import */ bool already; };
typedef void bundle_tree_fn(const struct bundle_tree_note *n, void *arg);
struct bundle_tree {
	const char *dir;
	const char *database; /* SQLite with a table model_versions; NULL: looked for in dir */
	bool check_contents;  /* read versions that are here already, instead of comparing sizes and times */
	bool dry_run;
	bundle_tree_fn *note; /* of each version, and of all that was passed over; may be NULL */
	void *arg;
	struct bundle_watcher watcher;
};
struct bundle_tree_totals { uint64_t taken, already, skipped, bytes, shared /* of these, by reflink */; };
/* Takes in each version of the folder by itself, with its number, times and metrics: what was taken in stays, also when a later one is refused. [slow] */
int bundle_import_tree(struct registry *r, const struct registry_actor *who, const struct bundle_tree *how, struct bundle_tree_totals *ret, struct fault *f);

#endif
