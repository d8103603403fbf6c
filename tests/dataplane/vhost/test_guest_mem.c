/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_guest_mem.c - memory tables: what is refused, what is mapped, and that
 * translation answers exactly what a plain model of the regions answers.
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/guard.h"
#include "vhost/guest_mem.h"

#define PAGE 4096u

static volatile unsigned gone; /* the handler interrupts */
static volatile uint64_t gone_gpa;

static void on_gone(void *owner, uint64_t gpa)
{
    (void)owner;
    gone++;
    gone_gpa = gpa;
}

static int make_file(uint64_t size)
{
    const int fd = memfd_create("guest", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    return fd >= 0 && ftruncate(fd, (off_t)size) == 0 ? fd : -1;
}

/* Try a table of n regions that share one fd; what is made is destroyed again. */
static int try_table(const struct us_mem_region *r, uint32_t n, int fd)
{
    int fds[US_REGIONS_MAX + 1];
    struct guest_mem *mem = NULL;
    int rc;

    for (unsigned i = 0; i <= US_REGIONS_MAX; i++)
        fds[i] = fd;
    rc = guest_mem_create(r, n, fds, on_gone, NULL, &mem);
    guest_mem_destroy(mem);
    return rc;
}

static int try_one(uint64_t gpa, uint64_t size, uint64_t uva, uint64_t offset, int fd)
{
    const struct us_mem_region r = { gpa, size, uva, offset };

    return try_table(&r, 1, fd);
}

static unsigned entries(const char *dir)
{
    DIR *const d = opendir(dir);
    unsigned n = 0;

    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

static unsigned maps(void)
{
    FILE *const f = fopen("/proc/self/maps", "r");
    unsigned n = 0;
    char line[512];

    while (f && fgets(line, sizeof(line), f))
        n += strstr(line, "memfd:guest") != NULL;
    if (f)
        fclose(f);
    return n;
}

TEST(m3_numbers_at_every_corner)
{
    static const uint64_t corner[] = { 0, 1, 0xfff, 0x1000, 0x10000, 0xffffffff, 0x100000000, INT64_MAX,
                                       1ULL << 63, UINT64_MAX - 0xffff, UINT64_MAX - 0xfff, UINT64_MAX };
    const unsigned n = sizeof(corner) / sizeof(corner[0]), fds = entries("/proc/self/fd");
    const int fd = make_file(0x10000);
    unsigned made = 0;

    for (unsigned a = 0; a < n; a++) {
        for (unsigned b = 0; b < n; b++) {
            for (unsigned c = 0; c < 3; c++) {
                const uint64_t at = corner[a], size = corner[b], gpa = c == 0 ? at : 0, uva = c == 1 ? at : 0;
                const uint64_t offset = c == 2 ? at : 0;
                const bool overflow = at + size < at, fits = size && size <= 0x10000 && offset <= 0x10000 - size;
                const int rc = try_one(gpa, size, uva, offset, fd);

                CHECK_EQ(rc, size == 0 || overflow ? -EINVAL : fits ? 0 : -EFBIG);
                made += rc == 0;
            }
        }
    }
    CHECK(made > 20);
    CHECK_EQ(maps(), 0);
    close(fd);
    CHECK_EQ(entries("/proc/self/fd"), fds);
}

TEST(f5_counts_and_overlaps)
{
    struct us_mem_region r[US_REGIONS_MAX + 1];
    const int fd = make_file(PAGE * (US_REGIONS_MAX + 1));

    for (uint64_t i = 0; i <= US_REGIONS_MAX; i++)
        r[i] = (struct us_mem_region){ i * PAGE, PAGE, 1 << 30 | i * PAGE, i * PAGE };
    CHECK_EQ(try_table(r, 0, fd), -EINVAL);
    CHECK_EQ(try_table(r, US_REGIONS_MAX, fd), 0);
    CHECK_EQ(try_table(r, US_REGIONS_MAX + 1, fd), -EINVAL);
    CHECK_EQ(try_table(r, 0xffffffff, fd), -EINVAL);
    r[1].gpa = PAGE - 1; /* overlaps region 0 by a byte */
    CHECK_EQ(try_table(r, 2, fd), -EINVAL);
    r[1].gpa = 0;
    CHECK_EQ(try_table(r, 2, fd), -EINVAL);
    r[1].gpa = PAGE;
    r[1].uva = r[0].uva + PAGE - 1;
    CHECK_EQ(try_table(r, 2, fd), -EINVAL);
    r[1].uva = r[0].uva - PAGE;
    CHECK_EQ(try_table(r, 2, fd), 0);
    close(fd);
}

TEST(f1_f4_kinds_of_files)
{
    char name[] = "./guest_mem_test_XXXXXX", path[64];
    const int memfd = make_file(PAGE);
    int fd, pair[2];

    CHECK_EQ(try_one(0, PAGE, 0, 0, memfd), 0);
    CHECK_EQ(try_one(0, PAGE, 0, 0, -1), -EBADF);
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK_EQ(try_one(0, PAGE, 0, 0, pair[0]), -EMEDIUMTYPE);
    close(pair[0]);
    close(pair[1]);
    REQUIRE(pipe(pair) == 0);
    CHECK(try_one(0, PAGE, 0, 0, pair[0]) < 0);
    CHECK(try_one(0, PAGE, 0, 0, pair[1]) < 0);
    close(pair[0]);
    close(pair[1]);
    fd = open("/dev/zero", O_RDWR);
    CHECK_EQ(try_one(0, PAGE, 0, 0, fd), -EMEDIUMTYPE);
    close(fd);
    fd = open("/dev/shm", O_RDONLY | O_DIRECTORY);
    CHECK(fd < 0 || try_one(0, PAGE, 0, 0, fd) == -EBADF);
    close(fd);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", memfd);
    for (unsigned i = 0; i < 3; i++) {
        fd = open(path, i == 0 ? O_RDONLY : i == 1 ? O_WRONLY : O_PATH);
        CHECK_EQ(try_one(0, PAGE, 0, 0, fd), -EBADF);
        close(fd);
    }
    fd = mkstemp(name); /* an ordinary file system, unless the build directory is on tmpfs */
    REQUIRE(fd >= 0);
    unlink(name);
    CHECK_EQ(ftruncate(fd, PAGE), 0);
    CHECK_EQ(try_one(0, PAGE, 0, 0, fd), fcntl(fd, F_GET_SEALS) < 0 ? -EMEDIUMTYPE : 0);
    close(fd);
    CHECK_EQ(fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE), 0);
    CHECK_EQ(try_one(0, PAGE, 0, 0, memfd), -EPERM);
    close(memfd);
}

/* M6: the second region cannot be mapped; the first one's mapping must not stay. */
TEST(m6_failed_mmap_leaves_nothing)
{
    const struct us_mem_region r[2] = { { 0, PAGE, 0, 0 }, { 1ULL << 40, 1ULL << 46, 1ULL << 50, 0 } };
    const int fds[2] = { make_file(PAGE), make_file(1ULL << 46) };
    const unsigned n = entries("/proc/self/fd");
    const struct rlimit small = { 1ULL << 46, RLIM_INFINITY };
    struct rlimit before;
    struct guest_mem *mem = NULL;

    getrlimit(RLIMIT_AS, &before);
    setrlimit(RLIMIT_AS, &small);
    CHECK_EQ(guest_mem_create(r, 2, fds, on_gone, NULL, &mem), -ENOMEM);
    setrlimit(RLIMIT_AS, &before);
    CHECK(mem == NULL);
    CHECK_EQ(maps(), 0);
    CHECK_EQ(entries("/proc/self/fd"), n);
    close(fds[0]);
    close(fds[1]);
}

/* Offsets are honoured to the byte, whatever the page size; and the fds are not kept. */
TEST(offsets_inside_a_page)
{
    const int fd = make_file(4 * PAGE);
    const unsigned n = entries("/proc/self/fd");
    const struct us_mem_region r[2] = { { 0x5000, 100, 0x900000, 777 }, { 0x1000, PAGE, 0x100000, PAGE + 1 } };
    const int fds[2] = { fd, fd };
    const struct guest_region *hint;
    struct guest_mem *mem = NULL;
    uint64_t span;
    uint8_t byte;

    REQUIRE(guest_mem_create(r, 2, fds, on_gone, NULL, &mem) == 0);
    CHECK_EQ(entries("/proc/self/fd"), n);
    CHECK_EQ(mem->region[0].gpa, 0x1000); /* sorted */
    hint = &mem->region[0];
    *guest_mem_span(mem, &hint, 0x5000 + 99, 1, &span) = 0xab;
    CHECK_EQ(pread(fd, &byte, 1, 777 + 99), 1);
    CHECK_EQ(byte, 0xab);
    *guest_mem_span(mem, &hint, 0x1fff, 1, &span) = 0xcd;
    CHECK_EQ(pread(fd, &byte, 1, PAGE + 1 + 0xfff), 1);
    CHECK_EQ(byte, 0xcd);
    CHECK(guest_mem_uva(mem, 0x900000, 100) == guest_mem_find(mem, 0x5000)->host);
    CHECK(guest_mem_uva(mem, 0x900000, 101) == NULL);
    CHECK(guest_mem_uva(mem, 0x900064, 0) == NULL);
    CHECK(guest_mem_uva(mem, 0x900001, UINT64_MAX) == NULL);
    guest_mem_destroy(mem);
    close(fd);
}

/* G1 in general: random ranges against a model that knows the regions byte by byte. */
TEST(g1_translation_against_a_model)
{
    static const struct us_mem_region r[4] = {
        { 0x10000, 0x3000, 0x500000, 0x8000 }, { 0x13000, 0x1001, 0x400000, 0x1000 },
        { 0x14001, 0x0fff, 0x300000, 0x3001 }, { 0x20000, 0x1000, 0x200000, 0x0000 },
    };
    const int fd = make_file(0x10000), fds[4] = { fd, fd, fd, fd };
    const struct guest_region *hint;
    struct guest_mem *mem = NULL;
    uint8_t *file;
    uint64_t rnd = 88172645463325252ULL;

    file = mmap(NULL, 0x10000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    REQUIRE(guest_mem_create(r, 4, fds, on_gone, NULL, &mem) == 0);
    for (unsigned i = 0; i < 0x10000; i++)
        file[i] = (uint8_t)(i * 7 + (i >> 8));
    hint = &mem->region[0];
    for (unsigned round = 0; round < 200000; round++) {
        uint8_t out[64];
        uint64_t gpa;
        uint32_t len, legal = 0;
        bool equal = true, ok;

        rnd ^= rnd << 13, rnd ^= rnd >> 7, rnd ^= rnd << 17;
        gpa = 0xfff0 + (rnd >> 20) % 0x11040;
        len = 1 + (uint32_t)(rnd % sizeof(out));
        ok = guest_mem_read(mem, &hint, out, gpa, len);
        for (; legal < len; legal++) {
            unsigned k = 0;

            while (k < 4 && gpa + legal - r[k].gpa >= r[k].size)
                k++;
            if (k == 4)
                break;
            equal &= !ok || out[legal] == file[gpa + legal - r[k].gpa + r[k].mmap_offset];
        }
        if (ok != (legal == len) || !equal || guest_mem_covers(mem, gpa, len) != ok) {
            CHECK(!"translation differs");
            break;
        }
    }
    guest_mem_destroy(mem);
    munmap(file, 0x10000);
    close(fd);
}

TEST(f2_file_truncated_later)
{
    const int fd = make_file(16 * PAGE);
    const struct us_mem_region r = { 0x100000, 15 * PAGE, 0, PAGE };
    struct guest_mem *mem = NULL;

    gone = 0;
    REQUIRE(guest_mem_create(&r, 1, &fd, on_gone, NULL, &mem) == 0);
    CHECK(!mem->lost);
    CHECK_EQ(ftruncate(fd, 0), 0);
    *(volatile uint8_t *)(mem->region[0].host + 3 * PAGE + 5) = 1;
    CHECK_EQ(gone, 1);
    CHECK_EQ(gone_gpa, 0x100000 + 3 * PAGE + 5);
    CHECK(mem->lost);
    guest_mem_destroy(mem);
    CHECK_EQ(maps(), 0);
    close(fd);
}

/* hugetlbfs: regions that neither begin nor end at a huge page are mapped by whole ones. */
TEST(huge_pages)
{
    const uint64_t huge = 2u << 20;
    const int fd = memfd_create("guest", MFD_CLOEXEC | MFD_HUGETLB | 21u << MAP_HUGE_SHIFT);
    const struct us_mem_region r = { 0, huge, 0, 0xc0000 };
    struct guest_mem *mem = NULL;

    if (fd < 0 || ftruncate(fd, (off_t)(2 * huge))) {
        printf("huge_pages: not available here (%s), nothing tested\n", strerror(errno));
        close(fd);
        return;
    }
    gone = 0;
    REQUIRE(guest_mem_create(&r, 1, &fd, on_gone, NULL, &mem) == 0);
    CHECK_EQ(mem->region[0].map_len, 2 * huge);
    /* Either the kernel has a huge page for us, or we lose the region and stay alive. */
    *(volatile uint8_t *)mem->region[0].host = 1;
    CHECK_EQ(*mem->region[0].host, 1);
    CHECK(gone <= 1);
    guest_mem_destroy(mem);
    close(fd);
}

MAIN
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    const bool own_space = false; /* the sanitizers need the address space themselves */
#else
    const bool own_space = true;
#endif

    CHECK_EQ(guard_install(), 0);
    RUN(m3_numbers_at_every_corner);
    RUN(f5_counts_and_overlaps);
    RUN(f1_f4_kinds_of_files);
    if (own_space)
        RUN(m6_failed_mmap_leaves_nothing);
    RUN(offsets_inside_a_page);
    RUN(g1_translation_against_a_model);
    RUN(f2_file_truncated_later);
    RUN(huge_pages);
}
