/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_rx.c - see virtio_rx.h.  Worker thread, the life apart.
 *
 * The device can write to the buffers at any time: header and first bytes of
 * a frame are copied once and decided upon, the rest is handed on as it lies.
 */
#include "nic/virtio_rx.h"

#include <errno.h>
#include <stdlib.h>

#include "nic/nic_copy.h"

#define HDR_LEN VNET_WIRE_LEN_MRG
#define NUM_BUFFERS_OFFSET 10

/* All buffers of a burst, and one frame more of an earlier one, are within what a burst may carry. */
_Static_assert((BURST_MAX + VIRTIO_RX_SEGS_MAX) * DMA_BUF_SIZE <= BURST_BYTES, "bytes of a burst");
_Static_assert(BURST_MAX + VIRTIO_RX_SEGS_MAX <= BURST_IOV, "pieces of a burst");
_Static_assert(HDR_LEN + SNAP_SIZE <= DMA_BUF_SIZE, "nic_take_frame() reads so far in any buffer");

/* ---- life ---- */

size_t virtio_rx_bytes(uint32_t ring_size)
{
    return virtio_ring_bytes(ring_size) + (size_t)ring_size * VIRTIO_RX_STRIDE + VIRTIO_RX_STRIDE;
}

int virtio_rx_init(struct virtio_rx *rx, struct dma_pool *pool)
{
    rx->idle = calloc(rx->ring.size, sizeof(*rx->idle));
    rx->buf = dma_alloc(pool, (size_t)rx->ring.size * VIRTIO_RX_STRIDE, 64);
    if (!rx->idle || !rx->buf)
        return -ENOMEM;
    rx->buf_iova = dma_iova(pool, rx->buf);
    return virtio_ring_init(&rx->ring, pool);
}

void virtio_rx_fini(struct virtio_rx *rx)
{
    virtio_ring_fini(&rx->ring);
    free(rx->idle);
    rx->idle = NULL;
}

static uint8_t *buffer(const struct virtio_rx *rx, uint16_t id)
{
    return rx->buf + (size_t)id * VIRTIO_RX_STRIDE;
}

static void post(struct virtio_rx *rx, uint16_t id)
{
    virtio_ring_post(&rx->ring, id, rx->buf_iova + (uint64_t)id * VIRTIO_RX_STRIDE, DMA_BUF_SIZE, VRING_DESC_F_WRITE);
}

void virtio_rx_fill(struct virtio_rx *rx)
{
    for (uint32_t id = 0; id < rx->ring.size; id++)
        post(rx, (uint16_t)id);
    virtio_ring_publish(&rx->ring);
}

/* ---- frames ---- */

/* The buffers of the frame that has come in whole; the header is left out.  Returns the frame's length. */
static uint32_t lay_out(const struct virtio_rx *rx, struct iovec *iov)
{
    uint32_t len = 0;

    for (uint32_t i = 0; i < rx->have; i++) {
        const uint32_t skip = i == 0 ? HDR_LEN : 0;

        iov[i] = (struct iovec){ buffer(rx, rx->seg[i].id) + skip, rx->seg[i].len - skip };
        len += (uint32_t)iov[i].iov_len;
    }
    return len;
}

/* What the device says of checksum and segments. */
static enum drop_reason parse_header(const struct virtio_rx *rx, uint32_t len, struct vnet *vnet)
{
    const enum drop_reason why = vnet_parse(rx->wire, len, rx->offloads, vnet);

    /* 5.1.6.4.1: the device has checked it; vnet_parse() passes on what a sender says, and a sender cannot say that. */
    if (!why && (rx->wire[0] & VNET_DATA_VALID) && !vnet->flags && (rx->offloads & OFFLOAD_CSUM))
        vnet->flags = VNET_DATA_VALID;
    return why;
}

static enum drop_reason make_frame(const struct virtio_rx *rx, const struct port *p, struct burst *b)
{
    const uint32_t len = lay_out(rx, &b->iov[b->n_iov]);
    struct vnet vnet = { 0 };

    for (unsigned i = 0; i < VNET_WIRE_LEN; i++) {
        if (rx->wire[i]) {
            const enum drop_reason why = parse_header(rx, len, &vnet);

            if (why)
                return why;
            break;
        }
    }
    return nic_take_frame(p, b, rx->have, &vnet);
}

/*
 * One more buffer of a frame.  False: the device wrote nonsense, *detail says what: a length that the buffer does not
 * have, or a number of buffers that no frame takes.
 */
static bool add_buffer(struct virtio_rx *rx, const struct virtio_used *u, uint64_t *detail)
{
    const uint32_t len = u->whole ? DMA_BUF_SIZE : u->len;

    *detail = len;
    if (len > DMA_BUF_SIZE || len < (rx->have ? 1 : HDR_LEN))
        return false;
    if (rx->have == 0) {
        guest_copy_const(rx->wire, buffer(rx, u->id), HDR_LEN);
        rx->want = 1;
        if (rx->mergeable)
            rx->want = rx->wire[NUM_BUFFERS_OFFSET] | (uint32_t)rx->wire[NUM_BUFFERS_OFFSET + 1] << 8;
        *detail = rx->want;
        if (rx->want == 0 || rx->want > VIRTIO_RX_SEGS_MAX || rx->want > rx->ring.size)
            return false;
    }
    rx->seg[rx->have++] = (struct virtio_used){ .id = u->id, .len = len };
    return true;
}

/* The frame is whole: into the burst, or counted; its buffers go back with the next rx_complete. */
static void end_frame(struct virtio_rx *rx, struct port *p, uint32_t queue, struct burst *b)
{
    const enum drop_reason why = make_frame(rx, p, b);

    if (why) {
        count_drop_in(p, queue, why);
        if (why == DROP_frame_short || why == DROP_frame_long)
            virtio_count_add(&rx->count->rx_length_errors, 1);
    }
    for (uint32_t i = 0; i < rx->have; i++)
        rx->idle[rx->n_idle++] = rx->seg[i].id;
    rx->have = 0;
}

unsigned virtio_rx_burst(struct nic_queue *q, struct burst *b)
{
    struct virtio_rx *const rx = q->rx;
    struct virtio_used used[BURST_MAX];
    const int n = virtio_ring_take(&rx->ring, used, BURST_MAX - b->held_back);
    uint64_t bytes = 0, detail = rx->ring.bad;
    bool good = n >= 0;

    b->n = 0;
    b->n_iov = 0;
    for (int i = 0; i < n; i++) {
        guest_prefetch(buffer(rx, used[i].id));
        guest_prefetch(buffer(rx, used[i].id) + 64);
    }
    for (int i = 0; i < n && good; i++) {
        good = add_buffer(rx, &used[i], &detail);
        if (good && rx->have == rx->want)
            end_frame(rx, &q->nic->port, q->index, b);
    }
    if (!good)
        nic_fail(q->nic, q->index, BREAK_nic_descriptor, detail);
    for (uint32_t i = 0; i < b->n; i++)
        bytes += b->frame[i].len;
    virtio_count_add(&rx->count->rx_packets, b->n);
    virtio_count_add(&rx->count->rx_bytes, bytes);
    return b->n;
}

void virtio_rx_complete(struct nic_queue *q, struct burst *b)
{
    struct virtio_rx *const rx = q->rx;

    (void)b;
    for (uint32_t i = 0; i < rx->n_idle; i++)
        post(rx, rx->idle[i]);
    rx->n_idle = 0;
    virtio_ring_publish(&rx->ring);
}
