/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_port.c - the generic part of a port: what port_init() promises, the
 * fence and its report.
 */
#include <errno.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "fake_port.h"
#include "harness.h"

TEST(init_fills_everything)
{
    struct fake_port *fp = fake_port_create(9);
    struct port *p = &fp->port;

    CHECK(p->ops == &fake_port_ops);
    CHECK_EQ(p->id, 9);
    CHECK_EQ(p->n_queues, 1);
    CHECK_EQ(p->news_fd, -1);
    CHECK(atomic_load(&p->tags) == NULL);
    CHECK(atomic_load(&p->policy) == NULL);
    CHECK_EQ(atomic_load(&p->offloads), 0);
    CHECK_EQ(atomic_load(&p->max_frame), 1514);
    CHECK_EQ(atomic_load(&p->fdb_quota), 1024);
    CHECK(!port_is_broken(p));
    for (uint32_t i = 0; i < US_QUEUES_MAX; i++) {
        CHECK(p->rxq[i].port == p);
        CHECK_EQ(p->rxq[i].index, i);
        CHECK_EQ(p->rxq[i].watched_fd, RXQ_QUIET);
        CHECK(p->rxq[i].worker == NULL);
    }
    fake_port_destroy(fp);
}

/* Every member of the table is set: the core calls them without asking. */
TEST(ops_are_complete)
{
    void *const *member = (void *const *)&fake_port_ops;

    for (unsigned i = 0; i < sizeof(fake_port_ops) / sizeof(*member); i++)
        CHECK(member[i] != NULL);
}

TEST(first_break_wins)
{
    struct fake_port *fp = fake_port_create(1);
    struct port *p = &fp->port;
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    eventfd_t news = 0;

    p->news_fd = fd;
    errno = EXDEV;
    port_break(p, 3, BREAK_avail_head, 0xdead);
    CHECK_EQ(errno, EXDEV);
    CHECK(port_is_broken(p));
    CHECK_EQ(p->state->broken, BREAK_avail_head);
    CHECK_EQ(p->state->broken_ring, 3);
    CHECK_EQ(p->state->broken_detail, 0xdead);
    CHECK_EQ(eventfd_read(fd, &news), 0);
    CHECK_EQ(news, 1);

    port_break(p, 5, BREAK_memory_gone, 1);
    CHECK_EQ(p->state->broken, BREAK_avail_head);
    CHECK_EQ(p->state->broken_ring, 3);
    CHECK(eventfd_read(fd, &news) < 0 && errno == EAGAIN);

    port_mend(p);
    CHECK(!port_is_broken(p));
    CHECK_EQ(p->state->broken, BREAK_none);
    CHECK_EQ(p->state->broken_detail, 0);
    port_break(p, 5, BREAK_memory_gone, 1);
    CHECK_EQ(p->state->broken, BREAK_memory_gone);
    CHECK_EQ(p->state->broken_ring, 5);
    fake_port_destroy(fp);
    close(fd);
}

/* A full or missing news fd neither blocks nor changes the outcome. */
TEST(break_without_listener)
{
    struct fake_port *fp = fake_port_create(1);
    const int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

    port_break(&fp->port, 0, BREAK_avail_index, 1);
    CHECK(port_is_broken(&fp->port));
    port_mend(&fp->port);
    CHECK_EQ(eventfd_write(fd, UINT64_MAX - 1), 0);
    fp->port.news_fd = fd;
    port_break(&fp->port, 0, BREAK_avail_index, 1);
    CHECK_EQ(fp->port.state->broken, BREAK_avail_index);
    fake_port_destroy(fp);
    close(fd);
}

struct breaker {
    pthread_t thread;
    struct port *port;
    uint32_t ring;
};

static void *break_it(void *arg)
{
    struct breaker *b = arg;

    port_break(b->port, b->ring, (enum break_reason)(BREAK_avail_index + b->ring), b->ring * 100);
    return NULL;
}

/* Workers that find the same port bad at the same time leave one consistent report. */
TEST(race_leaves_one_report)
{
    for (unsigned round = 0; round < 50; round++) {
        struct fake_port *fp = fake_port_create(1);
        struct breaker b[3];

        for (uint32_t i = 0; i < 3; i++) {
            b[i] = (struct breaker){ .port = &fp->port, .ring = i };
            CHECK_EQ(pthread_create(&b[i].thread, NULL, break_it, &b[i]), 0);
        }
        for (unsigned i = 0; i < 3; i++)
            pthread_join(b[i].thread, NULL);
        CHECK_EQ(fp->port.state->broken, BREAK_avail_index + fp->port.state->broken_ring);
        CHECK_EQ(fp->port.state->broken_detail, fp->port.state->broken_ring * 100);
        fake_port_destroy(fp);
    }
}

TEST(watch_before_assignment_is_remembered)
{
    struct fake_port *fp = fake_port_create(1);
    struct rxq *q = &fp->port.rxq[0];

    CHECK_EQ(rxq_watch(q, 42), 0);
    CHECK_EQ(q->watched_fd, 42);
    CHECK_EQ(rxq_watch(q, RXQ_POLLED), 0);
    CHECK_EQ(q->watched_fd, RXQ_POLLED);
    CHECK_EQ(rxq_watch(q, RXQ_QUIET), 0);
    CHECK_EQ(q->watched_fd, RXQ_QUIET);
    fake_port_destroy(fp);
}

MAIN
{
    RUN(init_fills_everything);
    RUN(ops_are_complete);
    RUN(first_break_wins);
    RUN(break_without_listener);
    RUN(race_leaves_one_report);
    RUN(watch_before_assignment_is_remembered);
}
