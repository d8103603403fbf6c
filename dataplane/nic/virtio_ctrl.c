/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_ctrl.c - see virtio_ctrl.h.
 */
#include "nic/virtio_ctrl.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "nic/virtio_pci_regs.h"

#define ANSWER_MS 1000
/* More would never be used; two descriptors are a command. */
#define RING_SIZE 16
#define LINE 64
/* A command: class, command, data; then the answer. */
#define ANSWER_OFFSET (2 + VIRTIO_CTRL_DATA_MAX)
#define MEM_BYTES (ANSWER_OFFSET + 1)

size_t virtio_ctrl_bytes(void)
{
    return virtio_ring_bytes(RING_SIZE) + MEM_BYTES + LINE;
}

int virtio_ctrl_start(struct virtio_ctrl *c, const struct virtio_device *d, struct dma_pool *pool, uint16_t index)
{
    const uint32_t most = virtio_device_queue_size(d, index);
    int rc;

    if (most < 2)
        return -EIO;
    c->pool = pool;
    c->ring = (struct virtio_ring){
        .index = index,
        .size = (uint16_t)(most < RING_SIZE ? most : RING_SIZE),
        .packed = virtio_has(d, VIRTIO_F_RING_PACKED),
        .event_idx = virtio_has(d, VIRTIO_F_RING_EVENT_IDX),
        .in_order = virtio_has(d, VIRTIO_F_IN_ORDER),
        .step = 2,
    };
    c->mem = dma_alloc(pool, MEM_BYTES, LINE);
    if (!c->mem)
        return -ENOMEM;
    rc = virtio_ring_init(&c->ring, pool);
    return rc < 0 ? rc : virtio_device_queue_start(d, &c->ring, pool, VIRTIO_NO_VECTOR);
}

void virtio_ctrl_stop(struct virtio_ctrl *c)
{
    virtio_ring_fini(&c->ring);
    memset(c, 0, sizeof(*c));
}

static int wait_for_answer(struct virtio_ctrl *c)
{
    struct virtio_used used;

    for (unsigned ms = 0; ms < ANSWER_MS; ms++) {
        const int n = virtio_ring_take(&c->ring, &used, 1);

        if (n != 0)
            return n < 0 ? -EIO : 0;
        poll(NULL, 0, 1);
    }
    return -ETIMEDOUT;
}

int virtio_ctrl_command(struct virtio_ctrl *c, uint8_t class, uint8_t command, const void *data, uint32_t len)
{
    uint8_t answer;
    int rc;

    if (len > VIRTIO_CTRL_DATA_MAX)
        return -EINVAL;
    if (c->failed)
        return -EIO;
    c->mem[0] = class;
    c->mem[1] = command;
    guest_copy(c->mem + 2, data, len);
    c->mem[ANSWER_OFFSET] = (uint8_t)~VIRTIO_NET_OK;
    virtio_ring_post_pair(&c->ring, dma_iova(c->pool, c->mem), 2 + len, dma_iova(c->pool, c->mem + ANSWER_OFFSET), 1);
    virtio_ring_publish(&c->ring);
    rc = wait_for_answer(c);
    c->failed = rc < 0;
    if (rc < 0)
        return rc;
    guest_copy_const(&answer, c->mem + ANSWER_OFFSET, 1);
    return answer == VIRTIO_NET_OK ? 0 : -EIO;
}
