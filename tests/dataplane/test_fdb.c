/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_fdb.c - the forwarding database by single steps: learning, moving,
 * quota, eviction, pins, time, flushing, dumping.  The same under random
 * operations is test_fdb_model.c, under several threads test_switch_race.c.
 */
#include <errno.h>

#include "fake_port.h"
#include "fdb.h"
#include "harness.h"
#include "segment.h"

#define SECOND 1000000000ULL
#define START (1000 * SECOND)
#define N_PORTS 4

static struct us_switch_page page;
static _Atomic(struct port *) ports[US_PORTS_MAX];
static struct fake_port *fp[N_PORTS];
static struct fdb *fdb;

static void setup(uint32_t n_buckets, uint32_t age_s)
{
    memset(&page, 0, sizeof(page));
    for (uint32_t i = 0; i < N_PORTS; i++) {
        fp[i] = fake_port_create(i);
        ports[i] = &fp[i]->port;
    }
    CHECK_EQ(fdb_create(n_buckets, age_s, ports, &page, &fdb), 0);
    fdb_tick(fdb, START);
}

static void teardown(void)
{
    fdb_destroy(fdb);
    for (uint32_t i = 0; i < N_PORTS; i++)
        fake_port_destroy(fp[i]);
}

static uint64_t key_of(uint16_t segment, uint32_t n)
{
    const uint8_t mac[6] = { 2, 0, 0, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n };

    return fdb_key_bytes(segment, mac);
}

static enum fdb_learned learn(uint64_t key, uint32_t port)
{
    return fdb_learn(fdb, key, fdb_hash(fdb, key), &fp[port]->port);
}

static int lookup(uint64_t key)
{
    return fdb_lookup(fdb, key, fdb_hash(fdb, key));
}

static uint32_t count(uint32_t port)
{
    return atomic_load(&fp[port]->port.fdb_count);
}

/* The n-th key whose two buckets are those of @like, so that a handful fills both. */
static uint64_t collider(uint64_t like, uint32_t n)
{
    const uint64_t h = fdb_hash(fdb, like);
    const uint32_t a = fdb_first(fdb, h), b = fdb_second(fdb, h);

    for (uint32_t i = 0;; i++) {
        const uint64_t key = key_of(9, i);
        const uint64_t hash = fdb_hash(fdb, key);
        const uint32_t x = fdb_first(fdb, hash), y = fdb_second(fdb, hash);

        if (key != like && ((x == a && y == b) || (x == b && y == a)) && n-- == 0)
            return key;
    }
}

TEST(create_checks)
{
    struct fdb *f;

    CHECK_EQ(fdb_create(8, 300, ports, &page, &f), -EINVAL);
    CHECK_EQ(fdb_create(17, 300, ports, &page, &f), -EINVAL);
    CHECK_EQ(fdb_create(2097152, 300, ports, &page, &f), -EINVAL);
    CHECK_EQ(fdb_create(16, 0, ports, &page, &f), -EINVAL);
    CHECK_EQ(fdb_create(16, 65001, ports, &page, &f), -EINVAL);
    CHECK(f == NULL);
    CHECK_EQ(fdb_create(1048576, 65000, ports, &page, &f), 0);
    CHECK_EQ(page.fdb_capacity, 5 * 1048576);
    fdb_destroy(f);
    fdb_destroy(NULL);
}

/* Two tables hash the same addresses differently: the seed is fresh each time. */
TEST(seed_is_fresh)
{
    struct fdb *other = NULL;
    unsigned same = 0;

    setup(1024, 300);
    REQUIRE(fdb_create(1024, 300, ports, &page, &other) == 0);
    for (uint32_t i = 0; i < 1000; i++)
        same += fdb_first(fdb, fdb_hash(fdb, key_of(1, i))) == fdb_first(other, fdb_hash(other, key_of(1, i)));
    CHECK(same < 20);
    fdb_destroy(other);
    teardown();
}

TEST(key_holds_segment_and_address)
{
    const uint8_t mac[6] = { 0x02, 0x11, 0x22, 0x33, 0x44, 0x55 };

    CHECK_EQ(fdb_key_bytes(4095, mac), 0x0fff554433221102);
}

TEST(learns_and_moves)
{
    const uint64_t key = key_of(1, 1);

    setup(16, 300);
    CHECK_EQ(lookup(key), FDB_NONE);
    CHECK_EQ(learn(key, 0), FDB_NEW);
    CHECK_EQ(lookup(key), 0);
    CHECK_EQ(learn(key, 0), FDB_KNOWN);
    CHECK_EQ(lookup(key_of(2, 1)), FDB_NONE);       /* the same address elsewhere is another one */
    CHECK_EQ(count(0), 1);
    CHECK_EQ(page.fdb_entries, 1);
    CHECK_EQ(learn(key, 2), FDB_MOVED);
    CHECK_EQ(lookup(key), 2);
    CHECK_EQ(count(0), 0);
    CHECK_EQ(count(2), 1);
    CHECK_EQ(page.fdb_moves, 1);
    CHECK_EQ(page.fdb_entries, 1);
    teardown();
}

TEST(quota)
{
    setup(1024, 300);
    fp[0]->port.fdb_quota = 3;
    for (uint32_t i = 0; i < 3; i++)
        CHECK_EQ(learn(key_of(1, i), 0), FDB_NEW);
    CHECK_EQ(learn(key_of(1, 3), 0), FDB_REFUSED);
    CHECK_EQ(lookup(key_of(1, 3)), FDB_NONE);
    CHECK_EQ(learn(key_of(1, 1), 0), FDB_KNOWN);
    CHECK_EQ(learn(key_of(1, 9), 1), FDB_NEW);
    CHECK_EQ(learn(key_of(1, 9), 0), FDB_REFUSED);  /* a move costs quota too */
    CHECK_EQ(lookup(key_of(1, 9)), 1);
    CHECK_EQ(learn(key_of(1, 0), 1), FDB_MOVED);    /* and frees it where it came from */
    CHECK_EQ(learn(key_of(1, 3), 0), FDB_NEW);
    CHECK_EQ(count(0), 3);
    fp[2]->port.fdb_quota = 0;
    CHECK_EQ(learn(key_of(1, 77), 2), FDB_REFUSED);
    teardown();
}

/* A port displaces entries of ports that have more than itself, of the richest one, the oldest; never the reverse. */
TEST(fair_eviction)
{
    const uint64_t first = key_of(9, 0);

    setup(16, 300);
    /* Both buckets full: seven of port 1, three of port 2. */
    CHECK_EQ(learn(first, 1), FDB_NEW);
    for (uint32_t i = 0; i < 9; i++) {
        fdb_tick(fdb, START + (i + 1) * SECOND);
        CHECK_EQ(learn(collider(first, i), i < 6 ? 1 : 2), FDB_NEW);
    }
    CHECK_EQ(count(1), 7);
    CHECK_EQ(count(2), 3);
    CHECK_EQ(learn(collider(first, 9), 1), FDB_REFUSED);    /* the flooder itself gets nothing more */
    CHECK_EQ(page.fdb_evicted, 0);
    CHECK_EQ(learn(collider(first, 9), 0), FDB_NEW);
    CHECK_EQ(lookup(first), FDB_NONE);                      /* port 1's oldest */
    CHECK_EQ(count(1), 6);
    CHECK_EQ(count(0), 1);
    CHECK_EQ(page.fdb_evicted, 1);
    for (uint32_t i = 10; count(0) < count(1); i++) {
        const uint32_t mine = count(0), theirs = count(1);

        if (!CHECK_EQ(learn(collider(first, i), 0), FDB_NEW))
            break;
        CHECK_EQ(count(0), mine + 1);
        CHECK_EQ(count(1), theirs - 1);
    }
    CHECK_EQ(count(2), 3);
    CHECK_EQ(learn(collider(first, 100), 0), FDB_REFUSED);  /* level with port 1 now */
    CHECK_EQ(page.fdb_entries, 10);
    teardown();
}

/* What the dead leave comes first: nobody alive is displaced. */
TEST(expired_room_before_eviction)
{
    const uint64_t first = key_of(9, 0);

    setup(16, 100);
    fp[1]->port.fdb_quota = 20;
    CHECK_EQ(learn(first, 1), FDB_NEW);
    fdb_tick(fdb, START + 101 * SECOND);
    CHECK_EQ(lookup(first), FDB_NONE);
    for (uint32_t i = 0; i < 10; i++)
        CHECK_EQ(learn(collider(first, i), 2), FDB_NEW);
    CHECK_EQ(page.fdb_evicted, 0);
    CHECK_EQ(count(1), 0);
    CHECK_EQ(count(2), 10);
    teardown();
}

TEST(pins)
{
    const uint64_t key = key_of(1, 1);

    setup(16, 300);
    CHECK_EQ(learn(key, 1), FDB_NEW);
    CHECK_EQ(fdb_pin(fdb, key, &fp[0]->port), 0);       /* takes it from who learned it */
    CHECK_EQ(lookup(key), 0);
    CHECK_EQ(count(1), 0);
    CHECK_EQ(count(0), 0);                              /* and is no learned address */
    CHECK_EQ(page.fdb_entries, 1);
    CHECK_EQ(learn(key, 1), FDB_HELD);
    CHECK_EQ(learn(key, 0), FDB_KNOWN);
    CHECK_EQ(lookup(key), 0);
    CHECK_EQ(fdb_pin(fdb, key, &fp[0]->port), 0);
    CHECK_EQ(fdb_pin(fdb, key, &fp[1]->port), -EEXIST);
    CHECK_EQ(fdb_flush(fdb, US_ANY, US_ANY), 0);
    fdb_tick(fdb, START + 100000 * SECOND);             /* never aged */
    CHECK_EQ(lookup(key), 0);
    fdb_unpin(fdb, key, &fp[1]->port);                  /* somebody else's: no effect */
    CHECK_EQ(lookup(key), 0);
    fdb_unpin(fdb, key, &fp[0]->port);
    CHECK_EQ(lookup(key), FDB_NONE);
    CHECK_EQ(page.fdb_entries, 0);
    CHECK_EQ(learn(key, 1), FDB_NEW);
    fdb_unpin(fdb, key, &fp[1]->port);                  /* learned, not pinned: no effect */
    CHECK_EQ(lookup(key), 1);
    teardown();
}

TEST(pins_make_room_and_run_out)
{
    const uint64_t first = key_of(9, 0);

    setup(16, 300);
    for (uint32_t i = 0; i < 10; i++)
        CHECK_EQ(learn(collider(first, i), 1), FDB_NEW);
    CHECK_EQ(fdb_pin(fdb, first, &fp[1]->port), 0);     /* even from the port's own learned ones */
    CHECK_EQ(count(1), 9);
    for (uint32_t i = 20; i < 29; i++)
        CHECK_EQ(fdb_pin(fdb, collider(first, i), &fp[0]->port), 0);
    CHECK_EQ(count(1), 0);
    CHECK_EQ(fdb_pin(fdb, collider(first, 40), &fp[0]->port), -ENOSPC);
    CHECK_EQ(learn(collider(first, 41), 2), FDB_REFUSED);
    CHECK_EQ(lookup(first), 1);
    CHECK_EQ(page.fdb_entries, 10);
    teardown();
}

TEST(ageing)
{
    const uint64_t key = key_of(1, 1), other = key_of(1, 2);

    setup(16, 300);
    learn(key, 0);
    learn(other, 0);
    fdb_tick(fdb, START + 299 * SECOND);
    CHECK_EQ(learn(other, 0), FDB_KNOWN);
    fdb_tick(fdb, START + 300 * SECOND);
    CHECK_EQ(lookup(key), 0);
    fdb_tick(fdb, START + 301 * SECOND);
    CHECK_EQ(lookup(key), FDB_NONE);
    CHECK_EQ(lookup(other), 0);                         /* refreshed */
    CHECK_EQ(learn(key, 1), FDB_NEW);                   /* not a move: nobody had it any more */
    CHECK_EQ(page.fdb_moves, 0);
    CHECK_EQ(count(0), 1);
    CHECK_EQ(count(1), 1);
    teardown();
}

/* Time goes by without anybody touching the address: its port gets its quota back all the same. */
TEST(sweep_frees_quota)
{
    setup(1024, 40);
    fp[0]->port.fdb_quota = 500;
    for (uint32_t i = 0; i < 500; i++)
        CHECK_EQ(learn(key_of(1, i), 0), FDB_NEW);
    for (uint64_t ms = 0; ms <= 60000; ms += 50)        /* 41 s to die, 16 s for a round of the sweep */
        fdb_tick(fdb, START + ms * 1000000);
    CHECK_EQ(count(0), 0);
    CHECK_EQ(page.fdb_entries, 0);
    CHECK_EQ(learn(key_of(1, 1000), 0), FDB_NEW);
    teardown();
}

/* The clock has 16 bits. However time passes, an address does not come back from the dead. */
TEST(wrap_of_the_clock)
{
    static const uint64_t steps[] = { 1, 7, 60, 134, 1000, 30000, 65535, 65536, 65537, 70000, 131072, 200000 };

    for (unsigned k = 0; k < sizeof(steps) / sizeof(steps[0]); k++) {
        for (unsigned age = 0; age < 2; age++) {
            const uint32_t age_s = age ? 65000 : 300;
            const uint64_t key = key_of(1, 1), key2 = key_of(1, 2);

            setup(16, age_s);
            learn(key, 0);
            for (uint64_t t = steps[k]; t < 200001 + steps[k]; t += steps[k]) {
                fdb_tick(fdb, START + t * SECOND);
                if ((lookup(key) == 0) != (t <= age_s)) {
                    CHECK_EQ(t, age_s);
                    break;
                }
                learn(key2, 1);
                CHECK_EQ(lookup(key2), 1);
            }
            teardown();
        }
    }
}

/* A worker whose stamp is a second ahead of the clock we hold: young, not 65535 s old. */
TEST(stamp_ahead_of_the_clock)
{
    CHECK_EQ(fdb_age(10, 11), 0);
    CHECK_EQ(fdb_age(0, 65535), 1);
    CHECK_EQ(fdb_age(65535, 2), 65533 > FDB_AGE_AHEAD ? 0 : 65533);
    CHECK_EQ(fdb_age(5, 5), 0);
}

TEST(time_never_runs_back)
{
    const uint64_t key = key_of(1, 1);

    setup(16, 300);
    fdb_tick(fdb, START + 1000 * SECOND);
    learn(key, 0);
    fdb_tick(fdb, START);
    fdb_tick(fdb, 0);
    CHECK_EQ(lookup(key), 0);
    fdb_tick(fdb, START + 1300 * SECOND);
    CHECK_EQ(lookup(key), 0);
    fdb_tick(fdb, START + 1301 * SECOND);
    CHECK_EQ(lookup(key), FDB_NONE);
    teardown();
}

TEST(flush)
{
    setup(1024, 300);
    for (uint32_t i = 0; i < 100; i++)
        CHECK_EQ(learn(key_of((uint16_t)(1 + i % 5), i), i % 4), FDB_NEW);
    CHECK_EQ(fdb_pin(fdb, key_of(1, 1000), &fp[0]->port), 0);
    CHECK_EQ(fdb_flush(fdb, 0, 1), 5);
    CHECK_EQ(fdb_flush(fdb, 0, 1), 0);
    CHECK_EQ(fdb_flush(fdb, 0, US_ANY), 20);
    CHECK_EQ(count(0), 0);
    CHECK_EQ(fdb_flush(fdb, US_ANY, 2), 15);
    CHECK_EQ(page.fdb_entries, 61);
    CHECK_EQ(fdb_flush(fdb, 77, 70000), 0);
    CHECK_EQ(fdb_flush(fdb, US_ANY, US_ANY), 60);
    CHECK_EQ(lookup(key_of(1, 1000)), 0);
    CHECK_EQ(page.fdb_entries, 1);
    teardown();
}

TEST(retain)
{
    const struct us_tag_row row[] = { { US_VID_UNTAGGED, 2 }, { 30, 3 } };
    struct port_tags *tags = NULL;

    setup(1024, 300);
    REQUIRE(port_tags_create(row, 2, &tags) == 0);
    for (uint16_t s = 1; s <= 4; s++) {
        CHECK_EQ(learn(key_of(s, s), 0), FDB_NEW);
        CHECK_EQ(fdb_pin(fdb, key_of(s, 100), &fp[0]->port), 0);
        CHECK_EQ(learn(key_of(s, 200), 1), FDB_NEW);
    }
    fdb_retain(fdb, 0, tags);
    for (uint16_t s = 1; s <= 4; s++) {
        const int want = s == 2 || s == 3 ? 0 : FDB_NONE;

        CHECK_EQ(lookup(key_of(s, s)), want);
        CHECK_EQ(lookup(key_of(s, 100)), want);
        CHECK_EQ(lookup(key_of(s, 200)), 1);
    }
    CHECK_EQ(count(0), 2);
    fdb_retain(fdb, 0, NULL);
    CHECK_EQ(count(0), 0);
    CHECK_EQ(page.fdb_entries, 4);
    port_tags_free(tags);
    teardown();
}

/* All of it, once, in pieces of any size; the fields are right. */
TEST(dump)
{
    static const uint32_t sizes[] = { 1, 2, 3, 5, 7, 64, 1000 };

    setup(256, 300);
    for (uint32_t i = 0; i < 300; i++)
        CHECK_EQ(learn(key_of((uint16_t)(1 + i), i), i % 4), FDB_NEW);
    CHECK_EQ(fdb_pin(fdb, key_of(4095, 0xabcdef), &fp[3]->port), 0);
    fdb_tick(fdb, START + 5 * SECOND);
    for (unsigned k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        struct us_fdb_entry e[1000];
        bool seen[300] = { 0 };
        uint32_t total = 0, pinned = 0;
        uint64_t cursor = 0;

        do {
            const uint32_t n = fdb_dump(fdb, START + 7 * SECOND, &cursor, e, sizes[k]);

            CHECK(n <= sizes[k]);
            for (uint32_t i = 0; i < n; i++) {
                const uint32_t id = (uint32_t)e[i].segment - 1;

                total++;
                CHECK_EQ(e[i].mac[0], 2);
                if (e[i].pinned) {
                    pinned++;
                    CHECK_EQ(e[i].segment, 4095);
                    CHECK_EQ(e[i].port_id, 3);
                    CHECK_MEM(e[i].mac, "\x02\x00\x00\xab\xcd\xef", 6);
                    CHECK_EQ(e[i].age_s, 0);
                    continue;
                }
                REQUIRE(id < 300);
                CHECK(!seen[id]);
                seen[id] = true;
                CHECK_EQ(e[i].port_id, id % 4);
                CHECK_EQ(e[i].mac[4] << 8 | e[i].mac[5], id);
                CHECK_EQ(e[i].age_s, 7);
            }
        } while (cursor);
        CHECK_EQ(total, 301);
        CHECK_EQ(pinned, 1);
    }
    teardown();
}

TEST(dump_takes_any_cursor)
{
    static const uint64_t cursors[] = { 1, 7, 8 * 255 + 7, 8 * 256, 1ULL << 40, UINT64_MAX };

    setup(256, 300);
    for (uint32_t i = 0; i < 300; i++)
        learn(key_of(1, i), 0);
    for (unsigned k = 0; k < sizeof(cursors) / sizeof(cursors[0]); k++) {
        struct us_fdb_entry e[400];
        uint64_t cursor = cursors[k];

        CHECK(fdb_dump(fdb, START, &cursor, e, 400) <= 300);
        CHECK_EQ(cursor, 0);
    }
    teardown();
}

/* Two choices of five: nobody is refused before the table is half full, and little stays unused. */
TEST(fills_well)
{
    const uint32_t capacity = 1024 * FDB_WAYS;
    uint32_t first = 0, learned = 0;

    setup(1024, 300);
    fp[0]->port.fdb_quota = UINT32_MAX;
    for (uint32_t i = 0; i < 2 * capacity; i++) {
        const bool is_new = learn(key_of(1, i), 0) == FDB_NEW;

        learned += is_new;
        CHECK_EQ(lookup(key_of(1, i)), is_new ? 0 : FDB_NONE);
        if (!is_new && !first)
            first = i;
    }
    CHECK(first > capacity * 45 / 100);
    CHECK(learned > capacity * 95 / 100);
    CHECK_EQ(count(0), learned);
    CHECK_EQ(page.fdb_entries, learned);
    teardown();
}

MAIN
{
    RUN(create_checks);
    RUN(seed_is_fresh);
    RUN(key_holds_segment_and_address);
    RUN(learns_and_moves);
    RUN(quota);
    RUN(fair_eviction);
    RUN(expired_room_before_eviction);
    RUN(pins);
    RUN(pins_make_room_and_run_out);
    RUN(ageing);
    RUN(sweep_frees_quota);
    RUN(wrap_of_the_clock);
    RUN(stamp_ahead_of_the_clock);
    RUN(time_never_runs_back);
    RUN(flush);
    RUN(retain);
    RUN(dump);
    RUN(dump_takes_any_cursor);
    RUN(fills_well);
}
