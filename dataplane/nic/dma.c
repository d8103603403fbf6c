/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * dma.c - see dma.h.  Control thread.
 */
#include "nic/dma.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define HUGE_SIZE (2u << 20)
#define ALIGN_MAX 4096

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static void *map(size_t size, int flags)
{
    void *const base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE | flags,
                            -1, 0);

    return base == MAP_FAILED ? NULL : base;
}

int dma_pool_create(struct dma_pool *p, size_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);

    memset(p, 0, sizeof(*p));
    if (size == 0 || size > SIZE_MAX - HUGE_SIZE)
        return -ENOMEM;
    /* Reserved by the kernel when it maps them: none, or enough of them. */
    p->size = round_up(size, HUGE_SIZE);
    p->base = map(p->size, MAP_HUGETLB);
    p->huge = p->base != NULL;
    if (!p->huge) {
        p->size = round_up(size, page);
        p->base = map(p->size, 0);
    }
    if (!p->base) {
        memset(p, 0, sizeof(*p));
        return -ENOMEM;
    }
    /* It holds packets.  Fails nowhere that matters. */
    (void)madvise(p->base, p->size, MADV_DONTDUMP);
    return 0;
}

void dma_pool_destroy(struct dma_pool *p)
{
    if (p->base)
        munmap(p->base, p->size);
    memset(p, 0, sizeof(*p));
}

void *dma_alloc(struct dma_pool *p, size_t size, size_t align)
{
    size_t at;

    if (align == 0 || align > ALIGN_MAX || (align & (align - 1)) != 0)
        return NULL;
    at = round_up(p->used, align);
    if (at > p->size || size > p->size - at)
        return NULL;
    p->used = at + size;
    /* Not new after dma_reset(). */
    return memset(p->base + at, 0, size);
}

void dma_reset(struct dma_pool *p)
{
    p->used = 0;
}
