/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_xdp_queue.c - a queue over rings in ordinary memory, with the test as
 * the kernel: frames and where they lie, chunks that come back, and a kernel
 * that lies about indexes, addresses and lengths.  What the real one does is
 * seen in tests/functional/test_xdp.py.
 */
#include "xdp/xdp_queue.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "harness.h"
#include "xdp/xdp_port.h"

#define RING 64
#define LONGER (RING * XDP_RING_SLACK)
#define CHUNK 2048
#define CONTD 1

/* A ring as both sides see it. */
struct fake_ring {
    uint32_t ours, theirs, flags;
    struct xdp_desc entry[LONGER];
};

struct bed {
    struct port port;
    struct us_state_page *state;
    struct xdp_queue q;
    struct fake_ring ring[XDP_RING_KINDS];
    struct burst *burst;
};

static void connect_ring(struct xdp_ring *r, struct fake_ring *fake, uint32_t size)
{
    *r = (struct xdp_ring){ .ours = &fake->ours, .theirs = &fake->theirs, .flags = &fake->flags,
                            .entry = fake->entry, .mask = size - 1 };
}

static const struct port_ops no_ops = { .kind = "xdp" };

/* @at: where all indexes begin, so that they may run over. */
static struct bed *make_bed(uint32_t at, bool pieces)
{
    const struct us_port_add add = { .kind = US_KIND_XDP, .max_frame = pieces ? 9000 : 1514 };
    struct bed *const t = aligned_alloc(64, (sizeof(*t) + 63) / 64 * 64);
    struct xdp_queue *const q = &t->q;

    memset(t, 0, sizeof(*t));
    t->state = mmap(NULL, US_STATE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    port_init(&t->port, &no_ops, &add, t->state, 1);
    q->port = &t->port;
    q->cfg = (struct xdp_config){ .ring_size = RING, .chunk_size = CHUNK, .pieces = pieces };
    CHECK_EQ(xdp_queue_memory(q), 0);
    connect_ring(&q->rx, &t->ring[XDP_RING_RECEIVE], RING);
    connect_ring(&q->tx, &t->ring[XDP_RING_TRANSMIT], LONGER);
    connect_ring(&q->fill, &t->ring[XDP_RING_FILL], LONGER);
    connect_ring(&q->completion, &t->ring[XDP_RING_COMPLETION], RING);
    for (unsigned i = 0; i < XDP_RING_KINDS; i++)
        t->ring[i].ours = t->ring[i].theirs = at;
    q->rx.at = q->tx.at = q->fill.at = q->completion.at = at;
    /* All chunks to receive into are with the kernel, which has taken them from the ring. */
    memset(q->with_kernel, 1, RING);
    t->burst = aligned_alloc(64, sizeof(*t->burst));
    t->burst->held_back = 0;
    return t;
}

static void end_bed(struct bed *t)
{
    xdp_queue_close(&t->q);
    port_fini(&t->port);
    free(t->burst);
    free(t);
}

/* The kernel received a piece. */
static void receive(struct bed *t, uint64_t addr, uint32_t len, uint32_t options)
{
    struct fake_ring *const r = &t->ring[XDP_RING_RECEIVE];

    r->entry[r->theirs++ % RING] = (struct xdp_desc){ addr, len, options };
}

/* A frame in chunk @chunk, where a kernel puts it. */
static void receive_frame(struct bed *t, uint32_t chunk, uint32_t len)
{
    const uint64_t addr = (uint64_t)chunk * CHUNK + XDP_ROOM_BEFORE;

    memset(t->q.umem + addr, (int)(chunk + 1), len);
    receive(t, addr, len, 0);
}

static bool is_fenced(const struct bed *t)
{
    return port_is_broken(&t->port) && t->state->broken == BREAK_nic_descriptor;
}

/* ---- receiving ---- */

TEST(receives_and_gives_back)
{
    struct bed *t = make_bed(0xffffffe0, false);        /* the indexes run over on the way */
    const struct fake_ring *const fill = &t->ring[XDP_RING_FILL];

    for (unsigned turn = 0; turn < 4; turn++) {
        for (uint32_t i = 0; i < RING; i++)
            receive_frame(t, i, 60 + i * 20);
        CHECK_EQ(xdp_queue_rx(&t->q, t->burst), RING);
        for (uint32_t i = 0; i < RING; i++) {
            const struct frame *const f = &t->burst->frame[i];

            CHECK_EQ(f->len, 60 + i * 20);
            CHECK_EQ(f->hdr[0], i + 1);
            CHECK_EQ(f->n_iov, f->len > SNAP_SHORT ? 1 : 0);
            if (f->n_iov)
                CHECK(f->iov[0].iov_len == f->len - SNAP_SHORT && *(uint8_t *)f->iov[0].iov_base == i + 1);
        }
        CHECK_EQ(t->ring[XDP_RING_RECEIVE].ours, t->ring[XDP_RING_RECEIVE].theirs);
        xdp_queue_rx_complete(&t->q);
        CHECK_EQ(fill->ours, fill->theirs + RING);
        for (uint32_t i = 0; i < RING; i++)
            CHECK_EQ(xdp_ring_addr(&t->q.fill, fill->theirs + i), (uint64_t)i * CHUNK);
        t->ring[XDP_RING_FILL].theirs = fill->ours;
    }
    CHECK(!port_is_broken(&t->port));
    end_bed(t);
}

TEST(drops_too_short_and_too_long)
{
    struct bed *t = make_bed(0, false);

    receive_frame(t, 0, 13);
    receive_frame(t, 1, 1514);
    receive_frame(t, 2, 1515);
    CHECK_EQ(xdp_queue_rx(&t->q, t->burst), 1);
    CHECK_EQ(t->state->in[0].drop[DROP_frame_short], 1);
    CHECK_EQ(t->state->in[0].drop[DROP_frame_long], 1);
    xdp_queue_rx_complete(&t->q);
    CHECK_EQ(t->ring[XDP_RING_FILL].ours, 3);
    end_bed(t);
}

TEST(leaves_what_it_may_not_take)
{
    struct bed *t = make_bed(0, false);

    for (uint32_t i = 0; i < 10; i++)
        receive_frame(t, i, 100);
    t->burst->held_back = BURST_MAX - 3;
    for (unsigned left = 10; left; left -= left < 3 ? left : 3) {
        CHECK_EQ(xdp_queue_rx(&t->q, t->burst), left < 3 ? left : 3);
        xdp_queue_rx_complete(&t->q);
    }
    CHECK_EQ(xdp_queue_rx(&t->q, t->burst), 0);
    end_bed(t);
}

TEST(a_frame_in_pieces)
{
    struct bed *t = make_bed(0, true);

    receive(t, 256, 1792, CONTD);
    receive(t, CHUNK + 256, 1792, CONTD);
    CHECK_EQ(xdp_queue_rx(&t->q, t->burst), 0);         /* its end is not there yet */
    CHECK_EQ(t->ring[XDP_RING_RECEIVE].ours, 0);
    receive(t, 2 * CHUNK + 256, 10, 0);
    CHECK_EQ(xdp_queue_rx(&t->q, t->burst), 1);
    CHECK_EQ(t->burst->frame[0].len, 2 * 1792 + 10);
    CHECK_EQ(t->burst->frame[0].n_iov, 3);
    xdp_queue_rx_complete(&t->q);
    CHECK_EQ(t->ring[XDP_RING_FILL].ours, 3);
    CHECK(!port_is_broken(&t->port));
    end_bed(t);
}

/* The kernel hands frames over before it stores how many chunks it has taken from the fill ring. */
TEST(gives_back_before_the_kernel_says_it_took)
{
    struct bed *t = make_bed(0, false);
    struct fake_ring *const fill = &t->ring[XDP_RING_FILL];

    for (unsigned turn = 0; turn < 3; turn++) {
        const uint32_t taken = fill->ours;

        for (uint32_t i = 0; i < RING; i++)
            receive_frame(t, i, 60);
        CHECK_EQ(xdp_queue_rx(&t->q, t->burst), RING);
        xdp_queue_rx_complete(&t->q);
        CHECK(!port_is_broken(&t->port));
        CHECK_EQ(fill->ours, taken + RING);
        for (uint32_t i = 0; i < RING; i++)
            CHECK_EQ(xdp_ring_addr(&t->q.fill, taken + i), (uint64_t)i * CHUNK);
        fill->theirs = taken;                           /* a turn late */
    }
    end_bed(t);
}

/* ---- a kernel that lies ---- */

static void check_bad_desc(uint64_t addr, uint32_t len)
{
    struct bed *t = make_bed(0, true);

    receive_frame(t, 5, 100);
    receive(t, addr, len, 0);
    CHECK_EQ(xdp_queue_rx(&t->q, t->burst), 1);         /* the good one is delivered */
    CHECK(is_fenced(t));
    xdp_queue_rx_complete(&t->q);
    end_bed(t);
}

TEST(descriptors_that_lie)
{
    check_bad_desc(256, 0);
    check_bad_desc(256, CHUNK - 255);
    check_bad_desc(256, UINT32_MAX);
    check_bad_desc(CHUNK - 1, 2);
    check_bad_desc((uint64_t)RING * CHUNK, 60);         /* a chunk to send with */
    check_bad_desc((uint64_t)2 * RING * CHUNK, 60);
    check_bad_desc(UINT64_MAX, 60);
    check_bad_desc(UINT64_MAX - CHUNK, CHUNK);
    check_bad_desc(1ull << 48 | 256, 60);
    check_bad_desc(5 * CHUNK + 256, 60);                /* received twice */
}

TEST(a_frame_without_end)
{
    struct bed *t = make_bed(0, true);

    for (uint32_t i = 0; i < RING; i++)
        receive(t, (uint64_t)i * CHUNK, 100, CONTD);
    CHECK_EQ(xdp_queue_rx(&t->q, t->burst), 0);
    CHECK(is_fenced(t));
    end_bed(t);
}

TEST(a_frame_twice_in_one_chunk)
{
    struct bed *t = make_bed(0, true);

    receive(t, 256, 100, CONTD);
    receive(t, 512, 100, 0);
    CHECK_EQ(xdp_queue_rx(&t->q, t->burst), 0);
    CHECK(is_fenced(t));
    end_bed(t);
}

TEST(indexes_that_lie)
{
    static const uint32_t lies[] = { LONGER + 1, 0x80000000, UINT32_MAX };

    for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
        struct bed *t = make_bed(0, false);
        struct frame *none = NULL;
        uint8_t why[1];

        t->ring[XDP_RING_RECEIVE].theirs = lies[i];
        CHECK_EQ(xdp_queue_rx(&t->q, t->burst), 0);
        CHECK(is_fenced(t));
        end_bed(t);

        t = make_bed(0, false);
        t->ring[XDP_RING_COMPLETION].theirs = lies[i];
        xdp_queue_tx(&t->q, &none, 0, why);
        CHECK(is_fenced(t));
        end_bed(t);

        t = make_bed(0, false);
        receive_frame(t, 0, 60);
        CHECK_EQ(xdp_queue_rx(&t->q, t->burst), 1);
        t->ring[XDP_RING_FILL].theirs = 0u - lies[i];
        xdp_queue_rx_complete(&t->q);
        CHECK(is_fenced(t));
        end_bed(t);
    }
}

/* ---- sending ---- */

static struct frame make_frame(uint8_t *bytes, uint32_t len)
{
    for (uint32_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(i * 7 + len);
    return (struct frame){ .hdr = bytes, .hdr_len = len, .len = len, .out_vid = US_VID_UNTAGGED };
}

static uint8_t send_one(struct bed *t, struct frame *f)
{
    uint8_t why = DROP_COUNT;

    xdp_queue_tx(&t->q, &f, 1, &why);
    return why;
}

/* The kernel sent everything. */
static void complete(struct bed *t)
{
    struct fake_ring *const tx = &t->ring[XDP_RING_TRANSMIT], *const done = &t->ring[XDP_RING_COMPLETION];

    for (; tx->theirs != tx->ours; tx->theirs++)
        ((uint64_t *)done->entry)[done->theirs++ % RING] = tx->entry[tx->theirs % LONGER].addr;
}

TEST(sends_exactly_with_and_without_tag)
{
    struct bed *t = make_bed(0xfffffff0, false);
    uint8_t bytes[1514], want[1518];

    for (uint32_t len = 14; len <= 1514; len++) {
        struct frame f = make_frame(bytes, len);
        const bool tagged = len % 2;
        const struct xdp_desc d = { 0 }, *got = &d;

        f.out_vid = tagged ? 100 : US_VID_UNTAGGED;
        f.pcp = 0x6000;
        CHECK_EQ(send_one(t, &f), DROP_none);
        got = &t->ring[XDP_RING_TRANSMIT].entry[(t->ring[XDP_RING_TRANSMIT].ours - 1) % LONGER];
        memcpy(want, bytes, 12);
        memcpy(want + 12, "\x81\x00\x60\x64", 4);
        memcpy(want + (tagged ? 16 : 12), bytes + 12, len - 12);
        CHECK_EQ(got->len, len + (tagged ? 4 : 0));
        CHECK_EQ(got->options, 0);
        CHECK_MEM(t->q.umem + got->addr, want, got->len);
        complete(t);
    }
    CHECK(!port_is_broken(&t->port));
    end_bed(t);
}

TEST(full_ring_and_room_again)
{
    struct bed *t = make_bed(0, false);
    uint8_t bytes[60];
    struct frame f = make_frame(bytes, sizeof(bytes));

    for (unsigned round = 0; round < 3; round++) {
        for (unsigned i = 0; i < RING; i++)
            CHECK_EQ(send_one(t, &f), DROP_none);
        CHECK_EQ(send_one(t, &f), DROP_ring_full);
        complete(t);
    }
    CHECK_EQ(send_one(t, &f), DROP_none);
    end_bed(t);
}

/* A frame may be sent, and its chunk used again, before the kernel stores that it took it from the transmit ring. */
TEST(sends_again_before_the_kernel_says_it_took)
{
    struct bed *t = make_bed(0xffffff80, false);
    struct fake_ring *const tx = &t->ring[XDP_RING_TRANSMIT];
    uint8_t bytes[60];
    struct frame f = make_frame(bytes, sizeof(bytes));

    for (unsigned turn = 0; turn < 5; turn++) {
        const uint32_t late = tx->ours;

        for (unsigned i = 0; i < RING; i++)
            CHECK_EQ(send_one(t, &f), DROP_none);
        tx->theirs = late;
        complete(t);
        tx->theirs = late;                              /* a turn late */
        CHECK(!port_is_broken(&t->port));
    }
    end_bed(t);
}

TEST(sends_in_pieces)
{
    struct bed *t = make_bed(0, true);
    uint8_t bytes[9000];
    struct frame f = make_frame(bytes, sizeof(bytes));
    const struct fake_ring *const tx = &t->ring[XDP_RING_TRANSMIT];
    uint32_t at = 0;

    CHECK_EQ(send_one(t, &f), DROP_none);
    CHECK_EQ(tx->ours, 5);
    for (uint32_t i = 0; i < 5; i++) {
        CHECK_EQ(tx->entry[i].options, i < 4 ? CONTD : 0);
        CHECK_MEM(t->q.umem + tx->entry[i].addr, bytes + at, tx->entry[i].len);
        at += tx->entry[i].len;
    }
    CHECK_EQ(at, sizeof(bytes));
    end_bed(t);
    t = make_bed(0, false);
    CHECK_EQ(send_one(t, &f), DROP_ring_small);
    CHECK_EQ(t->ring[XDP_RING_TRANSMIT].ours, 0);
    end_bed(t);
}

static void check_bad_completion(uint64_t addr)
{
    struct bed *t = make_bed(0, false);
    struct fake_ring *const done = &t->ring[XDP_RING_COMPLETION];
    uint8_t bytes[60];
    struct frame f = make_frame(bytes, sizeof(bytes));

    CHECK_EQ(send_one(t, &f), DROP_none);
    ((uint64_t *)done->entry)[done->theirs++ % RING] = addr;
    CHECK_EQ(send_one(t, &f), DROP_broken);
    CHECK(is_fenced(t));
    end_bed(t);
}

TEST(completions_that_lie)
{
    check_bad_completion(0);                            /* a chunk to receive into */
    check_bad_completion((uint64_t)RING * CHUNK);       /* one of ours */
    check_bad_completion((uint64_t)2 * RING * CHUNK);
    check_bad_completion(UINT64_MAX);
}

/* ---- refusals of the port ---- */

TEST(refuses)
{
    static const struct us_port_add good = { .kind = US_KIND_XDP, .max_frame = 1514, .n_queues = 1, .ifindex = 1 };
    struct us_state_page *state = mmap(NULL, US_STATE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                                       -1, 0);
    const int fds[] = { eventfd(0, EFD_CLOEXEC), socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0), -1 };
    struct us_port_add bad = good;
    struct port *p = NULL;

    for (unsigned i = 0; i < 3; i++)
        CHECK_EQ(xdp_port_create(&good, state, &fds[i], 1, false, -1, &p), -EINVAL);
    CHECK_EQ(state->nic.pool_bytes, 2 * XDP_RING_DEFAULT * CHUNK);
    bad.ring_size = 1000;
    CHECK_EQ(xdp_port_create(&bad, state, fds, 1, false, -1, &p), -EINVAL);
    bad.ring_size = 2 * XDP_RING_MAX;
    CHECK_EQ(xdp_port_create(&bad, state, fds, 1, false, -1, &p), -EINVAL);
    bad.ring_size = 0;
    bad.max_frame = XDP_FRAME_MAX + 1;
    CHECK_EQ(xdp_port_create(&bad, state, fds, 1, false, -1, &p), -EINVAL);
    CHECK(p == NULL);
    CHECK_EQ(munmap(state, US_STATE_PAGE_SIZE), 0);     /* still ours */
    close(fds[0]);
    close(fds[1]);
}

MAIN
{
    RUN(receives_and_gives_back);
    RUN(drops_too_short_and_too_long);
    RUN(leaves_what_it_may_not_take);
    RUN(a_frame_in_pieces);
    RUN(gives_back_before_the_kernel_says_it_took);
    RUN(descriptors_that_lie);
    RUN(a_frame_without_end);
    RUN(a_frame_twice_in_one_chunk);
    RUN(indexes_that_lie);
    RUN(sends_exactly_with_and_without_tag);
    RUN(full_ring_and_room_again);
    RUN(sends_again_before_the_kernel_says_it_took);
    RUN(sends_in_pieces);
    RUN(completions_that_lie);
    RUN(refuses);
}
