/* The bar: progress.h. Drawn at most ten times a second, and not before half a second has passed: what is quick needs none. */
#include "progress.h"

#include "table.h"

#include <mintfs/util.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define WIDTH 30

void progress_begin(struct progress *p, const char *what)
{
	int64_t now = time_monotonic_ns();
	*p = (struct progress){.what = what, .shown = isatty(STDERR_FILENO), .begun_ns = now, .next_ns = now + NS_PER_SEC / 2};
}

void progress_tell(uint64_t done, uint64_t total, void *progress)
{
	struct progress *p = progress;
	int64_t now = p->shown ? time_monotonic_ns() : 0;
	char size[HUMAN_MAX], of[HUMAN_MAX] = "", rate[HUMAN_MAX], bar[WIDTH + 1];
	if (!p->shown || now < p->next_ns)
		return;
	p->next_ns = now + NS_PER_SEC / 10;
	if (total && done > total)
		done = total;
	int filled = total ? (int)((double)done / (double)total * WIDTH) : 0;
	memset(bar, ' ', WIDTH);
	memset(bar, '#', (size_t)filled);
	bar[WIDTH] = '\0';
	if (total)
		human_size(total, of);
	fprintf(stderr, "\r%s [%s] %s%s%s, %s/s\033[K", p->what, bar, human_size(done, size), total ? " of " : "", of,
		human_size((uint64_t)((double)done * NS_PER_SEC / (double)(now - p->begun_ns + 1)), rate));
	fflush(stderr);
	p->drawn = true;
}

void progress_end(struct progress *p)
{
	if (p->drawn)
		fputs("\r\033[K", stderr);
	p->drawn = false;
}
