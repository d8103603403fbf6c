/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_virtq_random.c - both directions of a split ring against a naive model,
 * with random everything: ring sizes, features, chain shapes, malformed chains,
 * frames, bursts, memory tables exchanged and rings stopped in between.  Used
 * elements and their order, bytes, counters, drops, signals and the guards
 * around all buffers must be what the model says after each step.
 *
 * USWITCH_TEST_SEED repeats a run, USWITCH_TEST_STEPS makes it longer.
 */
#include "harness.h"

#include "vhost/random_receive.h"
#include "vhost/random_transmit.h"

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
#define STEPS 20000
#else
#define STEPS 200000
#endif

static void arm(void)
{
    struct rxq *const q = &d.port->rxq[0];

    CHECK_EQ(d.port->ops->arm(q), d.tx.avail_idx != tx_done);
    CHECK_EQ(le16_to_cpu(d.tx.used->flags), 0);
    if (d.features & F_EVENT)
        CHECK_EQ(le16_to_cpu(*(le16 *)&d.tx.used->ring[d.tx.size]), tx_done);
    d.port->ops->disarm(q);
    CHECK_EQ(le16_to_cpu(d.tx.used->flags), d.features & F_EVENT ? 0 : VRING_USED_F_NO_NOTIFY);
}

static void check_guards(void)
{
    CHECK(ring_guards_hold(&rx, rx_done));
    CHECK(ring_guards_hold(&tx, tx_done));
    check_unsent();
}

static void step(void)
{
    switch (below(&seed, 1000)) {
    case 0:
    case 1:
        check_guards();
        random_rings();
        break;
    case 2 ... 10:
        exchange_table();
        break;
    case 11 ... 15:
        stop_and_start(&d.rx, rx_done);
        break;
    case 16 ... 20:
        stop_and_start(&d.tx, tx_done);
        break;
    case 21 ... 30:
        check_guards();
        break;
    case 31 ... 60:
        arm();
        break;
    case 61 ... 399:
        refill();
        break;
    case 400 ... 599:
        receive();
        break;
    case 600 ... 799:
        transmit_some();
        break;
    default:
        take();
        break;
    }
}

TEST(random_rings_against_a_model)
{
    const char *const steps_set = getenv("USWITCH_TEST_STEPS"), *const seed_set = getenv("USWITCH_TEST_SEED");
    const uint64_t steps = steps_set ? strtoull(steps_set, NULL, 0) : STEPS;
    uint64_t i;

    first_seed = seed_set ? strtoull(seed_set, NULL, 0) : 20260729;
    seed = first_seed * 0x9e3779b97f4a7c15ULL | 1;
    for (uint32_t k = 0; k < sizeof(pool); k++)
        pool[k] = (uint8_t)rnd(&seed);
    drv_create(&d, F_V1, 16);
    random_rings();
    for (i = 0; i < steps && !harness_failed_checks; i++)
        step();
    check_guards();
    CHECK_EQ(d.state->broken, BREAK_none);
    if (harness_failed_checks)
        fprintf(stderr, "seed %" PRIu64 ", step %" PRIu64 "\n", first_seed, i);
    printf("%" PRIu64 " frames in, %" PRIu64 " out, %" PRIu64 " drops\n", frames_in,
           d.state->out[0].frames, drv_drops(&d));
    drv_destroy(&d);
}

MAIN
{
    RUN(random_rings_against_a_model);
}
