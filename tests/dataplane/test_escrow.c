/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_escrow.c - entries come back whole and in order, what is refused
 * changes nothing, and no file descriptor is ever lost.
 */
#include "harness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "escrow.h"

static unsigned open_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned n = 0;

    while (readdir(dir))
        n++;
    closedir(dir);
    return n;
}

static int put(struct escrow *e, uint32_t port, uint32_t slot, const char *text, const int *fds, uint32_t n_fds)
{
    const struct us_link_escrow id = {
        .port_id = port, .slot = slot, .blob_len = (uint32_t)strlen(text), .n_fds = n_fds,
    };

    return escrow_put(e, &id, text, fds);
}

static bool same_file(int a, int b)
{
    struct stat sa, sb;

    return fstat(a, &sa) == 0 && fstat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

TEST(put_and_get_in_order)
{
    static const uint32_t ports[] = { 7, US_ANY, 0, 7, US_PORTS_MAX - 1 };
    static const uint32_t slots[] = { 3, 0, 9, 0xfffffffe, 1 };
    static const uint32_t order[] = { 2, 0, 3, 4, 1 };
    struct escrow *e;
    struct escrow_entry entry;
    uint64_t cursor = 0;

    REQUIRE(escrow_create(&e) == 0);
    CHECK_EQ(escrow_get(e, &cursor, &entry), 0);
    for (unsigned i = 0; i < 5; i++)
        CHECK_EQ(put(e, ports[i], slots[i], (char[]){ (char)('a' + i), 0 }, NULL, 0), 0);
    CHECK_EQ(escrow_count(e), 5);
    for (unsigned i = 0; i < 5; i++) {
        REQUIRE(escrow_get(e, &cursor, &entry) == 1);
        CHECK_EQ(entry.id.port_id, ports[order[i]]);
        CHECK_EQ(entry.id.slot, slots[order[i]]);
        CHECK_EQ(entry.id.blob_len, 1);
        CHECK_EQ(*(const char *)entry.blob, 'a' + (int)order[i]);
        CHECK_EQ(cursor == 0, i == 4);
    }
    cursor = UINT64_MAX;
    CHECK_EQ(escrow_get(e, &cursor, &entry), 0);
    CHECK_EQ(cursor, 0);
    escrow_destroy(e);
}

TEST(fds_are_own_duplicates)
{
    const unsigned before = open_fds();
    struct escrow_entry entry;
    struct escrow *e;
    uint64_t cursor = 0;
    int pipes[2];

    REQUIRE(escrow_create(&e) == 0 && pipe(pipes) == 0);
    CHECK_EQ(put(e, 1, 1, "x", pipes, 2), 0);
    CHECK_EQ(open_fds(), before + 4);
    REQUIRE(escrow_get(e, &cursor, &entry) == 1);
    REQUIRE(entry.id.n_fds == 2);
    CHECK(entry.fds[0] != pipes[0] && same_file(entry.fds[0], pipes[0]));
    CHECK(entry.fds[1] != pipes[1] && same_file(entry.fds[1], pipes[1]));
    CHECK_EQ(fcntl(entry.fds[0], F_GETFD), FD_CLOEXEC);
    close(pipes[0]);
    close(pipes[1]);
    escrow_destroy(e);
    CHECK_EQ(open_fds(), before);
}

TEST(put_replaces_and_closes)
{
    const int null = open("/dev/null", O_RDWR), zero = open("/dev/zero", O_RDWR);
    const unsigned before = open_fds();
    struct escrow_entry entry;
    struct escrow *e;
    uint64_t cursor = 0;

    REQUIRE(escrow_create(&e) == 0);
    for (unsigned i = 0; i < 100; i++)
        CHECK_EQ(put(e, 5, 2, "old", (int[]){ null, null, null }, 3), 0);
    CHECK_EQ(put(e, 5, 2, "newer", &zero, 1), 0);
    CHECK_EQ(escrow_count(e), 1);
    CHECK_EQ(open_fds(), before + 1);
    REQUIRE(escrow_get(e, &cursor, &entry) == 1);
    CHECK_EQ(entry.id.blob_len, 5);
    CHECK_MEM(entry.blob, "newer", 5);
    CHECK(same_file(entry.fds[0], zero));
    CHECK_EQ(escrow_drop(e, 5, 2), 1);
    CHECK_EQ(escrow_drop(e, 5, 2), 0);
    CHECK_EQ(open_fds(), before);
    escrow_destroy(e);
    close(null);
    close(zero);
}

TEST(drop_all_of_a_port)
{
    const int null = open("/dev/null", O_RDWR);
    const unsigned before = open_fds();
    struct escrow *e;

    REQUIRE(escrow_create(&e) == 0);
    CHECK_EQ(escrow_drop(e, 3, US_SLOT_ALL), 0);
    for (uint32_t port = 2; port <= 4; port++) {
        for (uint32_t slot = 0; slot < 3; slot++)
            CHECK_EQ(put(e, port, slot, "", &null, 1), 0);
    }
    CHECK_EQ(put(e, US_ANY, 0, "", &null, 1), 0);
    CHECK_EQ(escrow_drop(e, 3, US_SLOT_ALL), 3);
    CHECK_EQ(escrow_count(e), 7);
    CHECK_EQ(escrow_drop(e, US_ANY, US_SLOT_ALL), 1);
    CHECK_EQ(open_fds(), before + 6);
    escrow_destroy(e);
    CHECK_EQ(open_fds(), before);
    close(null);
}

/* The walk a new uswitchd does, while it drops what it has no use for. */
TEST(cursor_survives_changes)
{
    struct escrow_entry entry;
    struct escrow *e;
    uint64_t cursor = 0;
    unsigned seen = 0;

    REQUIRE(escrow_create(&e) == 0);
    for (uint32_t port = 0; port < 200; port++)
        CHECK_EQ(put(e, port, 0, "x", NULL, 0), 0);
    while (seen < 1000 && escrow_get(e, &cursor, &entry) == 1) {
        CHECK_EQ(entry.id.port_id, 2 * seen);
        CHECK(cursor != 0);
        escrow_drop(e, entry.id.port_id, 0);
        escrow_drop(e, 2 * seen + 1, 0);
        seen++;
    }
    CHECK_EQ(seen, 100);
    CHECK_EQ(cursor, 0);
    CHECK_EQ(escrow_count(e), 0);
    escrow_destroy(e);
}

TEST(bad_ids_are_refused)
{
    struct escrow *e;
    struct us_link_escrow id = { .port_id = 1, .slot = 1, .blob_len = US_BLOB_MAX + 1 };

    REQUIRE(escrow_create(&e) == 0);
    CHECK_EQ(put(e, US_PORTS_MAX, 0, "x", NULL, 0), -EINVAL);
    CHECK_EQ(put(e, 0, US_SLOT_ALL, "x", NULL, 0), -EINVAL);
    CHECK_EQ(put(e, US_ANY, US_SLOT_ALL, "x", NULL, 0), -EINVAL);
    CHECK_EQ(escrow_put(e, &id, "", NULL), -E2BIG);
    id = (struct us_link_escrow){ .port_id = 1, .slot = 1, .n_fds = US_LINK_FDS_MAX + 1 };
    CHECK_EQ(escrow_put(e, &id, "", NULL), -E2BIG);
    CHECK_EQ(put(e, 1, 1, "x", (int[]){ 0, -1 }, 2), -EBADF);
    CHECK_EQ(escrow_count(e), 0);
    escrow_destroy(e);
}

TEST(bounds_hold)
{
    static char blob[US_BLOB_MAX];
    struct us_link_escrow id = { .blob_len = US_BLOB_MAX };
    struct escrow *e;
    unsigned kept = 0;

    REQUIRE(escrow_create(&e) == 0);
    for (uint32_t slot = 0; slot < ESCROW_PORT_ENTRIES_MAX; slot++)
        CHECK_EQ(put(e, 9, slot, "x", NULL, 0), 0);
    CHECK_EQ(put(e, 9, 1000, "x", NULL, 0), -ENOSPC);
    CHECK_EQ(put(e, 9, 0, "replaced", NULL, 0), 0);
    for (uint32_t slot = 0; slot < ESCROW_DAEMON_ENTRIES_MAX; slot++)
        CHECK_EQ(put(e, US_ANY, slot, "x", NULL, 0), 0);
    CHECK_EQ(put(e, US_ANY, 1000, "x", NULL, 0), -ENOSPC);
    escrow_drop(e, 9, US_SLOT_ALL);
    escrow_drop(e, US_ANY, US_SLOT_ALL);
    for (id.port_id = 0; id.port_id < US_PORTS_MAX; id.port_id++) {
        for (id.slot = 0; id.slot < ESCROW_PORT_ENTRIES_MAX; id.slot++)
            kept += escrow_put(e, &id, blob, NULL) == 0;
    }
    CHECK_EQ(kept, ESCROW_BYTES_MAX / US_BLOB_MAX);
    /* Full, yet replacing works, and dropping makes room. */
    CHECK_EQ(escrow_put(e, &(struct us_link_escrow){ .blob_len = US_BLOB_MAX }, blob, NULL), 0);
    CHECK_EQ(put(e, 500, 0, "x", NULL, 0), -ENOSPC);
    CHECK_EQ(escrow_drop(e, 0, 0), 1);
    CHECK_EQ(put(e, 500, 0, "x", NULL, 0), 0);
    escrow_destroy(e);
}

/* R1: out of file descriptors in the middle of an entry. */
TEST(out_of_fds_changes_nothing)
{
    const int null = open("/dev/null", O_RDWR);
    const unsigned before = open_fds();
    struct rlimit limit, tight;
    struct escrow_entry entry;
    struct escrow *e;
    uint64_t cursor = 0;

    REQUIRE(escrow_create(&e) == 0 && getrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK_EQ(put(e, 1, 1, "old", &null, 1), 0);
    tight = (struct rlimit){ (rlim_t)null + 3, limit.rlim_max };
    REQUIRE(setrlimit(RLIMIT_NOFILE, &tight) == 0);
    CHECK_EQ(put(e, 1, 1, "new", (int[]){ null, null, null, null }, 4), -EMFILE);
    CHECK_EQ(put(e, 2, 1, "new", (int[]){ null, null, null, null }, 4), -EMFILE);
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    CHECK_EQ(escrow_count(e), 1);
    CHECK_EQ(open_fds(), before + 1);
    REQUIRE(escrow_get(e, &cursor, &entry) == 1);
    CHECK_MEM(entry.blob, "old", 3);
    escrow_destroy(e);
    close(null);
}

MAIN
{
    RUN(put_and_get_in_order);
    RUN(fds_are_own_duplicates);
    RUN(put_replaces_and_closes);
    RUN(drop_all_of_a_port);
    RUN(cursor_survives_changes);
    RUN(bad_ids_are_refused);
    RUN(bounds_hold);
    RUN(out_of_fds_changes_nothing);
    escrow_destroy(NULL);
}
