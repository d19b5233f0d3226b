/* What a process of MintFS may do beyond its user: given up before it listens to anybody. */
#ifndef MINTFS_PRIVILEGES_H
#define MINTFS_PRIVILEGES_H

/* For a daemon (supervisor or worker), right after its start: the process must have one thread still, since capabilities belong to
 * threads, and what asks for more (oom_score_adj) must be done. Of the capabilities only those that the daemon uses are left, in the
 * permitted and effective sets, and in the bounding set where CAP_SETPCAP is held; the inheritable and ambient sets are emptied.
 * Who runs with privilege also gets no_new_privs; an ordinary user does not, as he needs fusermount3 for unmounting.
 * docs/design/base.md says what each is for. 0 or -errno; with nothing to give up 0. */
int privileges_drop(void);

/* For a child that is to run a foreign program: no capability is left, nor comes back by exec, root's neither. System calls only, so it may
 * be called between fork and exec. 0 or -errno. */
int privileges_drop_all(void);

#endif
