/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * guest_mem.h - a guest's memory as one port sees it: an immutable table of
 * mapped regions, and translation from the guest's (or its VMM's) addresses to
 * pointers, never without a length.
 *
 * The control thread makes a table whole, publishes it as part of a ring's
 * virtq_map, and destroys it after a grace period.  Workers only read it.
 */
#ifndef USWITCH_GUEST_MEM_H
#define USWITCH_GUEST_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/guard.h"
#include "base/guest.h"
#include "include/uswitch.h"

struct guest_mem;

/**
 * struct guest_mapping - part of a file of the front-end's, mapped and guarded
 * @map: the mapping; begins at or before @start, on a page of the file's size
 * @len: its length
 * @start: where the part begins
 */
struct guest_mapping {
    void *map;
    size_t len;
    uint8_t *start;
};

/**
 * guest_map_file() - check a file that a front-end handed over, map a part of it, guard the mapping
 * @fd: borrowed, not kept
 * @offset: where the part begins
 * @size: bytes, > 0
 * @lost: called when the memory is lost later (base/guard.h)
 * @arg: for @lost
 * @out: the mapping
 *
 * Control thread.  Return: as guest_mem_create().
 */
int guest_map_file(int fd, uint64_t offset, uint64_t size, guard_hook *lost, void *arg, struct guest_mapping *out);

/* Control thread, when no other thread can touch it. */
void guest_unmap_file(const struct guest_mapping *mapping);

/**
 * struct guest_region - one region (immutable)
 * @gpa: guest physical address; gpa + size does not overflow
 * @size: bytes, > 0
 * @host: where @gpa is mapped here
 * @uva: the front-end's address of it; uva + size does not overflow
 * @map: the mapping, which begins at or before @host
 * @map_len: its length
 * @mem: the table it belongs to
 */
struct guest_region {
    uint64_t gpa;
    uint64_t size;
    uint8_t *host;
    uint64_t uva;
    void *map;
    size_t map_len;
    struct guest_mem *mem;
};

/* Told from a signal handler that guest memory at @gpa has gone (see base/guard.h). */
typedef void guest_mem_gone(void *owner, uint64_t gpa);

/**
 * struct guest_mem - the table (immutable, except @gone)
 * @n: regions, >= 1
 * @lost: a region was lost, its contents are empty memory now (writer: signal handler)
 * @gone: hook
 * @owner: for the hook
 * @region: sorted by gpa, disjoint in gpa and in uva
 */
struct guest_mem {
    uint32_t n;
    _Atomic bool lost;
    guest_mem_gone *gone;
    void *owner;
    struct guest_region region[];
};

/**
 * guest_mem_create() - check, map and guard all regions of a table
 * @region: as the front-end described them; nothing in it is trusted
 * @n: 1 .. US_REGIONS_MAX
 * @fds: one a region, borrowed; not kept
 * @gone: called when memory is lost later
 * @owner: for @gone
 * @out: the table
 *
 * Control thread.  Return: 0, -EINVAL (sizes, overlap, alignment, not a regular file), -EBADF (not opened for
 * reading and writing), -EMEDIUMTYPE (not on tmpfs or hugetlbfs), -EFBIG (the file is shorter than the
 * region), or what fstat, mmap and malloc say.
 */
int guest_mem_create(const struct us_mem_region *region, uint32_t n, const int *fds, guest_mem_gone *gone,
                     void *owner, struct guest_mem **out);

/* Unmap everything. Control thread, when no worker can use the table. NULL is legal. */
void guest_mem_destroy(struct guest_mem *mem);

/* The region that holds gpa, or NULL. */
const struct guest_region *guest_mem_find(const struct guest_mem *mem, uint64_t gpa);

/**
 * guest_mem_uva() - translate an address of the front-end
 * @mem: table
 * @uva: address
 * @len: bytes
 *
 * Return: pointer to @len bytes inside one region, or NULL.
 */
void *guest_mem_uva(const struct guest_mem *mem, uint64_t uva, uint64_t len);

/* An address of the front-end as the guest sees it; UINT64_MAX if it lies in no region. Control thread. */
uint64_t guest_mem_gpa(const struct guest_mem *mem, uint64_t uva);

/**
 * guest_mem_span() - translate the start of a guest-physical range
 * @mem: table
 * @hint: region that was hit last; updated (worker's local variable, never NULL)
 * @gpa: address
 * @len: bytes wanted, > 0
 * @span: bytes that follow contiguously at the returned pointer, 1 .. @len
 *
 * A range that crosses into an adjacent region takes one call for each part.
 *
 * Return: pointer, or NULL if @gpa lies in no region.
 */
static inline uint8_t *guest_mem_span(const struct guest_mem *mem, const struct guest_region **hint, uint64_t gpa,
                                      uint64_t len, uint64_t *span)
{
    const struct guest_region *r = *hint;
    uint64_t off = gpa - r->gpa;

    if (__builtin_expect(off >= r->size, 0)) {
        r = guest_mem_find(mem, gpa);
        if (!r)
            return NULL;
        *hint = r;
        off = gpa - r->gpa;
    }
    off = guest_index_nospec(off, r->size);
    *span = len <= r->size - off ? len : r->size - off;
    return r->host + off;
}

/**
 * guest_mem_covers() - does every byte of a range lie in some region?
 * @mem: table
 * @gpa: start
 * @len: bytes, > 0
 */
bool guest_mem_covers(const struct guest_mem *mem, uint64_t gpa, uint64_t len);

/**
 * guest_mem_read() - copy a short range out of guest memory
 * @mem: table
 * @hint: as for guest_mem_span()
 * @dst: private memory
 * @gpa: start; the range may cross regions
 * @len: bytes
 *
 * Return: false if a byte of it lies in no region.
 */
bool guest_mem_read(const struct guest_mem *mem, const struct guest_region **hint, void *dst, uint64_t gpa,
                    uint32_t len);

#endif /* USWITCH_GUEST_MEM_H */
