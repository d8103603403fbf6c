/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_worker.c - workers as such: a turn, start and end of the thread,
 * queues changed under traffic.  Run it under TSan.
 */
#include "worker.h"

#include <fcntl.h>
#include <pthread.h>

#include "base/rcu.h"
#include "worker_fake.h"

/* ---- turns in the caller's thread ---- */

TEST(turn)
{
    struct us_worker_state stats = { 0 };
    struct fake *f = fake_new();
    struct worker *w = NULL;

    REQUIRE(worker_create(NULL, &stats, 0, 0, -1, &w) == 0);
    CHECK_EQ(stats.cpu, -1);
    CHECK_EQ(worker_add_queue(w, &f->port.rxq[0]), 0);
    CHECK_EQ(worker_queue_count(w), 1);
    fake_push(f, 100);
    rcu_worker_register();
    CHECK_EQ(worker_turn(w), 64);   /* one burst a queue and turn */
    CHECK_EQ(worker_turn(w), 36);
    CHECK_EQ(worker_turn(w), 0);
    rcu_worker_unregister();
    CHECK_EQ(atomic_load(&f->completes), 3);    /* also after an empty burst: the driver may have dropped some */
    CHECK_EQ(stats.frames, 100);
    CHECK_EQ(stats.passes, 3);
    CHECK_EQ(stats.busy_passes, 2);
    CHECK_EQ(stats.queues, 1);
    CHECK(stats.busy_cycles > 0 && stats.busy_cycles < stats.cycles);
    worker_del_queue(w, &f->port.rxq[0]);
    CHECK_EQ(worker_queue_count(w), 0);
    CHECK(f->port.rxq[0].worker == NULL);
    worker_destroy(w);
    fake_destroy(&f->port);
}

/* A port with much to send does not keep its neighbour waiting: both get a burst a turn. */
TEST(turn_is_fair)
{
    struct us_worker_state stats = { 0 };
    struct fake *loud = fake_new(), *quiet = fake_new();
    struct worker *w = NULL;

    REQUIRE(worker_create(NULL, &stats, 0, 0, -1, &w) == 0);
    worker_add_queue(w, &loud->port.rxq[0]);
    worker_add_queue(w, &quiet->port.rxq[0]);
    fake_push(loud, 1000000);
    fake_push(quiet, 1);
    rcu_worker_register();
    CHECK_EQ(worker_turn(w), 65);
    rcu_worker_unregister();
    worker_destroy(w);
    fake_destroy(&loud->port);
    fake_destroy(&quiet->port);
}

TEST(broken_port_is_left_alone)
{
    struct us_worker_state stats = { 0 };
    struct fake *f = fake_new();
    struct worker *w = NULL;

    REQUIRE(worker_create(NULL, &stats, 0, 0, -1, &w) == 0);
    worker_add_queue(w, &f->port.rxq[0]);
    fake_push(f, 5);
    atomic_store(&f->port.broken, BREAK_avail_index);
    rcu_worker_register();
    CHECK_EQ(worker_turn(w), 0);
    atomic_store(&f->port.broken, BREAK_none);
    CHECK_EQ(worker_turn(w), 5);
    rcu_worker_unregister();
    worker_destroy(w);
    fake_destroy(&f->port);
}

TEST(queue_errors)
{
    struct us_worker_state stats = { 0 };
    struct fake *f = fake_new();
    struct worker *w = NULL;
    const int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    REQUIRE(worker_create(NULL, &stats, 0, 0, -1, &w) == 0);
    f->port.rxq[0].watched_fd = file;   /* a regular file cannot be waited for */
    CHECK_EQ(worker_add_queue(w, &f->port.rxq[0]), -EPERM);
    CHECK(f->port.rxq[0].worker == NULL);
    CHECK_EQ(worker_queue_count(w), 0);
    f->port.rxq[0].watched_fd = f->kick_fd;
    CHECK_EQ(worker_add_queue(w, &f->port.rxq[0]), 0);
    CHECK_EQ(worker_add_queue(w, &f->port.rxq[0]), -EBUSY);
    CHECK_EQ(rxq_watch(&f->port.rxq[0], file), -EPERM);
    CHECK_EQ(f->port.rxq[0].watched_fd, f->kick_fd);
    CHECK_EQ(rxq_watch(&f->port.rxq[0], f->kick_fd), 0);
    CHECK_EQ(rxq_watch(&f->port.rxq[0], 999999), -EBADF);
    worker_del_queue(w, &f->port.rxq[0]);
    worker_del_queue(w, &f->port.rxq[0]);       /* again: nothing to do */
    worker_destroy(w);
    fake_destroy(&f->port);
    close(file);
}

/* ---- life of the thread ---- */

TEST(start_and_stop)
{
    struct us_worker_state stats = { 0 };
    struct worker *w = NULL;

    for (unsigned i = 0; i < 100; i++) {
        w = worker_new(&stats, 0, i % 2 ? 0 : 1000);
        CHECK_EQ(worker_start(w), -EALREADY);
        worker_stop(w);
        worker_stop(w);
        CHECK_EQ(stats.tid, 0);
        if (i % 3 == 0) {
            CHECK_EQ(worker_start(w), 0);
            CHECK(stats.tid > 0);
        }
        worker_destroy(w);
    }
    worker_destroy(NULL);
}

TEST(name_and_cpu)
{
    struct us_worker_state stats = { 0 };
    char path[64], comm[32] = "";
    cpu_set_t cpus;
    struct worker *w = NULL;
    int cpu = 0;
    FILE *file;

    sched_getaffinity(0, sizeof(cpus), &cpus);
    while (!CPU_ISSET(cpu, &cpus))
        cpu++;
    REQUIRE(worker_create(NULL, &stats, 7, 0, cpu, &w) == 0);
    REQUIRE(worker_start(w) == 0);
    CHECK_EQ(stats.cpu, cpu);
    snprintf(path, sizeof(path), "/proc/self/task/%d/comm", (int)stats.tid);
    file = fopen(path, "r");
    REQUIRE(file != NULL);
    CHECK(fgets(comm, sizeof(comm), file) != NULL);
    fclose(file);
    CHECK_STR(comm, "us-worker-7\n");
    CHECK_EQ(sched_getaffinity((pid_t)stats.tid, sizeof(cpus), &cpus), 0);
    CHECK(CPU_COUNT(&cpus) == 1 && CPU_ISSET(cpu, &cpus));
    worker_destroy(w);
}

TEST(impossible_cpu)
{
    struct us_worker_state stats = { 0 };
    struct worker *w = NULL;

    REQUIRE(worker_create(NULL, &stats, 0, 0, CPU_SETSIZE - 1, &w) == 0);
    CHECK_EQ(worker_start(w), -EINVAL);
    worker_destroy(w);
    REQUIRE(worker_create(NULL, &stats, 0, 0, 1000000, &w) == 0);
    CHECK_EQ(worker_start(w), -EINVAL);
    worker_destroy(w);
}

/* ---- queues come and go under traffic ---- */

struct traffic {
    _Atomic bool stop;
    struct fake *steady[2];
    uint64_t pushed;            /* into each; read when the thread has ended */
};

static void *make_traffic(void *arg)
{
    struct traffic *t = arg;

    while (!atomic_load(&t->stop)) {
        if (atomic_load(&t->steady[0]->pending) < 256 && atomic_load(&t->steady[1]->pending) < 256) {
            fake_push(t->steady[0], 32);
            fake_push(t->steady[1], 32);
            t->pushed += 32;
        }
        sched_yield();
    }
    return NULL;
}

/* Ports are made, used, taken away and freed; a worker that looks back at one is caught by the sanitizers. */
static void change_queues(struct worker **w, unsigned n_workers, unsigned rounds)
{
    for (unsigned i = 0; i < rounds; i++) {
        struct fake *f = fake_new();
        struct worker *mine = w[i % n_workers];

        CHECK_EQ(worker_add_queue(mine, &f->port.rxq[0]), 0);
        fake_push(f, i % 200);
        if (i % 2) {
            CHECK(taken_reaches(f, i % 200));
            CHECK_EQ(rxq_watch(&f->port.rxq[0], i % 4 == 1 ? RXQ_QUIET : RXQ_POLLED), 0);
        }
        worker_del_queue(mine, &f->port.rxq[0]);
        fake_destroy(&f->port);
    }
}

static void with_workers(unsigned n_workers, uint32_t poll_us, unsigned rounds)
{
    struct us_worker_state stats[4];
    struct worker *w[4];
    struct traffic t = { 0 };
    pthread_t thread;

    for (unsigned i = 0; i < n_workers; i++)
        w[i] = worker_new(&stats[i], i, poll_us);
    for (unsigned i = 0; i < 2; i++) {
        t.steady[i] = fake_new();
        CHECK_EQ(worker_add_queue(w[i % n_workers], &t.steady[i]->port.rxq[0]), 0);
    }
    REQUIRE(pthread_create(&thread, NULL, make_traffic, &t) == 0);
    for (unsigned i = 0; i < 2; i++)
        CHECK(taken_reaches(t.steady[i], 1)); /* or the changes could be over before it begins */
    change_queues(w, n_workers, rounds);
    atomic_store(&t.stop, true);
    pthread_join(thread, NULL);
    for (unsigned i = 0; i < 2; i++) {
        CHECK(taken_reaches(t.steady[i], t.pushed));
        worker_del_queue(t.steady[i]->port.rxq[0].worker, &t.steady[i]->port.rxq[0]);
    }
    for (unsigned i = 0; i < n_workers; i++) {
        CHECK_EQ(worker_queue_count(w[i]), 0);
        worker_destroy(w[i]);
    }
    fake_destroy(&t.steady[0]->port);
    fake_destroy(&t.steady[1]->port);
}

TEST(changes_under_traffic)
{
    for (unsigned n = 1; n <= 4; n++) {
        with_workers(n, 0, 300);
        with_workers(n, 50, 300);
    }
}

MAIN
{
    RUN(turn);
    RUN(turn_is_fair);
    RUN(broken_port_is_left_alone);
    RUN(queue_errors);
    RUN(start_and_stop);
    RUN(name_and_cpu);
    RUN(impossible_cpu);
    RUN(changes_under_traffic);
}
