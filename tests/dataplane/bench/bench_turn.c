/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * bench_turn.c - what a turn of a worker costs: frames from one guest to
 * another through a whole switch in this process, with a driver that costs
 * nothing because its time is not counted.  The switch's own cycle counter is
 * read (us_worker_state), so the figure is the one that "uswitchctl worker
 * list" shows for a real worker.
 *
 *   bench_turn                 the table of cases
 *   bench_turn -s 64 -b 32 …   one case; see usage()
 *   bench_turn -t …            with a worker thread, driver on another CPU: cache lines travel
 *   bench_turn -g 1 …          the sender is guarded: so many pairs, of which the last covers its frames
 *   bench_turn -i …            with VIRTIO_F_IN_ORDER; -I: chains in indirect tables; -p: packed rings
 *
 * Beside each figure stands what memcpy() takes for the same bytes over the
 * same buffers in the same run.  Instructions, which do not depend on what
 * else the machine does:
 *
 *   valgrind --tool=callgrind --toggle-collect=worker_turn bench_turn -s 64 -n 1 …
 *
 * and divide by the frames it prints.  Asserts no time; exit status 1 if a
 * frame was lost.
 */
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "bench_guest.h"

#define ROUNDS_MAX 1000
/* Addresses, as little-endian numbers: locally administered, the pair's number above. */
#define MAC_A 0x0000000002ULL
#define MAC_B 0x0000000102ULL
#define MAC_OF(base, pair) ((base) | (uint64_t)(pair) << 16)
#define GIVE_UP 100000000U

/**
 * struct bench - one case
 * @size: bytes of a frame
 * @burst: frames a turn, at most
 * @pairs: pairs of addresses, one after the other
 * @buf: bytes of a buffer, 0: the frame fits
 * @ring: descriptors
 * @frames: a round
 * @rounds: how many
 * @threads: worker in a thread of its own
 * @guard: pairs of the sender's guard, 0: unguarded
 * @features: negotiated besides what every guest has
 */
struct bench {
    uint32_t size, burst, pairs, buf, ring, frames, rounds;
    bool threads;
    uint32_t guard;
    uint64_t features;
    /* private */
    struct uswitch *us;
    const struct us_switch_page *page;
    struct bench_guest a, b;
    uint64_t sent;              /* frames, ever */
    uint64_t lost;
    double cycles[ROUNDS_MAX];  /* a frame, in each round */
    double copy[ROUNDS_MAX];
};

static void die(const char *what, int rc)
{
    fprintf(stderr, "bench_turn: %s: %s\n", what, strerror(-rc));
    exit(EXIT_FAILURE);
}

static void create(struct bench *t)
{
    struct us_config c = { .n_workers = t->threads, .poll_us = 1000000, .fdb_buckets = 65536, .fdb_age_s = 300 };
    const struct bench_guest guest = {
        .features = VIRTIO_BIT(VIRTIO_F_VERSION_1) | VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF) | t->features,
        .ring_size = t->ring,
        .buf_size = t->buf ? t->buf : t->size + 64,
    };
    int rc;

    for (unsigned i = 0; i < US_WORKERS_MAX; i++)
        c.cpu[i] = t->threads ? 0 : -1;
    rc = uswitch_create(&c, &t->us);
    if (rc)
        die("switch", rc);
    t->page = mmap(NULL, US_SWITCH_PAGE_SIZE, PROT_READ, MAP_SHARED, uswitch_page_fd(t->us), 0);
    if (t->page == MAP_FAILED)
        die("page", -errno);
    t->a = t->b = guest;
    t->b.port_id = 1;
    rc = bench_guest_create(&t->a);
    if (!rc)
        rc = bench_guest_create(&t->b);
    if (!rc)
        rc = bench_guest_plug(&t->a, t->us);
    if (!rc)
        rc = bench_guest_plug(&t->b, t->us);
    if (rc)
        die("guest", rc);
}

/* A's frames are covered by the last of its pairs. */
static void guard(const struct bench *t)
{
    static struct us_port_guard g = { .guarded = 1 };
    int rc;

    g.n = t->guard;
    for (uint32_t i = 0; i < g.n; i++)
        g.pair[i] = (struct us_guard_pair){ .mac = { MAC_A }, .family = US_GUARD_IPV4, .prefix_len = 32,
                                            .ip = { 10, 0, (uint8_t)((g.n - 1 - i) / 255), (uint8_t)(g.n - i) } };
    rc = g.n > US_GUARD_PAIRS_MAX ? -E2BIG : uswitch_port_guard(t->us, &g);
    if (rc)
        die("guard", rc);
}

static void destroy(struct bench *t)
{
    uswitch_destroy(t->us);
    munmap((void *)(uintptr_t)t->page, US_SWITCH_PAGE_SIZE);
    bench_guest_destroy(&t->a);
    bench_guest_destroy(&t->b);
}

static void turn(const struct bench *t)
{
    if (!t->threads)
        (void)uswitch_poll(t->us);
}

/* All of a burst has arrived, or never will. */
static void settle(struct bench *t, uint32_t frames, uint64_t bytes)
{
    uint64_t got_bytes = 0;
    uint32_t got = 0;

    for (uint32_t tries = 0; got < frames && tries < GIVE_UP; tries++) {
        turn(t);
        got += bench_guest_receive(&t->b, &got_bytes);
        if (!t->threads && got < frames && tries > frames)
            break;
    }
    /* The worker returns the buffers after it delivered. */
    while (bench_guest_free(&t->a) < t->ring && t->threads)
        ;
    t->lost += frames - got + (got_bytes != bytes);
}

/* The addresses behind B become known. */
static void teach(struct bench *t)
{
    for (uint32_t i = 0; i < t->pairs; i++) {
        bench_guest_send(&t->b, MAC_A, MAC_OF(MAC_B, i), 60);
        bench_guest_publish(&t->b);
        do {
            uint64_t bytes = 0;

            turn(t);
            (void)bench_guest_receive(&t->a, &bytes);
        } while (bench_guest_free(&t->b) < t->ring);
    }
}

static void one_burst(struct bench *t)
{
    for (uint32_t i = 0; i < t->burst; i++, t->sent++) {
        const uint64_t pair = t->sent % t->pairs;

        bench_guest_send(&t->a, MAC_OF(MAC_B, pair), MAC_OF(MAC_A, pair), t->size);
    }
    bench_guest_publish(&t->a);
    settle(t, t->burst, (uint64_t)t->burst * t->size);
}

static uint64_t copy_cycles(const struct bench *t)
{
    uint64_t sum = 0;

    for (uint32_t done = 0; done < t->frames; done += t->burst) {
        const uint64_t began = clock_cycles();

        bench_guest_copy(&t->a, &t->b, t->size, done, t->burst);
        sum += clock_cycles() - began;
    }
    return sum;
}

static void one_round(struct bench *t, uint32_t round)
{
    const struct us_worker_state *const w = &t->page->worker[0];
    const uint64_t cycles = __atomic_load_n(&w->busy_cycles, __ATOMIC_RELAXED);
    const uint64_t frames = __atomic_load_n(&w->frames, __ATOMIC_RELAXED);

    for (uint32_t done = 0; done < t->frames; done += t->burst)
        one_burst(t);
    t->cycles[round] = (double)(__atomic_load_n(&w->busy_cycles, __ATOMIC_RELAXED) - cycles) /
                       (double)(__atomic_load_n(&w->frames, __ATOMIC_RELAXED) - frames);
    t->copy[round] = (double)copy_cycles(t) / (double)t->frames;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Runs a case and prints its line. Return: frames lost. */
static uint64_t run(struct bench *t)
{
    const uint32_t n = t->rounds;

    create(t);
    if (t->burst < 1 || t->burst * bench_guest_descs(&t->a, t->size) > t->ring) {
        fprintf(stderr, "bench_turn: a burst has no frame, or more descriptors than the ring\n");
        exit(2);
    }
    if (t->guard)
        guard(t);
    teach(t);
    for (uint32_t i = 0; i < t->pairs; i += t->burst)   /* and those behind A */
        one_burst(t);
    for (uint32_t i = 0; i < n; i++)
        one_round(t, i);
    qsort(t->cycles, n, sizeof(double), compare);
    qsort(t->copy, n, sizeof(double), compare);
    printf("%6u %6u %6u %6u %10.1f %10.1f %10.1f %10.1f %9llu%s\n", t->size, t->burst, t->pairs, t->a.buf_size,
           t->cycles[0], t->cycles[n / 2], t->cycles[n * 3 / 4], t->copy[n / 2], (unsigned long long)t->sent,
           t->lost ? "  LOST FRAMES" : "");
    fflush(stdout);
    destroy(t);
    return t->lost;
}

static void usage(void)
{
    fprintf(stderr, "usage: bench_turn [-s bytes of a frame] [-b frames a burst] [-m pairs of addresses]\n"
                    "                  [-B bytes of a buffer] [-r ring size] [-f frames a round] [-n rounds]\n"
                    "                  [-g pairs of the sender's guard] [-t] [-i] [-I] [-p]\n");
    exit(2);
}

static uint64_t run_table(const struct bench *base)
{
    static const struct { uint32_t size, burst, pairs, buf, frames; } row[] = {
        { 64, 32, 1, 0, 32768 },     { 64, 1, 1, 0, 8192 },       { 64, 32, 64, 0, 32768 },
        { 64, 32, 4096, 0, 32768 },  { 64, 32, 65536, 0, 65536 }, { 256, 32, 1, 0, 32768 },
        { 1024, 32, 1, 0, 16384 },   { 1514, 32, 1, 0, 16384 },   { 9014, 8, 1, 0, 2048 },
        { 65226, 4, 1, 0, 512 },     { 65226, 4, 1, 4096, 512 },
    };
    uint64_t lost = 0;

    for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        struct bench t = *base;

        t.size = row[i].size;
        t.burst = row[i].burst;
        t.pairs = row[i].pairs;
        t.buf = row[i].buf;
        t.frames = row[i].frames;
        lost += run(&t);
    }
    return lost;
}

int main(int argc, char **argv)
{
    static struct bench t = { .burst = 32, .pairs = 1, .ring = 256, .frames = 32768, .rounds = 25 };
    int option;

    while ((option = getopt(argc, argv, "s:b:m:B:r:f:n:g:tiIp")) != -1) {
        const uint32_t value = optarg ? (uint32_t)strtoul(optarg, NULL, 0) : 0;

        switch (option) {
        case 's': t.size = value; break;
        case 'b': t.burst = value; break;
        case 'm': t.pairs = value; break;
        case 'B': t.buf = value; break;
        case 'r': t.ring = value; break;
        case 'f': t.frames = value; break;
        case 'n': t.rounds = value; break;
        case 'g': t.guard = value; break;
        case 't': t.threads = true; break;
        case 'I': t.features |= VIRTIO_BIT(VIRTIO_F_RING_INDIRECT_DESC); break;
        case 'p': t.features |= VIRTIO_BIT(VIRTIO_F_RING_PACKED); break;
        case 'i': t.features |= VIRTIO_BIT(VIRTIO_F_IN_ORDER); break;
        default: usage();
        }
    }
    if (t.rounds < 1 || t.rounds > ROUNDS_MAX || t.pairs < 1 || (t.size && t.size < 60) ||
        (t.guard && t.pairs > 1))
        usage();
    if (t.threads) {
        cpu_set_t other;

        CPU_ZERO(&other);
        CPU_SET(1, &other);
        (void)sched_setaffinity(0, sizeof(other), &other);
    }
    printf("  size  burst  pairs buffer   least c/f     median        3/4    memcpy c   frames\n");
    return (t.size ? run(&t) : run_table(&t)) ? EXIT_FAILURE : EXIT_SUCCESS;
}
