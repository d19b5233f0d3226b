/* libfuse ends its threads by pthread_cancel, for which glibc opens libgcc_s.so.1 at the first call - and aborts the process where it cannot, which is where the drive's
 * users have all its descriptors: then an unmount ended in SIGABRT (seen with 256). So a first thread is cancelled while there are some. */
#include "session.h"

#include <unistd.h>

static void *wait_for_the_end(void *arg)
{
	for (;;)
		pause();
	return arg;
}

void fs_load_unwinder(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, wait_for_the_end, NULL) != 0)
		return;
	pthread_cancel(thread);
	pthread_join(thread, NULL);
}
