/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_fdb_race.c - readers of the forwarding database while its slots change
 * hands as fast as they can.
 *
 * All keys compete for the same two buckets, and each key has one port for
 * ever.  A reader may find a key or not; it must never find it with the port
 * of the key that had the slot before or has it after.
 */
#include <pthread.h>

#include "fake_port.h"
#include "fdb.h"
#include "harness.h"

#define N_PORTS 4
#define N_KEYS 24
#define N_WRITERS 2
#define LOOKUPS 3000000

static struct us_switch_page page;
static _Atomic(struct port *) ports[US_PORTS_MAX];
static struct fake_port *fp[N_PORTS];
static struct fdb *fdb;
static uint64_t keys[N_KEYS], hashes[N_KEYS];
static _Atomic bool stop;

static void *write_all(void *arg)
{
    unsigned x = *(unsigned *)arg;

    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        x = x * 1103515245 + 12345;
        const unsigned k = (x >> 16) % N_KEYS;

        fdb_learn(fdb, keys[k], hashes[k], &fp[k % N_PORTS]->port);
    }
    return NULL;
}

static void *read_all(void *arg)
{
    unsigned *wrong = arg;

    for (unsigned i = 0; i < LOOKUPS; i++) {
        const unsigned k = i % N_KEYS;
        const int port = fdb_lookup(fdb, keys[k], hashes[k]);

        *wrong += port != FDB_NONE && port != (int)(k % N_PORTS);
    }
    return NULL;
}

/* Keys of the same two buckets as the first one. */
static void find_keys(void)
{
    uint32_t n = 0;

    for (uint64_t i = 1; n < N_KEYS; i++) {
        const uint64_t key = fdb_key(1, i << 8), hash = fdb_hash(fdb, key);
        const uint32_t a = fdb_first(fdb, hash), b = fdb_second(fdb, hash);

        if (a + b == 1) {
            keys[n] = key;
            hashes[n++] = hash;
        }
    }
}

TEST(no_torn_entries)
{
    unsigned seeds[N_WRITERS] = { 1, 2 }, wrong = 0;
    pthread_t writer[N_WRITERS], reader;

    for (uint32_t i = 0; i < N_PORTS; i++) {
        fp[i] = fake_port_create(i);
        ports[i] = &fp[i]->port;
    }
    REQUIRE(fdb_create(16, 300, ports, &page, &fdb) == 0);
    fdb_tick(fdb, 1000000000);
    find_keys();
    for (unsigned i = 0; i < N_WRITERS; i++)
        CHECK_EQ(pthread_create(&writer[i], NULL, write_all, &seeds[i]), 0);
    CHECK_EQ(pthread_create(&reader, NULL, read_all, &wrong), 0);
    for (unsigned i = 0; i < 100000; i++)
        fdb_flush(fdb, i % N_PORTS, US_ANY);    /* room for the next ones */
    pthread_join(reader, NULL);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < N_WRITERS; i++)
        pthread_join(writer[i], NULL);
    CHECK_EQ(wrong, 0);
    fdb_flush(fdb, US_ANY, US_ANY);
    CHECK_EQ(page.fdb_entries, 0);
    for (uint32_t i = 0; i < N_PORTS; i++) {
        CHECK_EQ(atomic_load(&fp[i]->port.fdb_count), 0);
        fake_port_destroy(fp[i]);
    }
    fdb_destroy(fdb);
}

MAIN
{
    RUN(no_torn_entries);
}
