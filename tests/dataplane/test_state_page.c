/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_state_page.c - what is made can be mapped, and nothing else can:
 * a page from outside is checked like a peer's message.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "drop.h"
#include "state_page.h"

#define SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

/* A memfd that could be a state page, but for what the test changes. */
static int forged(off_t size, int seals, uint32_t magic, uint32_t version, uint32_t port_id)
{
    const struct us_state_page head = { .magic = magic, .version = version, .port_id = port_id };
    const int fd = memfd_create("forged", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    if (ftruncate(fd, size) != 0 || pwrite(fd, &head, 64, 0) != 64 || (seals && fcntl(fd, F_ADD_SEALS, seals) != 0))
        abort();
    return fd;
}

static int map_and_close(int fd)
{
    struct us_state_page *page = NULL;
    const int rc = state_page_map(fd, &page);

    CHECK_EQ(rc == 0, page != NULL);
    state_page_unmap(page);
    close(fd);
    return rc;
}

TEST(made_is_sealed_and_mapped)
{
    struct us_state_page *page = NULL;
    const int fd = state_page_make(17);
    struct stat st;

    REQUIRE(fd >= 0);
    CHECK_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    CHECK(fstat(fd, &st) == 0 && st.st_size == US_STATE_PAGE_SIZE);
    CHECK_EQ(fcntl(fd, F_GET_SEALS), SEALS | F_SEAL_SEAL);
    CHECK_EQ(ftruncate(fd, 0), -1);
    CHECK_EQ(ftruncate(fd, 1 << 20), -1);
    REQUIRE(state_page_map(fd, &page) == 0);
    CHECK_EQ(page->magic, US_STATE_MAGIC);
    CHECK_EQ(page->version, US_ABI_VERSION);
    CHECK_EQ(page->port_id, 17);
    state_page_unmap(page);
    close(fd);
    CHECK_EQ(state_page_make(US_PORTS_MAX), -EINVAL);
}

TEST(takeover_keeps_counters_and_lifts_the_fence)
{
    struct us_state_page *page = NULL;
    const int fd = state_page_make(1);

    REQUIRE(state_page_map(fd, &page) == 0);
    page->in[7].frames = 42;
    page->ring[15].last_avail = 65535;
    page->ring[15].active = 1;
    page->broken = BREAK_avail_head;
    page->broken_ring = 3;
    page->broken_detail = 99;
    page->session_busy = 1;
    state_page_unmap(page);
    REQUIRE(state_page_map(fd, &page) == 0);
    CHECK_EQ(page->in[7].frames, 42);
    CHECK_EQ(page->ring[15].last_avail, 65535);
    CHECK_EQ(page->ring[15].active, 1);
    CHECK_EQ(page->session_busy, 1);
    CHECK_EQ(page->broken, 0);
    CHECK_EQ(page->broken_ring, 0);
    CHECK_EQ(page->broken_detail, 0);
    state_page_unmap(page);
    close(fd);
}

TEST(forgeries_are_refused)
{
    const uint32_t magic = US_STATE_MAGIC, version = US_ABI_VERSION;
    const int size = US_STATE_PAGE_SIZE;

    CHECK_EQ(map_and_close(forged(size, SEALS, magic, version, 0)), 0);
    CHECK_EQ(map_and_close(forged(size, 0, magic, version, 0)), -EINVAL);
    CHECK_EQ(map_and_close(forged(size, F_SEAL_GROW, magic, version, 0)), -EINVAL);
    CHECK_EQ(map_and_close(forged(size - 1, SEALS, magic, version, 0)), -EINVAL);
    CHECK_EQ(map_and_close(forged(size + 4096, SEALS, magic, version, 0)), -EINVAL);
    CHECK_EQ(map_and_close(forged(size, SEALS, magic + 1, version, 0)), -EINVAL);
    CHECK_EQ(map_and_close(forged(size, SEALS, magic, version + 1, 0)), -EINVAL);
    CHECK_EQ(map_and_close(forged(size, SEALS, magic, version, US_PORTS_MAX)), -EINVAL);
    CHECK_EQ(map_and_close(forged(size, SEALS | F_SEAL_WRITE, magic, version, 0)), -EPERM);
}

TEST(other_files_are_refused)
{
    char name[] = "/tmp/uswitch-test-XXXXXX";
    struct us_state_page *page = NULL;
    int pipes[2];

    CHECK_EQ(state_page_map(-1, &page), -EBADF);
    REQUIRE(pipe(pipes) == 0);
    close(pipes[1]);
    CHECK_EQ(map_and_close(pipes[0]), -EINVAL);
    CHECK_EQ(map_and_close(open("/dev/zero", O_RDWR)), -EINVAL);
    CHECK_EQ(map_and_close(open("/tmp", O_RDONLY | O_DIRECTORY)), -EINVAL);
    pipes[0] = mkstemp(name);
    unlink(name);
    REQUIRE(ftruncate(pipes[0], US_STATE_PAGE_SIZE) == 0);
    CHECK_EQ(map_and_close(pipes[0]), -EINVAL);
}

TEST(read_only_fd_is_refused)
{
    const int fd = state_page_make(2);
    char path[64];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    CHECK_EQ(map_and_close(open(path, O_RDONLY)), -EACCES);
    close(fd);
}

TEST(switch_page_is_read_only_for_others)
{
    struct us_switch_page *page = NULL;
    const int fd = switch_page_make(3, &page);
    void *other;

    REQUIRE(fd >= 0);
    CHECK_EQ(page->magic, US_SWITCH_MAGIC);
    CHECK_EQ(page->version, US_ABI_VERSION);
    CHECK_EQ(page->pid, getpid());
    CHECK_EQ(page->n_workers, 3);
    CHECK(page->started_ns > 0);
    CHECK(mmap(NULL, US_SWITCH_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) == MAP_FAILED);
    other = mmap(NULL, US_SWITCH_PAGE_SIZE, PROT_READ, MAP_SHARED, fd, 0);
    REQUIRE(other != MAP_FAILED);
    page->fdb_entries = 5;
    CHECK_EQ(((const struct us_switch_page *)other)->fdb_entries, 5);
    munmap(other, US_SWITCH_PAGE_SIZE);
    switch_page_unmap(page);
    close(fd);
}

MAIN
{
    RUN(made_is_sealed_and_mapped);
    RUN(takeover_keeps_counters_and_lifts_the_fence);
    RUN(forgeries_are_refused);
    RUN(other_files_are_refused);
    RUN(read_only_fd_is_refused);
    RUN(switch_page_is_read_only_for_others);
    state_page_unmap(NULL);
    switch_page_unmap(NULL);
}
