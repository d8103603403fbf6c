/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * guest_mem.c - makes the table of guest memory: everything the front-end
 * claims about a region is checked against the file it handed over before a
 * byte of it is mapped.
 *
 * Only regular files on tmpfs (which is what a memfd is) and hugetlbfs are
 * taken: on any other file system a page fault of ours could wait for whoever
 * serves that file system.
 */
#include "vhost/guest_mem.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/guard.h"

const struct guest_region *guest_mem_find(const struct guest_mem *mem, uint64_t gpa)
{
    uint32_t low = 0, high = mem->n;

    while (low < high) { /* first region that starts after gpa */
        const uint32_t middle = (low + high) / 2;

        if (mem->region[middle].gpa <= gpa)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0 || gpa - mem->region[low - 1].gpa >= mem->region[low - 1].size)
        return NULL;
    return &mem->region[guest_index_nospec(low - 1, mem->n)];
}

void *guest_mem_uva(const struct guest_mem *mem, uint64_t uva, uint64_t len)
{
    for (uint32_t i = 0; i < mem->n; i++) {
        const struct guest_region *r = &mem->region[i];
        const uint64_t off = uva - r->uva;

        if (off < r->size && len <= r->size - off)
            return r->host + off;
    }
    return NULL;
}

uint64_t guest_mem_gpa(const struct guest_mem *mem, uint64_t uva)
{
    for (uint32_t i = 0; i < mem->n; i++) {
        const struct guest_region *r = &mem->region[i];

        if (uva - r->uva < r->size)
            return r->gpa + (uva - r->uva);
    }
    return UINT64_MAX;
}

bool guest_mem_covers(const struct guest_mem *mem, uint64_t gpa, uint64_t len)
{
    const struct guest_region *hint = &mem->region[0];
    uint64_t span;

    for (; len; gpa += span, len -= span) {
        if (!guest_mem_span(mem, &hint, gpa, len, &span))
            return false;
    }
    return true;
}

bool guest_mem_read(const struct guest_mem *mem, const struct guest_region **hint, void *dst, uint64_t gpa,
                    uint32_t len)
{
    uint8_t *to = dst;

    while (len) {
        uint64_t span;
        const uint8_t *const from = guest_mem_span(mem, hint, gpa, len, &span);

        if (!from)
            return false;
        guest_copy(to, from, span);
        to += span;
        gpa += span;
        len -= (uint32_t)span;
    }
    return true;
}

static bool overflows(uint64_t start, uint64_t size)
{
    return size > UINT64_MAX - start;
}

static bool overlaps(uint64_t a, uint64_t a_size, uint64_t b, uint64_t b_size)
{
    return a < b ? b - a < a_size : a - b < b_size;
}

/* The numbers alone: sizes, 64-bit overflow, overlap. */
static int check_layout(const struct us_mem_region *region, uint32_t n)
{
    if (n == 0 || n > US_REGIONS_MAX)
        return -EINVAL;
    for (uint32_t i = 0; i < n; i++) {
        const struct us_mem_region *r = &region[i];

        if (r->size == 0 || overflows(r->gpa, r->size) || overflows(r->uva, r->size) ||
            overflows(r->mmap_offset, r->size))
            return -EINVAL;
        for (uint32_t j = 0; j < i; j++) {
            if (overlaps(r->gpa, r->size, region[j].gpa, region[j].size) ||
                overlaps(r->uva, r->size, region[j].uva, region[j].size))
                return -EINVAL;
        }
    }
    return 0;
}

/* The file behind a region; *page becomes the granularity in which it can be mapped. */
static int check_file(int fd, uint64_t offset, uint64_t size, uint64_t *page)
{
    const int flags = fcntl(fd, F_GETFL);
    struct stat st;
    struct statfs fs;

    if (flags < 0)
        return -errno;
    if ((flags & O_ACCMODE) != O_RDWR || (flags & O_PATH))
        return -EBADF;
    /*
     * Only tmpfs and hugetlbfs files have seals, and the kernel answers without asking the file system,
     * while fstat() of a file on FUSE may already wait for the peer's server.
     */
    if (fcntl(fd, F_GET_SEALS) < 0)
        return -EMEDIUMTYPE;
    if (fstat(fd, &st) || fstatfs(fd, &fs))
        return -errno;
    if (!S_ISREG(st.st_mode))
        return -EINVAL;
    if (fs.f_type == HUGETLBFS_MAGIC)
        *page = (uint64_t)fs.f_bsize;
    else if (fs.f_type == TMPFS_MAGIC)
        *page = (uint64_t)sysconf(_SC_PAGESIZE);
    else
        return -EMEDIUMTYPE;
    if (st.st_size < 0 || overflows(offset, size) || offset + size > (uint64_t)st.st_size)
        return -EFBIG;
    return 0;
}

int guest_map_file(int fd, uint64_t offset, uint64_t size, guard_hook *lost, void *arg, struct guest_mapping *out)
{
    uint64_t page = 0, lead, len;
    void *map;
    int rc = check_file(fd, offset, size, &page);

    if (rc)
        return rc;
    lead = offset & (page - 1);
    len = (lead + size + page - 1) & ~(page - 1);
    if (len < size || len > PTRDIFF_MAX)
        return -EINVAL;
    map = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, (off_t)(offset - lead));
    if (map == MAP_FAILED)
        return -errno;
    rc = guard_add(map, len, lost, arg);
    if (rc) {
        munmap(map, len);
        return rc;
    }
    /* A core dump must not hold guests' memory; refusal would not be a reason to fail. */
    (void)madvise(map, len, MADV_DONTDUMP);
    *out = (struct guest_mapping){ map, len, (uint8_t *)map + lead };
    return 0;
}

void guest_unmap_file(const struct guest_mapping *mapping)
{
    guard_del(mapping->map);
    munmap(mapping->map, mapping->len);
}

static void on_loss(void *arg, const void *addr)
{
    const struct guest_region *r = arg;

    atomic_store_explicit(&r->mem->lost, true, memory_order_relaxed);
    r->mem->gone(r->mem->owner, r->gpa + (uint64_t)((const uint8_t *)addr - r->host));
}

/* Insertion sort by gpa of indexes into region[]: n <= 64, and rarely more than 2. */
static void sort_by_gpa(const struct us_mem_region *region, uint32_t n, uint8_t order[US_REGIONS_MAX])
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t at = i;

        for (; at > 0 && region[order[at - 1]].gpa > region[i].gpa; at--)
            order[at] = order[at - 1];
        order[at] = (uint8_t)i;
    }
}

int guest_mem_create(const struct us_mem_region *region, uint32_t n, const int *fds, guest_mem_gone *gone,
                     void *owner, struct guest_mem **out)
{
    uint8_t order[US_REGIONS_MAX];
    struct guest_mem *mem;
    int rc = check_layout(region, n);

    if (rc)
        return rc;
    mem = calloc(1, sizeof(*mem) + n * sizeof(mem->region[0]));
    if (!mem)
        return -ENOMEM;
    mem->gone = gone;
    mem->owner = owner;
    sort_by_gpa(region, n, order);
    for (uint32_t i = 0; i < n; i++) {
        const struct us_mem_region *const from = &region[order[i]];
        struct guest_region *const r = &mem->region[i];
        struct guest_mapping mapping = { 0 };

        r->gpa = from->gpa;
        r->size = from->size;
        r->uva = from->uva;
        r->mem = mem;
        rc = guest_map_file(fds[order[i]], from->mmap_offset, from->size, on_loss, r, &mapping);
        if (rc)
            goto fail;
        r->map = mapping.map;
        r->map_len = mapping.len;
        r->host = mapping.start;
        mem->n = i + 1;
    }
    *out = mem;
    return 0;

fail:
    guest_mem_destroy(mem);
    return rc;
}

void guest_mem_destroy(struct guest_mem *mem)
{
    if (!mem)
        return;
    for (uint32_t i = 0; i < mem->n; i++) {
        const struct guest_region *const r = &mem->region[i];

        guest_unmap_file(&(struct guest_mapping){ r->map, r->map_len, r->host });
    }
    free(mem);
}
