/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fdb_memo.h - where a worker found an address last: the fast way to an entry
 * of the forwarding database (fdb.h), for frames whose addresses change from
 * one to the next.
 *
 * A memo is a table of guesses, private to a worker and to one FDB.  A guess names a slot of
 * the FDB, and the slot itself says whether it holds the key, so a guess may
 * be wrong, old, or made for another key: nothing has to be invalidated, and
 * who chooses addresses that share a guess only takes the way without one.
 * Right, it saves the SipHash, the search of two buckets, and above all the
 * mispredicted branches of that search (a slot is anywhere among ten).
 *
 * Four bytes a guess, so that thousands of addresses stay in the second level
 * cache.  The index is a multiplication, which needs no secret here.
 */
#ifndef USWITCH_FDB_MEMO_H
#define USWITCH_FDB_MEMO_H

#include "fdb.h"

#define FDB_MEMO_BITS 15
/* Low bits of a guess: slot, as bucket * 8 + way, 2^20 buckets at most; above them the key's tag. */
#define FDB_MEMO_PLACE 23
#define FDB_NOWHERE UINT32_MAX
/*
 * More addresses than guesses must not cost more than none at all: one miss in so many leaves a guess, and after a
 * burst in which a quarter failed so many bursts go without; they leave fewer.  Odd, so that it is not always the
 * same ones when addresses come round and round.
 */
#define FDB_REMEMBER_EVERY 5
#define FDB_REMEMBER_RESTING 33
#define FDB_MEMO_REST 16

/**
 * struct fdb_memo - the guesses of a worker; zeroed memory is a valid one
 * @misses: times in this burst that the slow way was taken
 * @count: times ever
 * @rest: bursts to go without
 * @guess: tag and slot of a key that has this index
 */
struct fdb_memo {
    uint32_t misses;
    uint32_t count;
    uint32_t rest;
    uint32_t guess[1u << FDB_MEMO_BITS];
};

/**
 * struct fdb_seek - an address that is going to be looked for (worker's scratch)
 * @key: FDB key
 * @hash: of the key, if @place is FDB_NOWHERE
 * @place: the guess, bucket * 8 + way, or FDB_NOWHERE
 */
struct fdb_seek {
    uint64_t key;
    uint64_t hash;
    uint32_t place;
};

/* Both halves of a long product: also keys that differ in one byte only come to lie apart. */
static inline uint64_t fdb_memo_mix(uint64_t key)
{
    const unsigned __int128 product = (unsigned __int128)key * 0x9e3779b97f4a7c15ULL;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint32_t fdb_memo_index(uint64_t mix)
{
    return (uint32_t)mix & ((1u << FDB_MEMO_BITS) - 1);
}

static inline uint32_t fdb_memo_tag(uint64_t mix)
{
    return (uint32_t)(mix >> 32) << FDB_MEMO_PLACE;
}

/**
 * fdb_seek() - begin: guess or hash, and ask for the cache lines
 * @fdb: table
 * @m: the worker's memo
 * @s: to fill
 * @key: FDB key
 */
static inline void fdb_seek(const struct fdb *fdb, const struct fdb_memo *m, struct fdb_seek *s, uint64_t key)
{
    s->key = key;
    if (__builtin_expect(m->rest == 0, 1)) {
        const uint64_t mix = fdb_memo_mix(key);
        const uint32_t place = m->guess[fdb_memo_index(mix)] ^ fdb_memo_tag(mix);

        if (__builtin_expect(place >> FDB_MEMO_PLACE == 0, 1)) {
            s->place = place;
            __builtin_prefetch(&fdb->bucket[place >> 3]);
            return;
        }
    }
    s->place = FDB_NOWHERE;
    s->hash = fdb_hash(fdb, key);
    fdb_prefetch(fdb, s->hash);
}

/* The bucket of the guess if the key was in that slot a moment ago, else NULL. */
static inline struct fdb_bucket *fdb_seek_bucket(const struct fdb *fdb, const struct fdb_seek *s)
{
    struct fdb_bucket *b;

    if (__builtin_expect(s->place == FDB_NOWHERE, 0))
        return NULL;
    b = &fdb->bucket[s->place >> 3];
    return atomic_load_explicit(&b->key[s->place & 7], memory_order_acquire) == s->key ? b : NULL;
}

/* No guess, or a wrong one: hash if fdb_seek() did not, and now and then leave a guess for the next time. */
void fdb_seek_missed(const struct fdb *fdb, struct fdb_memo *m, struct fdb_seek *s);

static inline void fdb_seek_miss(const struct fdb *fdb, struct fdb_memo *m, struct fdb_seek *s)
{
    const uint32_t every = m->rest == 0 ? FDB_REMEMBER_EVERY : FDB_REMEMBER_RESTING;

    m->misses++;
    if (s->place != FDB_NOWHERE || m->count++ % every == 0)
        fdb_seek_missed(fdb, m, s);
}

/* Worker, after each burst of @n seeks. */
static inline void fdb_memo_judge(struct fdb_memo *m, uint32_t n)
{
    if (__builtin_expect(m->rest != 0, 0))
        m->rest--;
    else if (__builtin_expect(m->misses > FDB_REMEMBER_EVERY && m->misses > n / 4, 0))
        m->rest = FDB_MEMO_REST;
    m->misses = 0;
}

/**
 * fdb_seek_lookup() - fdb_lookup() of what fdb_seek() began
 * @fdb: table
 * @m: the worker's memo
 * @s: from fdb_seek()
 *
 * Return: port id or FDB_NONE.
 */
static inline int fdb_seek_lookup(const struct fdb *fdb, struct fdb_memo *m, struct fdb_seek *s)
{
    const struct fdb_bucket *const b = fdb_seek_bucket(fdb, s);
    int port;

    if (__builtin_expect(b != NULL, 1)) {
        port = fdb_read_slot(fdb, b, s->key, s->place & 7);
        if (__builtin_expect(port != FDB_CHANGED, 1))
            return port;
    }
    fdb_seek_miss(fdb, m, s);
    return fdb_lookup(fdb, s->key, s->hash);
}

/**
 * fdb_seek_learn() - fdb_learn() of what fdb_seek() began
 * @fdb: table
 * @m: the worker's memo
 * @s: from fdb_seek()
 * @p: where the frame came from
 */
static inline enum fdb_learned fdb_seek_learn(struct fdb *fdb, struct fdb_memo *m, struct fdb_seek *s,
                                              struct port *p)
{
    struct fdb_bucket *const b = fdb_seek_bucket(fdb, s);

    if (__builtin_expect(b != NULL && fdb_slot_refresh(fdb, b, s->place & 7, p), 1))
        return FDB_KNOWN;
    fdb_seek_miss(fdb, m, s);
    return fdb_learn(fdb, s->key, s->hash, p);
}

#endif /* USWITCH_FDB_MEMO_H */
