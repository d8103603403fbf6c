/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_virtio_hostile.c - a virtio device that lies: used entries, lengths,
 * numbers of buffers that make no sense fence the port with the value that
 * was wrong; random garbage all over the pool never gets further than that.
 * The sanitizers are the witnesses.
 */
#include <string.h>

#include "harness.h"
#include "nic/virtio_fixture.h"

#define RING 64

static uint8_t bytes[VFIX_FRAME_MAX], got[VFIX_FRAME_MAX];
static struct iovec pieces[64];

static void begin(struct vfix *x, unsigned shape)
{
    vfix_init(x, shape_features(shape), RING);
    CHECK_EQ(vfix_start(x), 0);
    frame_make(bytes, 1514, 1);
}

/* The port is fenced for @detail, and what comes afterwards does no harm; a new start heals it. */
static void check_fenced(struct vfix *x, uint64_t detail)
{
    struct frame f = frame_view(bytes, 100, 64, 100, pieces);

    CHECK_EQ(vfix_broken(x), BREAK_nic_descriptor);
    CHECK_EQ(x->nic->port.state->broken_detail, detail);
    CHECK_EQ(x->nic->failed, 1);
    vfix_rx(x, 0);
    vfix_done(x, 0);
    vfix_tx(x, 0, &f);
    x->drv->stop(x->nic);
    port_mend(&x->nic->port);
    CHECK_EQ(vfix_restart(x), 0);
    CHECK_EQ(vm_receive(&x->vm, 0, NULL, bytes, 100), 1);
    CHECK_EQ(vfix_rx(x, 0), 1);
    vfix_done(x, 0);
    CHECK_EQ(vfix_broken(x), BREAK_none);
    vfix_fini(x);
}

/* An id that was never given, on either queue. */
static void wild_id(unsigned shape, uint32_t id)
{
    struct frame f = frame_view(bytes, 100, 64, 100, pieces);
    struct vm_buf b;
    uint8_t hdr[VM_HDR_LEN];
    struct vfix x;

    begin(&x, shape);
    CHECK(vm_pop(&x.vm, &x.vm.queue[0], &b));
    vm_push_raw(&x.vm, &x.vm.queue[0], id, 100, 1, 1);
    CHECK_EQ(vfix_rx(&x, 0), 0);
    check_fenced(&x, shape & SHAPE_PACKED ? (uint16_t)id : id);

    begin(&x, shape);
    CHECK_EQ(vfix_tx(&x, 0, &f), DROP_none);
    CHECK_EQ(vm_look(&x.vm, 0, &b, hdr, got, sizeof(got)), 100);
    vm_push_raw(&x.vm, &x.vm.queue[1], id, 0, 1, 1);
    CHECK_EQ(vfix_tx(&x, 0, &f), DROP_broken);
    check_fenced(&x, shape & SHAPE_PACKED ? (uint16_t)id : id);
}

TEST(wild_ids)
{
    for (unsigned shape = 0; shape < SHAPES; shape++) {
        wild_id(shape, RING);
        wild_id(shape, 0xffff);
        if (!(shape & SHAPE_PACKED)) {
            wild_id(shape, 0x10000);
            wild_id(shape, 0xffffffff);
        }
    }
}

/* The same buffer twice: it is ours after the first time. */
TEST(twice)
{
    for (unsigned shape = 0; shape < SHAPES; shape++) {
        struct vm_buf a, b;
        struct vfix x;

        begin(&x, shape);
        CHECK(vm_pop(&x.vm, &x.vm.queue[0], &a) && vm_pop(&x.vm, &x.vm.queue[0], &b));
        memset(a.part[0].p, 0, 200);
        a.part[0].p[10] = 1;
        vm_push(&x.vm, &x.vm.queue[0], &a, 100);
        vm_push(&x.vm, &x.vm.queue[0], &a, 100);
        vfix_rx(&x, 0);
        check_fenced(&x, a.id);
    }
}

/* A buffer that is posted, but not yet the device's to report: only a batch may do so, and not beyond the index. */
TEST(batch_beyond_index)
{
    struct vm_buf b[3];
    struct vfix x;

    begin(&x, SHAPE_IN_ORDER);
    for (unsigned i = 0; i < 3; i++)
        CHECK(vm_pop(&x.vm, &x.vm.queue[0], &b[i]));
    vm_push_raw(&x.vm, &x.vm.queue[0], b[2].id, 100, 2, 2);
    vfix_rx(&x, 0);
    check_fenced(&x, b[2].id);
}

/* More used entries than there are buffers, or an index that goes back. */
TEST(index_runs_away)
{
    static const uint16_t steps[] = { RING + 1, 0x7fff, 0x8000, 0xffff };

    for (unsigned i = 0; i < 4; i++) {
        struct vfix x;

        begin(&x, 0);
        vm_push_raw(&x.vm, &x.vm.queue[0], 0, 100, steps[i], 1);
        CHECK(x.drv->arm(&x.nic->queue[0]));
        vfix_rx(&x, 0);
        check_fenced(&x, steps[i]);
    }
}

/* A receive length no buffer has, or too short for a header. */
TEST(wild_lengths)
{
    static const uint32_t lens[] = { DMA_BUF_SIZE + 1, 65536, 0x80000000, 0xffffffff, 11, 0 };

    for (unsigned shape = 0; shape < SHAPES; shape++) {
        for (unsigned i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
            struct vm_buf b;
            struct vfix x;

            begin(&x, shape);
            CHECK(vm_pop(&x.vm, &x.vm.queue[0], &b));
            memset(b.part[0].p, 0, VM_HDR_LEN);
            b.part[0].p[10] = 1;
            vm_push(&x.vm, &x.vm.queue[0], &b, lens[i]);
            CHECK_EQ(vfix_rx(&x, 0), 0);
            check_fenced(&x, lens[i]);
        }
    }
}

/* A number of buffers that no frame takes; a continuation that is empty. */
TEST(wild_num_buffers)
{
    static const uint16_t nums[] = { 0, 34, 65, 0xffff };

    for (unsigned i = 0; i < sizeof(nums) / sizeof(nums[0]); i++) {
        struct vm_buf b;
        struct vfix x;

        begin(&x, SHAPE_PACKED);
        CHECK(vm_pop(&x.vm, &x.vm.queue[0], &b));
        memset(b.part[0].p, 0, VM_HDR_LEN);
        b.part[0].p[10] = (uint8_t)nums[i];
        b.part[0].p[11] = (uint8_t)(nums[i] >> 8);
        vm_push(&x.vm, &x.vm.queue[0], &b, 100);
        CHECK_EQ(vfix_rx(&x, 0), 0);
        check_fenced(&x, nums[i]);
    }
}

TEST(empty_continuation)
{
    struct vm_buf b[2];
    struct vfix x;

    begin(&x, 0);
    CHECK(vm_pop(&x.vm, &x.vm.queue[0], &b[0]) && vm_pop(&x.vm, &x.vm.queue[0], &b[1]));
    memset(b[0].part[0].p, 0, VM_HDR_LEN);
    b[0].part[0].p[10] = 2;
    vm_push(&x.vm, &x.vm.queue[0], &b[0], 100);
    vm_push(&x.vm, &x.vm.queue[0], &b[1], 0);
    CHECK_EQ(vfix_rx(&x, 0), 0);
    check_fenced(&x, 0);
}

/* ---- garbage ---- */

static uint32_t random_state = 1;

static uint32_t draw(uint32_t n)
{
    random_state = random_state * 1664525 + 1013904223;
    return (random_state >> 8) % n;
}

/* What a device can do to a ring or a buffer: any bytes, or small lies that pass the first look. */
static void lie(struct vfix *x)
{
    struct vm_queue *const q = &x->vm.queue[draw(2)];
    struct vm_buf b;

    switch (draw(6)) {
    case 0:
        for (unsigned i = 0; i < 8; i++)
            x->nic->pool.base[draw((uint32_t)x->nic->pool.size)] = (uint8_t)draw(256);
        break;
    case 1:                     /* the parts of the ring themselves */
        x->nic->pool.base[(q->device - VFIX_IOVA) + draw(4 + 8 * RING)] = (uint8_t)draw(256);
        break;
    case 2:
        x->nic->pool.base[(q->desc - VFIX_IOVA) + draw(16 * RING)] = (uint8_t)draw(256);
        break;
    case 3:
        vm_push_raw(&x->vm, q, draw(RING + 2), draw(3) ? draw(DMA_BUF_SIZE + 2) : draw(1u << 24), 1, 1);
        break;
    default:
        if (!vm_available(&x->vm, &x->vm.queue[0]) || vm_available(&x->vm, &x->vm.queue[0]) > RING ||
            !vm_pop(&x->vm, &x->vm.queue[0], &b) || b.n != 1 || b.part[0].len < 2048)
            break;
        for (unsigned i = 0; i < 200; i++)
            b.part[0].p[i] = draw(4) ? 0 : (uint8_t)draw(256);
        b.part[0].p[10] = (uint8_t)draw(5);
        b.part[0].p[11] = 0;
        vm_push(&x->vm, &x->vm.queue[0], &b, draw(DMA_BUF_SIZE));
        break;
    }
}

/* A life under a lying device, until it is found out; frames that come of it are looked at to the last byte. */
static void life(unsigned shape)
{
    struct vfix x;

    begin(&x, shape);
    x.nic->cfg.max_frame = 9014;
    for (unsigned turn = 0; turn < 60 && vfix_broken(&x) == BREAK_none; turn++) {
        struct frame f = frame_view(bytes, 60 + draw(1400), 128, 500, pieces);

        for (unsigned i = draw(4); i; i--)
            lie(&x);
        vfix_rx(&x, 0);
        for (uint32_t i = 0; i < x.burst->n; i++) {
            CHECK(x.burst->frame[i].len <= US_FRAME_MAX && x.burst->frame[i].hdr_len >= ETH_HDR_LEN);
            frame_flatten(&x.burst->frame[i], got);
        }
        vfix_done(&x, 0);
        vfix_tx(&x, 0, &f);
        x.drv->arm(&x.nic->queue[0]);
        x.drv->disarm(&x.nic->queue[0]);
    }
    x.vm.violations = 0;        /* it read what it wrote itself */
    vfix_fini(&x);
}

TEST(garbage)
{
    FILE *const quiet = stderr;

    stderr = fopen("/dev/null", "w");
    for (unsigned i = 0; i < 1500; i++)
        life(i % SHAPES);
    fclose(stderr);
    stderr = quiet;
}

MAIN
{
    RUN(wild_ids);
    RUN(twice);
    RUN(batch_beyond_index);
    RUN(index_runs_away);
    RUN(wild_lengths);
    RUN(wild_num_buffers);
    RUN(empty_continuation);
    RUN(garbage);
}
