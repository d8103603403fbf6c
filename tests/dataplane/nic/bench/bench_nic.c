/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * bench_nic.c - what the igb driver costs by itself: a burst of frames is
 * received and the same frames are sent, as a switch of one port would do.
 * The figure is cycles a frame for both directions.
 *
 *   bench_nic                  the table of cases
 *   bench_nic -s 64 -b 32 …    one case; see usage()
 *
 * The device is the model of the tests, whose work is not timed: it fills
 * buffers and descriptors before a burst and takes up the doorbells after it.
 * In between the registers are ordinary memory, so a doorbell costs a store;
 * on a real bus it is a posted write, two a burst.  Frames and descriptors lie
 * in the caches, where a real device's would be put into the last level only
 * (DDIO).
 *
 * Asserts no time; exit status 1 if a frame was lost or spoilt.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "nic/rig.h"
#include "nic/igb_regs.h"

#define ROUNDS_MAX 1000

/**
 * struct bench - one case
 * @size: bytes of a frame, without FCS
 * @burst: frames at once
 * @ring: descriptors
 * @frames: a round
 * @rounds: how many
 */
struct bench {
    uint32_t size, burst, ring, frames, rounds;
    /* private */
    struct rig *r;
    uint64_t lost;
    double cycles[ROUNDS_MAX];  /* a frame, in each round */
};

/* Registers while the driver is timed. */
static uint8_t memory[IGB_BAR_SIZE] __attribute__((aligned(4096)));

static void *registers(uint32_t offset)
{
    return memory + offset;
}

/* The driver's bursts, between two readings of the counter. */
static uint64_t timed(struct bench *t)
{
    struct nic *const n = &t->r->n;
    struct frame *frames[BURST_MAX];
    uint8_t why[BURST_MAX] = { 0 };
    uint64_t began, cycles;
    unsigned got;

    n->bar[0].base = memory;
    began = clock_cycles();
    got = n->driver->rx_burst(&n->queue[0], &t->r->b);
    for (unsigned i = 0; i < got; i++) {
        frames[i] = &t->r->b.frame[i];
        frames[i]->out_vid = US_VID_UNTAGGED;   /* the switch's part */
    }
    n->driver->tx_burst(&n->queue[0], frames, got, why);
    n->driver->rx_complete(&n->queue[0], &t->r->b);
    cycles = clock_cycles() - began;
    n->bar[0].base = NULL;
    t->lost += t->burst - got;
    for (unsigned i = 0; i < got; i++)
        t->lost += why[i] != DROP_none;
    return cycles;
}

/* The doorbells, as the driver rang them. */
static void ring(struct bench *t)
{
    const struct bar_model *const m = &t->r->igb.bar;
    uint32_t tail;

    memcpy(&tail, registers(IGB_RDT(0)), sizeof(tail));
    m->write(m->ctx, IGB_RDT(0), le32toh(tail), sizeof(tail));
    memcpy(&tail, registers(IGB_TDT(0)), sizeof(tail));
    m->write(m->ctx, IGB_TDT(0), le32toh(tail), sizeof(tail));
}

static void one_round(struct bench *t, uint32_t round)
{
    uint8_t frame[ENGINE_FRAME_MAX];
    uint64_t cycles = 0;
    uint32_t done = 0;

    for (; done < t->frames; done += t->burst) {
        for (uint32_t i = 0; i < t->burst; i++) {
            rig_pattern(frame, t->size, done + i);
            t->lost += igm_receive(&t->r->igb, frame, t->size) != 0;
        }
        cycles += timed(t);
        ring(t);
    }
    t->cycles[round] = (double)cycles / done;
}

/* Does a frame come through whole?  The last one sent in an extra burst. */
static void check(struct bench *t)
{
    struct igb_model *const m = &t->r->igb;
    uint8_t frame[ENGINE_FRAME_MAX];

    m->discard = false;
    rig_pattern(frame, t->size, 7);
    t->burst = 1;
    t->lost += igm_receive(m, frame, t->size) != 0;
    (void)timed(t);
    ring(t);
    t->lost += m->n_sent != 1 || m->sent[0].len != t->size || memcmp(m->sent[0].data, frame, t->size) != 0;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Runs a case and prints its line. Return: frames lost. */
static uint64_t run(struct bench *t)
{
    const uint32_t n = t->rounds, burst = t->burst;

    t->r = rig_up(&rig_igb, 1, t->ring, 9216);
    if (!t->r || burst < 1 || burst > BURST_MAX) {
        fprintf(stderr, "bench_nic: no such ring or burst\n");
        exit(2);
    }
    t->r->igb.discard = true;
    for (uint32_t i = 0; i < n; i++)
        one_round(t, i);
    check(t);
    qsort(t->cycles, n, sizeof(double), compare);
    t->lost += !rig_down(t->r);
    printf("%6u %6u %6u %10.1f %10.1f %10.1f %9u%s\n", t->size, burst, t->ring, t->cycles[0], t->cycles[n / 2],
           t->cycles[n * 3 / 4], n * t->frames, t->lost ? "  LOST FRAMES" : "");
    fflush(stdout);
    return t->lost;
}

static void usage(void)
{
    fprintf(stderr, "usage: bench_nic [-s bytes of a frame] [-b frames a burst] [-r ring size] [-f frames a round]\n"
                    "                 [-n rounds]\n");
    exit(2);
}

static uint64_t run_table(const struct bench *base)
{
    static const struct { uint32_t size, burst, frames; } row[] = {
        { 64, 32, 32768 }, { 64, 1, 8192 }, { 256, 32, 32768 }, { 1514, 32, 16384 }, { 9014, 8, 2048 },
    };
    uint64_t lost = 0;

    for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        struct bench t = *base;

        t.size = row[i].size;
        t.burst = row[i].burst;
        t.frames = row[i].frames;
        lost += run(&t);
    }
    return lost;
}

int main(int argc, char **argv)
{
    static struct bench t = { .burst = 32, .ring = 512, .frames = 32768, .rounds = 25 };
    int option;

    while ((option = getopt(argc, argv, "s:b:r:f:n:")) != -1) {
        const uint32_t value = optarg ? (uint32_t)strtoul(optarg, NULL, 0) : 0;

        switch (option) {
        case 's': t.size = value; break;
        case 'b': t.burst = value; break;
        case 'r': t.ring = value; break;
        case 'f': t.frames = value; break;
        case 'n': t.rounds = value; break;
        default: usage();
        }
    }
    if (t.rounds < 1 || t.rounds > ROUNDS_MAX || (t.size && (t.size < 60 || t.size > 9216)))
        usage();
    printf("driver  burst   ring  least c/f     median        3/4    frames\n");
    return (t.size ? run(&t) : run_table(&t)) ? EXIT_FAILURE : EXIT_SUCCESS;
}
