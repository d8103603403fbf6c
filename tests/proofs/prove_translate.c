/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * Translation: from any address of a guest, or of its VMM, to a pointer.
 *
 * Proven, for every address, every length, and every table of up to REGIONS
 * disjoint regions of any size and place:
 *   - guest_mem_find() returns the region that holds the address, and NULL
 *     only if none does;
 *   - guest_mem_span(), whatever the hint, returns a pointer behind which so
 *     many bytes as it says lie in the mapping of one region, at least one
 *     and at most those asked for, at the address asked for;
 *   - guest_mem_uva() returns a pointer with all bytes asked for in one
 *     mapping, and NULL only if no region holds them.
 *
 * Assumed: what guest_mem_create() checks (tests/dataplane/vhost/
 * test_guest_mem.c): regions sorted, disjoint, not empty, no 64-bit overflow.
 * Bound: REGIONS; the search is a binary one, so every shape of its steps
 * occurs with few.
 *
 * CBMC: --unwind 6 --unwinding-assertions
 * DEEP: --unwind 9 --unwinding-assertions -DREGIONS=6
 *
 * BUG span_not_cut vhost/guest_mem.h
 *   - *span = len <= r->size - off ? len : r->size - off;
 *   + *span = len;
 *   ! the span lies in the mapping
 * BUG find_one_past vhost/guest_mem.c
 *   - gpa - mem->region[low - 1].gpa >= mem->region[low - 1].size
 *   + gpa - mem->region[low - 1].gpa > mem->region[low - 1].size
 *   ! the region found holds the address
 * BUG uva_first_byte_only vhost/guest_mem.c
 *   - if (off < r->size && len <= r->size - off)
 *   + if (off < r->size)
 *   ! all bytes lie in the mapping
 * BUG uva_sum_wraps vhost/guest_mem.c
 *   - if (off < r->size && len <= r->size - off)
 *   + if (off + len <= r->size)
 *   ! W_OK(p, len)
 */
#include "proof.h"

#include "vhost/guest_mem.c"

#ifndef REGIONS
#define REGIONS 3
#endif

static struct guest_mem *any_table(void)
{
    struct guest_mem *const mem = any_bytes(sizeof(*mem) + REGIONS * sizeof(mem->region[0]));

    ASSUME(mem->n >= 1 && mem->n <= REGIONS);
    for (uint32_t i = 0; i < REGIONS; i++) {
        struct guest_region *const r = &mem->region[i];

        ASSUME(r->size >= 1 && r->size <= MAPPING_MAX);
        ASSUME(r->gpa <= UINT64_MAX - r->size && r->uva <= UINT64_MAX - r->size);
        ASSUME(i == 0 || (r->gpa > r[-1].gpa && r->gpa - r[-1].gpa >= r[-1].size));
        for (uint32_t j = 0; j < i; j++) {
            const struct guest_region *const o = &mem->region[j];

            ASSUME(r->uva < o->uva ? o->uva - r->uva >= r->size : r->uva - o->uva >= o->size);
        }
        r->host = any_bytes(r->size);
    }
    return mem;
}

static bool holds_gpa(const struct guest_region *r, uint64_t gpa)
{
    return gpa >= r->gpa && gpa - r->gpa < r->size;
}

static void find(const struct guest_mem *mem)
{
    const uint64_t gpa = nondet_u64();
    const struct guest_region *const r = guest_mem_find(mem, gpa);
    const uint32_t other = nondet_u32();

    ASSUME(other < mem->n);
    if (r) {
        CLAIM(r >= mem->region && r < mem->region + mem->n, "the region found is one of the table");
        CLAIM(holds_gpa(r, gpa), "the region found holds the address");
    } else {
        CLAIM(!holds_gpa(&mem->region[other], gpa), "NULL only if no region holds the address");
    }
}

static void span(const struct guest_mem *mem)
{
    const uint64_t gpa = nondet_u64(), len = nondet_u64();
    const uint32_t hinted = nondet_u32(), other = nondet_u32();
    const struct guest_region *hint;
    uint64_t got;
    uint8_t *p;

    ASSUME(hinted < mem->n && other < mem->n && len > 0);
    hint = &mem->region[hinted];
    p = guest_mem_span(mem, &hint, gpa, len, &got);
    if (p) {
        CLAIM(holds_gpa(hint, gpa), "the new hint holds the address");
        CLAIM(got >= 1 && got <= len, "the span has one byte at least, and not more than asked for");
        CLAIM(__CPROVER_w_ok(p, got), "the span lies in the mapping");
        CLAIM(p == hint->host + (gpa - hint->gpa), "the pointer is the address's");
    } else {
        CLAIM(!holds_gpa(&mem->region[other], gpa), "no pointer only if no region holds the address");
    }
}

static void uva(const struct guest_mem *mem)
{
    const uint64_t at = nondet_u64(), len = nondet_u64();
    const uint32_t other = nondet_u32();
    void *const p = guest_mem_uva(mem, at, len);

    ASSUME(other < mem->n);
    if (p) {
        CLAIM(__CPROVER_w_ok(p, len), "all bytes lie in the mapping");
    } else {
        const struct guest_region *const r = &mem->region[other];

        CLAIM(!(at >= r->uva && at - r->uva < r->size && len <= r->size - (at - r->uva)),
              "NULL only if no region holds all bytes");
    }
}

int main(void)
{
    const struct guest_mem *const mem = any_table();

    find(mem);
    span(mem);
    uva(mem);
    return 0;
}
