/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_uswitch_faults.c - the library as a whole against what a guest's VMM
 * can do to file descriptors and memory: kick fds that cannot be waited for,
 * call fds that block, memory that goes.  Nobody but the guest's own port pays.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "drop.h"
#include "include/uswitch.h"
#include "toy_guest.h"

#define TIME_LIMIT 200 /* seconds, for the whole program */
#define SEGMENT 10

static uint8_t frame[60], got[2048];

static struct uswitch *make_switch(uint32_t workers)
{
    struct us_config c = { .n_workers = workers, .poll_us = 0, .fdb_buckets = 64, .fdb_age_s = 300 };
    struct uswitch *us = NULL;

    for (unsigned i = 0; i < US_WORKERS_MAX; i++)
        c.cpu[i] = -1;
    if (!CHECK_EQ(uswitch_create(&c, &us), 0))
        exit(EXIT_FAILURE);
    return us;
}

static void make_frame(uint8_t fill)
{
    memset(frame, fill, sizeof(frame));
    memcpy(frame, (uint8_t[]){ 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5 }, 14);
}

/* Lets the switch work until the guest has a frame, or two seconds are over. */
static uint32_t await_frame(struct uswitch *us, struct toy_guest *g)
{
    struct timespec start, now;
    uint32_t len;

    clock_gettime(CLOCK_MONOTONIC, &start);
    do {
        (void)uswitch_poll(us);
        len = toy_guest_receive(g, got, sizeof(got));
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (len == 0 && now.tv_sec - start.tv_sec < 2);
    return len;
}

/* The next news, awaited. */
static struct us_event await_event(struct uswitch *us)
{
    struct pollfd news = { .fd = uswitch_event_fd(us), .events = POLLIN };
    struct us_event event = { 0 };

    (void)uswitch_poll(us);
    CHECK_EQ(poll(&news, 1, 2000), 1);
    CHECK_EQ(uswitch_event_next(us, &event), 1);
    CHECK_EQ(uswitch_event_next(us, &(struct us_event){ 0 }), 0);
    return event;
}

/*
 * F3: a port is mended when its ring runs, not when somebody tries to start one that cannot be waited for.  And
 * what the guest sent before is found, though the worker may have looked at the broken port and gone to sleep.
 */
static void failed_start(uint32_t workers)
{
    const struct us_port_add add = toy_guest_port(5);
    const struct us_port_tags tags = { .port_id = 5, .n = 1, .row = { { US_VID_UNTAGGED, SEGMENT } } };
    const struct us_vhost_mem mem = toy_guest_mem(5);
    const struct us_vhost_ring ring = toy_guest_ring(5, 1);
    const int state_fd = us_state_page_create(5), file = memfd_create("no kick fd", MFD_CLOEXEC);
    const struct us_state_page *state = mmap(NULL, US_STATE_PAGE_SIZE, PROT_READ, MAP_SHARED, state_fd, 0);
    struct uswitch *us = make_switch(workers);
    struct toy_guest a, b;

    REQUIRE(state != MAP_FAILED && toy_guest_create(&a) == 0 && toy_guest_create(&b) == 0);
    CHECK_EQ(uswitch_port_add(us, &add, state_fd, NULL, 0), 0);
    CHECK_EQ(uswitch_port_tags(us, &tags), 0);
    CHECK_EQ(uswitch_vhost_mem(us, &mem, &a.memfd), 0);
    CHECK_EQ(uswitch_ring_start(us, &ring, a.kick[1], a.call[1]), 0);
    CHECK_EQ(toy_guest_plug(&b, us, 6, SEGMENT), 0);
    for (unsigned round = 0; round < 100; round++) {
        toy_guest_misbehave(&a);
        CHECK_EQ(await_event(us).reason, BREAK_avail_index);
        CHECK(uswitch_ring_stop(us, 5, 1) >= 0);
        CHECK_EQ(uswitch_ring_start(us, &ring, file, a.call[1]), -EPERM);
        CHECK_EQ(__atomic_load_n(&state->broken, __ATOMIC_RELAXED), BREAK_avail_index);
        CHECK_EQ(uswitch_event_next(us, &(struct us_event){ 0 }), 0);
        toy_guest_reset(&a, 1);
        make_frame((uint8_t)round);
        CHECK(toy_guest_send(&a, frame, sizeof(frame)));
        CHECK_EQ(uswitch_ring_start(us, &ring, a.kick[1], a.call[1]), 0);
        CHECK_EQ(__atomic_load_n(&state->broken, __ATOMIC_RELAXED), BREAK_none);
        CHECK_EQ(await_frame(us, &b), sizeof(frame));
    }
    uswitch_destroy(us);
    munmap((void *)(uintptr_t)state, US_STATE_PAGE_SIZE);
    close(state_fd);
    close(file);
    toy_guest_destroy(&a);
    toy_guest_destroy(&b);
}

TEST(f3_failed_start_mends_nothing)
{
    failed_start(0);
    failed_start(2);
}

/* What makes the control thread signal a guest once more: the start of a resumed ring, and a new call fd. */
static int signal_again(struct uswitch *us, struct us_vhost_ring *ring, const struct toy_guest *a, bool exchanged)
{
    if (exchanged)
        return uswitch_ring_call(us, 5, ring->ring, a->call[ring->ring]);
    CHECK(uswitch_ring_stop(us, 5, ring->ring) >= 0);
    return uswitch_ring_start(us, ring, a->kick[ring->ring], a->call[ring->ring]);
}

/*
 * F3: a guest that made its eventfd blocking and filled it costs the control thread, which signals it once more, a
 * millisecond, and the guest its port.
 */
static void full_call_fd(bool exchanged)
{
    const uint64_t full = UINT64_MAX - 1;

    for (uint32_t ring = 0; ring < 2; ring++) {
        struct us_vhost_ring again = toy_guest_ring(5, ring);
        struct uswitch *us = make_switch(ring);
        struct us_event event;
        struct toy_guest a;

        again.base = US_BASE_FROM_USED;
        again.resume = 1;
        REQUIRE(toy_guest_create(&a) == 0);
        CHECK_EQ(toy_guest_plug(&a, us, 5, SEGMENT), 0);
        CHECK_EQ(write(a.call[ring], &full, sizeof(full)), sizeof(full));
        CHECK_EQ(signal_again(us, &again, &a, exchanged), 0);
        CHECK_EQ(uswitch_event_next(us, &event), 0); /* full is as good as signalled */
        CHECK_EQ(fcntl(a.call[ring], F_SETFL, 0), 0); /* clears O_NONBLOCK, for us as well */
        alarm(5);
        CHECK_EQ(signal_again(us, &again, &a, exchanged), 0);
        alarm(TIME_LIMIT);
        event = await_event(us);
        CHECK_EQ(event.reason, BREAK_call_stuck);
        CHECK_EQ(event.port_id, 5);
        CHECK_EQ(event.ring, ring);
        uswitch_destroy(us);
        toy_guest_destroy(&a);
    }
}

TEST(f3_resumed_ring_with_a_full_call_fd)
{
    full_call_fd(false);
}

TEST(f3_new_call_fd_that_is_full)
{
    full_call_fd(true);
}

/* F2: whoever uses the library survives a guest whose memory goes, without a word about signals. */
TEST(f2_memory_that_goes)
{
    for (uint32_t workers = 0; workers < 2; workers++) {
        struct uswitch *us;
        struct us_event event;
        struct toy_guest a, b;

        CHECK(signal(SIGBUS, SIG_DFL) != SIG_ERR);
        us = make_switch(workers);
        REQUIRE(toy_guest_create(&a) == 0 && toy_guest_create(&b) == 0);
        CHECK_EQ(toy_guest_plug(&a, us, 5, SEGMENT), 0);
        CHECK_EQ(toy_guest_plug(&b, us, 6, SEGMENT), 0);
        CHECK_EQ(ftruncate(b.memfd, 0), 0);
        make_frame(1);
        CHECK(toy_guest_send(&a, frame, sizeof(frame)));
        event = await_event(us);
        CHECK_EQ(event.port_id, 6);
        CHECK_EQ(event.reason, BREAK_memory_gone);
        uswitch_destroy(us);
        toy_guest_destroy(&a);
        toy_guest_destroy(&b);
    }
}

MAIN
{
    alarm(TIME_LIMIT);
    RUN(f3_failed_start_mends_nothing);
    RUN(f3_resumed_ring_with_a_full_call_fd);
    RUN(f3_new_call_fd_that_is_full);
    RUN(f2_memory_that_goes);
}
