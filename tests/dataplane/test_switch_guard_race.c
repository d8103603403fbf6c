/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_switch_guard_race.c - guards that are exchanged while workers send.
 * Meant for TSan and ASan; the checks hold in every build:
 *
 *  - a frame that no guard ever allowed is never delivered, not even between two;
 *  - a frame that both allow is never lost;
 *  - when the call has returned, what only the former guard allowed is not delivered any more.
 */
#include <pthread.h>
#include <sched.h>

#include "base/rcu.h"
#include "fake_port.h"
#include "fdb.h"
#include "harness.h"
#include "policy/antispoof.h"
#include "policy/packets.h"
#include "switch.h"

#define N_WORKERS 2             /* each the worker of the guarded port with its number */
#define RECEIVER N_WORKERS
#define CHANGES 2000u
#define BURST 24u
#define SECOND 1000000000ULL

/* Last byte of a frame's source address. One guard allows A and BOTH, the other B and BOTH. */
enum { BOTH = 1, A = 2, B = 3, NEITHER = 4, N_CLASSES };

/**
 * struct guard_worker - one thread
 * @id: its number, and its port's
 * @sent: of each class
 * @wrong: frames that came through although the guard in force forbids them
 */
struct guard_worker {
    pthread_t thread;
    uint32_t id;
    uint64_t sent[N_CLASSES];
    uint64_t wrong;
};

/* What was delivered in this thread, wherever: a lookup that a writer keeps waiting floods. */
static _Thread_local uint64_t delivered[N_CLASSES];
/* What the receiver got of those that both allow. */
static _Thread_local uint64_t received;
static _Atomic uint64_t received_both, sent_both;

static struct switch_core core;
static struct us_switch_page page;
static struct fake_port *port[N_WORKERS + 1];
static struct port_ops counting_ops;
/* Twice the number of changes of guards that are done; odd while one is being made. */
static _Atomic unsigned phase;
static _Atomic bool stop;
/* Workers that have had a turn: before that a change of guards waits for nobody. */
static _Atomic uint32_t started;

static unsigned counting_tx_burst(struct port *p, struct frame *const *frames, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        const uint8_t class = frames[i]->hdr[AT_IPV4_SOURCE + 3];

        delivered[class]++;
        received += class == BOTH && p->id == RECEIVER;
    }
    return n;
}

static void make_burst(struct burst *b, struct guard_worker *w, uint32_t *x)
{
    struct packet p;

    b->n = BURST;
    b->n_iov = 0;
    for (uint32_t i = 0; i < BURST; i++) {
        uint8_t class = BOTH;

        *x = *x * 1664525 + 1013904223;
        class += (uint8_t)(*x >> 24) % 4;
        packet_make(&p, PACKET_TCP);
        p.data[AT_IPV4_SOURCE + 3] = class;
        p.data[5] = 0xee;
        memcpy(b->snap[i] + HDR_ROOM, p.data, 60);
        b->frame[i] = (struct frame){ .hdr = b->snap[i] + HDR_ROOM, .hdr_len = 60, .len = 60 };
        w->sent[class]++;
    }
}

static void *work(void *arg)
{
    struct guard_worker *const w = arg;
    struct switch_scratch *scratch = switch_scratch_create();
    struct burst *burst = aligned_alloc(64, sizeof(struct burst));
    uint32_t x = 12345 + w->id;

    rcu_worker_register();
    for (unsigned n = 0; !atomic_load(&stop); n++) {
        const uint64_t before[] = { delivered[A], delivered[B] };
        const unsigned began = atomic_load(&phase);

        make_burst(burst, w, &x);
        switch_burst(&core, scratch, &port[w->id]->port.rxq[0], burst, SECOND);
        if (!(began & 1) && atomic_load(&phase) == began)
            w->wrong += began / 2 % 2 ? delivered[A] - before[0] : delivered[B] - before[1];
        if (n == 0)
            atomic_fetch_add(&started, 1);
        rcu_worker_quiescent();
    }
    rcu_worker_unregister();
    w->wrong += delivered[NEITHER];
    atomic_fetch_add(&received_both, received);
    atomic_fetch_add(&sent_both, w->sent[BOTH]);
    switch_scratch_destroy(scratch);
    free(burst);
    return NULL;
}

static void set_guard(uint32_t id, bool b)
{
    struct us_guard_pair pair[2] = { own_pairs[0], own_pairs[0] };
    const struct policy *policy = NULL;

    pair[0].ip[3] = BOTH;
    pair[1].ip[3] = b ? B : A;
    CHECK_EQ(antispoof_create(pair, 2, &policy), 0);
    switch_port_set_policy(&core, &port[id]->port, policy);
}

static void setup(void)
{
    const struct us_config config = { .n_workers = N_WORKERS, .fdb_buckets = 64, .fdb_age_s = 300 };
    const struct us_tag_row row = { US_VID_UNTAGGED, 5 };
    const uint8_t receiver[1][6] = { { 2, 0, 0, 0, 0, 0xee } };

    counting_ops = fake_port_ops;
    counting_ops.tx_burst = counting_tx_burst;
    if (switch_core_init(&core, &config, &page) < 0)
        abort();
    for (uint32_t i = 0; i <= N_WORKERS; i++) {
        port[i] = fake_port_create(i);
        port[i]->port.ops = &counting_ops;
        CHECK_EQ(switch_port_attach(&core, &port[i]->port), 0);
        if (i != RECEIVER)
            set_guard(i, false);
        CHECK_EQ(switch_port_set_tags(&core, &port[i]->port, &row, 1), 0);
    }
    CHECK_EQ(switch_port_set_macs(&core, &port[RECEIVER]->port, receiver, 1), 0);
}

TEST(guards_are_exchanged_under_traffic)
{
    static struct guard_worker w[N_WORKERS];
    uint64_t classes[N_CLASSES] = { 0 };

    setup();
    for (uint32_t i = 0; i < N_WORKERS; i++) {
        w[i].id = i;
        CHECK_EQ(pthread_create(&w[i].thread, NULL, work, &w[i]), 0);
    }
    while (atomic_load(&started) < N_WORKERS)
        sched_yield();
    for (unsigned n = 0; n < CHANGES; n++) {
        atomic_fetch_add(&phase, 1);
        for (uint32_t i = 0; i < N_WORKERS; i++)
            set_guard(i, n % 2 == 0);
        atomic_fetch_add(&phase, 1);
        rcu_wait();             /* and a turn of each worker with it */
    }
    atomic_store(&stop, true);
    for (uint32_t i = 0; i < N_WORKERS; i++) {
        pthread_join(w[i].thread, NULL);
        CHECK_EQ(w[i].wrong, 0);
        for (unsigned c = BOTH; c < N_CLASSES; c++) {
            CHECK(w[i].sent[c] > 0);
            classes[c] += w[i].sent[c];
        }
    }
    CHECK_EQ(received_both, sent_both);
    printf("%u changes, %u frames of each class\n", CHANGES, (unsigned)classes[A]);
    for (uint32_t i = 0; i <= N_WORKERS; i++) {
        switch_port_detach(&core, &port[i]->port);
        fake_port_destroy(port[i]);
    }
    switch_core_fini(&core);
}

MAIN
{
    RUN(guards_are_exchanged_under_traffic);
}
