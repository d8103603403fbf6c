/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fdb.h - the forwarding database: behind which port is an address of a
 * segment?  Learned from source addresses by any worker, pinned by the control
 * thread; this header holds the layout and the read side, which is inline.
 *
 * Theory of operation
 *
 * A fixed table of buckets, each one cache line with five entries.  An entry
 * lives in one of two buckets, chosen by a hash of (segment, address), and
 * never moves to the other, so the cost of a frame is bounded by two cache
 * lines whatever is in the table (threats R4).
 *
 * Hash: SipHash-1-3 with a seed from getrandom() at each start.  Guests choose
 * the keys and can see collisions (an address of theirs that is not learned is
 * flooded), so a multiplicative hash, linear in the key, could be solved for a
 * set that fills two buckets; a PRF cannot.  Its 70 instructions are paid once
 * a run of equal addresses (switch.c), and not at all for an address that a
 * worker knows its way to (fdb_memo.h).  Behind the hash
 * stands fair eviction: even in a full bucket a port displaces only entries of
 * ports that have more than itself.
 *
 * Concurrency: each bucket is a seqlock.  A writer makes the version odd by
 * compare-and-swap, both candidate buckets of a key in ascending order when it
 * inserts (no address can be in twice), and even again at the end.  Readers
 * retry a bounded number of times and then say "unknown", which floods.  All
 * data stores are releases and all data loads acquires (plain moves on x86):
 * a reader that saw a writer's data also sees its odd version [A].  Refreshing
 * an age stamp takes no lock: it says "now", true for whatever entry the slot
 * holds by then.
 *
 * Time is in seconds, 16 bits, one clock for all workers (fdb_tick).  An entry
 * that outlived its age is no entry.  fdb_tick() also sweeps the table in small
 * slices, so that a port's quota is not used up by the dead, and so that no
 * stamp can wrap round and look young again.
 */
#ifndef USWITCH_FDB_H
#define USWITCH_FDB_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "base/le.h"
#include "base/siphash.h"
#include "base/spin.h"
#include "include/uswitch.h"
#include "port.h"

struct port_tags;

#define FDB_WAYS 5
#define FDB_BUCKETS_MAX 1048576
#define FDB_NONE (-1)           /* no such address */
#define FDB_CHANGED (-2)        /* fdb_read_slot(): ask again */
#define FDB_EMPTY 0             /* key of a free slot; segment 0 does not exist */
#define FDB_PINNED 0x8000       /* flag in fdb_bucket.port */
#define FDB_PORT_MASK 0x7fff
/* A writer is done within some tens of nanoseconds; one that was preempted is not waited for. */
#define FDB_READ_TRIES 16
/* Ages in 16 bits: above this, a stamp is not old but from a worker that saw the clock tick before us. */
#define FDB_AGE_AHEAD 65500

/**
 * struct fdb_bucket - five entries, one cache line (writer: holder of the odd version)
 * @key: segment << 48 | address as a little-endian number, or FDB_EMPTY
 * @port: port id, with FDB_PINNED
 * @stamp: clock when last seen; meaningless for pinned entries (writer: any worker)
 * @version: odd while being written
 */
struct fdb_bucket {
    _Atomic uint64_t key[FDB_WAYS];
    _Atomic uint16_t port[FDB_WAYS];
    _Atomic uint16_t stamp[FDB_WAYS];
    _Atomic uint32_t version;
} __attribute__((aligned(64)));

/**
 * struct fdb - the table
 */
struct fdb {
    /* immutable */
    struct fdb_bucket *bucket;  /* own mapping */
    uint32_t mask;              /* number of buckets - 1 */
    uint32_t age_s;
    uint32_t sweep_s;           /* every bucket is swept once in so many seconds */
    struct siphash_seed seed;
    _Atomic(struct port *) *ports;  /* borrowed: switch_core.port; for counts and quotas */
    struct us_switch_page *page;    /* borrowed: counters */

    /* any worker reads; written by whoever owns the tick */
    _Atomic uint16_t clock;     /* seconds, wraps */
    _Atomic uint64_t next_tick_ns;  /* FDB_TICK_BUSY: somebody owns the tick */

    /* owner of the tick */
    bool started;               /* false before the first tick */
    uint64_t start_ns;
    uint64_t last_ns;
    uint64_t seconds;           /* since start_ns; the clock is its low half */
    uint32_t sweep_at;          /* next bucket */
};

/* What became of a source address. */
enum fdb_learned {
    FDB_KNOWN,                  /* was there already */
    FDB_NEW,
    FDB_MOVED,                  /* was behind another port */
    FDB_HELD,                   /* pinned to another port, stays there */
    FDB_REFUSED,                /* quota, or both buckets full of entries that may not be displaced */
    FDB_BUSY,                   /* another writer did not let go; the next frame will do it */
};

/**
 * fdb_create() - make an empty table
 * @n_buckets: power of two, 16 .. 1048576
 * @age_s: 1 .. 65000
 * @ports: port of each id, borrowed; entries of a port that is NULL here count as dead
 * @page: where fdb_entries and its neighbours are counted, borrowed
 *
 * Return: 0, -EINVAL, -ENOMEM or what getrandom() said.
 */
int fdb_create(uint32_t n_buckets, uint32_t age_s, _Atomic(struct port *) *ports, struct us_switch_page *page,
               struct fdb **out);
void fdb_destroy(struct fdb *fdb);      /* control, after the workers have gone; NULL is legal */

/* The owner's half of fdb_tick(). */
void fdb_tick_slow(struct fdb *fdb, uint64_t now_ns);

/* Worker, once a burst; control before a dump: let time pass. now_ns: CLOCK_MONOTONIC. */
static inline void fdb_tick(struct fdb *fdb, uint64_t now_ns)
{
    if (__builtin_expect(now_ns >= atomic_load_explicit(&fdb->next_tick_ns, memory_order_relaxed), 0))
        fdb_tick_slow(fdb, now_ns);
}

/* Key of a segment and an address given as a little-endian number of 48 bits. */
static inline uint64_t fdb_key(uint16_t segment, uint64_t mac48)
{
    return (uint64_t)segment << 48 | mac48;
}

/* Key of a segment and the six bytes of an address. */
static inline uint64_t fdb_key_bytes(uint16_t segment, const uint8_t mac[ETH_ALEN])
{
    le64 le = { 0 };

    memcpy(&le.raw, mac, ETH_ALEN);
    return fdb_key(segment, le64_to_cpu(le));
}

static inline uint64_t fdb_hash(const struct fdb *fdb, uint64_t key)
{
    return siphash13_u64(&fdb->seed, key);
}

/* The candidate buckets of a hash; always two different ones. */
static inline uint32_t fdb_first(const struct fdb *fdb, uint64_t hash)
{
    return (uint32_t)hash & fdb->mask;
}

static inline uint32_t fdb_second(const struct fdb *fdb, uint64_t hash)
{
    const uint32_t second = (uint32_t)(hash >> 32) & fdb->mask;

    return second != fdb_first(fdb, hash) ? second : second ^ 1;
}

/* Ask for both buckets early; a burst does it for all its frames before the first lookup. */
static inline void fdb_prefetch(const struct fdb *fdb, uint64_t hash)
{
    __builtin_prefetch(&fdb->bucket[fdb_first(fdb, hash)]);
    __builtin_prefetch(&fdb->bucket[fdb_second(fdb, hash)]);
}

/* Seconds since the stamp was made, by a clock that may be a little behind it. */
static inline uint16_t fdb_age(uint16_t clock, uint16_t stamp)
{
    const uint16_t age = (uint16_t)(clock - stamp);

    return age > FDB_AGE_AHEAD ? 0 : age;
}

/* Slot of a key in a bucket, FDB_NONE if it is not there; true if the version was the same before and after. */
static inline int fdb_slot(const struct fdb_bucket *b, uint64_t key)
{
    for (int i = 0; i < FDB_WAYS; i++) {
        if (atomic_load_explicit(&b->key[i], memory_order_acquire) == key)
            return i;
    }
    return FDB_NONE;
}

/* Port of a slot that held the key a moment ago; FDB_CHANGED if a writer was there, or the key is not. */
static inline int fdb_read_slot(const struct fdb *fdb, const struct fdb_bucket *b, uint64_t key, uint32_t way)
{
    const uint32_t version = atomic_load_explicit(&b->version, memory_order_acquire);
    const uint64_t found = atomic_load_explicit(&b->key[way], memory_order_acquire);
    const uint16_t port = atomic_load_explicit(&b->port[way], memory_order_acquire);
    const uint16_t stamp = atomic_load_explicit(&b->stamp[way], memory_order_acquire);

    /* [A] pairs with bucket_lock() in fdb.c */
    if ((version & 1) || atomic_load_explicit(&b->version, memory_order_relaxed) != version || found != key)
        return FDB_CHANGED;
    if (!(port & FDB_PINNED) &&
        fdb_age(atomic_load_explicit(&fdb->clock, memory_order_relaxed), stamp) > fdb->age_s)
        return FDB_NONE;
    return port & FDB_PORT_MASK;
}

/* Port of a key in one bucket. */
static inline int fdb_read(const struct fdb *fdb, const struct fdb_bucket *b, uint64_t key)
{
    for (unsigned try = 0; try < FDB_READ_TRIES; try++) {
        const uint32_t version = atomic_load_explicit(&b->version, memory_order_acquire);
        const int way = fdb_slot(b, key);

        if (way >= 0) {
            const int port = fdb_read_slot(fdb, b, key, (uint32_t)way);

            if (port != FDB_CHANGED)
                return port;
        } else if (!(version & 1) && atomic_load_explicit(&b->version, memory_order_relaxed) == version) {
            return FDB_NONE;
        }
        spin_pause();
    }
    return FDB_NONE;
}

/**
 * fdb_lookup() - where is this address?
 * @key: fdb_key() with a segment that is not US_SEGMENT_NONE
 * @hash: fdb_hash() of it
 *
 * Any thread, no lock.  Return: port id, or FDB_NONE (also when a writer is in the way for long).
 */
static inline int fdb_lookup(const struct fdb *fdb, uint64_t key, uint64_t hash)
{
    const int port = fdb_read(fdb, &fdb->bucket[fdb_first(fdb, hash)], key);

    if (__builtin_expect(port != FDB_NONE, 1))
        return port;
    return fdb_read(fdb, &fdb->bucket[fdb_second(fdb, hash)], key);
}

/* The slot's address was seen behind a port: true if that is nothing new, then its age begins again. */
static inline bool fdb_slot_refresh(const struct fdb *fdb, struct fdb_bucket *b, uint32_t way, const struct port *p)
{
    const uint16_t port = atomic_load_explicit(&b->port[way], memory_order_relaxed);
    const uint16_t clock = atomic_load_explicit(&fdb->clock, memory_order_relaxed);
    const uint16_t stamp = atomic_load_explicit(&b->stamp[way], memory_order_relaxed);

    if (port == (p->id | FDB_PINNED))
        return true;
    if (__builtin_expect(port != p->id || fdb_age(clock, stamp) > fdb->age_s, 0))
        return false;
    if (stamp != clock)
        atomic_store_explicit(&b->stamp[way], clock, memory_order_relaxed);
    return true;
}

/* The writer's half of fdb_learn(). */
enum fdb_learned fdb_learn_slow(struct fdb *fdb, uint64_t key, uint64_t hash, struct port *p);

/**
 * fdb_learn() - this address was seen behind that port
 * @key: fdb_key() of segment and source
 * @hash: fdb_hash() of it
 * @p: where the frame came from
 *
 * Worker.  A known address costs two loads, and one store when its stamp is of an earlier second.
 * Moves and evictions are counted in the switch page; refusals are left to the caller (once a burst).
 */
static inline enum fdb_learned fdb_learn(struct fdb *fdb, uint64_t key, uint64_t hash, struct port *p)
{
    struct fdb_bucket *b = &fdb->bucket[fdb_first(fdb, hash)];
    int i = fdb_slot(b, key);

    if (i < 0) {
        b = &fdb->bucket[fdb_second(fdb, hash)];
        i = fdb_slot(b, key);
    }
    if (__builtin_expect(i >= 0 && fdb_slot_refresh(fdb, b, (uint32_t)i, p), 1))
        return FDB_KNOWN;
    return fdb_learn_slow(fdb, key, hash, p);
}

/**
 * fdb_pin() - bind an address to a port until fdb_unpin() or fdb_retain()
 *
 * Control thread.  A learned entry of that address, or if need be any other learned one, makes room.
 * Return: 0, also if it is pinned there already; -EEXIST if it is pinned to another port; -ENOSPC if both
 * buckets are full of pinned addresses.
 */
int fdb_pin(struct fdb *fdb, uint64_t key, const struct port *p);

/* Control: undo fdb_pin(); an address that is not pinned to the port is left alone. */
void fdb_unpin(struct fdb *fdb, uint64_t key, const struct port *p);

/**
 * fdb_flush() - remove learned addresses
 * @port_id: of this port, or US_ANY
 * @segment: of this segment, or US_ANY
 *
 * Control thread.  Return: how many were removed.
 */
uint32_t fdb_flush(struct fdb *fdb, uint32_t port_id, uint32_t segment);

/**
 * fdb_retain() - remove what a port has, pinned addresses too, outside the segments of its tag table
 * @tags: the table; NULL: in no segment, everything goes
 *
 * Control thread, when no worker learns for the port in those segments any more.
 */
void fdb_retain(struct fdb *fdb, uint32_t port_id, const struct port_tags *tags);

/**
 * fdb_police() - remove what a port has taught, but not what its policy knows
 * @policy: in force; not NULL
 *
 * Control thread, when no worker learns by another policy any more.
 */
void fdb_police(struct fdb *fdb, uint32_t port_id, const struct policy *policy);

/**
 * fdb_dump() - copy entries out
 * @now_ns: CLOCK_MONOTONIC, for the ages
 * @cursor: 0 to start, then what the previous call left; 0 at the end.  Any value is legal
 * @out: @max entries
 *
 * Control thread.  Each entry was true at some moment during the call; what changes between calls may be
 * missing or, if it left and came back, occur twice.  Return: entries copied.
 */
uint32_t fdb_dump(struct fdb *fdb, uint64_t now_ns, uint64_t *cursor, struct us_fdb_entry *out, uint32_t max);

#endif /* USWITCH_FDB_H */
