/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fdb_write.h - how a bucket is written; shared by fdb.c (single addresses)
 * and fdb_walk.c (the whole table), included by nobody else.
 *
 * Workers wait for a bucket a bounded time only, since learning can wait for
 * the next frame; the control thread waits as long as it takes.
 */
#ifndef USWITCH_FDB_WRITE_H
#define USWITCH_FDB_WRITE_H

#include <sched.h>

#include "base/spin.h"
#include "fdb.h"

/* A holder is done after some tens of nanoseconds, unless it was preempted. */
#define BUCKET_TRIES 32

static inline bool bucket_lock_once(struct fdb_bucket *b)
{
    uint32_t version = atomic_load_explicit(&b->version, memory_order_relaxed);

    /* [A] what is stored from here on (as releases) is not visible before the odd version. */
    return !(version & 1) && atomic_compare_exchange_strong_explicit(&b->version, &version, version + 1,
                                                                     memory_order_acquire, memory_order_relaxed);
}

/* Worker. False: somebody holds it for long. */
static inline bool bucket_try_lock(struct fdb_bucket *b)
{
    for (unsigned i = 0; i < BUCKET_TRIES; i++) {
        if (bucket_lock_once(b))
            return true;
        spin_pause();
    }
    return false;
}

/* Control thread. Workers hold a bucket for a bounded time and never while they sleep. */
static inline void bucket_lock(struct fdb_bucket *b)
{
    while (!bucket_try_lock(b))
        sched_yield();
}

static inline void bucket_unlock(struct fdb_bucket *b)
{
    const uint32_t version = atomic_load_explicit(&b->version, memory_order_relaxed);

    atomic_store_explicit(&b->version, version + 1, memory_order_release);
}

static inline uint64_t slot_key(const struct fdb_bucket *b, int i)
{
    return atomic_load_explicit(&b->key[i], memory_order_relaxed);
}

static inline uint16_t slot_port(const struct fdb_bucket *b, int i)
{
    return atomic_load_explicit(&b->port[i], memory_order_relaxed);
}

/* A learned entry that outlived its age, seen at a clock @later seconds ahead of the table's. */
static inline bool slot_expired(const struct fdb *fdb, const struct fdb_bucket *b, int i, uint32_t later)
{
    const uint16_t clock = atomic_load_explicit(&fdb->clock, memory_order_relaxed);
    const uint16_t stamp = atomic_load_explicit(&b->stamp[i], memory_order_relaxed);

    return slot_key(b, i) != FDB_EMPTY && !(slot_port(b, i) & FDB_PINNED) &&
           fdb_age(clock, stamp) + later > fdb->age_s;
}

/* Entries learned from the port an entry belongs to; a port that is gone has more than anybody. */
static inline uint32_t owner_count(const struct fdb *fdb, uint16_t port)
{
    struct port *p = atomic_load_explicit(&fdb->ports[port & FDB_PORT_MASK], memory_order_acquire);

    return p ? atomic_load_explicit(&p->fdb_count, memory_order_relaxed) : UINT32_MAX;
}

/* A learned entry of that port is no more. */
static inline void owner_forget(const struct fdb *fdb, uint16_t port)
{
    struct port *p = atomic_load_explicit(&fdb->ports[port & FDB_PORT_MASK], memory_order_acquire);

    if (p && !(port & FDB_PINNED))
        atomic_fetch_sub_explicit(&p->fdb_count, 1, memory_order_relaxed);
}

/* Holder: the slot becomes free. */
static inline void slot_clear(struct fdb *fdb, struct fdb_bucket *b, int i)
{
    owner_forget(fdb, slot_port(b, i));
    atomic_store_explicit(&b->key[i], FDB_EMPTY, memory_order_release);
    __atomic_fetch_sub(&fdb->page->fdb_entries, 1, __ATOMIC_RELAXED);
}

#endif /* USWITCH_FDB_WRITE_H */
