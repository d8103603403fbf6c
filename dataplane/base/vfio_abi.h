/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * vfio_abi.h - what the kernel's VFIO and iommufd interfaces have that the
 * headers of older distributions do not: device files without a container
 * (Linux 6.6) and I/O address spaces as objects (Linux 6.2,
 * Documentation/userspace-api/iommufd.rst).  For nic/vfio*.c, and for
 * sandbox.c, which lets the numbers pass.
 */
#ifndef USWITCH_VFIO_ABI_H
#define USWITCH_VFIO_ABI_H

#include <linux/types.h>
#include <linux/vfio.h>

#ifndef VFIO_DEVICE_ATTACH_IOMMUFD_PT
#define VFIO_DEVICE_ATTACH_IOMMUFD_PT _IO(VFIO_TYPE, VFIO_BASE + 19)
#endif

/* argsz, flags 0, id of an address space: the device's DMA goes through it from now on. */
struct vfio_abi_attach {
    __u32 argsz;
    __u32 flags;
    __u32 pt_id;
};

#define IOMMUFD_ABI_DESTROY _IO(';', 0x80)
#define IOMMUFD_ABI_IOAS_ALLOC _IO(';', 0x81)
#define IOMMUFD_ABI_IOAS_IOVA_RANGES _IO(';', 0x84)
#define IOMMUFD_ABI_IOAS_MAP _IO(';', 0x85)
#define IOMMUFD_ABI_IOAS_UNMAP _IO(';', 0x86)

struct iommufd_abi_destroy {
    __u32 size;
    __u32 id;
};

struct iommufd_abi_ioas_alloc {
    __u32 size;
    __u32 flags;
    __u32 out_ioas_id;
};

struct iommufd_abi_iova_range {
    __u64 start;
    __u64 last;
};

struct iommufd_abi_ioas_iova_ranges {
    __u32 size;
    __u32 ioas_id;
    __u32 num_iovas;
    __u32 reserved;
    __u64 allowed_iovas;        /* address of an array of iommufd_abi_iova_range */
    __u64 out_iova_alignment;
};

#define IOMMUFD_ABI_MAP_FIXED_IOVA 1
#define IOMMUFD_ABI_MAP_WRITEABLE 2
#define IOMMUFD_ABI_MAP_READABLE 4

struct iommufd_abi_ioas_map {
    __u32 size;
    __u32 flags;
    __u32 ioas_id;
    __u32 reserved;
    __u64 user_va;
    __u64 length;
    __u64 iova;
};

struct iommufd_abi_ioas_unmap {
    __u32 size;
    __u32 ioas_id;
    __u64 iova;
    __u64 length;
};

#endif /* USWITCH_VFIO_ABI_H */
