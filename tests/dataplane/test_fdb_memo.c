/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_fdb_memo.c - a worker's guesses never change an answer: whatever is
 * learned, moved, pinned, flushed or outlived, the way by the memo says what
 * the way without it says.
 */
#include "fake_port.h"
#include "fdb_memo.h"
#include "harness.h"

#define SECOND 1000000000ULL
#define N_PORTS 4
#define N_KEYS 160
#define STEPS 200000

static struct us_switch_page page;
static _Atomic(struct port *) ports[US_PORTS_MAX];
static struct fake_port *fp[N_PORTS];
static struct fdb *fdb;
static struct fdb_memo memo;
static uint64_t now;

static void setup(uint32_t n_buckets)
{
    memset(&page, 0, sizeof(page));
    memset(&memo, 0, sizeof(memo));
    for (uint32_t i = 0; i < N_PORTS; i++) {
        fp[i] = fake_port_create(i);
        ports[i] = &fp[i]->port;
    }
    CHECK_EQ(fdb_create(n_buckets, 20, ports, &page, &fdb), 0);
    now = 1000 * SECOND;
    fdb_tick(fdb, now);
}

static void teardown(void)
{
    fdb_destroy(fdb);
    for (uint32_t i = 0; i < N_PORTS; i++)
        fake_port_destroy(fp[i]);
}

static uint64_t key_of(uint32_t k)
{
    return fdb_key(1, 0x020000000002ULL + ((uint64_t)k << 24));
}

static int lookup(uint64_t key)
{
    struct fdb_seek s;

    fdb_seek(fdb, &memo, &s, key);
    return fdb_seek_lookup(fdb, &memo, &s);
}

static enum fdb_learned learn(uint64_t key, uint32_t port)
{
    struct fdb_seek s;

    fdb_seek(fdb, &memo, &s, key);
    return fdb_seek_learn(fdb, &memo, &s, &fp[port]->port);
}

static int plain(uint64_t key)
{
    return fdb_lookup(fdb, key, fdb_hash(fdb, key));
}

/* Many times the same answer, so that the later ones come by a guess. */
static void expect(uint64_t key, int port)
{
    for (uint32_t i = 0; i < 2 * FDB_REMEMBER_EVERY; i++)
        CHECK_EQ(lookup(key), port);
}

TEST(a_guess_is_made_and_used)
{
    struct fdb_seek s;

    setup(64);
    CHECK_EQ(learn(key_of(1), 2), FDB_NEW);
    expect(key_of(1), 2);
    fdb_seek(fdb, &memo, &s, key_of(1));
    CHECK(s.place != FDB_NOWHERE);
    CHECK_EQ(learn(key_of(1), 2), FDB_KNOWN);
    expect(key_of(2), FDB_NONE);
    teardown();
}

TEST(a_guess_does_not_outlive_its_entry)
{
    setup(64);
    learn(key_of(1), 2);
    expect(key_of(1), 2);
    CHECK_EQ(learn(key_of(1), 3), FDB_MOVED);
    expect(key_of(1), 3);
    CHECK_EQ(fdb_pin(fdb, key_of(1), &fp[0]->port), 0);
    expect(key_of(1), 0);
    CHECK_EQ(learn(key_of(1), 3), FDB_HELD);
    CHECK_EQ(learn(key_of(1), 0), FDB_KNOWN);
    fdb_unpin(fdb, key_of(1), &fp[0]->port);
    expect(key_of(1), FDB_NONE);
    learn(key_of(1), 1);
    expect(key_of(1), 1);
    now += 30 * SECOND;
    fdb_tick(fdb, now);
    expect(key_of(1), FDB_NONE);
    CHECK_EQ(learn(key_of(1), 1), FDB_NEW);
    expect(key_of(1), 1);
    CHECK_EQ(fdb_flush(fdb, US_ANY, US_ANY), 1);
    expect(key_of(1), FDB_NONE);
    teardown();
}

/* One random step with one key. */
static void step(uint64_t key, uint32_t port, uint32_t what)
{
    if (what < 60) {
        CHECK_EQ(lookup(key), plain(key));
    } else if (what < 96) {
        const enum fdb_learned got = learn(key, port);

        if (got != FDB_REFUSED && got != FDB_HELD)
            CHECK_EQ(plain(key), port);
    } else if (what < 97) {
        (void)fdb_pin(fdb, key, &fp[port]->port);
    } else if (what < 98) {
        fdb_unpin(fdb, key, &fp[port]->port);
    } else if (what < 99) {
        now += SECOND / 4;
        fdb_tick(fdb, now);
    } else if (port == 0) {
        (void)fdb_flush(fdb, US_ANY, US_ANY);
    }
}

TEST(random_steps_in_a_full_table)
{
    uint32_t seed = 1;

    setup(16);                  /* 80 entries, twice as many keys: evictions all the time */
    for (uint32_t i = 0; i < STEPS; i++) {
        seed = seed * 1664525 + 1013904223;
        step(key_of((seed >> 8) % N_KEYS), (seed >> 4) % N_PORTS, (seed >> 16) % 100);
        if (i % 64 == 0)
            fdb_memo_judge(&memo, 64);
    }
    teardown();
}

TEST(too_many_addresses_send_it_to_rest)
{
    setup(16);
    for (uint32_t k = 0; k < 64; k++)
        CHECK_EQ(lookup(key_of(1000 + k)), FDB_NONE);
    fdb_memo_judge(&memo, 64);
    CHECK_EQ(memo.rest, FDB_MEMO_REST);
    learn(key_of(1), 2);
    expect(key_of(1), 2);       /* by the way without guesses */
    for (uint32_t i = 0; i < FDB_MEMO_REST; i++)
        fdb_memo_judge(&memo, 64);
    CHECK_EQ(memo.rest, 0);
    expect(key_of(1), 2);
    teardown();
}

MAIN
{
    RUN(a_guess_is_made_and_used);
    RUN(a_guess_does_not_outlive_its_entry);
    RUN(random_steps_in_a_full_table);
    RUN(too_many_addresses_send_it_to_rest);
}
