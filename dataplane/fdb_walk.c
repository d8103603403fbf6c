/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fdb_walk.c - what concerns the whole table: time and the sweep of the dead
 * (whoever owns the tick, usually a worker), flushing and dumping (control).
 *
 * Walks look before they lock, so that untouched buckets stay untouched: the
 * pages of an empty region are never written.
 */
#include <stdlib.h>

#include "fdb.h"
#include "fdb_write.h"
#include "policy.h"
#include "segment.h"

#define NS_PER_S 1000000000ULL
/* The sweep's slice: short enough that the largest table costs a burst some microseconds. */
#define TICK_NS (64 * 1000 * 1000)
#define TICK_BUSY UINT64_MAX
/* Longer than any age: after such a gap nothing learned is alive. */
#define GAP_MAX_S 131072

/* Frees what is expired @later seconds from the table's clock. */
static void sweep_bucket(struct fdb *fdb, struct fdb_bucket *b, uint32_t later)
{
    bool held = false;

    for (int i = 0; i < FDB_WAYS; i++) {
        if (!slot_expired(fdb, b, i, later))
            continue;
        if (!held && !bucket_try_lock(b))
            return;             /* next time round */
        held = true;
        if (slot_expired(fdb, b, i, later))
            slot_clear(fdb, b, i);
    }
    if (held)
        bucket_unlock(b);
}

/* Buckets due after so much time: all of them in sweep_s seconds. */
static uint32_t sweep_share(const struct fdb *fdb, uint64_t elapsed_ns)
{
    const uint64_t n = (uint64_t)fdb->mask + 1, round_ns = fdb->sweep_s * NS_PER_S;

    return (uint32_t)(elapsed_ns >= round_ns ? n : n * elapsed_ns / round_ns + 1);
}

/*
 * The sweep comes before the new clock is published and looks ahead to it:
 * after a long sleep of the whole switch, entries are removed while their age
 * still fits into 16 bits.
 */
void fdb_tick_slow(struct fdb *fdb, uint64_t now_ns)
{
    uint64_t due = atomic_load_explicit(&fdb->next_tick_ns, memory_order_relaxed);
    uint64_t seconds, later;

    if (now_ns < due || !atomic_compare_exchange_strong_explicit(&fdb->next_tick_ns, &due, TICK_BUSY,
                                                                 memory_order_acquire, memory_order_relaxed))
        return;
    if (!fdb->started) {
        fdb->started = true;
        fdb->start_ns = fdb->last_ns = now_ns;
    }
    seconds = (now_ns - fdb->start_ns) / NS_PER_S;
    later = seconds - fdb->seconds < GAP_MAX_S ? seconds - fdb->seconds : GAP_MAX_S;
    for (uint32_t n = sweep_share(fdb, now_ns - fdb->last_ns); n; n--)
        sweep_bucket(fdb, &fdb->bucket[fdb->sweep_at++ & fdb->mask], (uint32_t)later);
    fdb->seconds = seconds;
    fdb->last_ns = now_ns;
    atomic_store_explicit(&fdb->clock, (uint16_t)seconds, memory_order_relaxed);
    atomic_store_explicit(&fdb->next_tick_ns, now_ns + TICK_NS, memory_order_release);
}

static uint16_t segment_of(uint64_t key)
{
    return (uint16_t)(key >> 48);
}

static uint64_t mac_of(uint64_t key)
{
    return key & ((1ULL << 48) - 1);
}

/**
 * struct filter - which entries to remove
 * @port_id: of this port, or US_ANY
 * @segment: of this segment, or US_ANY
 * @pinned: pinned ones as well
 * @keep: but not in these segments; NULL: no exception
 * @policy: but not what it knows; NULL: no exception
 */
struct filter {
    uint32_t port_id;
    uint32_t segment;
    bool pinned;
    const struct port_tags *keep;
    const struct policy *policy;
};

static bool filter_hits(const struct filter *f, const struct fdb_bucket *b, int i)
{
    const uint64_t key = slot_key(b, i);
    const uint16_t port = slot_port(b, i);

    return key != FDB_EMPTY && (f->port_id == US_ANY || f->port_id == (port & FDB_PORT_MASK)) &&
           (f->segment == US_ANY || f->segment == segment_of(key)) && (f->pinned || !(port & FDB_PINNED)) &&
           !(f->keep && port_tags_vid(f->keep, segment_of(key)) != VID_NONE) &&
           !(f->policy && f->policy->knows(f->policy, mac_of(key)));
}

static uint32_t remove_all(struct fdb *fdb, const struct filter *f)
{
    uint32_t removed = 0;

    for (uint32_t n = 0; n <= fdb->mask; n++) {
        struct fdb_bucket *b = &fdb->bucket[n];
        bool held = false;

        for (int i = 0; i < FDB_WAYS; i++) {
            if (!filter_hits(f, b, i))
                continue;
            if (!held)
                bucket_lock(b);
            held = true;
            if (filter_hits(f, b, i)) {
                slot_clear(fdb, b, i);
                removed++;
            }
        }
        if (held)
            bucket_unlock(b);
    }
    return removed;
}

uint32_t fdb_flush(struct fdb *fdb, uint32_t port_id, uint32_t segment)
{
    const struct filter f = { .port_id = port_id, .segment = segment };

    return remove_all(fdb, &f);
}

void fdb_retain(struct fdb *fdb, uint32_t port_id, const struct port_tags *tags)
{
    const struct filter f = { .port_id = port_id, .segment = US_ANY, .pinned = true, .keep = tags };

    remove_all(fdb, &f);
}

void fdb_police(struct fdb *fdb, uint32_t port_id, const struct policy *policy)
{
    const struct filter f = { .port_id = port_id, .segment = US_ANY, .policy = policy };

    remove_all(fdb, &f);
}

/* Holder: false if the slot has nothing to show. */
static bool dump_slot(const struct fdb *fdb, const struct fdb_bucket *b, int i, struct us_fdb_entry *out)
{
    const uint64_t key = slot_key(b, i);
    const uint16_t port = slot_port(b, i);
    const le64 le = cpu_to_le64(key);

    if (key == FDB_EMPTY || slot_expired(fdb, b, i, 0))
        return false;
    *out = (struct us_fdb_entry){
        .segment = segment_of(key),
        .port_id = port & FDB_PORT_MASK,
        .age_s = port & FDB_PINNED ? 0 : fdb_age(atomic_load_explicit(&fdb->clock, memory_order_relaxed),
                                                 atomic_load_explicit(&b->stamp[i], memory_order_relaxed)),
        .pinned = !!(port & FDB_PINNED),
    };
    memcpy(out->mac, &le.raw, ETH_ALEN);
    return true;
}

static bool bucket_is_empty(const struct fdb_bucket *b)
{
    for (int i = 0; i < FDB_WAYS; i++) {
        if (slot_key(b, i) != FDB_EMPTY)
            return false;
    }
    return true;
}

uint32_t fdb_dump(struct fdb *fdb, uint64_t now_ns, uint64_t *cursor, struct us_fdb_entry *out, uint32_t max)
{
    /* A cursor is bucket * 8 + slot; cursor 0 is both the first slot and the end, told apart by who says it. */
    uint64_t n = *cursor / 8;
    int i = (int)(*cursor % 8);
    uint32_t copied = 0;

    fdb_tick(fdb, now_ns);
    for (; n <= fdb->mask; n++, i = 0) {
        struct fdb_bucket *b = &fdb->bucket[n];

        if (bucket_is_empty(b))
            continue;
        bucket_lock(b);
        for (; i < FDB_WAYS && copied < max; i++)
            copied += dump_slot(fdb, b, i, &out[copied]);
        bucket_unlock(b);
        if (i < FDB_WAYS) {
            *cursor = n * 8 + (uint64_t)i;
            return copied;
        }
    }
    *cursor = 0;
    return copied;
}
