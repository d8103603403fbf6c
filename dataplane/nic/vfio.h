/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * vfio.h - a PCI device through the kernel's VFIO: opened by somebody with
 * the right to do so (design law 5), used here with nothing but two file
 * descriptors.
 *
 *   vfio.c        what was handed in, config space, reset
 *   vfio_bar.c    BARs mapped, and guarded: access to a device whose memory
 *                 is disabled or that is gone raises SIGBUS (base/guard.h)
 *   vfio_irq.c    interrupts as eventfds
 *   vfio_iommu.c  which addresses the device may use, the pool mapped there
 *
 * Container and group: VFIO_GROUP_SET_CONTAINER, VFIO_SET_IOMMU with
 * VFIO_TYPE1v2_IOMMU and VFIO_GROUP_GET_DEVICE_FD have been done.  Device
 * file: VFIO_DEVICE_BIND_IOMMUFD has been done; the address space is made
 * here.  A device without an IOMMU is refused, however it comes.
 *
 * Control thread throughout.
 */
#ifndef USWITCH_NIC_VFIO_H
#define USWITCH_NIC_VFIO_H

#include "nic/nic_device.h"
#include "nic/pci.h"

/**
 * struct vfio_bar - one mapped BAR
 * @base: mapping, NULL: none (owned)
 * @size: bytes
 * @lost: to be told
 * @arg: for @lost
 */
struct vfio_bar {
    void *base;
    size_t size;
    void (*lost)(void *arg);
    void *arg;
};

/**
 * struct vfio - a device
 * @dev: what nic_port.c sees; first
 * @iommu_fd: container, or iommufd (owned)
 * @fd: the device (owned)
 * @iommufd: @iommu_fd is an iommufd
 * @ioas: its address space that the device uses
 * @can_reset: the kernel knows a way to reset it
 * @pci: way to the config space
 * @bar: mapped BARs
 * @irq_index: VFIO_PCI_*_IRQ_INDEX in use
 * @n_irq: vectors in use, 0: none
 */
struct vfio {
    struct nic_device dev;
    int iommu_fd;
    int fd;
    bool iommufd;
    uint32_t ioas;
    bool can_reset;
    struct pci_config pci;
    struct vfio_bar bar[NIC_BARS];
    uint32_t irq_index;
    uint32_t n_irq;
};

/* Addresses the device may use: first and last. */
struct vfio_range {
    uint64_t start;
    uint64_t last;
};

#define VFIO_RANGES_MAX 64

/**
 * vfio_open() - take a device over, whatever its last user left behind
 * @iommu_fd: container or iommufd; borrowed, duplicated
 * @device_fd: the device; borrowed, duplicated
 * @iommufd: which of the two @iommu_fd is
 * @out: the device, quiet: bus master off, reset, nothing mapped for it; ended by ops->destroy()
 *
 * Return: 0; -EINVAL: one of the fds is something else, or not prepared; -EPERM: no IOMMU stands between the device and
 * memory; -EIO: the device does not answer; or -errno.
 */
int vfio_open(int iommu_fd, int device_fd, bool iommufd, struct nic_device **out);

static inline struct vfio *vfio_of(struct nic_device *d)
{
    return (struct vfio *)d;
}

/* ---- vfio_iommu.c ---- */

/* Check and prepare @v->iommu_fd: nothing is mapped for the device afterwards.  Errors as in vfio_open(). */
int vfio_iommu_open(struct vfio *v);

/*
 * Map the pool.  -EDQUOT: RLIMIT_MEMLOCK does not allow so much; -ENOSPC: the device reaches no range of that size.
 */
int vfio_map_pool(struct nic_device *d, struct dma_pool *pool);
void vfio_unmap_pool(struct nic_device *d, struct dma_pool *pool);

/*
 * Map memory of a guest, for reading alone, beside the pool and @guests (may be NULL).  Errors as above; -EDQUOT: the
 * limit does not allow so much beside what is locked already.
 */
int vfio_map_guest(struct nic_device *d, const struct dma_pool *pool, const struct dma_guests *guests,
                   struct dma_region *region);
void vfio_unmap_guest(struct nic_device *d, const struct dma_region *region);

/* Where it goes: as vfio_pick_iova(), beside what is mapped. */
uint64_t vfio_pick_guest_iova(const struct vfio_range *range, unsigned n, const struct dma_pool *pool,
                              const struct dma_guests *guests, uint64_t size);

/**
 * vfio_pick_iova() - where the pool goes: as low as possible, which every device can address
 * @range: what may be used, in any order
 * @n: number of ranges
 * @size: bytes
 * @align: power of two
 *
 * The first megabyte is left alone: a driver that writes address 0 into a descriptor is caught.
 *
 * Return: the address, or UINT64_MAX.
 */
uint64_t vfio_pick_iova(const struct vfio_range *range, unsigned n, uint64_t size, uint64_t align);

/* ---- vfio_bar.c ---- */

int vfio_map_bars(struct nic_device *d, uint32_t mask, struct bar bar[NIC_BARS], void (*lost)(void *arg), void *arg);
void vfio_unmap_bars(struct nic_device *d, struct bar bar[NIC_BARS]);

/* ---- vfio_irq.c ---- */

int vfio_wire(struct nic_device *d, uint32_t n_queues, struct nic_irq *irq);
void vfio_unmask(struct nic_device *d);

/* Eventfds of errors and of the kernel's wish to have the device back, where it knows these. */
void vfio_wire_events(struct vfio *v);

/* No eventfd is signalled any more; they are closed. */
void vfio_unwire(struct vfio *v);

/* ---- answers of the kernel ---- */

/**
 * vfio_find_cap() - a capability in an answer
 * @info: the whole answer
 * @len: its bytes
 * @first: offset of the first capability, 0: none
 * @id: which
 * @need: bytes the capability must have at least, its header included
 *
 * Return: the struct vfio_info_cap_header, with @need bytes inside the answer; or NULL.
 */
const void *vfio_find_cap(const void *info, uint32_t len, uint32_t first, uint16_t id, uint32_t need);

/**
 * vfio_get_info() - an answer of a length that only the kernel knows
 * @fd: whom to ask
 * @request: ioctl whose struct begins with argsz
 * @head: the struct, filled as a request
 * @head_len: its size
 * @out: the answer, free() it
 *
 * Return: its length, >= head_len; or -errno.
 */
int vfio_get_info(int fd, unsigned long request, const void *head, uint32_t head_len, void **out);

#endif /* USWITCH_NIC_VFIO_H */
