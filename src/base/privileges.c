/* Capabilities, by the plain calls of capset(2) and prctl(2): two structs and a loop need no library.
 *
 * The bounding set goes first, as shrinking it takes CAP_SETPCAP, which is not kept. */
#include <mintfs/privileges.h>

#include <mintfs/util.h>

#include <errno.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIT(cap) (1ULL << (cap))

/* What a root's daemon uses, and for what:
 *   SYS_ADMIN          mount and umount, registration of passthrough files
 *   DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER   the trees of drafts, whatever modes their owners set; links by descriptor
 *   CHOWN, FSETID      what is made belongs to the caller; a setgid directory of a foreign group stays so
 *   SETUID, SETGID     to ask git as the user
 *   KILL               to end that git when its time is over
 *   SYS_PTRACE         environ and syscall of callers in /proc
 *   LINUX_IMMUTABLE    the flag of blobs
 *   LEASE              who can still write to a file of somebody else? */
#define DAEMON_KEEPS                                                                                                           \
	(BIT(CAP_SYS_ADMIN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_DAC_READ_SEARCH) | BIT(CAP_FOWNER) | BIT(CAP_CHOWN) | BIT(CAP_FSETID) | \
		BIT(CAP_SETUID) | BIT(CAP_SETGID) | BIT(CAP_KILL) | BIT(CAP_SYS_PTRACE) | BIT(CAP_LINUX_IMMUTABLE) | BIT(CAP_LEASE))

static int get_permitted(uint64_t *ret)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {0};

	if (syscall(SYS_capget, &head, data) < 0)
		return -errno;
	*ret = (uint64_t)data[1].permitted << 32 | data[0].permitted;
	return 0;
}

static int set_permitted(uint64_t caps)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {
		{.effective = (uint32_t)caps, .permitted = (uint32_t)caps},
		{.effective = (uint32_t)(caps >> 32), .permitted = (uint32_t)(caps >> 32)},
	};

	return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

/* Beyond the last capability that the kernel knows PR_CAPBSET_READ is EINVAL. */
static int bound(uint64_t keep)
{
	for (unsigned long cap = 0; cap < 64; cap++) {
		int has = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);
		if (has < 0)
			break;
		if (has && !(keep & BIT(cap)) && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) < 0)
			return -errno;
	}
	return 0;
}

static int leave(uint64_t keep, uint64_t have)
{
	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -errno;
	if (have & BIT(CAP_SETPCAP)) {
		int r = bound(keep);
		if (r < 0)
			return r;
	}
	return set_permitted(keep & have);
}

int privileges_drop(void)
{
	uint64_t have = 0;
	int r = get_permitted(&have);

	if (r < 0)
		return r;
	if ((have || geteuid() == 0) && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return leave(DAEMON_KEEPS, have);
}

/* no_new_privs also stops exec from giving root what is in the bounding set: capabilities(7), cap_bprm_creds_from_file in security/commoncap.c. */
int privileges_drop_all(void)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	return leave(0, 0);
}
