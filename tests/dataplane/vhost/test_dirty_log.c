/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_dirty_log.c - the bits that a range sets, at and past every border, and
 * logs that must not pass as one.  L6, M3.
 */
#include "harness.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/guard.h"
#include "vhost/dirty_log.h"

#define PAGE 4096ULL
#define FILE_SIZE (2 * PAGE)
#define OFFSET 128              /* of the log in its file; canaries before and behind */
#define SIZE 512                /* bytes: 4096 pages, 16 MiB */
#define END (SIZE * 8 * PAGE)   /* first gpa without a bit */
#define CANARY 0xa5

static int file;
static uint8_t *bytes;
static struct dirty_log *dlog;
static unsigned lost;

static void on_gone(void *owner, uint64_t offset)
{
    (void)owner;
    (void)offset;
    lost++;
}

static void begin(void)
{
    const struct us_vhost_log request = { .on = 1, .size = SIZE, .offset = OFFSET, .used = 1u << 3 | 1u << 15,
                                          .used_gpa = { [3] = 5 * PAGE - 2, [15] = UINT64_MAX - 1 } };

    guard_install();
    file = memfd_create("log", MFD_CLOEXEC);
    if (ftruncate(file, FILE_SIZE) != 0)
        abort();
    bytes = mmap(NULL, FILE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    memset(bytes, CANARY, FILE_SIZE);
    memset(bytes + OFFSET, 0, SIZE);
    lost = 0;
    CHECK_EQ(dirty_log_create(&request, file, on_gone, NULL, &dlog), 0);
}

static void end(void)
{
    for (unsigned i = 0; i < FILE_SIZE && (i >= OFFSET || CHECK_EQ(bytes[i], CANARY)); i++)
        ;
    for (unsigned i = OFFSET + SIZE; i < FILE_SIZE && CHECK_EQ(bytes[i], CANARY); i++)
        ;
    dirty_log_destroy(dlog);
    munmap(bytes, FILE_SIZE);
    close(file);
}

static bool dirty(uint64_t page)
{
    return bytes[OFFSET + page / 8] >> page % 8 & 1;
}

/* Exactly the pages from first on are set, n of them; cleared for the next question. */
static bool only(uint64_t first, uint64_t n)
{
    bool ok = true;

    for (uint64_t page = 0; page < SIZE * 8; page++)
        ok = ok && dirty(page) == (page >= first && page - first < n);
    memset(bytes + OFFSET, 0, SIZE);
    return ok;
}

TEST(ranges)
{
    static const struct { uint64_t gpa, len, first, n; } row[] = {
        { 0, 0, 0, 0 },
        { 0, 1, 0, 1 },
        { PAGE - 1, 1, 0, 1 },
        { PAGE - 1, 2, 0, 2 },
        { PAGE, PAGE, 1, 1 },
        { PAGE, PAGE + 1, 1, 2 },
        { 7 * PAGE, 2 * PAGE, 7, 2 },       /* over the border of a byte */
        { 100, 64 * PAGE, 0, 65 },
        { END - 1, 1, SIZE * 8 - 1, 1 },
        { END - 1, 2, SIZE * 8 - 1, 1 },    /* partly without bits */
        { END, 1, 0, 0 },
        { END, UINT64_MAX, 0, 0 },
        { 0, END, 0, SIZE * 8 },
        { 0, UINT64_MAX, 0, SIZE * 8 },
        { END - PAGE, UINT64_MAX, SIZE * 8 - 1, 1 }, /* wraps */
        { UINT64_MAX, 1, 0, 0 },
        { UINT64_MAX, 2, 0, 0 },
        { UINT64_MAX, UINT64_MAX, 0, 0 },
        { UINT64_MAX - PAGE, UINT64_MAX, 0, 0 },
        { 1ULL << 63, 1ULL << 63, 0, 0 },
        { PAGE, UINT64_MAX - PAGE + 1, 1, SIZE * 8 - 1 }, /* ends where addresses do */
        { PAGE, 0, 0, 0 },
        { UINT64_MAX, 0, 0, 0 },
    };

    begin();
    for (unsigned i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
        dirty_log_mark(dlog, row[i].gpa, row[i].len);
        if (!CHECK(only(row[i].first, row[i].n)))
            fprintf(stderr, "row %u\n", i);
    }
    end();
}

/* What is set stays set, and neighbours in the byte stay clear. */
TEST(bits_are_added)
{
    begin();
    for (unsigned page = 0; page < 64; page += 2)
        dirty_log_mark(dlog, page * PAGE + 17, 1);
    dirty_log_mark(dlog, 4 * PAGE, 1);
    for (unsigned page = 0; page < 64; page++)
        CHECK_EQ(dirty(page), page % 2 == 0);
    end();
}

/* A used ring is logged where the front-end says, if at all, and that may be anywhere. */
TEST(used_rings)
{
    begin();
    dirty_log_mark_used(dlog, 3, 0, 2);
    CHECK(only(4, 1));
    dirty_log_mark_used(dlog, 3, 1, 2);
    CHECK(only(4, 2));
    dirty_log_mark_used(dlog, 3, END, 8);
    CHECK(only(0, 0));
    dirty_log_mark_used(dlog, 2, 0, 8);
    CHECK(only(0, 0));
    for (uint64_t off = 0; off < 4; off++)
        dirty_log_mark_used(dlog, 15, off, UINT64_MAX);
    CHECK(only(0, 0));
    end();
}

/* M3: every pair of corners is refused, or lies inside the file. */
TEST(corner_pairs)
{
    static const uint64_t corner[] = {
        0, 1, 2, PAGE - 1, PAGE, PAGE + 1, FILE_SIZE - 1, FILE_SIZE, FILE_SIZE + 1, 1ULL << 31, 1ULL << 32, 1ULL << 47,
        1ULL << 61, (1ULL << 63) - 1, 1ULL << 63, UINT64_MAX - PAGE, UINT64_MAX - 1, UINT64_MAX,
    };
    const unsigned n = sizeof(corner) / sizeof(corner[0]);
    unsigned taken = 0;

    begin();
    for (unsigned i = 0; i < n * n; i++) {
        const struct us_vhost_log request = { .on = 1, .size = corner[i / n], .offset = corner[i % n] };
        const bool fits = request.size && request.size <= FILE_SIZE && request.offset <= FILE_SIZE - request.size;
        struct dirty_log *other = NULL;
        const int rc = dirty_log_create(&request, file, on_gone, NULL, &other);

        CHECK_EQ(rc == 0, fits);
        if (rc == 0) {
            dirty_log_mark(other, 0, UINT64_MAX); /* touches all of it */
            taken++;
        }
        dirty_log_destroy(other);
    }
    CHECK(taken > 10);
    memset(bytes, CANARY, OFFSET);
    memset(bytes + OFFSET + SIZE, CANARY, FILE_SIZE - OFFSET - SIZE);
    end();
}

TEST(files_that_are_no_log)
{
    const struct us_vhost_log request = { .on = 1, .size = 64 };
    const int event = eventfd(0, EFD_CLOEXEC);
    struct dirty_log *other = NULL;
    int pipes[2];

    if (pipe(pipes) != 0)
        abort();
    CHECK(dirty_log_create(&request, event, on_gone, NULL, &other) < 0);
    CHECK(dirty_log_create(&request, pipes[1], on_gone, NULL, &other) < 0);
    CHECK(dirty_log_create(&request, -1, on_gone, NULL, &other) < 0);
    CHECK(dirty_log_create(&request, STDERR_FILENO, on_gone, NULL, &other) < 0);
    CHECK(other == NULL);
    close(event);
    close(pipes[0]);
    close(pipes[1]);
}

/* F3: a log that its owner truncates costs a notice, not the process. */
TEST(truncated)
{
    begin();
    if (ftruncate(file, 0) != 0)
        abort();
    dirty_log_mark(dlog, 0, 1);
    CHECK(lost > 0);
    CHECK(atomic_load(&dlog->lost));
    dirty_log_mark(dlog, 0, END);
    dirty_log_destroy(dlog);
    munmap(bytes, FILE_SIZE);
    close(file);
}

MAIN
{
    RUN(ranges);
    RUN(bits_are_added);
    RUN(used_rings);
    RUN(corner_pairs);
    RUN(files_that_are_no_log);
    RUN(truncated);
}
