/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_mem.c - any table of guest memory, and any address looked up in it.
 *
 * Claimed:
 *   - guest_mem_create() takes only tables whose regions are not empty, do not
 *     overlap and do not run over the end of a number or of their file;
 *   - each translation agrees with a search through all regions, to the byte
 *     of the file; what it says is contiguous can be read and written.
 *
 * The pages around each mapping cannot be touched (fuzz_mmap.c).
 *
 * BUG overlap_not_seen vhost/guest_mem.c
 *   - return a < b ? b - a < a_size : a - b < b_size;
 *   + return a < b ? b - a < a_size : a - b + 1 < b_size;
 *   ! not true
 */
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/guard.h"
#include "fuzz_guest.h"
#include "vhost/guest_mem.h"

#define FILE_SIZE 0x5000u
#define REGIONS 8u
#define LOOKUPS 16u

static int memfd, other_fd;
static uint8_t *file;
static struct us_mem_region region[REGIONS];
static uint32_t n_regions;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void gone(void *owner, uint64_t gpa)
{
    (void)owner;
    (void)gpa;
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    int pipes[2];

    (void)argc;
    (void)argv;
    MUST(guard_install() == 0);
    memfd = memfd_create("guest", MFD_CLOEXEC);
    MUST(memfd >= 0 && ftruncate(memfd, FILE_SIZE) == 0 && pipe(pipes) == 0);
    other_fd = pipes[1];
    file = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
    MUST(file != MAP_FAILED);
    for (uint32_t i = 0; i < FILE_SIZE; i++)
        file[i] = (uint8_t)(i * 7 + (i >> 8));
    return 0;
}

/* Small numbers mostly, so that regions meet; the highest ones if the fuzzer wants. */
static uint64_t number(struct input *in, uint32_t range)
{
    const uint8_t kind = in8(in);
    const uint64_t v = in16(in) % range;

    return kind < 0xf0 ? v : kind < 0xf8 ? UINT64_MAX - v : (uint64_t)in32(in) << 32 | in32(in);
}

/* What guest_mem.h promises of a table that was taken. */
static void check_taken(void)
{
    MUST(n_regions >= 1);
    for (uint32_t i = 0; i < n_regions; i++) {
        const struct us_mem_region *const r = &region[i];

        MUST(r->size > 0 && r->size <= UINT64_MAX - r->gpa && r->size <= UINT64_MAX - r->uva);
        MUST(r->mmap_offset <= FILE_SIZE && r->size <= FILE_SIZE - r->mmap_offset);
        for (uint32_t j = 0; j < i; j++) {
            const struct us_mem_region *const o = &region[j];

            MUST(r->gpa + r->size <= o->gpa || o->gpa + o->size <= r->gpa);
            MUST(r->uva + r->size <= o->uva || o->uva + o->size <= r->uva);
        }
    }
}

/* Slow and plain: the region with the address, and how far into it. */
static const struct us_mem_region *look(uint64_t address, bool uva, uint64_t *off)
{
    for (uint32_t i = 0; i < n_regions; i++) {
        *off = address - (uva ? region[i].uva : region[i].gpa);
        if (*off < region[i].size)
            return &region[i];
    }
    return NULL;
}

static void touch(uint8_t *p, uint64_t n, uint64_t offset)
{
    MUST(memcmp(p, file + offset, n) == 0);
    for (uint64_t i = 0; i < n; i++)
        ((volatile uint8_t *)p)[i] = p[i];
}

static void check_read(const struct guest_mem *mem, const struct guest_region *hint, uint64_t gpa, uint32_t len)
{
    uint8_t got[64], want[64];
    uint64_t off;
    uint32_t n = 0;

    for (const struct us_mem_region *r; n < len && (r = look(gpa + n, false, &off)); n++)
        want[n] = file[r->mmap_offset + off];
    MUST(guest_mem_read(mem, &hint, got, gpa, len) == (n == len));
    MUST(n < len || memcmp(got, want, len) == 0);
    MUST(len == 0 || guest_mem_covers(mem, gpa, len) == (n == len));
}

static void look_up(const struct guest_mem *mem, struct input *in)
{
    const uint64_t gpa = number(in, 0x8000), uva = number(in, 0x8000), len = number(in, 0x2000);
    const struct guest_region *hint = &mem->region[in8(in) % mem->n];
    const struct us_mem_region *r;
    uint64_t off, span;
    uint8_t *p;

    check_read(mem, hint, gpa, in8(in) % 64);
    r = look(uva, true, &off);
    p = guest_mem_uva(mem, uva, len);
    MUST((p != NULL) == (r && len <= r->size - off));
    if (p)
        touch(p, len, r->mmap_offset + off);
    if (len == 0)
        return;
    r = look(gpa, false, &off);
    p = guest_mem_span(mem, &hint, gpa, len, &span);
    MUST((p != NULL) == (r != NULL));
    if (p) {
        MUST(span == (len < r->size - off ? len : r->size - off));
        touch(p, span, r->mmap_offset + off);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };
    struct guest_mem *mem = NULL;
    int fds[REGIONS];

    n_regions = in8(&in) % (REGIONS + 1);
    for (uint32_t i = 0; i < n_regions; i++) {
        region[i] = (struct us_mem_region){ .gpa = number(&in, 0x6000), .uva = number(&in, 0x6000) };
        region[i].size = number(&in, 0x3000);
        region[i].mmap_offset = number(&in, FILE_SIZE);
        fds[i] = in8(&in) == 0xff ? other_fd : memfd;
    }
    if (guest_mem_create(region, n_regions, fds, gone, NULL, &mem))
        return 0;
    check_taken();
    for (unsigned i = 0; i < LOOKUPS && (i == 0 || in.left); i++)
        look_up(mem, &in);
    guest_mem_destroy(mem);
    return 0;
}
