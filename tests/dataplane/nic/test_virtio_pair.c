/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_virtio_pair.c - two virtio adapters of two kinds on one wire, both
 * under the driver: random frames with random requests in random bursts, one
 * way and back, arrive whole, in order, each once.
 */
#include <string.h>

#include "harness.h"
#include "nic/virtio_fixture.h"

#define FRAMES 3000
#define BATCH 24

static uint8_t sent[BATCH][VFIX_FRAME_MAX], wire_bytes[VFIX_FRAME_MAX], got[VFIX_FRAME_MAX];
static struct iovec pieces[BATCH][512];
static uint32_t random_state;

static uint32_t draw(uint32_t n)
{
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % n;
}

/* A frame in a slot, with or without a request. */
static struct frame random_frame(unsigned slot, uint32_t seed)
{
    const bool tso = draw(8) == 0;
    const uint32_t len = tso ? 1000 + draw(64000) : 60 + draw(1455);
    struct frame f;

    frame_make(sent[slot], len, seed);
    f = frame_view(sent[slot], len, draw(2) ? 64 : 128, 200 + draw(5000), pieces[slot]);
    if (tso)
        f.vnet = (struct vnet){ .flags = 1, .gso_type = draw(2) ? 1 : 4, .hdr_len = 54,
                                .gso_size = (uint16_t)(500 + draw(900)), .csum_start = 34, .csum_offset = 16 };
    else if (draw(3) == 0)
        f.vnet = (struct vnet){ .flags = 1, .hdr_len = 54, .csum_start = 34, .csum_offset = 16 };
    return f;
}

/* The wire: what one device sends the other one receives; the number of frames, up to the first that it cannot take. */
static unsigned carry(struct vfix *from, struct vfix *to, unsigned want)
{
    uint8_t hdr[VM_HDR_LEN];
    unsigned n = 0;

    while (n < want) {
        const int len = vm_send(&from->vm, 0, hdr, wire_bytes, sizeof(wire_bytes));

        if (len < 0 || !CHECK(vm_receive(&to->vm, 0, hdr, wire_bytes, (uint32_t)len) > 0))
            break;
        n++;
    }
    return n;
}

static void one_way(struct vfix *from, struct vfix *to, uint32_t seed)
{
    const unsigned n = 1 + draw(BATCH);
    struct frame view[BATCH], *frames[BATCH];
    uint8_t why[BATCH];
    unsigned taken = 0, seen = 0;

    for (unsigned i = 0; i < n; i++) {
        view[i] = random_frame(i, seed + i);
        frames[i] = &view[i];
    }
    from->drv->tx_burst(&from->nic->queue[0], frames, n, why);
    while (taken < n && why[taken] == DROP_none)
        taken++;
    for (unsigned polls = 0; seen < taken && polls < 1000; polls++) {
        carry(from, to, 1 + draw(4));
        vfix_rx(to, 0);
        for (uint32_t i = 0; i < to->burst->n; i++, seen++) {
            const struct frame *const f = &to->burst->frame[i];

            if (!CHECK(seen < taken))
                return;
            CHECK_EQ(frame_flatten(f, got), view[seen].len);
            CHECK_MEM(got, sent[seen], view[seen].len);
            CHECK_MEM(&f->vnet, &view[seen].vnet, sizeof(f->vnet));
        }
        vfix_done(to, 0);
    }
    CHECK_EQ(seen, taken);
    CHECK_EQ(carry(from, to, 1), 0);
}

static void pair(unsigned left, unsigned right)
{
    struct vfix a, b;

    vfix_init(&a, shape_features(left), left & SHAPE_PACKED ? 301 : 256);
    vfix_init(&b, shape_features(right), right & SHAPE_PACKED ? 150 : 128);
    REQUIRE(vfix_start(&a) == 0 && vfix_start(&b) == 0);
    for (uint32_t i = 0; i < FRAMES / BATCH && !harness_failed_checks; i++) {
        one_way(&a, &b, i);
        one_way(&b, &a, i + 7);
    }
    CHECK_EQ(vfix_broken(&a), BREAK_none);
    CHECK_EQ(vfix_broken(&b), BREAK_none);
    vfix_fini(&a);
    vfix_fini(&b);
}

TEST(every_pair)
{
    for (unsigned left = 0; left < SHAPES; left++) {
        random_state = left + 1;
        pair(left, (left * 3 + 5) % SHAPES);
    }
}

MAIN
{
    RUN(every_pair);
}
