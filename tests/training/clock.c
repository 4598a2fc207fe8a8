/* The wall clock, as a program sees it, ahead by the seconds in the file $CLOCK.
 *
 * For LD_PRELOAD. Unlike libfaketime this moves the kernel's side too: a wait that is pending on an
 * absolute time looks at the clock again, as it does when a true clock is set. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SLICE 20000000L /* nanoseconds between looks at the clock */

static long ahead(void) {
  char text[32] = {0};
  int file = open(getenv("CLOCK"), O_RDONLY);
  if (file < 0) return 0;
  long seconds = read(file, text, sizeof text - 1) > 0 ? atol(text) : 0;
  close(file);
  return seconds;
}

static void true_time(clockid_t id, struct timespec *t) {
  static int (*next)(clockid_t, struct timespec *);
  if (!next) next = dlsym(RTLD_NEXT, "clock_gettime");
  next(id, t);
}

int clock_gettime(clockid_t id, struct timespec *t) {
  true_time(id, t);
  if (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE) t->tv_sec += ahead();
  return 0;
}

int gettimeofday(struct timeval *t, void *zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  t->tv_sec = now.tv_sec, t->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *t) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (t) *t = now.tv_sec;
  return now.tv_sec;
}

static long nanoseconds_until(const struct timespec *t) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (t->tv_sec > now.tv_sec + 1) return SLICE;
  return (t->tv_sec - now.tv_sec) * 1000000000L + t->tv_nsec - now.tv_nsec;
}

long syscall(long number, ...) {
  static long (*next)(long, ...);
  if (!next) next = dlsym(RTLD_NEXT, "syscall");
  long a[6];
  va_list arguments;
  va_start(arguments, number);
  for (int i = 0; i < 6; i++) a[i] = va_arg(arguments, long);
  va_end(arguments);
  const struct timespec *until = (const struct timespec *)a[3];
  int on_the_clock = number == SYS_futex && (a[1] & FUTEX_CLOCK_REALTIME) && until;
  if (!on_the_clock) return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  for (;;) {
    long left = nanoseconds_until(until);
    if (left <= 0) return errno = ETIMEDOUT, -1;
    struct timespec slice;
    true_time(CLOCK_REALTIME, &slice);
    slice.tv_nsec += left < SLICE ? left : SLICE;
    slice.tv_sec += slice.tv_nsec / 1000000000L, slice.tv_nsec %= 1000000000L;
    long result = next(number, a[0], a[1], a[2], &slice, a[4], a[5]);
    if (result != -1 || errno != ETIMEDOUT) return result;
  }
}
