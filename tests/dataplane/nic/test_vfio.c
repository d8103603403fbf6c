/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_vfio.c - what can be tested of VFIO without a device: where the pool
 * goes, capabilities in answers, file descriptors that are something else.
 * The rest is proven in a machine with an IOMMU (tests/vfio).
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/vfio_abi.h"
#include "nic/vfio.h"

#define MIB (1ull << 20)
#define ALIGN (2 * MIB)

TEST(where_the_pool_goes)
{
    /* What an Intel IOMMU says: a hole for message interrupts. */
    const struct vfio_range usual[] = { { 0, 0xfedfffff }, { 0xfef00000, (1ull << 39) - 1 } };
    const struct vfio_range narrow[] = {
        { 3 * MIB, 5 * MIB - 2 }, { 1ull << 40, UINT64_MAX }, { 9 * MIB, 12 * MIB - 1 },
    };
    const struct vfio_range odd[] = { { UINT64_MAX - 1, UINT64_MAX }, { 5, 4 } };

    CHECK_EQ(vfio_pick_iova(usual, 2, 16 * MIB, ALIGN), 2 * MIB);
    CHECK_EQ(vfio_pick_iova(usual, 2, 0xfee00000, ALIGN), 0xff000000);
    CHECK(vfio_pick_iova(usual, 2, 1ull << 39, ALIGN) == UINT64_MAX);
    CHECK_EQ(vfio_pick_iova(narrow, 3, MIB, ALIGN), 10 * MIB);
    CHECK_EQ(vfio_pick_iova(narrow, 3, MIB - 1, ALIGN), 4 * MIB);
    CHECK_EQ(vfio_pick_iova(narrow, 3, 2 * MIB, ALIGN), 10 * MIB);
    CHECK_EQ(vfio_pick_iova(narrow, 3, 3 * MIB, ALIGN), 1ll << 40);
    CHECK(vfio_pick_iova(odd, 2, 4096, ALIGN) == UINT64_MAX);
    CHECK(vfio_pick_iova(NULL, 0, 4096, ALIGN) == UINT64_MAX);
}

TEST(capabilities_of_an_answer)
{
    union {
        uint32_t word[16];
        struct vfio_info_cap_header cap[8];
    } a = { { 0 } };

    a.cap[2] = (struct vfio_info_cap_header){ .id = 1, .next = 32 };
    a.cap[4] = (struct vfio_info_cap_header){ .id = 3, .next = 0 };
    CHECK(vfio_find_cap(&a, 64, 16, 1, 8) == &a.cap[2]);
    CHECK(vfio_find_cap(&a, 64, 16, 3, 8) == &a.cap[4]);
    CHECK(vfio_find_cap(&a, 64, 16, 3, 32) == &a.cap[4]);
    CHECK(!vfio_find_cap(&a, 64, 16, 3, 33));
    CHECK(!vfio_find_cap(&a, 64, 16, 2, 8));
    CHECK(!vfio_find_cap(&a, 64, 0, 1, 8));
    CHECK(!vfio_find_cap(&a, 64, 60, 1, 8));
    CHECK(!vfio_find_cap(&a, 64, 68, 1, 8));
    CHECK(!vfio_find_cap(&a, 64, 18, 1, 8));
    CHECK(!vfio_find_cap(&a, 36, 16, 3, 8));
    a.cap[4].next = 16;         /* a loop */
    CHECK(!vfio_find_cap(&a, 64, 16, 2, 8));
}

static unsigned open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

/* Guests' memory: the lowest place beside the pool and each other, also in a gap, also in another range. */
TEST(where_guests_go)
{
    const struct vfio_range range[2] = { { 0, 0xfedfffff }, { 0xfef00000, 0x1ffffffff } };
    const struct dma_pool pool = { .iova = 2 << 20, .size = 3 << 20 };
    struct {
        struct dma_guests g;
        struct dma_region room[2];
    } used = { .g = { .n = 2 } };
    struct dma_region *const r = used.g.region;

    CHECK_EQ(vfio_pick_guest_iova(range, 2, &pool, NULL, 1 << 20), 6 << 20);
    r[0] = (struct dma_region){ .iova = 6 << 20, .size = 1 << 30 };
    r[1] = (struct dma_region){ .iova = 0x40800000, .size = 2 << 20 };
    CHECK_EQ(vfio_pick_guest_iova(range, 2, &pool, &used.g, 2 << 20), 0x40600000);
    CHECK_EQ(vfio_pick_guest_iova(range, 2, &pool, &used.g, 3 << 20), 0x40a00000);
    CHECK_EQ(vfio_pick_guest_iova(range, 2, &pool, &used.g, 3ull << 30), 0xff000000);
    CHECK_EQ(vfio_pick_guest_iova(range, 2, &pool, &used.g, 8ull << 30), UINT64_MAX);
    CHECK_EQ(vfio_pick_guest_iova(range, 1, &pool, &used.g, 3ull << 30), UINT64_MAX);
}

TEST(something_else)
{
    int fds[8], n = 0, pair[2];
    unsigned before;

    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    fds[n++] = pair[0];
    fds[n++] = pair[1];
    fds[n++] = open("/dev/null", O_RDWR | O_CLOEXEC);
    fds[n++] = open("/", O_PATH | O_CLOEXEC);
    fds[n++] = memfd_create("device", MFD_CLOEXEC);
    fds[n++] = eventfd(0, EFD_CLOEXEC);
    fds[n++] = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    fds[n++] = -1;
    before = open_fds();
    for (int i = 0; i < n; i++) {
        for (int j = 0; j < n; j++) {
            struct nic_device *d = NULL;
            const int want = fds[i] < 0 || fds[j] < 0 ? -EBADF : -EINVAL;

            CHECK_EQ(vfio_open(fds[i], fds[j], false, &d), want);
            CHECK_EQ(vfio_open(fds[i], fds[j], true, &d), want);
        }
    }
    CHECK_EQ(open_fds(), before);
    for (int i = 0; i < n; i++) {
        if (fds[i] >= 0)
            close(fds[i]);
    }
}

MAIN
{
    RUN(where_the_pool_goes);
    RUN(capabilities_of_an_answer);
    RUN(where_guests_go);
    RUN(something_else);
}
