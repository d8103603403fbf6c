/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_virtio_ring.c - a broken virtio adapter: any used entries, and any
 * bytes in the rings and in the buffers, between any calls of the driver's
 * fast path; what is received goes out again.
 *
 * Claimed, for either layout, whatever the device writes:
 *   - a frame of a burst is bytes of receive buffers that the device had, none
 *     of them twice, none beyond its end;
 *   - all buffers are accounted for: posted, in the hands of the worker, or a
 *     part of a frame that is still to come;
 *   - what is to be sent lies in the area for it, one frame behind the other;
 *   - nothing beside the pool is written.
 *
 * BUG id_is_believed nic/virtio_ring.c
 *   - if (claimed_id >= r->size || !r->posted[claimed_id]) {
 *   + if (claimed_id >= r->size) {
 *   ! not true
 *
 * BUG length_is_believed nic/virtio_rx.c
 *   - if (len > DMA_BUF_SIZE || len < (rx->have ? 1 : HDR_LEN))
 *   + if (len > 4 * DMA_BUF_SIZE || len < (rx->have ? 1 : HDR_LEN))
 *   ! not true
 */
#include <string.h>
#include <sys/mman.h>

#include "fuzz_guest.h"
#include "nic/virtio_rx.h"
#include "nic/virtio_tx.h"

#define RING 64u
#define IOVA 0x7f00000000ull
#define MARGIN 4096u
#define CANARY 0xa5
#define STEPS_MAX 64
#define POOL_BYTES (2u << 20)

static struct nic nic;
static struct us_state_page page;
static struct burst burst;
static struct virtio_rx rx;
static struct virtio_tx tx;
static struct virtio_count counts;
static uint8_t *memory;
static uint8_t doorbell[16] __attribute__((aligned(64)));
static struct bar bar = { .base = doorbell, .size = sizeof(doorbell) };

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    memory = mmap(NULL, POOL_BYTES + 2 * MARGIN, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    MUST(memory != MAP_FAILED);
    memset(memory, CANARY, MARGIN);
    memset(memory + MARGIN + POOL_BYTES, CANARY, MARGIN);
    nic.pool = (struct dma_pool){ .base = memory + MARGIN, .size = POOL_BYTES, .iova = IOVA };
    nic.port.state = &page;
    nic.port.news_fd = -1;
    nic.queue[0] = (struct nic_queue){ .nic = &nic, .rx = &rx, .tx = &tx };
    atomic_store(&nic.port.max_frame, 9216);
    return 0;
}

static struct virtio_ring ring(unsigned shape, uint16_t index)
{
    return (struct virtio_ring){ .bar = &bar, .notify_offset = 2u * index, .index = index,
                                 .size = shape & 1 ? RING - 1 : RING, .packed = shape & 1, .in_order = shape & 2,
                                 .event_idx = shape & 4, .step = 1 };
}

static void restart(unsigned shape)
{
    virtio_rx_fini(&rx);
    virtio_tx_fini(&tx);
    dma_reset(&nic.pool);
    rx = (struct virtio_rx){ .ring = ring(shape, 0), .offloads = ~0u, .mergeable = !(shape & 8), .count = &counts };
    tx = (struct virtio_tx){ .ring = ring(shape, 1), .count = &counts };
    MUST(virtio_rx_init(&rx, &nic.pool) == 0 && virtio_tx_init(&tx, &nic.pool) == 0);
    virtio_rx_fill(&rx);
    atomic_store(&nic.failed, 0);
    port_mend(&nic.port);
    burst.n = 0;
}

/* ---- what the device does ---- */

/* Used entries where the driver looks next, mostly like a device's. */
static void report(struct input *in, struct virtio_ring *r, unsigned queue)
{
    const unsigned n = in8(in) % 20;
    uint16_t at = r->next_used;

    for (unsigned i = 0; i < n; i++) {
        const uint8_t how = in8(in);
        const uint32_t like = r->in_order ? r->order[(r->order_first + i) % r->size] : in8(in) % r->size;
        const uint32_t id = how & 1 ? in16(in) : like;
        const uint32_t wild = how & 8 ? in32(in) : in16(in) % 8192u;
        const uint32_t len = how & 2 ? wild : 12 + in16(in) % (DMA_BUF_SIZE - 11);

        if (queue == 0 && id < r->size) {
            uint8_t *const buf = rx.buf + (size_t)id * VIRTIO_RX_STRIDE;

            in_bytes(in, buf, 4 + how % 12);
            memset(buf + 10, 0, 2);
            buf[10] = how & 4 ? in8(in) : 1;
        }
        if (r->packed) {
            const uint64_t flags = at & VIRTIO_PACKED_WRAP ? VIRTQ_DESC_F_AVAIL | VIRTQ_DESC_F_USED : 0;

            r->pdesc[virtio_packed_slot(at)].state = cpu_to_le64(flags << 48 | (uint64_t)(uint16_t)id << 32 | len);
            at = virtio_packed_add(r, at, 1);
        } else {
            r->used->ring[at & (r->size - 1)] = (struct vring_used_elem){ cpu_to_le32(id), cpu_to_le32(len) };
            at++;
        }
    }
    if (!r->packed)
        r->used->idx = cpu_to_le16((uint16_t)(at + (in8(in) == 1 ? in16(in) : 0)));
}

static void scribble(struct input *in)
{
    const uint32_t at = in32(in) % (POOL_BYTES - 64);

    in_bytes(in, nic.pool.base + at, in8(in) % 64);
}

/* ---- what the driver did ---- */

/* Which receive buffer holds these bytes, all of them. */
static unsigned buffer_of(const uint8_t *from, size_t len)
{
    const size_t off = (size_t)(from - rx.buf), id = off / VIRTIO_RX_STRIDE;

    MUST(from >= rx.buf && id < rx.ring.size && len > 0 && off % VIRTIO_RX_STRIDE + len <= DMA_BUF_SIZE);
    return (unsigned)id;
}

static void check_accounts(void)
{
    uint32_t posted = 0;

    for (unsigned i = 0; i < rx.ring.size; i++)
        posted += rx.ring.posted[i];
    MUST(posted == rx.ring.in_flight && posted + rx.n_idle + rx.have == rx.ring.size);
}

static void receive(struct input *in)
{
    uint8_t seen[RING] = { 0 };
    unsigned n;

    burst.held_back = in8(in) % BURST_MAX;
    n = virtio_rx_burst(&nic.queue[0], &burst);
    MUST(n == burst.n && n <= BURST_MAX - burst.held_back);
    for (unsigned i = 0; i < n; i++) {
        const struct frame *const f = &burst.frame[i];
        uint32_t len = f->hdr_len;

        MUST(len <= SNAP_SIZE && f->len >= ETH_HDR_LEN && f->len <= US_FRAME_MAX);
        for (uint32_t k = 0; k < f->n_iov; k++) {
            const unsigned id = buffer_of(f->iov[k].iov_base, f->iov[k].iov_len);

            MUST(!rx.ring.posted[id] && !seen[id]++);
            len += (uint32_t)f->iov[k].iov_len;
        }
        MUST(len == f->len);
    }
    if (!atomic_load(&nic.failed))
        check_accounts();
}

static void forward(struct input *in)
{
    struct frame *frames[BURST_MAX];
    uint8_t why[BURST_MAX];
    const uint32_t before = tx.held;
    uint32_t taken = 0;

    for (unsigned i = 0; i < burst.n; i++) {
        frames[i] = &burst.frame[i];
        frames[i]->out_vid = in8(in) & 1 ? 100 : US_VID_UNTAGGED;
    }
    virtio_tx_burst(&nic.queue[0], frames, burst.n, why);
    for (unsigned i = 0; i < burst.n; i++) {
        MUST(why[i] == DROP_none || why[i] == DROP_ring_full || why[i] == DROP_broken);
        taken += why[i] == DROP_none;
    }
    MUST(tx.held <= before + taken && tx.held <= tx.ring.size && tx.ring.in_flight <= tx.held);
    MUST(tx.head <= tx.area_size && tx.tail <= tx.area_size && (tx.held || tx.head == tx.tail));
}

static void check_canary(void)
{
    for (unsigned i = 0; i < MARGIN; i++)
        MUST(memory[i] == CANARY && memory[MARGIN + POOL_BYTES + i] == CANARY);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };

    restart(in8(&in));
    for (unsigned i = 0; i < STEPS_MAX && in.left; i++) {
        switch (in8(&in) % 8) {
        case 0:
        case 1:
            report(&in, &rx.ring, 0);
            break;
        case 2:
            if (rx.n_idle == 0)
                receive(&in);
            break;
        case 3:
            forward(&in);
            break;
        case 4:
            virtio_rx_complete(&nic.queue[0], &burst);
            burst.n = 0;
            break;
        case 5:
            report(&in, &tx.ring, 1);
            break;
        case 6:
            scribble(&in);
            break;
        default:
            (void)virtio_ring_arm(&rx.ring);
            virtio_ring_disarm(&rx.ring);
        }
        if (atomic_load(&nic.failed))
            restart(in8(&in));
    }
    check_canary();
    return 0;
}
