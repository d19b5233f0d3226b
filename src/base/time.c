/* Clocks, and time as text. */
#include <mintfs/util.h>

int64_t time_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	return timespec_ns(t);
}

int64_t time_monotonic_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return timespec_ns(t);
}

void time_utc_text(int64_t ns, char out[TIME_TEXT_MAX])
{
	struct timespec t = ns_timespec(ns);
	struct tm tm;

	/* 64 bits of nanoseconds reach from the year 1677 to 2262: always four digits */
	if (!gmtime_r(&t.tv_sec, &tm) || strftime(out, TIME_TEXT_MAX, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		out[0] = '\0';
}
