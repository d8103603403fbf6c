/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * rcu.h - thin names over liburcu's QSBR flavour, the one way by which the
 * control thread changes what workers read: prepare, publish with one release
 * store, rcu_wait(), free.
 *
 * QSBR costs readers nothing inside a turn: all of it is a read-side section,
 * and between turns the worker says so (rcu_worker_quiescent).  A worker that
 * sleeps is offline and holds nobody up.  Publishing and reading is done with
 * C11 atomics (store release, load acquire/consume) at the place of use.
 *
 * ThreadSanitizer cannot see liburcu's barriers: the one edge a grace period
 * gives, "everything a reader did before its quiescent state happened before
 * rcu_wait() returned", is told to it by hand.
 */
#ifndef USWITCH_RCU_H
#define USWITCH_RCU_H

#include <urcu-qsbr.h>

#if defined(__SANITIZE_THREAD__)
#define RCU_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define RCU_TSAN 1
#endif
#endif

#ifdef RCU_TSAN
#include <sanitizer/tsan_interface.h>
/* Any address that all translation units share will do as the name of the edge. */
#define RCU_TSAN_EDGE ((void *)(uintptr_t)&urcu_qsbr_flavor)
#define RCU_TSAN_RELEASE() __tsan_release(RCU_TSAN_EDGE)
#define RCU_TSAN_ACQUIRE() __tsan_acquire(RCU_TSAN_EDGE)
#else
#define RCU_TSAN_RELEASE() ((void)0)
#define RCU_TSAN_ACQUIRE() ((void)0)
#endif

/* Worker: from now on grace periods wait for this thread. It starts online. */
static inline void rcu_worker_register(void)
{
    urcu_qsbr_register_thread();
}

/* Worker: no longer; before the thread ends. */
static inline void rcu_worker_unregister(void)
{
    RCU_TSAN_RELEASE();
    urcu_qsbr_unregister_thread();
}

/* Worker: I hold no pointer from before this call. Cheap when no grace period is waiting. */
static inline void rcu_worker_quiescent(void)
{
    RCU_TSAN_RELEASE();
    urcu_qsbr_quiescent_state();
}

/* Worker: going to sleep, holding nothing; grace periods pass without me until rcu_worker_online(). */
static inline void rcu_worker_offline(void)
{
    RCU_TSAN_RELEASE();
    urcu_qsbr_thread_offline();
}

/* Worker: awake again; reads that follow see everything published before. */
static inline void rcu_worker_online(void)
{
    urcu_qsbr_thread_online();
}

/*
 * Control: wait until every worker has passed a quiescent state; what was unpublished before may be freed
 * after.  Legal from registered threads (they count as quiescent meanwhile) and unregistered ones.  Blocks:
 * as long as the longest turn of a worker.
 */
static inline void rcu_wait(void)
{
    RCU_TSAN_RELEASE();
    urcu_qsbr_synchronize_rcu();
    RCU_TSAN_ACQUIRE();
}

#endif /* USWITCH_RCU_H */
