/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fdb.c - the write side of the forwarding database for single addresses:
 * learning (workers) and pinning (control thread).  fdb.h tells how the table
 * works, fdb_walk.c does what concerns the whole of it.
 */
#include "fdb.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "fdb_write.h"

#define BUCKETS_MIN 16
#define AGE_MAX_S 65000
/* Swept often enough that an age never comes near the wrap of 16 bits: 65000 + 3 * 134 < FDB_AGE_AHEAD. */
#define SWEEP_MIN_S 16
#define SWEEP_MAX_S 134

static_assert(sizeof(struct fdb_bucket) == 64, "a bucket is one cache line");
static_assert(US_PORTS_MAX - 1 <= FDB_PORT_MASK, "a port id and a flag fit into 16 bits");
static_assert(US_SEGMENTS_MAX <= 1 << 16, "a segment and an address fit into 64 bits");

int fdb_create(uint32_t n_buckets, uint32_t age_s, _Atomic(struct port *) *ports, struct us_switch_page *page,
               struct fdb **out)
{
    const size_t bytes = n_buckets * sizeof(struct fdb_bucket);
    struct fdb *fdb;
    void *table;
    int rc;

    *out = NULL;
    if (n_buckets < BUCKETS_MIN || n_buckets > FDB_BUCKETS_MAX || (n_buckets & (n_buckets - 1)) || age_s < 1 ||
        age_s > AGE_MAX_S)
        return -EINVAL;
    fdb = calloc(1, sizeof(*fdb));
    if (!fdb)
        return -ENOMEM;
    if (getrandom(&fdb->seed, sizeof(fdb->seed), 0) != (ssize_t)sizeof(fdb->seed)) {
        rc = errno ? -errno : -EIO;
        goto fail;
    }
    /* Zero pages until used: the size is a capacity, not a cost. */
    table = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (table == MAP_FAILED) {
        rc = -ENOMEM;
        goto fail;
    }
    fdb->bucket = table;
    fdb->mask = n_buckets - 1;
    fdb->age_s = age_s;
    fdb->sweep_s = age_s / 4 < SWEEP_MIN_S ? SWEEP_MIN_S : age_s / 4 > SWEEP_MAX_S ? SWEEP_MAX_S : age_s / 4;
    fdb->ports = ports;
    fdb->page = page;
    page->fdb_capacity = (uint64_t)n_buckets * FDB_WAYS;
    *out = fdb;
    return 0;
fail:
    free(fdb);
    return rc;
}

void fdb_destroy(struct fdb *fdb)
{
    if (!fdb)
        return;
    munmap(fdb->bucket, ((size_t)fdb->mask + 1) * sizeof(struct fdb_bucket));
    free(fdb);
}

/**
 * struct pair - the two candidate buckets of a key, while both are held
 * @b: ascending by address, the order in which everybody takes them
 */
struct pair {
    struct fdb_bucket *b[2];
};

static struct pair pair_of(const struct fdb *fdb, uint64_t hash)
{
    struct fdb_bucket *x = &fdb->bucket[fdb_first(fdb, hash)], *y = &fdb->bucket[fdb_second(fdb, hash)];

    return x < y ? (struct pair){ { x, y } } : (struct pair){ { y, x } };
}

static bool pair_try_lock(const struct pair *pair)
{
    if (!bucket_try_lock(pair->b[0]))
        return false;
    if (bucket_try_lock(pair->b[1]))
        return true;
    bucket_unlock(pair->b[0]);
    return false;
}

static void pair_unlock(const struct pair *pair)
{
    bucket_unlock(pair->b[1]);
    bucket_unlock(pair->b[0]);
}

/**
 * struct place - a slot
 * @b: its bucket; NULL: none
 * @i: its number there
 */
struct place {
    struct fdb_bucket *b;
    int i;
};

static struct place pair_find(const struct pair *pair, uint64_t key)
{
    for (unsigned k = 0; k < 2; k++) {
        const int i = fdb_slot(pair->b[k], key);

        if (i >= 0)
            return (struct place){ pair->b[k], i };
    }
    return (struct place){ NULL, 0 };
}

/* A free slot in the emptier of the two buckets; the dead make room first. */
static struct place pair_room(struct fdb *fdb, const struct pair *pair)
{
    struct place best = { NULL, 0 };
    int best_free = 0;

    for (unsigned k = 0; k < 2; k++) {
        struct fdb_bucket *b = pair->b[k];
        int free_slots = 0, slot = 0;

        for (int i = FDB_WAYS - 1; i >= 0; i--) {
            if (slot_expired(fdb, b, i, 0))
                slot_clear(fdb, b, i);
            if (slot_key(b, i) == FDB_EMPTY) {
                free_slots++;
                slot = i;
            }
        }
        if (free_slots > best_free) {
            best_free = free_slots;
            best = (struct place){ b, slot };
        }
    }
    return best;
}

/*
 * The oldest learned entry of the port that has most, if that is more than
 * @more_than and not the port @spare (US_ANY: none); its slot becomes free.
 */
static struct place pair_evict(struct fdb *fdb, const struct pair *pair, uint32_t spare, uint32_t more_than)
{
    const uint16_t clock = atomic_load_explicit(&fdb->clock, memory_order_relaxed);
    struct place best = { NULL, 0 };
    uint32_t best_count = more_than;
    uint16_t best_age = 0;

    for (unsigned n = 0; n < 2 * FDB_WAYS; n++) {
        struct fdb_bucket *b = pair->b[n / FDB_WAYS];
        const int i = n % FDB_WAYS;
        const uint16_t port = slot_port(b, i);
        const uint16_t age = fdb_age(clock, atomic_load_explicit(&b->stamp[i], memory_order_relaxed));
        const uint32_t count = owner_count(fdb, port);

        if ((port & FDB_PINNED) || port == spare || count < best_count ||
            (count == best_count && (!best.b || age <= best_age)))
            continue;
        best = (struct place){ b, i };
        best_count = count;
        best_age = age;
    }
    if (best.b) {
        slot_clear(fdb, best.b, best.i);
        __atomic_fetch_add(&fdb->page->fdb_evicted, 1, __ATOMIC_RELAXED);
    }
    return best;
}

/* Holder: a new entry in a free slot. The key last, though nobody believes it before the version is even. */
static void place_fill(struct fdb *fdb, struct place at, uint64_t key, uint16_t port)
{
    const uint16_t clock = atomic_load_explicit(&fdb->clock, memory_order_relaxed);

    atomic_store_explicit(&at.b->port[at.i], port, memory_order_release);
    atomic_store_explicit(&at.b->stamp[at.i], clock, memory_order_release);
    atomic_store_explicit(&at.b->key[at.i], key, memory_order_release);
    __atomic_fetch_add(&fdb->page->fdb_entries, 1, __ATOMIC_RELAXED);
}

/* Takes one of the port's quota; false if it is used up. *before: what the port had. */
static bool quota_take(struct port *p, uint32_t *before)
{
    *before = atomic_fetch_add_explicit(&p->fdb_count, 1, memory_order_relaxed);
    if (*before < atomic_load_explicit(&p->fdb_quota, memory_order_relaxed))
        return true;
    atomic_fetch_sub_explicit(&p->fdb_count, 1, memory_order_relaxed);
    return false;
}

static bool quota_used_up(const struct port *p)
{
    return atomic_load_explicit(&p->fdb_count, memory_order_relaxed) >=
           atomic_load_explicit(&p->fdb_quota, memory_order_relaxed);
}

/* Holder: the address is there. */
static enum fdb_learned learn_again(struct fdb *fdb, struct place at, struct port *p)
{
    const uint16_t clock = atomic_load_explicit(&fdb->clock, memory_order_relaxed);
    const uint16_t port = slot_port(at.b, at.i);
    const bool expired = slot_expired(fdb, at.b, at.i, 0);
    uint32_t before;

    if (port & FDB_PINNED)
        return (port & FDB_PORT_MASK) == p->id ? FDB_KNOWN : FDB_HELD;
    if (port != p->id) {
        if (!quota_take(p, &before))
            return FDB_REFUSED;
        owner_forget(fdb, port);
        atomic_store_explicit(&at.b->port[at.i], (uint16_t)p->id, memory_order_release);
    }
    atomic_store_explicit(&at.b->stamp[at.i], clock, memory_order_release);
    if (port == p->id)
        return FDB_KNOWN;
    if (expired)
        return FDB_NEW;
    __atomic_fetch_add(&fdb->page->fdb_moves, 1, __ATOMIC_RELAXED);
    return FDB_MOVED;
}

/* Holder: the address is not there. */
static enum fdb_learned learn_new(struct fdb *fdb, const struct pair *pair, uint64_t key, struct port *p)
{
    struct place at = pair_room(fdb, pair);     /* may free some of our own quota */
    uint32_t before;

    if (!quota_take(p, &before))
        return FDB_REFUSED;
    if (!at.b)
        at = pair_evict(fdb, pair, p->id, before);
    if (!at.b) {
        atomic_fetch_sub_explicit(&p->fdb_count, 1, memory_order_relaxed);
        return FDB_REFUSED;
    }
    place_fill(fdb, at, key, (uint16_t)p->id);
    return FDB_NEW;
}

enum fdb_learned fdb_learn_slow(struct fdb *fdb, uint64_t key, uint64_t hash, struct port *p)
{
    const struct pair pair = pair_of(fdb, hash);
    struct place at = pair_find(&pair, key);
    enum fdb_learned learned;

    /* Cheap answers for floods of addresses and for spoofers, who must not make others wait for a bucket. */
    if (at.b && (slot_port(at.b, at.i) & FDB_PINNED) && slot_port(at.b, at.i) != (p->id | FDB_PINNED))
        return FDB_HELD;
    if (quota_used_up(p) && !(at.b && slot_port(at.b, at.i) == p->id))
        return FDB_REFUSED;

    if (!pair_try_lock(&pair))
        return FDB_BUSY;
    at = pair_find(&pair, key);
    learned = at.b ? learn_again(fdb, at, p) : learn_new(fdb, &pair, key, p);
    pair_unlock(&pair);
    return learned;
}

int fdb_pin(struct fdb *fdb, uint64_t key, const struct port *p)
{
    const struct pair pair = pair_of(fdb, fdb_hash(fdb, key));
    struct place at;
    int rc = 0;

    bucket_lock(pair.b[0]);
    bucket_lock(pair.b[1]);
    at = pair_find(&pair, key);
    if (at.b && (slot_port(at.b, at.i) & FDB_PINNED)) {
        rc = (slot_port(at.b, at.i) & FDB_PORT_MASK) == p->id ? 0 : -EEXIST;
        goto out;
    }
    if (at.b)
        slot_clear(fdb, at.b, at.i);
    else
        at = pair_room(fdb, &pair);
    if (!at.b)
        at = pair_evict(fdb, &pair, US_ANY, 0);
    if (at.b)
        place_fill(fdb, at, key, (uint16_t)(p->id | FDB_PINNED));
    else
        rc = -ENOSPC;
out:
    pair_unlock(&pair);
    return rc;
}

void fdb_unpin(struct fdb *fdb, uint64_t key, const struct port *p)
{
    const struct pair pair = pair_of(fdb, fdb_hash(fdb, key));
    struct place at;

    bucket_lock(pair.b[0]);
    bucket_lock(pair.b[1]);
    at = pair_find(&pair, key);
    if (at.b && slot_port(at.b, at.i) == (p->id | FDB_PINNED))
        slot_clear(fdb, at.b, at.i);
    pair_unlock(&pair);
}
