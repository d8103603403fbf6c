/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * nudge.c - see nudge.h.
 */
#include "nudge.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel's name for it; glibc before 2.38 lacks the macro. */
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

int nudge_signal(void)
{
    return SIGRTMIN + 4;
}

static void do_nothing(int signo)
{
    (void)signo;
}

int nudge_install(void)
{
    struct sigaction act;

    memset(&act, 0, sizeof(act));
    act.sa_handler = do_nothing;        /* no SA_RESTART: that is the point */
    sigemptyset(&act.sa_mask);
    return sigaction(nudge_signal(), &act, NULL) < 0 ? -errno : 0;
}

int nudge_create(struct nudge *n)
{
    struct sigevent ev;

    memset(n, 0, sizeof(*n));
    memset(&ev, 0, sizeof(ev));
    ev.sigev_notify = SIGEV_THREAD_ID;
    ev.sigev_signo = nudge_signal();
    ev.sigev_notify_thread_id = (pid_t)syscall(SYS_gettid);
    if (timer_create(CLOCK_MONOTONIC, &ev, &n->timer) < 0)
        return -errno;
    n->created = true;
    return 0;
}

static void set_period(struct nudge *n, uint64_t period_ns)
{
    struct itimerspec when;

    when.it_interval.tv_sec = (time_t)(period_ns / 1000000000);
    when.it_interval.tv_nsec = (long)(period_ns % 1000000000);
    when.it_value = when.it_interval;
    timer_settime(n->timer, 0, &when, NULL);
}

void nudge_arm(struct nudge *n, uint64_t period_ns)
{
    if (n->armed || !n->created)
        return;
    set_period(n, period_ns);
    n->armed = true;
}

void nudge_disarm(struct nudge *n)
{
    if (!n->armed)
        return;
    set_period(n, 0);
    n->armed = false;
}

void nudge_destroy(struct nudge *n)
{
    if (n->created)
        timer_delete(n->timer);
    memset(n, 0, sizeof(*n));
}
