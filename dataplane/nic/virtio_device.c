/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_device.c - see virtio_device.h.
 */
#include "nic/virtio_device.h"

#include <errno.h>
#include <poll.h>

#include "nic/virtio_pci_regs.h"

/* A device may take its time to stop what it does (4.1.4.3.2 sets no limit). */
#define RESET_MS 1000
/* Reads of a configuration that changes meanwhile, until we give up. */
#define CONFIG_TRIES 100

static uint32_t common(const struct virtio_device *d, uint32_t reg)
{
    return d->caps.common.offset + reg;
}

int virtio_device_init(struct virtio_device *d, const struct nic *n)
{
    const int rc = n->config ? virtio_caps_parse(n->config, n->bar, &d->caps) : -ENODEV;

    if (rc < 0)
        return rc;
    d->common = &n->bar[d->caps.common.bar];
    d->notify = &n->bar[d->caps.notify.bar];
    d->config = &n->bar[d->caps.device.bar];
    return 0;
}

uint8_t virtio_device_status(const struct virtio_device *d)
{
    return bar_read8(d->common, common(d, VIRTIO_COMMON_DEVICE_STATUS));
}

void virtio_device_add_status(const struct virtio_device *d, uint8_t bit)
{
    bar_write8(d->common, common(d, VIRTIO_COMMON_DEVICE_STATUS), virtio_device_status(d) | bit);
}

int virtio_device_reset(const struct virtio_device *d)
{
    bar_write8(d->common, common(d, VIRTIO_COMMON_DEVICE_STATUS), 0);
    for (unsigned ms = 0; ms < RESET_MS; ms++) {
        const uint8_t status = virtio_device_status(d);

        if (status == 0)
            return 0;
        if (status == VIRTIO_STATUS_GONE)
            return -EIO;
        poll(NULL, 0, 1);
    }
    return -EIO;
}

static uint32_t offered_half(const struct virtio_device *d, uint32_t half)
{
    bar_write32(d->common, common(d, VIRTIO_COMMON_DEVICE_FEATURE_SELECT), half);
    return bar_read32(d->common, common(d, VIRTIO_COMMON_DEVICE_FEATURE));
}

static void accept_half(const struct virtio_device *d, uint32_t half, uint32_t bits)
{
    bar_write32(d->common, common(d, VIRTIO_COMMON_DRIVER_FEATURE_SELECT), half);
    bar_write32(d->common, common(d, VIRTIO_COMMON_DRIVER_FEATURE), bits);
}

void virtio_device_begin(struct virtio_device *d)
{
    virtio_device_add_status(d, VIRTIO_STATUS_ACKNOWLEDGE);
    virtio_device_add_status(d, VIRTIO_STATUS_DRIVER);
    d->offered = offered_half(d, 0);
    d->offered |= (uint64_t)offered_half(d, 1) << 32;
    d->features = 0;
}

int virtio_device_accept(struct virtio_device *d, uint64_t features)
{
    accept_half(d, 0, (uint32_t)features);
    accept_half(d, 1, (uint32_t)(features >> 32));
    virtio_device_add_status(d, VIRTIO_STATUS_FEATURES_OK);
    if (!(virtio_device_status(d) & VIRTIO_STATUS_FEATURES_OK))
        return -EIO;
    d->features = features;
    return 0;
}

uint32_t virtio_device_config(const struct virtio_device *d, uint32_t offset, unsigned bytes)
{
    const struct virtio_region *const r = &d->caps.device;

    if (offset + bytes > r->length)
        return UINT32_MAX >> (32 - 8 * bytes);
    switch (bytes) {
    case 1:
        return bar_read8(d->config, r->offset + offset);
    case 2:
        return bar_read16(d->config, r->offset + offset);
    default:
        return bar_read32(d->config, r->offset + offset);
    }
}

/* 2.4.1: fields of more than 32 bits are good if the generation is the same before and after. */
int virtio_device_config_copy(const struct virtio_device *d, uint32_t offset, uint8_t *out, unsigned len)
{
    for (unsigned i = 0; i < CONFIG_TRIES; i++) {
        const uint8_t before = bar_read8(d->common, common(d, VIRTIO_COMMON_CONFIG_GENERATION));

        for (unsigned k = 0; k < len; k++)
            out[k] = (uint8_t)virtio_device_config(d, offset + k, 1);
        if (bar_read8(d->common, common(d, VIRTIO_COMMON_CONFIG_GENERATION)) == before)
            return 0;
    }
    return -EIO;
}

/* 4.1.5.1.2.2: a device that could not wire a vector says so when it is read back. */
static int set_vector(const struct virtio_device *d, uint32_t reg, uint16_t vector)
{
    bar_write16(d->common, common(d, reg), vector);
    return bar_read16(d->common, common(d, reg)) == vector ? 0 : -ENOSPC;
}

int virtio_device_config_vector(const struct virtio_device *d, uint16_t vector)
{
    return set_vector(d, VIRTIO_COMMON_CONFIG_MSIX_VECTOR, vector);
}

uint32_t virtio_device_queue_size(const struct virtio_device *d, uint32_t index)
{
    uint32_t claimed_size;

    if (index >= bar_read16(d->common, common(d, VIRTIO_COMMON_NUM_QUEUES)))
        return 0;
    bar_write16(d->common, common(d, VIRTIO_COMMON_QUEUE_SELECT), (uint16_t)index);
    claimed_size = bar_read16(d->common, common(d, VIRTIO_COMMON_QUEUE_SIZE));
    if (claimed_size > US_RING_SIZE_MAX)
        return 0;
    if (!virtio_has(d, VIRTIO_F_RING_PACKED) && (claimed_size & (claimed_size - 1)))
        return 0;
    return claimed_size;
}

static void set_address(const struct virtio_device *d, uint32_t reg, uint64_t iova)
{
    bar_write32(d->common, common(d, reg), (uint32_t)iova);
    bar_write32(d->common, common(d, reg + 4), (uint32_t)(iova >> 32));
}

int virtio_device_queue_start(const struct virtio_device *d, struct virtio_ring *r, const struct dma_pool *pool,
                              uint16_t vector)
{
    const struct virtio_region *const notify = &d->caps.notify;
    uint64_t place;
    int rc;

    if (virtio_device_queue_size(d, r->index) < r->size)    /* selects the queue */
        return -EIO;
    bar_write16(d->common, common(d, VIRTIO_COMMON_QUEUE_SIZE), r->size);
    rc = set_vector(d, VIRTIO_COMMON_QUEUE_MSIX_VECTOR, vector);
    if (rc < 0)
        return rc;
    place = (uint64_t)bar_read16(d->common, common(d, VIRTIO_COMMON_QUEUE_NOTIFY_OFF)) * d->caps.notify_multiplier;
    if (place + 2 > notify->length)
        return -EIO;
    r->bar = d->notify;
    r->notify_offset = notify->offset + (uint32_t)place;
    /* The parts of a packed ring are at the same places of struct virtio_ring. */
    set_address(d, VIRTIO_COMMON_QUEUE_DESC, dma_iova(pool, r->desc));
    set_address(d, VIRTIO_COMMON_QUEUE_DRIVER, dma_iova(pool, r->avail));
    set_address(d, VIRTIO_COMMON_QUEUE_DEVICE, dma_iova(pool, r->used));
    bar_write16(d->common, common(d, VIRTIO_COMMON_QUEUE_ENABLE), 1);
    return 0;
}
