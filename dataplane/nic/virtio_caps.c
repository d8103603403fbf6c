/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_caps.c - see virtio_caps.h.
 */
#include "nic/virtio_caps.h"

#include <errno.h>
#include <string.h>

#include "nic/pci.h"
#include "nic/virtio_pci_regs.h"

/* No more capabilities of ours have room beside each other; a list that is a loop ends here as well. */
#define CAPS_MAX (NIC_CONFIG_SIZE / VIRTIO_CAP_SIZE)

static uint32_t read32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

/* Does the block lie in a BAR that is there, whole and aligned (4.1.4.3.1, 4.1.4.4.1, 4.1.4.6.1)? */
static bool region_is_good(const struct virtio_region *r, const struct bar *bar, uint32_t min, uint32_t align)
{
    const struct bar *const b = r->bar < NIC_BARS ? &bar[r->bar] : NULL;

    if (!b || (!b->base && !b->model))
        return false;
    if (r->offset % align || r->length < min)
        return false;
    return r->offset < b->size && r->length <= b->size - r->offset;
}

static void keep(struct virtio_region *where, const struct virtio_region *r, const struct bar *bar, uint32_t min,
                 uint32_t align)
{
    if (where->length == 0 && region_is_good(r, bar, min, align))
        *where = *r;
}

/* One vendor capability of @len bytes, all inside config space. */
static void take(struct virtio_caps *out, const uint8_t *cap, uint32_t len, const struct bar *bar)
{
    const struct virtio_region r = { cap[VIRTIO_CAP_BAR], read32(cap + VIRTIO_CAP_OFFSET),
                                     read32(cap + VIRTIO_CAP_LENGTH) };
    const bool had_notify = out->notify.length != 0;

    switch (cap[VIRTIO_CAP_TYPE]) {
    case VIRTIO_CAP_TYPE_COMMON:
        keep(&out->common, &r, bar, VIRTIO_COMMON_SIZE, 4);
        break;
    case VIRTIO_CAP_TYPE_NOTIFY:
        if (len < VIRTIO_CAP_NOTIFY_SIZE)
            break;
        keep(&out->notify, &r, bar, 2, 2);
        if (!had_notify)
            out->notify_multiplier = read32(cap + VIRTIO_CAP_NOTIFY_MULTIPLIER);
        break;
    case VIRTIO_CAP_TYPE_DEVICE:
        keep(&out->device, &r, bar, 1, 4);
        break;
    default:                    /* 4.1.4: types we do not know are to be ignored */
        break;
    }
}

int virtio_caps_parse(const uint8_t config[NIC_CONFIG_SIZE], const struct bar bar[NIC_BARS], struct virtio_caps *out)
{
    unsigned at = pci_find_cap(config, VIRTIO_CAP_ID, 0);

    memset(out, 0, sizeof(*out));
    for (unsigned i = 0; at && i < CAPS_MAX; i++, at = pci_find_cap(config, VIRTIO_CAP_ID, at)) {
        const uint32_t len = config[at + VIRTIO_CAP_LEN];

        if (len >= VIRTIO_CAP_SIZE && at + len <= NIC_CONFIG_SIZE)
            take(out, config + at, len, bar);
    }
    if (!out->common.length || !out->notify.length || !out->device.length)
        return -ENODEV;
    return out->notify_multiplier % 2 ? -ENODEV : 0;
}
