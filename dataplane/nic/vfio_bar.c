/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * vfio_bar.c - see vfio.h: BARs mapped, and guarded.
 *
 * The kernel may forbid to map a part of a BAR, the page of the MSI-X table
 * in older versions.  The BAR's range of addresses is reserved with private
 * memory first and the allowed parts are laid over it: offsets stay what they
 * are, and a driver that touches the gap touches nothing.
 *
 * While a device's memory is disabled (a reset by somebody else, its removal)
 * an access raises SIGBUS.  The guard lays private memory over the mapping,
 * which is filled with ones, as a register reads of a device that is gone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "base/guard.h"
#include "base/log.h"
#include "base/vfio_abi.h"
#include "nic/vfio.h"

/* A NIC's registers are some hundred KiB. */
#define BAR_MAX (256u << 20)
#define AREAS_MAX 16

static void on_lost(void *arg, const void *addr)
{
    struct vfio_bar *const b = arg;

    (void)addr;
    memset(b->base, 0xff, b->size);
    b->lost(b->arg);
}

static int map_area(const struct vfio *v, const struct vfio_bar *b, uint64_t region, uint64_t offset, uint64_t size)
{
    void *const at = (uint8_t *)b->base + offset;

    if (size == 0 || offset > b->size || size > b->size - offset)
        return -EIO;
    if (mmap(at, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, v->fd, (off_t)(region + offset)) != at)
        return -errno;
    return 0;
}

/* The parts the kernel allows to map: all, if it does not say. */
static int map_areas(const struct vfio *v, const struct vfio_bar *b, const struct vfio_region_info *info, uint32_t len)
{
    const struct vfio_region_info_cap_sparse_mmap *cap = NULL;
    int rc = 0;

    if (info->flags & VFIO_REGION_INFO_FLAG_CAPS)
        cap = vfio_find_cap(info, len, info->cap_offset, VFIO_REGION_INFO_CAP_SPARSE_MMAP, sizeof(*cap));
    if (!cap)
        return map_area(v, b, info->offset, 0, b->size);
    for (uint32_t i = 0; rc == 0 && i < cap->nr_areas && i < AREAS_MAX; i++) {
        if ((const uint8_t *)&cap->areas[i + 1] > (const uint8_t *)info + len)
            return -EIO;
        rc = map_area(v, b, info->offset, cap->areas[i].offset, cap->areas[i].size);
    }
    return rc;
}

static int map_bar(struct vfio *v, struct vfio_bar *b, const struct vfio_region_info *info, uint32_t len)
{
    int rc;

    if (info->size == 0 || info->size > BAR_MAX || !(info->flags & VFIO_REGION_INFO_FLAG_MMAP))
        return -ENOTSUP;
    b->size = info->size;
    b->base = mmap(NULL, b->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (b->base == MAP_FAILED) {
        b->base = NULL;
        return -ENOMEM;
    }
    rc = guard_add(b->base, b->size, on_lost, b);
    if (rc < 0) {
        munmap(b->base, b->size);
        b->base = NULL;
        return rc;
    }
    return map_areas(v, b, info, len);
}

static void unmap_bar(struct vfio_bar *b)
{
    if (b->base) {
        guard_del(b->base);
        munmap(b->base, b->size);
    }
    memset(b, 0, sizeof(*b));
}

/* -ENOTSUP: there is nothing to map. */
static int open_bar(struct vfio *v, unsigned i)
{
    const struct vfio_region_info head = { .argsz = sizeof(head), .index = VFIO_PCI_BAR0_REGION_INDEX + i };
    const enum pci_bar_kind kind = pci_bar(v->dev.config, i);
    void *info;
    int rc;

    if (kind != PCI_BAR_MEM32 && kind != PCI_BAR_MEM64)
        return -ENOTSUP;
    rc = vfio_get_info(v->fd, VFIO_DEVICE_GET_REGION_INFO, &head, sizeof(head), &info);
    if (rc < 0)
        return rc;
    rc = map_bar(v, &v->bar[i], info, (uint32_t)rc);
    free(info);
    return rc;
}

int vfio_map_bars(struct nic_device *d, uint32_t mask, struct bar bar[NIC_BARS], void (*lost)(void *arg), void *arg)
{
    struct vfio *const v = vfio_of(d);

    for (unsigned i = 0; i < NIC_BARS; i++) {
        int rc;

        if (!(mask & 1u << i))
            continue;
        v->bar[i] = (struct vfio_bar){ .lost = lost, .arg = arg };
        rc = open_bar(v, i);
        if (rc < 0) {
            unmap_bar(&v->bar[i]);
            if (rc == -ENOTSUP)
                continue;
            log_error("cannot map BAR %u of an adapter: %s", i, strerror(-rc));
            return rc;
        }
        bar[i] = (struct bar){ .base = v->bar[i].base, .size = (uint32_t)v->bar[i].size };
    }
    return 0;
}

void vfio_unmap_bars(struct nic_device *d, struct bar bar[NIC_BARS])
{
    struct vfio *const v = vfio_of(d);

    for (unsigned i = 0; i < NIC_BARS; i++) {
        unmap_bar(&v->bar[i]);
        bar[i] = (struct bar){ 0 };
    }
}
