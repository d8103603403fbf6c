/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_guard.c - mappings whose file shrinks under them, and SIGBUS that is
 * nobody's.
 */
#include "harness.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/guard.h"

#define LEN (64u << 10)

static _Atomic unsigned losses;
static _Atomic(const void *) lost_at;

static void count_loss(void *arg, const void *addr)
{
    atomic_fetch_add(&losses, 1);
    atomic_store(&lost_at, addr);
    atomic_store((_Atomic(int) *)arg, 1);
    errno = ENOSYS; /* for handler_keeps_errno */
}

struct mapping {
    int fd;
    volatile uint8_t *at;
    _Atomic int lost;
};

static void map(struct mapping *m)
{
    m->fd = memfd_create("m", MFD_CLOEXEC);
    m->lost = 0;
    m->at = NULL;
    REQUIRE(m->fd >= 0 && ftruncate(m->fd, LEN) == 0);
    m->at = mmap(NULL, LEN, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
    REQUIRE(m->at != MAP_FAILED);
    CHECK_EQ(guard_add((void *)m->at, LEN, count_loss, &m->lost), 0);
}

static void unmap(struct mapping *m)
{
    guard_del((void *)m->at);
    munmap((void *)m->at, LEN);
    close(m->fd);
}

TEST(f2_truncated_mapping_goes_on_empty)
{
    struct mapping m, other;

    losses = 0;
    map(&m);
    map(&other);
    m.at[0] = 1;
    other.at[0] = 2;
    CHECK_EQ(ftruncate(m.fd, 4096), 0);
    CHECK_EQ(m.at[0], 1); /* what is left is untouched so far */
    CHECK_EQ(losses, 0);
    m.at[8192] = 7;
    CHECK_EQ(losses, 1);
    CHECK_EQ(m.lost, 1);
    CHECK(lost_at == (const void *)(m.at + 8192));
    CHECK_EQ(m.at[8192], 7); /* the interrupted store was done, in memory of ours */
    CHECK_EQ(m.at[0], 0);
    m.at[LEN - 1] = 1;
    CHECK_EQ(losses, 1);
    CHECK_EQ(other.at[0], 2);
    CHECK_EQ(other.lost, 0);
    unmap(&m);
    unmap(&other);
}

TEST(many_mappings_and_reused_slots)
{
    static struct mapping m[600];

    losses = 0;
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 600; i++)
            map(&m[i]);
        for (unsigned i = round; i < 600; i += 97) {
            CHECK_EQ(ftruncate(m[i].fd, 0), 0);
            m[i].at[5000] = 1;
            CHECK_EQ(m[i].lost, 1);
        }
        for (unsigned i = 0; i < 600; i++)
            unmap(&m[i]);
    }
    CHECK_EQ(losses, 14);
}

static void *touch(void *arg)
{
    const struct mapping *m = arg;

    for (unsigned i = 0; i < LEN; i += 512)
        __atomic_store_n(&m->at[i], 1, __ATOMIC_RELAXED);
    return NULL;
}

/* Several threads run into the same hole at once. */
TEST(any_thread_may_find_it)
{
    for (unsigned round = 0; round < 20; round++) {
        struct mapping m;
        pthread_t t[4];

        map(&m);
        CHECK_EQ(ftruncate(m.fd, 0), 0);
        for (unsigned i = 0; i < 4; i++)
            REQUIRE(pthread_create(&t[i], NULL, touch, &m) == 0);
        for (unsigned i = 0; i < 4; i++)
            pthread_join(t[i], NULL);
        CHECK_EQ(m.lost, 1);
        unmap(&m);
    }
}

/* Run in a child; returns the signal that ended it, 0 if it went on. */
static int child(void (*work)(void))
{
    const pid_t pid = fork();
    int status = 0;

    if (pid == 0) {
        const struct rlimit none = { 0, 0 };

        setrlimit(RLIMIT_CORE, &none);
        work();
        _exit(0);
    }
    waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void touch_unguarded(void)
{
    struct mapping m;

    map(&m);
    guard_del((void *)m.at);
    (void)!ftruncate(m.fd, 0);
    m.at[0] = 1;
}

static void kill_self(void)
{
    kill(getpid(), SIGBUS);
}

static void lose_one(void)
{
    struct mapping m;

    map(&m);
    (void)!ftruncate(m.fd, 0);
    m.at[0] = 1;
    if (!m.lost)
        abort();
}

TEST(sigbus_of_nobody_ends_the_process)
{
    CHECK_EQ(child(lose_one), 0);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    /* The sanitizers' runtimes keep that signal for themselves when its action is the default. */
    CHECK_EQ(child(touch_unguarded), SIGBUS);
    CHECK_EQ(child(kill_self), SIGBUS);
#else
    (void)touch_unguarded;
    (void)kill_self;
#endif
}

/* errno belongs to the interrupted code. */
TEST(handler_keeps_errno)
{
    struct mapping m;

    map(&m);
    CHECK_EQ(ftruncate(m.fd, 0), 0);
    errno = 77;
    m.at[0] = 1;
    CHECK_EQ(errno, 77);
    unmap(&m);
}

MAIN
{
    CHECK_EQ(guard_install(), 0);
    RUN(f2_truncated_mapping_goes_on_empty);
    RUN(many_mappings_and_reused_slots);
    RUN(any_thread_may_find_it);
    RUN(sigbus_of_nobody_ends_the_process);
    RUN(handler_keeps_errno);
}
