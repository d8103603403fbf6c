/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_fdb_model.c - random operations on a small, crowded table, each held
 * against a naive model: an unordered list of entries with full-width times.
 *
 * The model knows the rules (quota, who may displace whom, pins, age) and
 * which two buckets a key may be in, nothing else about the table.  After
 * each operation every key of the universe is looked up, and all counters are
 * compared.  An argument is the seed of one run.
 */
#include <errno.h>
#include <time.h>

#include "fake_port.h"
#include "fdb.h"
#include "harness.h"

#define SECOND 1000000000ULL
#define N_PORTS 4
#define N_KEYS 240              /* on 80 slots */
#define BUCKETS 16
#define AGE_S 60
#define STEPS 30000

/**
 * struct entry - what the model knows of a key
 * @present: it takes up a slot
 * @pinned: by the control thread
 * @port: where
 * @seen_s: when last learned, in seconds of the switch
 */
struct entry {
    bool present;
    bool pinned;
    uint32_t port;
    uint64_t seen_s;
};

static struct us_switch_page page;
static _Atomic(struct port *) ports[US_PORTS_MAX];
static struct fake_port *fp[N_PORTS];
static struct fdb *fdb;
static struct entry model[N_KEYS];
static uint64_t keys[N_KEYS], hashes[N_KEYS];
static uint64_t now_s, moves, evicted;
static unsigned n_refused, n_new, n_moved, n_held, n_expired, n_nospc;

static bool alive(unsigned k)
{
    return model[k].present && (model[k].pinned || now_s - model[k].seen_s <= AGE_S);
}

static bool in_bucket(unsigned k, uint32_t bucket)
{
    for (int i = 0; i < FDB_WAYS; i++) {
        if (fdb->bucket[bucket].key[i] == keys[k])
            return true;
    }
    return false;
}

/* Whether a key takes up a slot in one of the two buckets of @like. */
static bool rival(unsigned k, unsigned like)
{
    return in_bucket(k, fdb_first(fdb, hashes[like])) || in_bucket(k, fdb_second(fdb, hashes[like]));
}

static uint32_t model_count(uint32_t port)
{
    uint32_t n = 0;

    for (unsigned k = 0; k < N_KEYS; k++)
        n += model[k].present && !model[k].pinned && model[k].port == port;
    return n;
}

/* The dead in the buckets of a key have made room. */
static void bury(unsigned like, const bool *was_rival)
{
    for (unsigned k = 0; k < N_KEYS; k++) {
        if (k != like && was_rival[k] && model[k].present && !alive(k)) {
            model[k].present = false;
            n_expired++;
        }
    }
}

/* The model's opinion of who may be displaced for @port (US_ANY: anybody may), -1: nobody. */
static bool may_displace(unsigned victim, uint32_t port, uint32_t has)
{
    return !model[victim].pinned && model[victim].port != port &&
           (port == US_ANY || model_count(model[victim].port) > has);
}

/* Finds out whom the table displaced, and whether that was just. */
static void find_victim(unsigned newcomer, const bool *was_rival, uint32_t port, uint32_t has)
{
    int victim = -1;
    uint32_t n = 0;

    for (unsigned k = 0; k < N_KEYS; k++) {
        if (k == newcomer || !was_rival[k] || !model[k].present)
            continue;
        n++;
        if (fdb_lookup(fdb, keys[k], hashes[k]) == FDB_NONE) {
            CHECK_EQ(victim, -1);
            victim = (int)k;
        }
    }
    if (victim < 0) {
        CHECK(n < 2 * FDB_WAYS);
        return;
    }
    CHECK_EQ(n, 2 * FDB_WAYS);      /* not before both are full of the living */
    CHECK(may_displace((unsigned)victim, port, has));
    for (unsigned k = 0; k < N_KEYS; k++) {
        if (k != newcomer && was_rival[k] && model[k].present && may_displace(k, port, has)) {
            const uint32_t theirs = model_count(model[k].port), victims = model_count(model[victim].port);

            CHECK(theirs <= victims);
            CHECK(theirs < victims || model[k].seen_s >= model[victim].seen_s);
        }
    }
    model[victim].present = false;
    evicted++;
}

static void check_refused(unsigned k, const bool *was_rival, uint32_t port, uint32_t has, uint32_t quota)
{
    uint32_t n = 0;

    n_refused++;
    if (has >= quota)
        return;
    for (unsigned i = 0; i < N_KEYS; i++) {
        if (i == k || !was_rival[i] || !model[i].present)
            continue;
        n++;
        CHECK(!may_displace(i, port, has));
    }
    CHECK_EQ(n, 2 * FDB_WAYS);
}

static void op_learn(unsigned k, uint32_t port)
{
    const uint32_t quota = atomic_load(&fp[port]->port.fdb_quota);
    const bool known = model[k].present, lived = alive(k);
    const struct entry before = model[k];
    bool was_rival[N_KEYS];
    enum fdb_learned got;
    uint32_t has = model_count(port);

    for (unsigned i = 0; i < N_KEYS; i++)
        was_rival[i] = rival(i, k);
    got = fdb_learn(fdb, keys[k], hashes[k], &fp[port]->port);

    if (known && before.pinned) {
        CHECK_EQ(got, before.port == port ? FDB_KNOWN : FDB_HELD);
        n_held += got == FDB_HELD;
        return;
    }
    if (known && before.port == port) {
        CHECK_EQ(got, FDB_KNOWN);
    } else if (known) {
        CHECK_EQ(got, has >= quota ? FDB_REFUSED : lived ? FDB_MOVED : FDB_NEW);
        if (got == FDB_REFUSED) {
            n_refused++;
            return;
        }
        moves += got == FDB_MOVED;
        n_moved += got == FDB_MOVED;
    } else {
        if (has < quota) {
            bury(k, was_rival);
            has = model_count(port);
        }
        if (got == FDB_REFUSED) {
            check_refused(k, was_rival, port, has, quota);
            return;
        }
        CHECK_EQ(got, FDB_NEW);
        CHECK(has < quota);
        find_victim(k, was_rival, port, has);
        n_new++;
    }
    model[k] = (struct entry){ .present = true, .port = port, .seen_s = now_s };
}

static void op_pin(unsigned k, uint32_t port)
{
    bool was_rival[N_KEYS];
    unsigned pins = 0;
    int rc;

    for (unsigned i = 0; i < N_KEYS; i++) {
        was_rival[i] = rival(i, k);
        pins += was_rival[i] && model[i].pinned;
    }
    rc = fdb_pin(fdb, keys[k], &fp[port]->port);
    if (model[k].present && model[k].pinned) {
        CHECK_EQ(rc, model[k].port == port ? 0 : -EEXIST);
        return;
    }
    if (rc == -ENOSPC) {
        CHECK_EQ(pins, 2 * FDB_WAYS);
        n_nospc++;
        return;
    }
    CHECK_EQ(rc, 0);
    if (!model[k].present) {
        bury(k, was_rival);
        find_victim(k, was_rival, US_ANY, 0);
    }
    model[k] = (struct entry){ .present = true, .pinned = true, .port = port };
}

static void op_unpin(unsigned k, uint32_t port)
{
    fdb_unpin(fdb, keys[k], &fp[port]->port);
    if (model[k].present && model[k].pinned && model[k].port == port)
        model[k] = (struct entry){ 0 };
}

static void op_flush(uint32_t port, uint32_t segment)
{
    uint32_t removed = 0;

    for (unsigned k = 0; k < N_KEYS; k++) {
        if (model[k].present && !model[k].pinned && (port == US_ANY || model[k].port == port) &&
            (segment == US_ANY || keys[k] >> 48 == segment)) {
            model[k].present = false;
            removed++;
        }
    }
    CHECK_EQ(fdb_flush(fdb, port, segment), removed);
}

/* After so long a step the sweep has been everywhere: the dead are gone for the counters too. */
static void op_time(uint64_t seconds)
{
    now_s += seconds;
    fdb_tick(fdb, (1000 + now_s) * SECOND);
    for (unsigned k = 0; k < N_KEYS; k++) {
        if (model[k].present && !alive(k) && !rival(k, k)) {
            model[k].present = false;
            n_expired++;
        }
    }
    if (seconds >= fdb->sweep_s) {
        for (unsigned k = 0; k < N_KEYS; k++)
            CHECK(!model[k].present || alive(k));
    }
}

static void check_all(void)
{
    uint32_t present = 0;

    for (unsigned k = 0; k < N_KEYS; k++) {
        CHECK_EQ(fdb_lookup(fdb, keys[k], hashes[k]), alive(k) ? (int)model[k].port : FDB_NONE);
        present += model[k].present;
    }
    for (uint32_t p = 0; p < N_PORTS; p++)
        CHECK_EQ(atomic_load(&fp[p]->port.fdb_count), model_count(p));
    CHECK_EQ(page.fdb_entries, present);
    CHECK_EQ(page.fdb_moves, moves);
    CHECK_EQ(page.fdb_evicted, evicted);
}

static void step(void)
{
    const unsigned k = (unsigned)rand() % N_KEYS;
    /* Port 0 talks most and port 3 least, so that some have more than others. */
    const uint32_t port = (uint32_t)(rand() % 4 * (rand() % 4) / 3);
    const int op = rand() % 1000;

    if (op < 850)
        op_learn(k, port);
    else if (op < 870)
        op_pin(k, port);
    else if (op < 885)
        op_unpin(k, port);
    else if (op < 890)
        op_flush(rand() % 2 ? US_ANY : port, rand() % 3 ? 1 + (uint32_t)rand() % 3 : US_ANY);
    else if (op < 990)
        op_time((uint64_t)rand() % 4);
    else if (op < 996)
        op_time((uint64_t)rand() % 200);
    else
        atomic_store(&fp[port]->port.fdb_quota, (uint32_t)rand() % 60);
}

static unsigned seed;

TEST(random_operations)
{
    printf("seed %u\n", seed);
    srand(seed);
    for (uint32_t i = 0; i < N_PORTS; i++) {
        fp[i] = fake_port_create(i);
        ports[i] = &fp[i]->port;
    }
    REQUIRE(fdb_create(BUCKETS, AGE_S, ports, &page, &fdb) == 0);
    fdb->seed = (struct siphash_seed){ { seed, ~(uint64_t)seed } };  /* the run can be repeated */
    fdb_tick(fdb, 1000 * SECOND);
    for (unsigned k = 0; k < N_KEYS; k++) {
        keys[k] = fdb_key((uint16_t)(1 + k % 3), 0x020000000000 + k);
        hashes[k] = fdb_hash(fdb, keys[k]);
    }
    for (unsigned i = 0; i < STEPS && !harness_failed_checks; i++) {
        step();
        check_all();
    }
    printf("new %u, moved %u, evicted %u, refused %u, held %u, expired %u, no space %u\n", n_new, n_moved,
           (unsigned)evicted, n_refused, n_held, n_expired, n_nospc);
    /* The run was worth it: every rule was needed. */
    CHECK(n_new && n_moved && evicted && n_refused && n_held && n_expired);
    fdb_destroy(fdb);
    for (uint32_t i = 0; i < N_PORTS; i++)
        fake_port_destroy(fp[i]);
}

int main(int argc, char **argv)
{
    seed = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 0) : (unsigned)time(NULL);
    RUN(random_operations);
    return DONE();
}
