/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_limit.c - the limiter: exact over time, whatever a burst weighs, shared
 * by queues, and no sleep that costs rate.
 */
#include "limit.h"

#include <pthread.h>

#include "harness.h"
#include "include/uswitch.h"

#define MS 1000000ull
#define SECOND (1000 * MS)

static struct limit l;
static struct frame frame[BURST_MAX];

static void begin(uint32_t kbps, uint32_t burst_kbit, uint32_t kpps, uint32_t burst_kpkt)
{
    memset(&l, 0, sizeof(l));
    limit_set(&l, &(struct limit_values){ kbps, burst_kbit, kpps, burst_kpkt });
}

/* Takes bursts of n frames whenever it may, looking every @step ns, for a time; returns frames. */
static uint64_t drive(uint64_t *now, uint64_t duration, uint64_t step, uint32_t n, uint32_t len)
{
    const uint64_t end = *now + duration;
    uint64_t frames = 0;

    for (uint32_t i = 0; i < n; i++)
        frame[i].len = len;
    while (*now < end) {
        const uint64_t ready = limit_ready_at(&l, *now);

        if (ready > *now) {
            /* What was promised is kept: not earlier, and not later. */
            CHECK(limit_ready_at(&l, ready - 1) != 0);
            CHECK_EQ(limit_ready_at(&l, ready), 0);
            *now += (ready - *now + step - 1) / step * step;
            continue;
        }
        limit_charge(&l, frame, n, *now);
        frames += n;
        *now += 100;
    }
    return frames;
}

static bool about(uint64_t got, uint64_t want)
{
    return got >= want - want / 50 && got <= want + want / 50;
}

TEST(no_limit)
{
    begin(0, 0, 0, 0);
    CHECK(!limit_is_set(&l));
    CHECK_EQ(limit_ready_at(&l, 5 * SECOND), 0);
    limit_charge(&l, frame, BURST_MAX, 5 * SECOND);
    CHECK_EQ(limit_ready_at(&l, 5 * SECOND), 0);
}

/* Ten seconds at each rate, by bursts of one and of many, small frames and 64 KiB; looked at every 2 ms at worst. */
TEST(rate_holds)
{
    static const uint32_t kbps[] = { 1000, 100000, 10000000 };

    for (unsigned i = 0; i < 3; i++) {
        for (uint64_t step = 1; step <= 2 * MS; step *= 2000000) {
            uint64_t now = 1000 * SECOND, frames;

            begin(kbps[i], 0, 0, 0);
            CHECK(limit_is_set(&l));
            (void)drive(&now, SECOND, step, 1, 1000);   /* empties the bucket */
            frames = drive(&now, 10 * SECOND, step, 1, 1000);
            CHECK(about(frames, 10ull * kbps[i] / 8));
        }
        begin(kbps[i], 0, 0, 0);
        {
            uint64_t now = 1000 * SECOND, frames;

            (void)drive(&now, 10 * SECOND, 1, 4, 65000);
            frames = drive(&now, 1000 * SECOND, 1, 4, 65000);
            CHECK(about(frames, 1000000ull * kbps[i] / 8 / 65000));
        }
    }
}

TEST(packets_hold)
{
    uint64_t now = 1000 * SECOND, frames;

    begin(0, 0, 10, 0);
    (void)drive(&now, SECOND, 1, 64, 60);
    frames = drive(&now, 10 * SECOND, 1, 64, 60);
    CHECK(about(frames, 100000));
    /* Both: the stricter one counts. */
    begin(1000, 0, 10, 0);
    (void)drive(&now, SECOND, 1, 1, 1250);
    frames = drive(&now, 10 * SECOND, 1, 1, 1250);
    CHECK(about(frames, 1000));
}

/* After a silence the bucket is full, and no fuller than it is deep. */
TEST(burst_after_silence)
{
    uint64_t now = 1000 * SECOND, frames;

    begin(0, 0, 1, 5);
    frames = drive(&now, MS, 1, 1, 60);
    CHECK(frames >= 5000 && frames <= 5002);
    now += 3600 * SECOND;
    frames = drive(&now, MS, 1, 1, 60);
    CHECK(frames >= 5000 && frames <= 5002);
}

/* Debt of a time with a tiny rate does not outlive it; a new limit holds at once. */
TEST(limits_change)
{
    uint64_t now = 1000 * SECOND;

    begin(1, 0, 0, 0);
    for (unsigned i = 0; i < 4; i++)
        frame[i].len = 65000;
    limit_charge(&l, frame, 4, now);            /* 2 Mbit at 1 kbit/s: owes half an hour */
    CHECK(limit_ready_at(&l, now) > now + 2000 * SECOND);
    limit_set(&l, &(struct limit_values){ .kbps = 1000000 });
    CHECK_EQ(limit_ready_at(&l, now), 0);
    CHECK(about(drive(&now, SECOND, 1, 1, 1000), 125000));
    limit_set(&l, &(struct limit_values){ .kbps = 8000 });
    CHECK(about(drive(&now, 10 * SECOND, 1, 1, 1000), 10000));
    limit_set(&l, &(struct limit_values){ 0 });
    CHECK_EQ(limit_ready_at(&l, now), 0);
}

TEST(extremes)
{
    uint64_t now = 1000 * SECOND;

    begin(UINT32_MAX, UINT32_MAX, UINT32_MAX, UINT32_MAX);
    CHECK(drive(&now, MS, 1, 64, 1500) > 0);
    begin(1, UINT32_MAX, 1, UINT32_MAX);
    CHECK(drive(&now, MS, 1, 64, 1500) > 0);
    CHECK(limit_ready_at(&l, UINT64_MAX / 2) == 0);
}

/* ---- several queues of a port ---- */

#define QUEUES 4

static _Atomic uint64_t shared_frames;

static void *queue_main(void *arg)
{
    static _Atomic uint64_t now_shared = 1000 * SECOND;
    struct frame mine[8] = { { .len = 100 }, { .len = 100 } };

    (void)arg;
    for (unsigned i = 0; i < 200000; i++) {
        const uint64_t now = atomic_fetch_add(&now_shared, 1000);

        if (limit_ready_at(&l, now) > now)
            continue;
        limit_charge(&l, mine, 2, now);
        atomic_fetch_add(&shared_frames, 2);
    }
    return NULL;
}

/* Queues in several workers share one limit; nothing is charged twice or forgotten. */
TEST(queues_share)
{
    pthread_t t[QUEUES];

    begin(0, 0, 100, 0);        /* 800 ms of model time: 80000 packets */
    for (unsigned i = 0; i < QUEUES; i++)
        REQUIRE(pthread_create(&t[i], NULL, queue_main, NULL) == 0);
    for (unsigned i = 0; i < QUEUES; i++)
        pthread_join(t[i], NULL);
    CHECK(about(atomic_load(&shared_frames), 80000));
}

MAIN
{
    RUN(no_limit);
    RUN(rate_holds);
    RUN(packets_hold);
    RUN(burst_after_silence);
    RUN(limits_change);
    RUN(extremes);
    RUN(queues_share);
}
