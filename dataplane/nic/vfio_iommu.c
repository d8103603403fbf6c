/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * vfio_iommu.c - see vfio.h: which addresses the device may use, and the pool
 * mapped there, and nothing else.
 *
 * The kernel keeps a mapping as long as somebody holds the container or the
 * iommufd, which uswitchd does while this process dies and is replaced.  So
 * the first step is to remove everything.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "base/log.h"
#include "base/vfio_abi.h"
#include "nic/vfio.h"

/* linux/miscdevice.h: the container is a device of a known number; iommufd's minor is assigned at run time. */
#define MISC_MAJOR 10
#define VFIO_MINOR 196
#define IOVA_MIN (1u << 20)
#define IOVA_ALIGN (2u << 20)
/* An iommufd numbers its objects from 1 on; there is one device in ours and a few address spaces. */
#define OBJECTS_MAX 64

/**
 * struct part - memory to be mapped for the device
 * @base: place here
 * @size: bytes
 * @iova: place for the device
 * @write: the device may write as well
 */
struct part {
    const void *base;
    uint64_t size;
    uint64_t iova;
    bool write;
};

static bool is_misc_device(int fd, bool container)
{
    struct stat st;

    if (fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode) || major(st.st_rdev) != MISC_MAJOR)
        return false;
    return (minor(st.st_rdev) == VFIO_MINOR) == container;
}

/* ---- container ---- */

static int container_open(struct vfio *v)
{
    struct vfio_iommu_type1_dma_unmap all = { .argsz = sizeof(all), .flags = VFIO_DMA_UNMAP_FLAG_ALL };
    struct vfio_iommu_type1_info info = { .argsz = sizeof(info) };

    if (!is_misc_device(v->iommu_fd, true) || ioctl(v->iommu_fd, VFIO_GET_API_VERSION) != VFIO_API_VERSION)
        return -EINVAL;
    /* Once a container has its kind of IOMMU, it names that alone. */
    if (ioctl(v->iommu_fd, VFIO_CHECK_EXTENSION, VFIO_NOIOMMU_IOMMU) > 0 &&
        ioctl(v->iommu_fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) <= 0) {
        log_error("no IOMMU stands between the adapter and memory: refused");
        return -EPERM;
    }
    if (ioctl(v->iommu_fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) <= 0)
        return -EINVAL;
    /* Fails while the container has no kind of IOMMU, or one of another kind. */
    if (ioctl(v->iommu_fd, VFIO_IOMMU_GET_INFO, &info) < 0)
        return -EINVAL;
    return ioctl(v->iommu_fd, VFIO_IOMMU_UNMAP_DMA, &all) < 0 ? -errno : 0;
}

/* Return: number of ranges or -errno. */
static int container_ranges(const struct vfio *v, struct vfio_range range[VFIO_RANGES_MAX])
{
    const struct vfio_iommu_type1_info head = { .argsz = sizeof(head) };
    const struct vfio_iommu_type1_info_cap_iova_range *cap = NULL;
    const struct vfio_iommu_type1_info *info;
    void *answer;
    const int len = vfio_get_info(v->iommu_fd, VFIO_IOMMU_GET_INFO, &head, sizeof(head), &answer);
    uint32_t n = 0;

    if (len < 0)
        return len;
    info = answer;
    if (info->flags & VFIO_IOMMU_INFO_CAPS)
        cap = vfio_find_cap(answer, (uint32_t)len, info->cap_offset, VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE,
                            sizeof(*cap));
    while (cap && n < cap->nr_iovas && n < VFIO_RANGES_MAX &&
           (const uint8_t *)&cap->iova_ranges[n + 1] <= (const uint8_t *)answer + len) {
        range[n] = (struct vfio_range){ cap->iova_ranges[n].start, cap->iova_ranges[n].end };
        n++;
    }
    free(answer);
    /* A kernel that does not say: what it refuses, it refuses when we map. */
    if (!cap)
        range[n++] = (struct vfio_range){ 0, UINT32_MAX };
    return (int)n;
}

static int container_map(const struct vfio *v, const struct part *part)
{
    struct vfio_iommu_type1_dma_map map = {
        .argsz = sizeof(map),
        .flags = VFIO_DMA_MAP_FLAG_READ | (part->write ? VFIO_DMA_MAP_FLAG_WRITE : 0),
        .vaddr = (uint64_t)(uintptr_t)part->base,
        .iova = part->iova,
        .size = part->size,
    };

    return ioctl(v->iommu_fd, VFIO_IOMMU_MAP_DMA, &map) < 0 ? -errno : 0;
}

static void container_unmap(const struct vfio *v, uint64_t iova, uint64_t size)
{
    struct vfio_iommu_type1_dma_unmap unmap = { .argsz = sizeof(unmap), .iova = iova, .size = size };

    if (ioctl(v->iommu_fd, VFIO_IOMMU_UNMAP_DMA, &unmap) < 0)
        log_warning("cannot unmap an adapter's memory: %s", strerror(errno));
}

/* ---- iommufd ---- */

/* What a dead process left: address spaces that no device uses any more hold its memory. */
static void destroy_others(const struct vfio *v)
{
    for (uint32_t id = 1; id < OBJECTS_MAX; id++) {
        struct iommufd_abi_destroy destroy = { .size = sizeof(destroy), .id = id };

        /* Refused for objects in use, the device among them. */
        if (id != v->ioas)
            (void)ioctl(v->iommu_fd, IOMMUFD_ABI_DESTROY, &destroy);
    }
}

static int iommufd_open(struct vfio *v)
{
    struct iommufd_abi_ioas_alloc alloc = { .size = sizeof(alloc) };
    struct vfio_abi_attach attach = { .argsz = sizeof(attach) };

    if (!is_misc_device(v->iommu_fd, false) || ioctl(v->iommu_fd, IOMMUFD_ABI_IOAS_ALLOC, &alloc) < 0)
        return -EINVAL;
    v->ioas = attach.pt_id = alloc.out_ioas_id;
    /* Fails if the device is not bound to this iommufd. */
    if (ioctl(v->fd, VFIO_DEVICE_ATTACH_IOMMUFD_PT, &attach) < 0)
        return -errno;
    destroy_others(v);
    return 0;
}

static int iommufd_ranges(const struct vfio *v, struct vfio_range range[VFIO_RANGES_MAX])
{
    struct iommufd_abi_iova_range found[VFIO_RANGES_MAX];
    struct iommufd_abi_ioas_iova_ranges ask = {
        .size = sizeof(ask),
        .ioas_id = v->ioas,
        .num_iovas = VFIO_RANGES_MAX,
        .allowed_iovas = (uint64_t)(uintptr_t)found,
    };
    uint32_t n;

    /* EMSGSIZE: there are more; those that fit were told. */
    if (ioctl(v->iommu_fd, IOMMUFD_ABI_IOAS_IOVA_RANGES, &ask) < 0 && errno != EMSGSIZE)
        return -errno;
    for (n = 0; n < ask.num_iovas && n < VFIO_RANGES_MAX; n++)
        range[n] = (struct vfio_range){ found[n].start, found[n].last };
    return (int)n;
}

static int iommufd_map(const struct vfio *v, const struct part *part)
{
    struct iommufd_abi_ioas_map map = {
        .size = sizeof(map),
        .flags = IOMMUFD_ABI_MAP_FIXED_IOVA | IOMMUFD_ABI_MAP_READABLE | (part->write ? IOMMUFD_ABI_MAP_WRITEABLE : 0),
        .ioas_id = v->ioas,
        .user_va = (uint64_t)(uintptr_t)part->base,
        .length = part->size,
        .iova = part->iova,
    };

    return ioctl(v->iommu_fd, IOMMUFD_ABI_IOAS_MAP, &map) < 0 ? -errno : 0;
}

static void iommufd_unmap(const struct vfio *v, uint64_t iova, uint64_t size)
{
    struct iommufd_abi_ioas_unmap unmap = { .size = sizeof(unmap), .ioas_id = v->ioas, .iova = iova, .length = size };

    if (ioctl(v->iommu_fd, IOMMUFD_ABI_IOAS_UNMAP, &unmap) < 0)
        log_warning("cannot unmap an adapter's memory: %s", strerror(errno));
}

/* ---- either ---- */

int vfio_iommu_open(struct vfio *v)
{
    return v->iommufd ? iommufd_open(v) : container_open(v);
}

uint64_t vfio_pick_iova(const struct vfio_range *range, unsigned n, uint64_t size, uint64_t align)
{
    uint64_t best = UINT64_MAX;

    for (unsigned i = 0; i < n; i++) {
        const uint64_t first = range[i].start < IOVA_MIN ? IOVA_MIN : range[i].start;
        const uint64_t at = (first + align - 1) & ~(align - 1);

        /* at < first: the sum went round. */
        if (at < first || at > range[i].last || range[i].last - at < size - 1)
            continue;
        if (at < best)
            best = at;
    }
    return best;
}

/* The kernel has one errno for "too much locked memory" and for "no memory"; a limit there is makes it the first. */
static int explain(int rc, uint64_t size, const char *what, const char *instead)
{
    struct rlimit limit;

    if (rc != -ENOMEM || getrlimit(RLIMIT_MEMLOCK, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY)
        return rc;
    log_error("an adapter needs %llu bytes of locked memory for %s; the limit for all that this process locks is %llu: "
              "raise LimitMEMLOCK of the unit, or take %s", (unsigned long long)size, what,
              (unsigned long long)limit.rlim_cur, instead);
    return -EDQUOT;
}

static int get_ranges(const struct vfio *v, struct vfio_range range[VFIO_RANGES_MAX])
{
    return v->iommufd ? iommufd_ranges(v, range) : container_ranges(v, range);
}

static int map(const struct vfio *v, const struct part *part)
{
    return v->iommufd ? iommufd_map(v, part) : container_map(v, part);
}

static void unmap(const struct vfio *v, uint64_t iova, uint64_t size)
{
    if (v->iommufd)
        iommufd_unmap(v, iova, size);
    else
        container_unmap(v, iova, size);
}

int vfio_map_pool(struct nic_device *d, struct dma_pool *pool)
{
    const struct vfio *const v = vfio_of(d);
    struct vfio_range range[VFIO_RANGES_MAX] = { { 0 } };
    const int n = get_ranges(v, range);

    if (n < 0)
        return n;
    pool->iova = vfio_pick_iova(range, (unsigned)n, pool->size, IOVA_ALIGN);
    if (pool->iova == UINT64_MAX)
        return -ENOSPC;
    return explain(map(v, &(struct part){ pool->base, pool->size, pool->iova, true }), pool->size, "its rings",
                   "fewer queues or shorter rings");
}

void vfio_unmap_pool(struct nic_device *d, struct dma_pool *pool)
{
    unmap(vfio_of(d), pool->iova, pool->size);
}

/* ---- guests' memory ---- */

/* Where what is mapped in the way of @size bytes at @at ends; 0: nothing is in the way. */
static uint64_t obstacle(const struct dma_pool *pool, const struct dma_guests *guests, uint64_t at, uint64_t size)
{
    if (at < pool->iova + pool->size && pool->iova < at + size)
        return pool->iova + pool->size;
    for (uint32_t i = 0; guests && i < guests->n; i++) {
        const struct dma_region *const r = &guests->region[i];

        if (at < r->iova + r->size && r->iova < at + size)
            return r->iova + r->size;
    }
    return 0;
}

uint64_t vfio_pick_guest_iova(const struct vfio_range *range, unsigned n, const struct dma_pool *pool,
                              const struct dma_guests *guests, uint64_t size)
{
    uint64_t best = UINT64_MAX;

    for (unsigned i = 0; i < n; i++) {
        struct vfio_range left = range[i];
        uint64_t at, end;

        /* Each round passes one mapping. */
        while ((at = vfio_pick_iova(&left, 1, size, IOVA_ALIGN)) != UINT64_MAX &&
               (end = obstacle(pool, guests, at, size)) != 0)
            left.start = end;
        if (at < best)
            best = at;
    }
    return best;
}

int vfio_map_guest(struct nic_device *d, const struct dma_pool *pool, const struct dma_guests *guests,
                   struct dma_region *region)
{
    const struct vfio *const v = vfio_of(d);
    struct vfio_range range[VFIO_RANGES_MAX] = { { 0 } };
    const int n = get_ranges(v, range);

    if (n < 0)
        return n;
    region->iova = vfio_pick_guest_iova(range, (unsigned)n, pool, guests, region->size);
    if (region->iova == UINT64_MAX)
        return -ENOSPC;
    return explain(map(v, &(struct part){ region->host, region->size, region->iova, false }), region->size,
                   "the memory of a guest (zero copy)", "no zero copy");
}

void vfio_unmap_guest(struct nic_device *d, const struct dma_region *region)
{
    unmap(vfio_of(d), region->iova, region->size);
}
