/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_switch_race.c - workers that learn, look up and flood while the control
 * thread changes tags, pins, limits, flushes, dumps, attaches and detaches.
 * Meant for TSan and ASan; the checks below hold in every build:
 *
 *  - no frame reaches a port in a segment it never had, whatever the timing;
 *  - the egress tag is the receiver's for that segment;
 *  - a frame to a pinned address is unicast to its port or flooded, never unicast elsewhere;
 *  - a port that was detached gets nothing after the call has returned;
 *  - when all is quiet, counters equal what is in the table, and no address is in it twice.
 */
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "base/rcu.h"
#include "fake_port.h"
#include "fdb.h"
#include "flood.h"
#include "harness.h"
#include "switch.h"

#define N_WORKERS 3
#define N_FIXED 6               /* ports 0 .. 5: segment 1 + id % 3 for ever, sender and receiver */
#define N_GUESTS 3              /* ports 10 .. 12: come and go, in segments 1 and 2 only */
#define FIRST_GUEST 10
#define CHANGES 400u
#define SECOND 1000000000ULL
#define PINNED_MAC 0xee

/**
 * struct race_port - a port that checks what it gets
 * @fake: the port
 * @gone: detach has returned
 * @delivered: frames
 * @wrong: frames that should not have come
 */
struct race_port {
    struct fake_port fake;
    _Atomic bool gone;
    _Atomic uint64_t delivered;
    _Atomic uint64_t wrong;
};

/**
 * struct race_worker - one thread
 * @id: number; it sends for the fixed ports id, id + 3 and for guest port FIRST_GUEST + id
 */
struct race_worker {
    pthread_t thread;
    unsigned id;
    struct switch_scratch *scratch;
    struct burst *burst;
    uint64_t frames;
};

static struct switch_core *core;
static struct us_switch_page page;
static struct race_port *fixed[N_FIXED], *guest[N_GUESTS];
static _Atomic bool stop;
/* Workers that have had a turn: before that a change waits for nobody. */
static _Atomic uint32_t started;
static _Atomic uint64_t wrong_total;

/* Bytes 14 and 15 of every frame name its segment and whether port 0's pinned address is its destination. */
static bool frame_is_right(const struct port *p, const struct frame *f)
{
    const bool is_fixed = p->id < N_FIXED;

    if (f->segment != f->hdr[14])
        return false;
    if (is_fixed && f->segment != 1 + p->id % 3)
        return false;
    if (!is_fixed && f->segment > 2)
        return false;
    if (is_fixed && f->out_vid != US_VID_UNTAGGED)
        return false;
    if (!is_fixed && f->out_vid != 100 + f->segment)
        return false;
    /* A reader that a writer keeps out for long may flood what it cannot look up. */
    return !f->hdr[15] || p->id == 0 || f->flooded;
}

static unsigned race_tx_burst(struct port *p, struct frame *const *frames, unsigned n)
{
    struct race_port *rp = (struct race_port *)p;

    for (unsigned i = 0; i < n; i++) {
        if (!frame_is_right(p, frames[i]) || atomic_load(&rp->gone))
            rp->wrong++;
    }
    rp->delivered += n;
    return n;
}

static struct port_ops race_ops;

static struct race_port *race_port_create(uint32_t id)
{
    struct race_port *rp = calloc(1, sizeof(*rp));
    struct fake_port *fp = fake_port_create(id);

    memcpy(&rp->fake.port, &fp->port, sizeof(fp->port));
    for (uint32_t i = 0; i < US_QUEUES_MAX; i++)
        rp->fake.port.rxq[i].port = &rp->fake.port;
    rp->fake.port.ops = &race_ops;
    free(fp);
    return rp;
}

static void race_port_destroy(struct race_port *rp)
{
    wrong_total += rp->wrong;
    port_fini(&rp->fake.port);
    free(rp);
}

static uint32_t xorshift(uint32_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 17;
    *x ^= *x << 5;
    return *x;
}

/* A burst of random frames, as if the port had sent them. */
static void make_burst(struct burst *b, uint32_t id, uint32_t *x)
{
    b->n = 1 + xorshift(x) % 32;
    b->n_iov = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        struct frame *f = &b->frame[i];
        uint8_t *hdr = b->snap[i] + HDR_ROOM;
        const uint8_t segment = (uint8_t)(id < N_FIXED ? 1 + id % 3 : 1 + xorshift(x) % 2);
        const uint8_t to = (uint8_t)(xorshift(x) % 64), from = (uint8_t)(xorshift(x) % 64);
        const bool to_pinned = segment == 1 && xorshift(x) % 8 == 0;

        fake_eth(hdr, to == 0 ? 0xff : to_pinned ? PINNED_MAC : to, from + 1,
                 id < N_FIXED ? US_VID_UNTAGGED : 100 + segment, 64);
        *f = (struct frame){ .hdr = hdr, .hdr_len = 64, .len = 64 };
        hdr[id < N_FIXED ? 14 : 18] = segment;
        hdr[id < N_FIXED ? 15 : 19] = to != 0 && to_pinned;
    }
}

static void turn(struct race_worker *w, uint32_t id, uint32_t *x, uint64_t now)
{
    struct port *p = atomic_load_explicit(&core->port[id], memory_order_acquire);

    if (!p)
        return;
    make_burst(w->burst, id, x);
    w->frames += w->burst->n;
    switch_burst(core, w->scratch, &p->rxq[0], w->burst, now);
}

static void *work(void *arg)
{
    struct race_worker *w = arg;
    uint32_t x = 2463534242u + w->id;
    uint64_t now = 1000 * SECOND;

    rcu_worker_register();
    for (unsigned n = 0; !atomic_load_explicit(&stop, memory_order_relaxed); n++) {
        turn(w, w->id, &x, now);
        turn(w, w->id + 3, &x, now);
        turn(w, FIRST_GUEST + w->id, &x, now);
        now += 20 * 1000 * 1000;        /* time flies, so that things expire as well */
        if (n == 0)
            atomic_fetch_add(&started, 1);
        rcu_worker_quiescent();
        if (n % 64 == 0) {
            rcu_worker_offline();
            rcu_worker_online();
        }
    }
    rcu_worker_unregister();
    return NULL;
}

static void change_guest(unsigned g, uint32_t *x)
{
    const struct us_tag_row rows[] = { { 101, 1 }, { 102, 2 } };
    struct race_port *rp = guest[g];
    uint8_t macs[2][6] = { { 2, 0, 0, 0, 1, (uint8_t)g }, { 2, 0, 0, 0, 2, (uint8_t)g } };

    switch (xorshift(x) % 5) {
    case 0:
        switch_port_detach(core, &rp->fake.port);
        atomic_store(&rp->gone, true);
        race_port_destroy(rp);
        guest[g] = race_port_create(FIRST_GUEST + g);
        CHECK_EQ(switch_port_attach(core, &guest[g]->fake.port), 0);
        break;
    case 1:
        CHECK_EQ(switch_port_set_tags(core, &rp->fake.port, &rows[xorshift(x) % 2], 1), 0);
        break;
    case 2:
        CHECK_EQ(switch_port_set_tags(core, &rp->fake.port, rows, xorshift(x) % 2 ? 2 : 0), 0);
        break;
    case 3:
        CHECK_EQ(switch_port_set_macs(core, &rp->fake.port, macs, xorshift(x) % 3), 0);
        break;
    default:
        atomic_store(&rp->fake.port.fdb_quota, xorshift(x) % 64);
        flood_set(&rp->fake.port.flood, xorshift(x) % 2 * 100, 50);
        if (xorshift(x) % 2)
            port_break(&rp->fake.port, 0, BREAK_avail_index, 1);
        else
            port_mend(&rp->fake.port);
        break;
    }
}

static void change_all(void)
{
    static struct us_fdb_entry entries[64];
    uint32_t x = 88172645;

    for (unsigned i = 0; i < CHANGES; i++) {
        uint64_t cursor = 0;

        change_guest(xorshift(&x) % N_GUESTS, &x);
        if (i % 8 == 0)
            fdb_flush(core->fdb, xorshift(&x) % 2 ? US_ANY : xorshift(&x) % N_FIXED, US_ANY);
        if (i % 16 == 0) {
            do {
                const uint32_t n = fdb_dump(core->fdb, 0, &cursor, entries, 64);

                for (uint32_t k = 0; k < n; k++)
                    CHECK(entries[k].segment >= 1 && entries[k].segment <= 3);
            } while (cursor);
        }
        if (i % 4 == 0)
            usleep(500);
    }
}

/* Everything stands still: the table must agree with its counters, and with itself. */
static void check_table(void)
{
    const struct fdb *fdb = core->fdb;
    uint32_t of_port[US_PORTS_MAX] = { 0 }, used = 0;

    for (uint32_t n = 0; n <= fdb->mask; n++) {
        const struct fdb_bucket *b = &fdb->bucket[n];

        CHECK_EQ(b->version & 1, 0);
        for (int i = 0; i < FDB_WAYS; i++) {
            const uint64_t key = b->key[i], hash = fdb_hash(fdb, key);
            const uint32_t first = fdb_first(fdb, hash), second = fdb_second(fdb, hash);

            if (key == FDB_EMPTY)
                continue;
            used++;
            CHECK(n == first || n == second);
            CHECK_EQ(fdb_slot(b, key), i);
            CHECK_EQ(fdb_slot(&fdb->bucket[n == first ? second : first], key), FDB_NONE);
            if (!(b->port[i] & FDB_PINNED))
                of_port[b->port[i]]++;
        }
    }
    CHECK_EQ(page.fdb_entries, used);
    for (uint32_t id = 0; id < US_PORTS_MAX; id++) {
        const struct port *p = atomic_load(&core->port[id]);

        CHECK_EQ(of_port[id], p ? atomic_load(&p->fdb_count) : 0);
    }
}

TEST(workers_and_control)
{
    const struct us_config config = { .n_workers = N_WORKERS, .fdb_buckets = 16, .fdb_age_s = 5 };
    const uint8_t pinned[1][6] = { { 2, 0, 0, 0, 0, PINNED_MAC } };
    struct race_worker w[N_WORKERS];
    uint64_t frames = 0, delivered = 0;

    race_ops = fake_port_ops;
    race_ops.tx_burst = race_tx_burst;
    core = calloc(1, sizeof(*core));
    REQUIRE(switch_core_init(core, &config, &page) == 0);
    for (uint32_t i = 0; i < N_FIXED; i++) {
        const struct us_tag_row row = { US_VID_UNTAGGED, (uint16_t)(1 + i % 3) };

        fixed[i] = race_port_create(i);
        CHECK_EQ(switch_port_attach(core, &fixed[i]->fake.port), 0);
        CHECK_EQ(switch_port_set_tags(core, &fixed[i]->fake.port, &row, 1), 0);
    }
    CHECK_EQ(switch_port_set_macs(core, &fixed[0]->fake.port, pinned, 1), 0);
    for (uint32_t i = 0; i < N_GUESTS; i++) {
        guest[i] = race_port_create(FIRST_GUEST + i);
        CHECK_EQ(switch_port_attach(core, &guest[i]->fake.port), 0);
    }
    for (unsigned i = 0; i < N_WORKERS; i++) {
        w[i] = (struct race_worker){ .id = i, .scratch = switch_scratch_create(),
                                     .burst = aligned_alloc(64, sizeof(struct burst)) };
        CHECK_EQ(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    while (atomic_load(&started) < N_WORKERS)
        sched_yield();
    change_all();
    atomic_store(&stop, true);
    for (unsigned i = 0; i < N_WORKERS; i++) {
        pthread_join(w[i].thread, NULL);
        frames += w[i].frames;
        switch_scratch_destroy(w[i].scratch);
        free(w[i].burst);
    }
    check_table();
    for (uint32_t i = 0; i < N_GUESTS; i++) {
        delivered += guest[i]->delivered;
        switch_port_detach(core, &guest[i]->fake.port);
        race_port_destroy(guest[i]);
    }
    for (uint32_t i = 0; i < N_FIXED; i++) {
        CHECK(fixed[i]->delivered > 0);
        delivered += fixed[i]->delivered;
        switch_port_detach(core, &fixed[i]->fake.port);
        race_port_destroy(fixed[i]);
    }
    CHECK_EQ(page.fdb_entries, 0);
    CHECK_EQ(wrong_total, 0);
    printf("%u changes, %u frames in, %u out, %u moves, %u evicted, %u refused\n", CHANGES, (unsigned)frames,
           (unsigned)delivered, (unsigned)page.fdb_moves, (unsigned)page.fdb_evicted, (unsigned)page.fdb_refused);
    switch_core_fini(core);
    free(core);
}

MAIN
{
    RUN(workers_and_control);
}
