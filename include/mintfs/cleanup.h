/* Cleanup attributes: what a scope owns is released when it ends; `take_…` hands it on. */
#ifndef MINTFS_CLEANUP_H
#define MINTFS_CLEANUP_H

#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void cleanup_free_(void *p) { free(*(void **)p); }
static inline void cleanup_close_(const int *fd) { if (*fd >= 0) close(*fd); }
static inline void cleanup_file_(FILE **f) { if (*f) fclose(*f); }
static inline void cleanup_dir_(DIR **d) { if (*d) closedir(*d); }
static inline void cleanup_unlock_(pthread_mutex_t **m) { if (*m) pthread_mutex_unlock(*m); }

#define auto_free __attribute__((cleanup(cleanup_free_)))   /* char *, struct … *: free() */
#define auto_close __attribute__((cleanup(cleanup_close_))) /* int: close() if >= 0; read-only descriptors only */
#define auto_file __attribute__((cleanup(cleanup_file_)))
#define auto_dir __attribute__((cleanup(cleanup_dir_)))

/* Locks m until the end of the scope; one a scope. */
#define SCOPED_LOCK(m) \
	__attribute__((cleanup(cleanup_unlock_))) pthread_mutex_t *scoped_lock_ = (m); \
	pthread_mutex_lock(scoped_lock_)

static inline int take_fd(int *fd) { int f = *fd; *fd = -1; return f; }
static inline void *take_ptr_(void **p) { void *q = *p; *p = NULL; return q; }
#define take_ptr(p) ((__typeof__(p))take_ptr_((void **)&(p)))

#endif
