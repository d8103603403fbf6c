/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_stopped_receiver.c - a guest that takes nothing out of its ring costs
 * its senders a named drop each, and nobody else a frame.
 */
#include "harness.h"

#include <sched.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "drop.h"
#include "include/uswitch.h"
#include "toy_guest.h"
#include "uswitch_priv.h"

#define PATIENCE_S 60
#define FRAME 64
#define ROUNDS 2000

enum { SENDER, LIVE, STOPPED, GUESTS };

static struct toy_guest guest[GUESTS];
static struct us_state_page *state[GUESTS];

static time_t now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static void make_frame(uint8_t *frame, uint32_t to, uint32_t from, uint32_t number)
{
    memset(frame, (int)number, FRAME);
    memcpy(frame, (uint8_t[]){ 2, 0, 0, 0, 0, (uint8_t)to, 2, 0, 0, 0, 0, (uint8_t)from, 0x88, 0xb5 }, 14);
    memcpy(frame + 14, &number, sizeof(number));
}

static void send(struct uswitch *us, uint32_t from, uint32_t to, uint32_t number)
{
    const time_t start = now_s();
    uint8_t frame[FRAME];

    make_frame(frame, to, from, number);
    while (!toy_guest_send(&guest[from], frame, FRAME) && now_s() - start < PATIENCE_S) {
        (void)uswitch_poll(us);
        sched_yield();
    }
}

/* The next frame the live guest gets is that one. */
static bool arrives(struct uswitch *us, uint32_t number)
{
    const time_t start = now_s();
    uint8_t got[2048], want[FRAME];
    uint32_t len;

    while ((len = toy_guest_receive(&guest[LIVE], got, sizeof(got))) == 0 && now_s() - start < PATIENCE_S) {
        (void)uswitch_poll(us);
        sched_yield();
    }
    make_frame(want, LIVE, SENDER, number);
    return len == FRAME && memcmp(got, want, FRAME) == 0;
}

static uint64_t dropped(uint32_t id)
{
    return __atomic_load_n(&state[id]->out[0].drop[DROP_ring_full], __ATOMIC_RELAXED);
}

static void stopped_receiver(uint32_t workers)
{
    struct us_config c = { .n_workers = workers, .poll_us = 20, .fdb_buckets = 64, .fdb_age_s = 300 };
    struct uswitch *us = NULL;

    for (unsigned i = 0; i < US_WORKERS_MAX; i++)
        c.cpu[i] = -1;
    REQUIRE(uswitch_create(&c, &us) == 0);
    for (uint32_t i = 0; i < GUESTS; i++) {
        REQUIRE(toy_guest_create(&guest[i]) == 0);
        REQUIRE(toy_guest_plug_seen(&guest[i], us, i, 7, &state[i]) == 0);
    }
    /* Both say where they are. Floods are over before the counting begins. */
    for (uint32_t from = LIVE; from <= STOPPED; from++) {
        send(us, from, SENDER, 0);
        for (const time_t start = now_s(); state[from]->in[0].frames == 0 && now_s() - start < PATIENCE_S;)
            (void)uswitch_poll(us);
    }
    usleep(20000);
    for (uint8_t frame[2048]; toy_guest_receive(&guest[LIVE], frame, sizeof(frame));)
        ;
    /* Bursts that mix frames for the one and the other, many times more than the stopped one has buffers. */
    for (uint32_t i = 0; i < ROUNDS; i++) {
        for (unsigned k = 0; k < 3; k++)
            send(us, SENDER, STOPPED, i);
        send(us, SENDER, LIVE, i);
        if (!CHECK(arrives(us, i)))
            break;
    }
    CHECK_EQ(dropped(LIVE), 0);
    CHECK_EQ(dropped(STOPPED) + state[STOPPED]->out[0].frames - state[STOPPED]->out[0].flooded, 3 * ROUNDS);
    CHECK(dropped(STOPPED) > 2 * ROUNDS);
    CHECK_EQ(state[STOPPED]->broken, 0);
    uswitch_destroy(us);
    for (uint32_t i = 0; i < GUESTS; i++) {
        munmap(state[i], US_STATE_PAGE_SIZE);
        toy_guest_destroy(&guest[i]);
    }
}

TEST(polled)
{
    stopped_receiver(0);
}

TEST(one_worker)
{
    stopped_receiver(1);
}

/* Locks are for several workers: with one, no receiving port is ever locked. */
TEST(lock_only_with_several)
{
    for (uint32_t workers = 0; workers <= 2; workers++) {
        const struct us_config c = { .n_workers = workers, .fdb_buckets = 64, .fdb_age_s = 300,
                                     .cpu = { -1, -1 }, .rebalance_ms = 10 };
        struct uswitch *us = NULL;

        REQUIRE(uswitch_create(&c, &us) == 0);
        REQUIRE(toy_guest_create(&guest[0]) == 0);
        CHECK_EQ(toy_guest_plug(&guest[0], us, 0, 7), 0);
        CHECK_EQ(uswitch_port(us, 0)->shared, workers > 1);
        if (workers < 2)
            CHECK_EQ(uswitch_balance(us), -1);  /* nothing to spread, nobody looks */
        uswitch_destroy(us);
        toy_guest_destroy(&guest[0]);
    }
}

TEST(two_workers)
{
    stopped_receiver(2);
}

MAIN
{
    RUN(polled);
    RUN(one_worker);
    RUN(two_workers);
    RUN(lock_only_with_several);
}
