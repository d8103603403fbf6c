/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_process.c - the dataplane process as uswitchd starts it: arguments, what
 * it inherits, two guests over the real link, its sandbox, and that it lives
 * through the death of everybody around it.
 *
 * The program is named by USWITCH_DATAPLANE (the Makefile sets it).  A sanitizer
 * needs system calls that the sandbox forbids, so there the process runs
 * without it; test_sandbox.c and the plain build cover the rest.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "drop.h"
#include "link_client.h"
#include "toy_guest.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANDBOXED 0
#else
#define SANDBOXED 1
#endif

static struct link_answer answer;

/**
 * struct process - a dataplane process
 */
struct process {
    pid_t pid;
    char name[64];
    uint32_t name_len;
    int err;                    /* reading end of its stderr */
};

/* In the child: fd 3 listens, stderr is a pipe; extra arguments end with NULL. Does not return. */
static void exec_dataplane(int listen_fd, int err, char *const extra[])
{
    char *argv[24] = { (char *)"uswitch-dataplane" };
    unsigned n = 1;

    signal(SIGPIPE, SIG_DFL);   /* or it would inherit that we ignore it */
    dup2(listen_fd, 3);
    fcntl(3, F_SETFD, 0);       /* dup2() of 3 to 3 would leave it close-on-exec */
    dup2(err, STDERR_FILENO);
    dup2(open("/dev/null", O_RDWR | O_CLOEXEC), STDOUT_FILENO);
    if (!SANDBOXED)
        argv[n++] = (char *)"--no-sandbox";
    while (*extra)
        argv[n++] = *extra++;
    argv[n] = NULL;
    execv(getenv("USWITCH_DATAPLANE"), argv);
    _exit(127);
}

static void process_start(struct process *p, char *const extra[])
{
    const int listen_fd = link_client_listen(p->name, &p->name_len);
    int pipes[2];

    if (listen_fd < 0 || pipe2(pipes, O_CLOEXEC) < 0 || (p->pid = fork()) < 0)
        exit(EXIT_FAILURE);
    if (p->pid == 0)
        exec_dataplane(listen_fd, pipes[1], extra);
    close(listen_fd);
    close(pipes[1]);
    p->err = pipes[0];
}

/* Its exit status, 128 + signal, or -1 if it does not end; then it is killed. */
static int process_wait(struct process *p)
{
    int status;

    for (unsigned i = 0; i < 1000; i++) {
        if (waitpid(p->pid, &status, WNOHANG) == p->pid)
            return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        usleep(10000);
    }
    kill(p->pid, SIGKILL);
    waitpid(p->pid, &status, 0);
    return -1;
}

#define ARGUMENTS(...) (char *const[]){ __VA_ARGS__, NULL }
#define USUAL ARGUMENTS((char *)"--listen-fd", (char *)"3", (char *)"--workers", (char *)"2", \
                        (char *)"--fdb-buckets", (char *)"64")

static int exit_status(char *const extra[])
{
    struct process p;
    int status;

    process_start(&p, extra);
    status = process_wait(&p);
    close(p.err);
    return status;
}

static int call(int fd, uint32_t type, const void *payload, size_t len, const int *fds, unsigned n_fds)
{
    return link_client_call(fd, type, payload, len, fds, n_fds, &answer);
}

static int attach(const struct process *p)
{
    const int fd = link_client_connect(p->name, p->name_len);

    CHECK_EQ(link_client_hello(fd, &answer), 0);
    link_answer_close(&answer);
    return fd;
}

static void plug(int fd, const struct toy_guest *g, uint32_t id)
{
    const struct us_port_add add = toy_guest_port(id);
    const struct us_vhost_mem mem = toy_guest_mem(id);
    const struct us_port_tags tags = { .port_id = id, .n = 1, .row = { { US_VID_UNTAGGED, 4 } } };
    const int state_fd = us_state_page_create(id);

    CHECK_EQ(call(fd, US_LINK_PORT_ADD, &add, sizeof(add), &state_fd, 1), 0);
    CHECK_EQ(call(fd, US_LINK_PORT_TAGS, &tags, offsetof(struct us_port_tags, row) + 4, NULL, 0), 0);
    CHECK_EQ(call(fd, US_LINK_VHOST_MEM, &mem, offsetof(struct us_vhost_mem, region) + 32, &g->memfd, 1), 0);
    for (uint32_t i = 0; i < 2; i++) {
        const struct us_vhost_ring ring = toy_guest_ring(id, i);

        CHECK_EQ(call(fd, US_LINK_RING_START, &ring, sizeof(ring), (int[]){ g->kick[i], g->call[i] }, 2), 0);
    }
    close(state_fd);
}

static void check_talk(struct toy_guest *a, struct toy_guest *b)
{
    uint8_t frame[64] = { 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5 }, got[2048];
    uint32_t len = 0;

    CHECK(toy_guest_send(a, frame, sizeof(frame)));
    for (unsigned i = 0; i < 2000 && len == 0; i++) {
        usleep(1000);
        len = toy_guest_receive(b, got, sizeof(got));
    }
    CHECK_EQ(len, sizeof(frame));
    CHECK_MEM(got, frame, sizeof(frame));
}

TEST(arguments)
{
    char three[] = "3", listen[] = "--listen-fd";
    static const struct { const char *option, *value; } bad[] = {
        { "--workers", "0" }, { "--workers", "33" }, { "--workers", "1x" }, { "--workers", "-1" },
        { "--cpu", "" }, { "--cpu", "a" }, { "--cpu", "1-" }, { "--cpu", "0-99" }, { "--log-level", "loud" },
        { "--poll-us", "" }, { "--fdb-age", "99999999999" }, { "--listen-fd", "2" }, { "--unknown", "1" },
    };

    CHECK_EQ(exit_status(ARGUMENTS((char *)"--version")), 0);
    CHECK_EQ(exit_status(ARGUMENTS((char *)"--help")), 0);
    CHECK_EQ(exit_status(ARGUMENTS((char *)"--no-sandbox")), 2);
    CHECK_EQ(exit_status(ARGUMENTS(listen, three, (char *)"more")), 2);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        const int status = exit_status(ARGUMENTS(listen, three, (char *)(uintptr_t)bad[i].option,
                                                 (char *)(uintptr_t)bad[i].value));

        if (!CHECK_EQ(status, 2))
            fprintf(stderr, "  %s %s\n", bad[i].option, bad[i].value);
    }
    /* Well-formed, but the library or the kernel says no. */
    CHECK_EQ(exit_status(ARGUMENTS(listen, three, (char *)"--fdb-buckets", (char *)"100")), 1);
    CHECK_EQ(exit_status(ARGUMENTS(listen, three, (char *)"--cpu", (char *)"1023")), 1);
    CHECK_EQ(exit_status(ARGUMENTS(listen, (char *)"999")), 1);
}

/* A number from a line of /proc/PID/status, or -1. */
static long status_of(pid_t pid, const char *key)
{
    char path[64], line[256];
    long value = -1;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    f = fopen(path, "r");
    while (f && fgets(line, sizeof(line), f)) {
        if (!strncmp(line, key, strlen(key)) && line[strlen(key)] == ':')
            value = strtol(line + strlen(key) + 1, NULL, 10);
    }
    if (f)
        fclose(f);
    return value;
}

TEST(two_guests_and_shutdown)
{
    struct toy_guest a, b;
    struct process p;
    int fd;

    REQUIRE(toy_guest_create(&a) == 0 && toy_guest_create(&b) == 0);
    process_start(&p, USUAL);
    fd = attach(&p);
    plug(fd, &a, 1);
    plug(fd, &b, 2);
    check_talk(&a, &b);
    if (SANDBOXED) {
        CHECK_EQ(status_of(p.pid, "Seccomp"), 2);
        CHECK_EQ(status_of(p.pid, "NoNewPrivs"), 1);
    }
    CHECK_EQ(call(fd, US_LINK_PORT_DEL, &(struct us_port_del){ .port_id = 1 }, 8, NULL, 0), 0);
    CHECK_EQ(call(fd, US_LINK_SHUTDOWN, NULL, 0, NULL, 0), 0);
    CHECK_EQ(process_wait(&p), 0);
    close(fd);
    close(p.err);
    toy_guest_destroy(&a);
    toy_guest_destroy(&b);
}

TEST(signals)
{
    struct process p;
    int fd;

    process_start(&p, USUAL);
    fd = attach(&p);
    kill(p.pid, SIGHUP);
    kill(p.pid, SIGPIPE);
    CHECK_EQ(call(fd, US_LINK_PING, NULL, 0, NULL, 0), 0);
    kill(p.pid, SIGTERM);
    CHECK_EQ(process_wait(&p), 0);
    close(fd);
    close(p.err);
}

/* uswitchd is killed: its end of stderr and of the link are gone, its pid reaped; guests notice nothing. */
TEST(lives_through_the_death_of_its_parent)
{
    struct toy_guest a, b;
    struct process p;
    int fd;

    REQUIRE(toy_guest_create(&a) == 0 && toy_guest_create(&b) == 0);
    p.pid = 0;
    {
        const int listen_fd = link_client_listen(p.name, &p.name_len);
        int pipes[2], status;
        pid_t parent;

        REQUIRE(listen_fd >= 0 && pipe2(pipes, O_CLOEXEC) == 0);
        parent = fork();
        if (parent == 0) {
            if (fork() == 0)
                exec_dataplane(listen_fd, pipes[1], ARGUMENTS((char *)"--listen-fd", (char *)"3",
                                                             (char *)"--log-level", (char *)"debug"));
            _exit(0);
        }
        CHECK_EQ(waitpid(parent, &status, 0), parent);
        close(listen_fd);
        close(pipes[0]);
        close(pipes[1]);
    }
    fd = attach(&p);
    plug(fd, &a, 1);
    plug(fd, &b, 2);
    close(fd);
    for (unsigned i = 0; i < 30; i++) {         /* each logs into the broken pipe */
        fd = attach(&p);
        close(fd);
        check_talk(&a, &b);
    }
    fd = attach(&p);
    CHECK_EQ(call(fd, US_LINK_SHUTDOWN, NULL, 0, NULL, 0), 0);
    link_client_receive(fd, &answer);
    CHECK_EQ(answer.head.type, 0);      /* end of file: it is gone */
    close(fd);
    toy_guest_destroy(&a);
    toy_guest_destroy(&b);
}

/* F2 in the sandbox, with everything real: one guest's memory is truncated, the other two go on. */
TEST(lost_memory_costs_one_port)
{
    const struct us_event *event = (const void *)answer.payload;
    struct toy_guest a, b, c;
    struct process p;
    int fd;

    REQUIRE(toy_guest_create(&a) == 0 && toy_guest_create(&b) == 0 && toy_guest_create(&c) == 0);
    process_start(&p, USUAL);
    fd = attach(&p);
    plug(fd, &a, 1);
    plug(fd, &b, 2);
    plug(fd, &c, 3);
    check_talk(&a, &b);
    REQUIRE(ftruncate(c.memfd, 0) == 0);
    CHECK_EQ(write(c.kick[1], &(uint64_t){ 1 }, 8), 8);
    link_client_receive(fd, &answer);
    CHECK_EQ(answer.head.type, US_LINK_EVENT);
    CHECK_EQ(event->port_id, 3);
    CHECK_EQ(event->reason, BREAK_memory_gone);
    check_talk(&a, &b);
    CHECK_EQ(call(fd, US_LINK_PORT_DEL, &(struct us_port_del){ .port_id = 3 }, 8, NULL, 0), 0);
    CHECK_EQ(call(fd, US_LINK_SHUTDOWN, NULL, 0, NULL, 0), 0);
    CHECK_EQ(process_wait(&p), 0);
    close(fd);
    close(p.err);
    toy_guest_destroy(&a);
    toy_guest_destroy(&b);
    toy_guest_destroy(&c);
}

/* Law 7: with guests plugged in and nothing to do, the process uses no measurable processor time. */
TEST(idle_costs_nothing)
{
    struct timespec before, after;
    struct toy_guest a, b;
    struct process p;
    clockid_t clock;
    int fd;

    REQUIRE(toy_guest_create(&a) == 0 && toy_guest_create(&b) == 0);
    process_start(&p, USUAL);
    fd = attach(&p);
    plug(fd, &a, 1);
    plug(fd, &b, 2);
    check_talk(&a, &b);
    usleep(100000);
    REQUIRE(clock_getcpuclockid(p.pid, &clock) == 0);
    CHECK_EQ(clock_gettime(clock, &before), 0);
    usleep(1000000);
    CHECK_EQ(clock_gettime(clock, &after), 0);
    CHECK((after.tv_sec - before.tv_sec) * 1000000000L + after.tv_nsec - before.tv_nsec < 100000000L);
    kill(p.pid, SIGTERM);
    CHECK_EQ(process_wait(&p), 0);
    close(fd);
    close(p.err);
    toy_guest_destroy(&a);
    toy_guest_destroy(&b);
}

MAIN
{
    if (!getenv("USWITCH_DATAPLANE")) {
        fprintf(stderr, "USWITCH_DATAPLANE must name the program\n");
        exit(EXIT_FAILURE);
    }
    alarm(250);
    signal(SIGPIPE, SIG_IGN);
    RUN(arguments);
    RUN(two_guests_and_shutdown);
    RUN(signals);
    RUN(lives_through_the_death_of_its_parent);
    RUN(lost_memory_costs_one_port);
    RUN(idle_costs_nothing);
}
