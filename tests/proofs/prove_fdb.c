/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Inserting into the FDB: what fdb_learn_slow() does while it holds a key's
 * two buckets, on any contents of them: full and half-full, expired and pinned
 * entries, whatever the clock says.
 *
 * Proven:
 *   - no address gets in twice;
 *   - a refusal takes nothing of a port's quota;
 *   - learning never takes a port beyond its quota;
 *   - a pinned address stays where it is;
 *   - a live entry is displaced only for a port that has no more than its owner
 *     (fair eviction), and never one of the port's own;
 *   - what was learned is there, behind that port;
 *   - nothing is written outside of the two buckets.
 *
 * Assumed: one thread (races: tests/dataplane/test_fdb_race.c under TSan).
 * Bound: ports 0 and 1, and port 2 which is gone; counts of 10 (so that no port
 * has less than it could have here) to 255.  Keys are compared and nothing else,
 * so 16 of them stand for all.
 *
 * CBMC: --unwind 11 --unwinding-assertions --object-bits 10
 *
 * BUG second_bucket_forgotten fdb.c
 *   - for (unsigned k = 0; k < 2; k++) {\n        const int i
 *   + for (unsigned k = 0; k < 1; k++) {\n        const int i
 *   ! what was learned is there
 * BUG quota_leaks fdb.c
 *   - atomic_fetch_sub_explicit(&p->fdb_count, 1, memory_order_relaxed);\n        return FDB_REFUSED;
 *   + return FDB_REFUSED;
 *   ! a refusal takes nothing
 * BUG evicts_pinned fdb.c
 *   - if ((port & FDB_PINNED) || port == spare || count < best_count ||
 *   + if (port == spare || count < best_count ||
 *   ! a pinned address
 * BUG quota_one_more fdb.c
 *   - if (*before < atomic_load_explicit(&p->fdb_quota, memory_order_relaxed))
 *   + if (*before <= atomic_load_explicit(&p->fdb_quota, memory_order_relaxed))
 *   ! quota
 */
#include "proof.h"

#include "fdb.c"

#define GONE 2
#define KEYS 16

static struct fdb_bucket b0, b1;
static struct port me, you;
static _Atomic(struct port *) ports[GONE + 1] = { &me, &you, NULL };
static struct us_switch_page page;

/* Slot n of the pair, now and before. */
static struct fdb_bucket *bucket_of(unsigned n)
{
    return n < FDB_WAYS ? &b0 : &b1;
}

#define KEY(n) (bucket_of(n)->key[(n) % FDB_WAYS])
#define PORT(n) (bucket_of(n)->port[(n) % FDB_WAYS])
#define SLOTS (2 * FDB_WAYS)

static uint64_t old_key[SLOTS];
static uint16_t old_port[SLOTS];
static bool old_dead[SLOTS];

static uint8_t times(uint64_t key)
{
    uint8_t n = 0;

    for (unsigned i = 0; i < SLOTS; i++)
        n += KEY(i) == key;
    return n;
}

static void any_state(struct fdb *fdb)
{
    fdb->ports = ports;
    fdb->page = &page;
    fdb->age_s = nondet_u16();
    fdb->clock = nondet_u16();
    ASSUME(fdb->age_s >= 1 && fdb->age_s <= AGE_MAX_S);
    for (unsigned i = 0; i < SLOTS; i++) {
        KEY(i) = nondet_u64() % KEYS;
        PORT(i) = nondet_u16();
        bucket_of(i)->stamp[i % FDB_WAYS] = nondet_u16();
        ASSUME((PORT(i) & FDB_PORT_MASK) <= GONE);
        for (unsigned k = 0; k < i; k++)
            ASSUME(KEY(i) == FDB_EMPTY || KEY(i) != KEY(k));
        old_key[i] = KEY(i);
        old_port[i] = PORT(i);
        old_dead[i] = slot_expired(fdb, bucket_of(i), i % FDB_WAYS, 0);
    }
    me.id = 0;
    you.id = 1;
    me.fdb_quota = nondet_u8();
    me.fdb_count = nondet_u8();
    you.fdb_count = nondet_u8();
    page.fdb_entries = nondet_u8();
    ASSUME(me.fdb_count >= SLOTS && you.fdb_count >= SLOTS && page.fdb_entries >= SLOTS);
}

/* What became of any one slot. */
static void claim_slot(unsigned n, uint64_t key, uint32_t mine, uint32_t yours)
{
    const uint16_t owner = old_port[n];
    const bool went = KEY(n) != old_key[n];

    if (old_key[n] == FDB_EMPTY || old_key[n] == key || old_dead[n])
        return;
    if (owner & FDB_PINNED)
        CLAIM(!went && PORT(n) == owner, "a pinned address stays where it is");
    else if (went && owner != GONE)
        CLAIM(owner == 1 && yours >= me.fdb_count - 1, "a live entry is displaced fairly");
}

int main(void)
{
    static struct fdb fdb;
    const struct pair pair = { { &b0, &b1 } };
    const uint64_t key = nondet_u64() % KEYS, other = nondet_u64() % KEYS;
    uint32_t mine, yours;
    const unsigned slot = nondet_u8() % SLOTS;
    struct place at;
    enum fdb_learned learned;

    any_state(&fdb);
    ASSUME(key != FDB_EMPTY && other != FDB_EMPTY);
    mine = me.fdb_count;
    yours = you.fdb_count;

    /* As fdb_learn_slow() between pair_try_lock() and pair_unlock(). */
    at = pair_find(&pair, key);
    learned = at.b ? learn_again(&fdb, at, &me) : learn_new(&fdb, &pair, key, &me);

    CLAIM(times(other) <= 1, "no address is in the table twice");
    CLAIM(me.fdb_count <= mine + (learned == FDB_NEW || learned == FDB_MOVED), "a refusal takes nothing of the quota");
    CLAIM(me.fdb_count <= mine || me.fdb_count <= me.fdb_quota, "learning stays within the quota");
    claim_slot(slot, key, mine, yours);
    if (learned == FDB_NEW || learned == FDB_MOVED)
        CLAIM(times(key) == 1, "what was learned is there");
    return 0;
}
