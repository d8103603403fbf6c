/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * The locks of the FDB: which buckets fdb_learn_slow() takes, and that it lets
 * go of them however it ends.
 *
 * Proven:
 *   - the two buckets of a key lie in the table, differ, and are taken in
 *     ascending order, for every hash and every size of table;
 *   - if nobody else held them, both versions are even at the end and have
 *     grown by an even number, whatever was found in the buckets;
 *   - a bucket that somebody else holds is left as it is, nothing is written
 *     under it, and the other one is released.
 *
 * Assumed: the other holder does nothing meanwhile (races: test_fdb_race.c
 * under TSan).
 *
 * CBMC: --unwind 11 --unwindset bucket_try_lock.0:33 --unwinding-assertions --object-bits 10
 *
 * BUG stays_locked fdb.c
 *   - bucket_unlock(pair->b[1]);\n    bucket_unlock(pair->b[0]);
 *   + bucket_unlock(pair->b[1]);
 *   ! versions are even
 * BUG first_one_kept fdb.c
 *   - bucket_unlock(pair->b[0]);\n    return false;
 *   + return false;
 *   ! the other one is released
 * BUG same_bucket_twice fdb.h
 *   - return second != fdb_first(fdb, hash) ? second : second ^ 1;
 *   + return second;
 *   ! they differ
 */
#include "proof.h"

#include "fdb.c"

#define GONE 2

static struct fdb_bucket table[2];
static struct port me, you;
static _Atomic(struct port *) ports[GONE + 1] = { &me, &you, NULL };
static struct us_switch_page page;

static void pairs(void)
{
    const uint32_t order = nondet_u32();
    const uint64_t hash = nondet_u64();
    struct fdb fdb = { .bucket = NULL };
    uint32_t first, second;

    ASSUME(order >= 4 && order <= 20);
    fdb.mask = (1u << order) - 1;
    first = fdb_first(&fdb, hash);
    second = fdb_second(&fdb, hash);
    CLAIM(first <= fdb.mask && second <= fdb.mask, "both lie in the table");
    CLAIM(first != second, "they differ");
    fdb.bucket = table;
    fdb.mask = 1;
    ASSUME(fdb_first(&fdb, hash) != fdb_second(&fdb, hash)); /* as claimed */
    CLAIM(pair_of(&fdb, hash).b[0] == &table[0] && pair_of(&fdb, hash).b[1] == &table[1], "in ascending order");
}

static void any_bucket(struct fdb_bucket *b)
{
    b->version = nondet_u32();
    for (int i = 0; i < FDB_WAYS; i++) {
        b->key[i] = nondet_u64() % 4;
        b->port[i] = nondet_u16();
        ASSUME((b->port[i] & FDB_PORT_MASK) <= GONE);
    }
}

int main(void)
{
    struct fdb fdb = { .bucket = table, .mask = 1, .age_s = 300, .ports = ports, .page = &page };
    const uint64_t key = 1 + nondet_u64() % 3;
    uint32_t before[2];
    uint64_t keys[2];
    enum fdb_learned learned;

    pairs();
    any_bucket(&table[0]);
    any_bucket(&table[1]);
    me.fdb_quota = nondet_u8();
    me.fdb_count = nondet_u8();
    you.id = 1;
    for (unsigned k = 0; k < 2; k++) {
        before[k] = table[k].version;
        keys[k] = table[k].key[0];
    }
    learned = fdb_learn_slow(&fdb, key, 0, &me);
    for (unsigned k = 0; k < 2; k++) {
        if (before[0] % 2 == 0 && before[1] % 2 == 0)
            CLAIM(table[k].version % 2 == 0, "versions are even at the end");
        else if (before[k] % 2)
            CLAIM(table[k].version == before[k] && table[k].key[0] == keys[k],
                  "what somebody else holds is left alone");
        else
            CLAIM(table[k].version % 2 == 0, "the other one is released");
    }
    if (before[0] % 2 || before[1] % 2)
        CLAIM(learned == FDB_BUSY || learned == FDB_HELD || learned == FDB_REFUSED, "nothing was learned");
    return 0;
}
