/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_ctrl.h - the control queue of a virtio network device: one command
 * at a time, waited for (virtio 1.2, 5.1.6.5).  Control thread.
 */
#ifndef USWITCH_NIC_VIRTIO_CTRL_H
#define USWITCH_NIC_VIRTIO_CTRL_H

#include "nic/virtio_device.h"

/* Data of a command, bytes. */
#define VIRTIO_CTRL_DATA_MAX 320

/**
 * struct virtio_ctrl - the queue
 * @ring: its ring
 * @mem: a command and its answer, in the pool
 * @pool: the pool (borrowed)
 * @failed: an answer did not come, or made no sense: there is no telling whose the next one would be
 */
struct virtio_ctrl {
    struct virtio_ring ring;
    uint8_t *mem;
    const struct dma_pool *pool;
    bool failed;
};

/* Bytes of pool it takes. */
size_t virtio_ctrl_bytes(void);

/**
 * virtio_ctrl_start() - make the queue and tell the device
 * @c: zeroed
 * @d: device, features accepted
 * @pool: where its memory comes from
 * @index: the queue's number
 *
 * Return: 0 or -errno; virtio_ctrl_stop() is legal in any case.
 */
int virtio_ctrl_start(struct virtio_ctrl *c, const struct virtio_device *d, struct dma_pool *pool, uint16_t index);

/* Device quiet; twice is legal. */
void virtio_ctrl_stop(struct virtio_ctrl *c);

/**
 * virtio_ctrl_command() - have the device do something, after DRIVER_OK
 * @c: queue
 * @class, @command: VIRTIO_NET_CTRL_*
 * @data: its data
 * @len: bytes of it, at most VIRTIO_CTRL_DATA_MAX
 *
 * Return: 0, -EIO: the device refuses, or answers nonsense; -ETIMEDOUT: no answer within a second.  After a failure
 * other than a refusal every further command is -EIO.
 */
int virtio_ctrl_command(struct virtio_ctrl *c, uint8_t class, uint8_t command, const void *data, uint32_t len);

#endif /* USWITCH_NIC_VIRTIO_CTRL_H */
