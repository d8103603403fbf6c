/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * vfio.c - see vfio.h: what was handed in, config space, reset.
 */
#include "nic/vfio.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "base/vfio_abi.h"

/* An answer of the kernel is some hundred bytes. */
#define INFO_MAX 65536
#define CAPS_MAX 64

/* ---- answers of the kernel ---- */

const void *vfio_find_cap(const void *info, uint32_t len, uint32_t first, uint16_t id, uint32_t need)
{
    uint32_t at = first;

    for (unsigned n = 0; at && n < CAPS_MAX; n++) {
        const struct vfio_info_cap_header *cap;

        if (at > len || len - at < sizeof(*cap) || at % sizeof(uint32_t))
            return NULL;
        cap = (const void *)((const uint8_t *)info + at);
        if (cap->id == id)
            return len - at >= need ? cap : NULL;
        at = cap->next;
    }
    return NULL;
}

int vfio_get_info(int fd, unsigned long request, const void *head, uint32_t head_len, void **out)
{
    uint32_t len = head_len;

    /* The first answer says how long a whole one is. */
    for (unsigned attempt = 0; attempt < 3; attempt++) {
        uint32_t *const info = calloc(1, len);

        if (!info)
            return -ENOMEM;
        memcpy(info, head, head_len);
        info[0] = len;
        if (ioctl(fd, request, info) < 0) {
            const int rc = -errno;

            free(info);
            return rc;
        }
        if (info[0] <= len) {
            *out = info;
            return (int)len;
        }
        len = info[0];
        free(info);
        if (len > INFO_MAX)
            return -EIO;
    }
    return -EIO;
}

/* ---- device ---- */

/*
 * A device fd that came of a group is an anonymous inode, one of its own device file a character device; sockets, pipes
 * and ordinary files are neither, and are not asked.
 */
static bool may_be_device(int fd)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return false;
    return !S_ISSOCK(st.st_mode) && !S_ISFIFO(st.st_mode) && !S_ISDIR(st.st_mode) && !S_ISBLK(st.st_mode);
}

static int find_device(struct vfio *v)
{
    struct vfio_device_info info = { .argsz = sizeof(info) };
    struct vfio_region_info config = { .argsz = sizeof(config), .index = VFIO_PCI_CONFIG_REGION_INDEX };

    if (!may_be_device(v->fd) || ioctl(v->fd, VFIO_DEVICE_GET_INFO, &info) < 0)
        return -EINVAL;
    if (!(info.flags & VFIO_DEVICE_FLAGS_PCI) || ioctl(v->fd, VFIO_DEVICE_GET_REGION_INFO, &config) < 0)
        return -EINVAL;
    if (config.size < PCI_CONFIG_SIZE)
        return -EIO;
    v->can_reset = (info.flags & VFIO_DEVICE_FLAGS_RESET) != 0;
    v->pci = (struct pci_config){ .fd = v->fd, .offset = config.offset };
    return 0;
}

static int vfio_master(struct nic_device *d, bool on)
{
    return pci_command(&vfio_of(d)->pci, on ? 0 : PCI_COMMAND_MASTER, on ? PCI_COMMAND_MASTER : 0);
}

static int vfio_reset(struct nic_device *d)
{
    struct vfio *const v = vfio_of(d);
    int rc = 0;

    if (v->can_reset && ioctl(v->fd, VFIO_DEVICE_RESET) < 0)
        rc = -errno;
    /* The kernel restores what it knew; the memory BARs are needed, whatever that was. */
    return rc < 0 ? rc : pci_command(&v->pci, PCI_COMMAND_MASTER, PCI_COMMAND_MEMORY);
}

static void vfio_destroy(struct nic_device *d)
{
    struct vfio *const v = vfio_of(d);
    struct bar none[NIC_BARS] = { { 0 } };

    if (v->pci.fd >= 0)
        (void)vfio_master(d, false);
    vfio_unwire(v);
    vfio_unmap_bars(d, none);
    if (v->fd >= 0)
        close(v->fd);
    if (v->iommu_fd >= 0)
        close(v->iommu_fd);
    free(v);
}

static const struct nic_device_ops vfio_ops = {
    .map_bars = vfio_map_bars,
    .unmap_bars = vfio_unmap_bars,
    .map_pool = vfio_map_pool,
    .unmap_pool = vfio_unmap_pool,
    .map_guest = vfio_map_guest,
    .unmap_guest = vfio_unmap_guest,
    .wire = vfio_wire,
    .unmask = vfio_unmask,
    .master = vfio_master,
    .reset = vfio_reset,
    .destroy = vfio_destroy,
};

/*
 * The order matters: the last user may have died while the device wrote to its memory, so the device is silenced
 * before its mappings go.
 */
static int take_over(struct vfio *v)
{
    int rc = find_device(v);

    if (rc == 0)
        rc = vfio_master(&v->dev, false);
    if (rc == 0)
        rc = vfio_reset(&v->dev);
    if (rc == 0)
        rc = pci_read_config(&v->pci, v->dev.config);
    if (rc == 0)
        rc = vfio_iommu_open(v);
    if (rc == 0)
        vfio_wire_events(v);
    return rc;
}

int vfio_open(int iommu_fd, int device_fd, bool iommufd, struct nic_device **out)
{
    struct vfio *const v = calloc(1, sizeof(*v));
    int rc;

    if (!v)
        return -ENOMEM;
    v->dev.ops = &vfio_ops;
    v->dev.error_fd = v->dev.request_fd = -1;
    for (unsigned i = 0; i <= US_QUEUES_MAX; i++)
        v->dev.irq_fd[i] = -1;
    v->iommufd = iommufd;
    v->pci.fd = -1;
    v->fd = fcntl(device_fd, F_DUPFD_CLOEXEC, 0);
    v->iommu_fd = fcntl(iommu_fd, F_DUPFD_CLOEXEC, 0);
    rc = v->fd < 0 || v->iommu_fd < 0 ? -errno : take_over(v);
    if (rc < 0) {
        vfio_destroy(&v->dev);
        return rc;
    }
    *out = &v->dev;
    return 0;
}
