/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * nic_device.h - what nic_port.c needs of a device beside its registers:
 * interrupts, memory it can reach, reset.  vfio.c is the one there is; tests
 * put a model in its place and run a whole switch on it.
 *
 * Control thread throughout.
 */
#ifndef USWITCH_NIC_NIC_DEVICE_H
#define USWITCH_NIC_NIC_DEVICE_H

#include "nic/dma_guest.h"
#include "nic/nic.h"

struct nic_device;

/**
 * struct nic_device_ops - a way to a device
 * @map_bars: map the memory BARs in the mask into @bar; those that cannot be keep size 0.  @lost is called with @arg
 *      by any thread, in a signal handler, when an access to one of them failed.  0 or -errno
 * @unmap_bars: nobody uses them any more
 * @map_pool: let the device reach the pool, and nothing else; sets pool->iova.  0 or -errno
 * @unmap_pool: the device cannot reach it any more
 * @map_guest: let the device read guest memory, and not write it, where neither the pool nor one of @guests (may be
 *      NULL) is; sets region->iova.  0 or -errno
 * @unmap_guest: the device cannot reach it any more
 * @wire: interrupts for so many queues: fills irq_fd and returns what there is in @irq.  0 or -errno
 * @unmask: an interrupt line that masked itself is open again
 * @master: may the device access memory.  0 or -errno
 * @reset: to the state after power-on, if the device can do that.  0 or -errno
 * @destroy: ends the device's use, legal at any time; frees it
 */
struct nic_device_ops {
    int (*map_bars)(struct nic_device *d, uint32_t mask, struct bar bar[NIC_BARS], void (*lost)(void *arg), void *arg);
    void (*unmap_bars)(struct nic_device *d, struct bar bar[NIC_BARS]);
    int (*map_pool)(struct nic_device *d, struct dma_pool *pool);
    void (*unmap_pool)(struct nic_device *d, struct dma_pool *pool);
    int (*map_guest)(struct nic_device *d, const struct dma_pool *pool, const struct dma_guests *guests,
                     struct dma_region *region);
    void (*unmap_guest)(struct nic_device *d, const struct dma_region *region);
    int (*wire)(struct nic_device *d, uint32_t n_queues, struct nic_irq *irq);
    void (*unmask)(struct nic_device *d);
    int (*master)(struct nic_device *d, bool on);
    int (*reset)(struct nic_device *d);
    void (*destroy)(struct nic_device *d);
};

/**
 * struct nic_device - a device, opened and quiet: it accesses no memory and interrupts nobody
 * @ops: how it is reached
 * @config: copy of its config space
 * @irq_fd: eventfds of the vectors that ops->wire() made, -1: none (owned)
 * @line: the vector is an interrupt line, which masks itself
 * @error_fd: readable when the platform reports an error of the device (owned), or -1
 * @request_fd: readable when the kernel wants the device back (owned), or -1
 */
struct nic_device {
    const struct nic_device_ops *ops;
    uint8_t config[NIC_CONFIG_SIZE];
    int irq_fd[US_QUEUES_MAX + 1];
    bool line;
    int error_fd;
    int request_fd;
};

#endif /* USWITCH_NIC_NIC_DEVICE_H */
