/* Small things every room needs: time, text, a hash map, a queue of work. */
#ifndef MINTFS_UTIL_H
#define MINTFS_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define NS_PER_SEC 1000000000LL

int64_t time_now_ns(void);       /* since the epoch, CLOCK_REALTIME */
int64_t time_monotonic_ns(void); /* CLOCK_MONOTONIC */
/* From 1677-09-21 to 2262-04-11; a time beyond, which files may have, is the first or last of these. */
static inline int64_t timespec_ns(struct timespec t)
{
	bool before = t.tv_sec < 0;
	int64_t rest = t.tv_nsec - (before ? NS_PER_SEC : 0), ns; /* seconds towards 0, so that the first of all does not overflow */
	if (__builtin_mul_overflow((int64_t)t.tv_sec + before, NS_PER_SEC, &ns) || __builtin_add_overflow(ns, rest, &ns))
		return before ? INT64_MIN : INT64_MAX;
	return ns;
}
static inline struct timespec ns_timespec(int64_t ns)
{
	struct timespec t = {(time_t)(ns / NS_PER_SEC), (long)(ns % NS_PER_SEC)};
	if (t.tv_nsec < 0) { t.tv_sec--; t.tv_nsec += NS_PER_SEC; }
	return t;
}
/* The end of a range of n from there on, as a foreign hand may have written it: INT64_MAX where it would lie beyond. */
static inline int64_t range_end(int64_t from, int64_t n)
{
	int64_t end;
	return __builtin_add_overflow(from, n, &end) ? INT64_MAX : end;
}
#define TIME_TEXT_MAX 24
void time_utc_text(int64_t ns, char out[TIME_TEXT_MAX]); /* "2025-07-15 18:40:00" */

bool utf8_valid(const char *text, size_t len); /* strict: no overlong forms, no surrogates */
/* The code of the character at p if a terminal would obey it rather than show it: control characters (C0, DEL, C1) and those that turn the direction of what follows; 0 otherwise.
 * left: bytes at p. *ret_len: of the character. */
unsigned utf8_command(const char *p, size_t left, size_t *ret_len);
void hex_encode(const uint8_t *bytes, size_t n, char *out /* 2n+1 */);
int hex_decode(const char *hex, size_t n_bytes, uint8_t *out); /* -EINVAL unless exactly 2n lower-case digits */
int parse_u64(const char *text, uint64_t max, uint64_t *ret);  /* decimal, whole text, no sign or blank: -EINVAL; > max: -ERANGE */
/* Copies src (NUL-terminated) into dst[size]; -ENAMETOOLONG if it does not fit (dst untouched). */
int text_copy(char *dst, size_t size, const char *src);
/* The word that goes with n in a sentence. */
static inline const char *plural(uint64_t n, const char *one, const char *many) { return n == 1 ? one : many; }

/* Hash map from uint64_t to a pointer. Not thread-safe. */
struct map64;
struct map64 *map64_new(void);
void map64_free(struct map64 *m); /* values are the caller's */
void *map64_get(const struct map64 *m, uint64_t key);        /* NULL if absent */
int map64_put(struct map64 *m, uint64_t key, void *value);   /* value not NULL; replaces; -ENOMEM */
void *map64_remove(struct map64 *m, uint64_t key);           /* the value that was there, or NULL */
size_t map64_count(const struct map64 *m);
/* Calls fn for each entry until it returns false. fn must not change the map. */
void map64_each(const struct map64 *m, bool (*fn)(uint64_t key, void *value, void *arg), void *arg);

/* A queue of work with its own threads. Jobs of one owner run in order of submission, several at once with threads > 1; of several owners, who has the fewest
 * running comes first. */
struct workq;
typedef void workq_fn(void *arg);
struct workq_options {
	const char *name;  /* of the threads, at most 15 bytes */
	unsigned threads;  /* 1 to 64; started when first needed */
	unsigned each;     /* jobs of one owner that run at once, so that some thread is left for others; 0: all */
	bool low_priority; /* nice 19 and idle I/O class: for background hashing */
};
int workq_new(const struct workq_options *o, struct workq **ret);
#define WORKQ_NOBODY UINT32_MAX /* an owner without a limit */
int workq_submit_for(struct workq *q, uint32_t who, workq_fn *fn, void *arg); /* who: a uid, mostly. -ENOMEM; -ESHUTDOWN after workq_free began */
int workq_submit(struct workq *q, workq_fn *fn, void *arg);                   /* for nobody */
void workq_drain(struct workq *q);                          /* until everything submitted before has run; not from a job */
void workq_free(struct workq *q);                           /* runs what is queued, then ends the threads. NULL is fine */

#endif
