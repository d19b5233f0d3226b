/* Injected faults: every wrapper of sys.h begins with INJECT("its name"). Without MINTFS_FAULTS it is nothing. */
#ifndef MINTFS_BASE_INJECT_H
#define MINTFS_BASE_INJECT_H

#ifdef MINTFS_FAULTS
int inject_fault(const char *name); /* 0, or -errno if this call is to fail */
#define INJECT(name) \
	do { \
		int injected_ = inject_fault(name); \
		if (injected_ < 0) \
			return injected_; \
	} while (0)
#else
#define INJECT(name) \
	do { \
	} while (0)
#endif

/* Runs `call` until it is not interrupted. */
#define RETRY(r, call) \
	do { \
		(r) = (call); \
	} while ((r) < 0 && errno == EINTR)

#endif
