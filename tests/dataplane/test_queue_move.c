/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_queue_move.c - queues change their worker under traffic: every frame
 * arrives, once, in order, and no wake-up is lost; and the balancer that
 * orders such moves.  Run it under TSan.
 */
#include "harness.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sched.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "include/uswitch.h"
#include "toy_guest.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define MOVES 1000
#else
#define MOVES 5000
#endif
#define FRAMES_MIN 1000
#define SENDERS 2
#define WORKERS 2
#define PATIENCE_S 60
#define FRAME 64

static struct uswitch *us;
static const struct us_switch_page *page;
static struct toy_guest guest[SENDERS + 1];     /* the last one receives */
static struct us_state_page *state[SENDERS + 1];
static _Atomic bool stop;
static _Atomic uint32_t arrived;

static time_t now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static void begin(uint32_t poll_us, uint32_t rebalance_ms)
{
    struct us_config c = { .n_workers = WORKERS, .poll_us = poll_us, .fdb_buckets = 64, .fdb_age_s = 300,
                           .rebalance_ms = rebalance_ms };

    for (unsigned i = 0; i < US_WORKERS_MAX; i++)
        c.cpu[i] = -1;
    REQUIRE(uswitch_create(&c, &us) == 0);
    page = mmap(NULL, US_SWITCH_PAGE_SIZE, PROT_READ, MAP_SHARED, uswitch_page_fd(us), 0);
    REQUIRE(page != MAP_FAILED);
    for (uint32_t i = 0; i <= SENDERS; i++) {
        REQUIRE(toy_guest_create(&guest[i]) == 0);
        REQUIRE(toy_guest_plug_seen(&guest[i], us, i, 7, &state[i]) == 0);
    }
}

static void end(void)
{
    uswitch_destroy(us);
    munmap((void *)(uintptr_t)page, US_SWITCH_PAGE_SIZE);
    for (uint32_t i = 0; i <= SENDERS; i++) {
        munmap(state[i], US_STATE_PAGE_SIZE);
        toy_guest_destroy(&guest[i]);
    }
}

static uint64_t worker_of(uint32_t port)
{
    return __atomic_load_n(&state[port]->in[0].worker, __ATOMIC_RELAXED);
}

/* ---- numbered frames, in a thread of their own ---- */

/**
 * struct stream - from one sender to the receiver
 * @sent: number of the next frame
 * @seen: number expected next
 */
struct stream {
    uint32_t sent, seen;
};

static struct stream stream[SENDERS];
static uint32_t wrong;
static bool stalled;

static void make_frame(uint8_t *frame, uint32_t from, uint32_t number)
{
    memset(frame, (int)(number * 7 + from), FRAME);
    memcpy(frame, (uint8_t[]){ 2, 0, 0, 0, 0, SENDERS, 2, 0, 0, 0, 0, (uint8_t)from, 0x88, 0xb5 }, 14);
    memcpy(frame + 14, &number, sizeof(number));
}

static bool receive(void)
{
    uint8_t got[2048], want[FRAME];
    const uint32_t len = toy_guest_receive(&guest[SENDERS], got, sizeof(got));
    const uint32_t from = got[11];

    if (len == 0)
        return false;
    atomic_fetch_add(&arrived, 1);
    if (len != FRAME || from >= SENDERS) {
        wrong++;
        return true;
    }
    make_frame(want, from, stream[from].seen++);
    wrong += memcmp(got, want, FRAME) != 0;
    return true;
}

/* Windows of one frame meet sleeping workers, longer ones meet moves in the middle of a burst. */
static void *pump(void *arg)
{
    static const uint32_t windows[] = { 1, 30, 2, 8 };
    time_t progress = now_s();

    (void)arg;
    for (unsigned n = 0; !atomic_load(&stop) && !stalled; n++) {
        const uint32_t window = windows[n / 512 % 4];

        for (uint32_t i = 0; i < SENDERS; i++) {
            uint8_t frame[FRAME];

            while (stream[i].sent - stream[i].seen < window) {
                make_frame(frame, i, stream[i].sent);
                if (!toy_guest_send(&guest[i], frame, FRAME))
                    break;
                stream[i].sent++;
            }
        }
        if (receive()) {
            while (receive())
                ;
            progress = now_s();
        } else {
            sched_yield();
            stalled = now_s() - progress > PATIENCE_S;
        }
    }
    for (progress = now_s(); now_s() - progress < PATIENCE_S;) {
        (void)receive();
        if (stream[0].seen == stream[0].sent && stream[1].seen == stream[1].sent)
            break;
    }
    return NULL;
}

static void moves_under_traffic(uint32_t poll_us)
{
    pthread_t t;
    uint8_t frame[FRAME];
    uint32_t x = 88172645;

    begin(poll_us, 0);
    memset(stream, 0, sizeof(stream));
    stop = stalled = false;
    arrived = 0;
    wrong = 0;
    /* The receiver says where it is, so that nothing is flooded; nobody else hears it. */
    make_frame(frame, SENDERS, 0);
    CHECK(toy_guest_send(&guest[SENDERS], frame, FRAME));
    usleep(10000);
    REQUIRE(pthread_create(&t, NULL, pump, NULL) == 0);
    for (unsigned i = 0; i < MOVES || (atomic_load(&arrived) < FRAMES_MIN && i < 100 * MOVES); i++) {
        const uint32_t port = (x = x * 1664525 + 1013904223) >> 16, worker = x >> 24;

        CHECK_EQ(uswitch_queue_move(us, port % SENDERS, 0, worker % WORKERS), 0);
        CHECK_EQ(worker_of(port % SENDERS), worker % WORKERS + 1);
        if (x % 4 == 0)
            usleep(x / 65536 % 300);
    }
    atomic_store(&stop, true);
    pthread_join(t, NULL);
    CHECK(!stalled);
    CHECK_EQ(wrong, 0);
    CHECK(atomic_load(&arrived) >= FRAMES_MIN);
    for (unsigned i = 0; i < SENDERS; i++) {
        CHECK_EQ(stream[i].seen, stream[i].sent);
        CHECK_EQ(state[i]->in[0].frames, stream[i].sent);
        CHECK(state[i]->in[0].cycles > 0);
    }
    printf("%u moves at least, %u and %u frames\n", MOVES, stream[0].sent, stream[1].sent);
    end();
}

TEST(sleeping_workers)
{
    moves_under_traffic(0);
}

TEST(spinning_workers)
{
    moves_under_traffic(1000);
}

TEST(arguments)
{
    begin(0, 0);
    CHECK_EQ(uswitch_queue_move(us, 0, 0, WORKERS), -EINVAL);
    CHECK_EQ(uswitch_queue_move(us, 0, US_QUEUES_MAX, 0), -EINVAL);
    CHECK_EQ(uswitch_queue_move(us, 0, 1, 0), -ENOENT);         /* its ring was never started */
    CHECK_EQ(uswitch_queue_move(us, 99, 0, 0), -ENOENT);
    CHECK_EQ(uswitch_queue_move(us, US_PORTS_MAX, 0, 0), -ENOENT);
    CHECK(uswitch_ring_stop(us, 0, 1) >= 0);
    CHECK_EQ(worker_of(0), 0);
    CHECK_EQ(uswitch_queue_move(us, 0, 0, 1), -ENOENT);
    end();
}

/* ---- the balancer ---- */

/* As if the queue had used its worker up since the last look. */
static void pretend_busy(uint32_t port)
{
    __atomic_fetch_add(&state[port]->in[0].cycles, UINT64_MAX / 4, __ATOMIC_RELAXED);
}

TEST(balancer_separates_busy_queues)
{
    begin(0, 50);
    CHECK_EQ(uswitch_queue_move(us, 0, 0, 0), 0);
    CHECK_EQ(uswitch_queue_move(us, 1, 0, 0), 0);
    CHECK_EQ(uswitch_queue_move(us, 2, 0, 1), 0);
    (void)uswitch_balance(us);
    pretend_busy(0);
    pretend_busy(1);
    CHECK_EQ(uswitch_balance(us), 50);
    CHECK(worker_of(0) != worker_of(1));
    CHECK_EQ(worker_of(2), 2);
    for (unsigned i = 0; i < 10; i++) {
        const uint64_t before[2] = { worker_of(0), worker_of(1) };

        pretend_busy(0);
        pretend_busy(1);
        CHECK_EQ(uswitch_balance(us), 50);
        CHECK(worker_of(0) == before[0] && worker_of(1) == before[1]);
    }
    end();
}

/* A queue that comes goes where there is less to do, not where there are fewer. */
TEST(new_queue_goes_to_the_idle_worker)
{
    const struct us_vhost_ring ring = toy_guest_ring(2, 1);

    begin(0, 50);
    CHECK_EQ(uswitch_queue_move(us, 0, 0, 1), 0);
    CHECK_EQ(uswitch_queue_move(us, 1, 0, 0), 0);
    CHECK(uswitch_ring_stop(us, 2, 1) >= 0);
    (void)uswitch_balance(us);
    pretend_busy(1);
    (void)uswitch_balance(us);
    CHECK_EQ(uswitch_ring_start(us, &ring, guest[2].kick[1], guest[2].call[1]), 0);
    CHECK_EQ(worker_of(2), 2);
    end();
}

static bool readable(int fd, int ms)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    return poll(&p, 1, ms) == 1;
}

/* While everybody sleeps nobody is asked; the first frame starts the looking again. */
TEST(balancer_sleeps_too)
{
    uint8_t frame[FRAME], got[2048];
    const time_t start = now_s();
    int again = 0;

    begin(0, 50);
    /* A worker of a busy machine may fall asleep, and be woken by what was begun, later than it seemed. */
    do {
        usleep(5000);
        again = uswitch_balance(us);
    } while ((again >= 0 || readable(uswitch_balance_fd(us), 50)) && now_s() - start < PATIENCE_S);
    CHECK_EQ(again, -1);
    CHECK(!readable(uswitch_balance_fd(us), 50));
    make_frame(frame, 0, 0);
    CHECK(toy_guest_send(&guest[0], frame, FRAME));
    CHECK(readable(uswitch_balance_fd(us), 1000 * PATIENCE_S));
    while (toy_guest_receive(&guest[SENDERS], got, sizeof(got)) == 0 && now_s() - start < 2 * PATIENCE_S)
        sched_yield();
    CHECK_EQ(uswitch_balance(us), 50);
    CHECK(!readable(uswitch_balance_fd(us), 0));
    end();
}

TEST(balancer_is_off)
{
    begin(0, 0);
    CHECK_EQ(uswitch_balance(us), -1);
    pretend_busy(0);
    pretend_busy(1);
    CHECK_EQ(uswitch_balance(us), -1);
    end();
}

MAIN
{
    RUN(arguments);
    RUN(sleeping_workers);
    RUN(spinning_workers);
    RUN(balancer_separates_busy_queues);
    RUN(new_queue_goes_to_the_idle_worker);
    RUN(balancer_sleeps_too);
    RUN(balancer_is_off);
}
