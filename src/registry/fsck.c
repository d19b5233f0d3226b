/* fsck: is the store what it should be?
 *
 *   the database itself → the registry's rules on its rows → drafts → contents (there, size, sealed; with verify: hashed) → versions, entry by entry → strays
 *
 * It runs beside a drive in use: the catalog is read in pieces, each on a snapshot of its own, and the store's lock is taken for moments only. What is found is
 * gathered on the snapshot and told, and with `repair` mended, when that is over; a repair looks once more, within the transaction or under the lock, since the store has
 * gone on meanwhile. Contents that the store lost are not invented: the versions that hold them are told, reads of them say EIO, and the next commit of the same content heals them.
 *
 * What each word means to a user stands in docs/design/keeping.md. */
#include "fsck.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const struct { const char *word; bool problem; fsck_repair_fn *repair; } kinds[FINDINGS] = {
	[FOUND_CATALOG_PAGE] = {"catalog-page", true, repair_pages},
	[FOUND_CATALOG_LINK] = {"catalog-link", true, NULL},
	[FOUND_MODEL_NAMES] = {"model-names", true, repair_names},
	[FOUND_MODEL_NUMBERS] = {"model-numbers", true, repair_numbers},
	[FOUND_ALIAS_ASTRAY] = {"alias-astray", true, repair_alias},
	[FOUND_METRICS_IDLE] = {"metrics-idle", true, repair_idle_metrics},
	[FOUND_METRICS_DIFFER] = {"metrics-differ", true, repair_metrics},
	[FOUND_ENTRIES_ASTRAY] = {"entries-astray", true, NULL},
	[FOUND_ENTRIES_BROKEN] = {"entries-broken", true, NULL},
	[FOUND_SUMS_WRONG] = {"sums-wrong", true, repair_sums},
	[FOUND_BLOB_MISSING] = {"blob-missing", true, repair_missing},
	[FOUND_BLOB_SIZE] = {"blob-size", true, repair_damaged},
	[FOUND_BLOB_DAMAGED] = {"blob-damaged", true, repair_damaged},
	[FOUND_BLOB_UNSEALED] = {"blob-unsealed", true, repair_unsealed},
	[FOUND_BLOB_RETURNED] = {"blob-returned", true, repair_returned},
	[FOUND_BLOB_UNREADABLE] = {"blob-unreadable", true, NULL},
	[FOUND_BLOB_UNPROTECTED] = {"blob-unprotected", false, repair_unprotected},
	[FOUND_BLOB_UNNEEDED] = {"blob-unneeded", false, NULL},
	[FOUND_VERSION_DAMAGED] = {"version-damaged", true, NULL},
	[FOUND_DRAFT_LOST] = {"draft-lost", true, repair_draft_lost},
	[FOUND_DRAFT_LEFTOVER] = {"draft-leftover", true, repair_draft_leftover},
	[FOUND_DRAFT_ASTRAY] = {"draft-astray", true, repair_draft_astray},
	[FOUND_STRAY] = {"stray", true, repair_stray},
};

bool fsck_go_on(const struct fsck *k) { return !k->how->go_on || *k->how->go_on; }

/* ---- what is found ---- */

struct problem *fsck_note(struct fsck *k, enum finding kind, const char *fmt, ...)
{
	if (k->n == k->cap) {
		size_t cap = k->cap ? 2 * k->cap : 16;
		struct problem *more = reallocarray(k->problems, cap, sizeof *more);
		if (!more)
			return NULL;
		k->problems = more;
		k->cap = cap;
	}
	struct problem p = {.kind = kind};
	va_list ap;
	va_start(ap, fmt);
	int n = vasprintf(&p.text, fmt, ap);
	va_end(ap);
	if (n < 0)
		return NULL;
	k->problems[k->n] = p;
	return &k->problems[k->n++];
}

static void find_model(struct registry *r, int64_t id, struct registry_finding *out)
{
	struct catalog_model m;
	auto_read struct catalog_conn *conn = NULL;
	if (id && catalog_read_begin(r->catalog, &conn) == 0 && catalog_model_get(conn, id, &m) == 0)
		memcpy(out->model, m.path, sizeof out->model);
}

static void tell(struct fsck *k, const struct problem *p, bool repaired, const char *words)
{
	struct registry_finding *f = calloc(1, sizeof *f);
	k->sum.problems += kinds[p->kind].problem;
	k->sum.repaired += kinds[p->kind].problem && repaired;
	k->sum.notes += !kinds[p->kind].problem;
	if (!f || !k->how->finding) {
		free(f);
		return;
	}
	f->kind = kinds[p->kind].word;
	f->problem = kinds[p->kind].problem;
	f->repaired = repaired;
	f->action = words[0] ? words : NULL;
	f->number = p->number;
	f->name = p->name;
	f->blob = p->has_blob ? &p->blob : NULL;
	f->text = p->text;
	find_model(k->r, p->model_id, f);
	k->how->finding(f, k->how->arg);
	free(f);
}

static int settle_one(struct fsck *k, const struct problem *p)
{
	char words[ASIDE_NAME_MAX + 128] = "";
	bool repaired = false;
	if (k->how->repair && kinds[p->kind].repair) {
		int rc = kinds[p->kind].repair(k, p, words, sizeof words);
		if (rc < 0)
			snprintf(words, sizeof words, "the repair failed: %s", strerror(-rc));
		repaired = rc > 0;
		log_info(k->r->log, "fsck: %s: %s%s%s", kinds[p->kind].word, p->text, words[0] ? ": " : "", words);
	}
	tell(k, p, repaired, words);
	return 0;
}

static void drop_problems(struct fsck *k)
{
	for (size_t i = 0; i < k->n; i++) {
		free(k->problems[i].name);
		free(k->problems[i].text);
	}
	k->n = 0;
}

int fsck_settle(struct fsck *k)
{
	for (size_t i = 0; i < k->n; i++)
		settle_one(k, &k->problems[i]);
	drop_problems(k);
	return fsck_go_on(k) ? 0 : -ECANCELED;
}

/* ---- all of it ---- */

typedef int step_fn(struct fsck *k);

/* A catalog whose pages are damaged may refuse any query: that is a finding, and the other steps go on. */
static int run_step(struct fsck *k, step_fn *step, const char *what)
{
	int rc = step(k);
	if (rc == 0)
		rc = fsck_settle(k);
	if (rc != -EUCLEAN && rc != -EIO)
		return rc;
	fsck_settle(k);
	return fsck_note(k, FOUND_CATALOG_PAGE, "%s cannot be read: %s", what,
			 rc == -EUCLEAN ? "the database is damaged: 'mintfs restore' makes a store from a backup" : strerror(-rc)) ? fsck_settle(k) : -ENOMEM;
}

static int collect_live(struct fsck *k)
{
	int rc = references_collect(k->r, INT64_MAX, false, &k->live);
	k->live_unknown = rc < 0;
	return rc;
}

static int run_all(struct fsck *k)
{
	static const struct { step_fn *step; const char *what; } steps[] = {{fsck_catalog, "the catalog"}, {fsck_drafts, "the drafts"}, {collect_live, "the entries"},
		{fsck_blobs, "the contents"}, {fsck_versions, "the versions"}, {fsck_strays, "the store's directory"}};
	int rc = 0;
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(steps); i++)
		rc = run_step(k, steps[i].step, steps[i].what);
	return rc;
}

int registry_fsck(struct registry *r, const struct registry_fsck *how, struct registry_fsck_result *ret, struct fault *f)
{
	struct fsck k = {.r = r, .how = how, .began_ns = time_now_ns()};
	if (how->repair && r->read_only)
		return refuse(f, VERDICT_READ_ONLY, "the store is open for reading only: nothing can be repaired");
	int rc = how->verify ? verify_begin(&k, &k.verify) : 0;
	if (rc == 0)
		rc = run_all(&k);
	k.sum.verified_bytes = k.verify ? verify_done(k.verify) : 0;
	verify_end(k.verify, rc == 0);
	drop_problems(&k);
	free(k.problems);
	references_release(&k.live);
	references_release(&k.later);
	references_release(&k.bad);
	*ret = k.sum;
	if (rc == -ECANCELED)
		return refuse(f, VERDICT_SYSTEM, how->verify ? "interrupted; the next 'mintfs fsck --verify' goes on from here" : "interrupted"), rc;
	return rc < 0 ? refuse_system(f, rc, "the store cannot be checked") : 0;
}
