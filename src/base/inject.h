/* Injected faults: every wrapper of sys.h begins with INJECT("its name"). Without MINTFS_FAULTS it is nothing. */
#ifndef MINTFS_BASE_INJECT_H
#define MINTFS_BASE_INJECT_H

#include <stddef.h>

#ifdef MINTFS_FAULTS
int inject_fault(const char *name); /* 0, or -errno if this call is to fail */
int inject_transfer(const char *name, size_t *len); /* as inject_fault; may make the transfer shorter */
#define INJECT(name) \
	do { \
		int injected_ = inject_fault(name); \
		if (injected_ < 0) \
			return injected_; \
	} while (0)
#define INJECT_TRANSFER(name, len) \
	do { \
		int injected_ = inject_transfer(name, &(len)); \
		if (injected_ < 0) \
			return injected_; \
	} while (0)
#else
#define INJECT(name) \
	do { \
	} while (0)
#define INJECT_TRANSFER(name, len) INJECT(name)
#endif

/* Runs `call` until it is not interrupted. */
#define RETRY(r, call) \
	do { \
		(r) = (call); \
	} while ((r) < 0 && errno == EINTR)

#endif
