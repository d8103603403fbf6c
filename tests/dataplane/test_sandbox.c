/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_sandbox.c - in children: what the sandbox forbids kills, in every
 * thread, and the switch's whole work goes on inside it.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/landlock.h>
#include <pthread.h>
#include <signal.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/guard.h"
#include "base/guest.h"
#include "base/log.h"
#include "sandbox.h"
#include "toy_guest.h"

#define NOT_SANDBOXED 99

/* Sanitizers call what the filter forbids (sigaltstack, sched_getparam ...), when threads end above all. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define FILTERED 0
#else
#define FILTERED 1
#endif

/* In a child, where the harness does not count. */
#define MUST(condition)                                                  \
    do {                                                                 \
        if (!(condition)) {                                              \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            _exit(1);                                                    \
        }                                                                \
    } while (0)

/* How a child that does this ends: its exit status, or 128 + signal. */
static int outcome(void (*action)(void))
{
    const pid_t pid = fork();
    int status;

    if (pid == 0) {
        alarm(20);
        action();
        _exit(0);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid)
        return -1;
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/*
 * The same for what the filter allows.  ThreadSanitizer has a thread of its own that sleeps a tenth of a second now
 * and then, which the filter forbids: an end by its hand counts for nothing.
 */
static int outcome_allowed(void (*action)(void))
{
    int end = outcome(action);

    for (unsigned again = 0; GUEST_TSAN && again < 9 && end == 128 + SIGSYS; again++)
        end = outcome(action);
    return end;
}

static void enter(void)
{
    if (sandbox_prepare() < 0 || sandbox_enter() < 0)
        _exit(NOT_SANDBOXED);
}

#define FORBIDDEN(name, expression) \
    static void name(void)          \
    {                               \
        enter();                    \
        (void)(expression);         \
    }

static void *page;

FORBIDDEN(try_open, open("/dev/null", O_RDONLY))
FORBIDDEN(try_openat, syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY))
FORBIDDEN(try_socket, socket(AF_INET, SOCK_STREAM, 0))
FORBIDDEN(try_connect, connect(0, NULL, 0))
FORBIDDEN(try_execve, execve("/bin/true", (char *[]){ NULL }, (char *[]){ NULL }))
FORBIDDEN(try_ptrace, ptrace(PTRACE_TRACEME, 0, NULL, NULL))
FORBIDDEN(try_fork, syscall(SYS_fork))
FORBIDDEN(try_clone, syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0))
FORBIDDEN(try_kill, syscall(SYS_kill, getppid(), 0))
FORBIDDEN(try_mmap_exec, mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0))
FORBIDDEN(try_mprotect_exec, mprotect(page, 4096, PROT_READ | PROT_EXEC))
FORBIDDEN(try_ioctl, ioctl(0, FIONREAD, page))
FORBIDDEN(try_fcntl, fcntl(0, F_SETOWN, 1))
FORBIDDEN(try_prctl, prctl(PR_SET_NAME, "other"))
FORBIDDEN(try_memfd, memfd_create("x", 0))
FORBIDDEN(try_setrlimit, setrlimit(RLIMIT_CORE, page))
FORBIDDEN(try_i386, ({ long r; __asm__ volatile("int $0x80" : "=a"(r) : "a"(20) : "memory"); r; }))

TEST(forbidden_calls_kill)
{
    static const struct { const char *name; void (*action)(void); } tries[] = {
        { "open", try_open }, { "openat", try_openat }, { "socket", try_socket }, { "connect", try_connect },
        { "execve", try_execve }, { "ptrace", try_ptrace }, { "fork", try_fork }, { "clone", try_clone },
        { "kill", try_kill }, { "mmap", try_mmap_exec }, { "mprotect", try_mprotect_exec },
        { "ioctl", try_ioctl }, { "fcntl", try_fcntl }, { "prctl", try_prctl }, { "memfd_create", try_memfd },
        { "setrlimit", try_setrlimit }, { "i386 getpid", try_i386 },
    };

    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (unsigned i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
        if (!CHECK_EQ(outcome(tries[i].action), 128 + SIGSYS))
            fprintf(stderr, "  by %s\n", tries[i].name);
    }
}

static void *open_when_told(void *arg)
{
    char byte;

    if (read(*(int *)arg, &byte, 1) == 1)
        open("/dev/null", O_RDONLY);
    pause();
    return NULL;
}

/* The filter must reach threads that were there before it. */
static void forbidden_in_a_thread(void)
{
    pthread_t thread;
    int pipes[2];

    if (pipe(pipes) < 0 || pthread_create(&thread, NULL, open_when_told, &pipes[0]) != 0)
        _exit(1);
    enter();
    if (write(pipes[1], "!", 1) != 1)
        _exit(1);
    for (;;)
        poll(NULL, 0, 1000);
}

TEST(filter_holds_in_every_thread)
{
    CHECK_EQ(outcome(forbidden_in_a_thread), 128 + SIGSYS);
}

static bool have_landlock(void)
{
    return syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) >= 1;
}

static void only_prepared(void)
{
    struct rlimit core;

    if (sandbox_prepare() < 0)
        _exit(NOT_SANDBOXED);
    if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1)
        _exit(1);
    if (getrlimit(RLIMIT_CORE, &core) < 0 || core.rlim_cur != 0 || core.rlim_max != 0)
        _exit(2);
    if (have_landlock() && (open("/etc/passwd", O_RDONLY) >= 0 || errno != EACCES))
        _exit(3);
}

TEST(first_step)
{
    if (!have_landlock())
        fprintf(stderr, "note: this kernel has no Landlock, that part is not tested\n");
    CHECK_EQ(outcome_allowed(only_prepared), 0);
}

static uint32_t await_frame(struct toy_guest *g, uint8_t *frame, uint32_t size)
{
    uint32_t len = 0;

    for (unsigned i = 0; i < 2000 && len == 0; i++) {
        poll(NULL, 0, 1);
        len = toy_guest_receive(g, frame, size);
    }
    return len;
}

/* A tap device for the first port that needs one; -1 where the test may not make one. */
static int open_tap(void)
{
    struct ifreq ifr = { .ifr_name = "ustest%d", .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
    const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    if (fd >= 0 && ioctl(fd, TUNSETIFF, &ifr) == 0)
        return fd;
    fprintf(stderr, "note: no tap device to be had (%s), that part is not tested\n", strerror(errno));
    return -1;
}

static void tap_work(struct uswitch *us, struct toy_guest *a, int tap_fd, int state_fd)
{
    const struct us_port_add add = { .port_id = 4, .kind = US_KIND_TAP, .max_frame = 1514 };
    const struct us_port_tags tags = { .port_id = 4, .n = 1, .row = { { US_VID_UNTAGGED, 1 } } };
    const uint8_t broadcast[60] = { 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 0x88, 0xb5 };

    MUST(uswitch_port_add(us, &add, state_fd, &tap_fd, 1) == 0);
    MUST(uswitch_port_tags(us, &tags) == 0);
    MUST(toy_guest_send(a, broadcast, sizeof(broadcast)));
    poll(NULL, 0, 50);
    MUST(uswitch_port_del(us, 4) == 0);
}

/* The requests of a day, on fds made before: a new port, traffic, lost memory, new memory, the end. */
static void daily_work(struct uswitch *us, struct toy_guest *a, struct toy_guest *b, int state_fd)
{
    const struct us_port_add add = toy_guest_port(3);
    const struct us_vhost_mem mem = toy_guest_mem(1);
    uint8_t frame[1400] = { 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5 }, got[2048];
    struct us_event event;

    for (unsigned i = 0; i < 50; i++) {
        MUST(toy_guest_send(a, frame, sizeof(frame)));
        MUST(await_frame(b, got, sizeof(got)) == sizeof(frame));
    }
    MUST(uswitch_port_add(us, &add, state_fd, NULL, 0) == 0);
    MUST(uswitch_vhost_mem(us, &mem, &a->memfd) == 0);
    MUST(uswitch_ring_call(us, 1, 1, -1) == 0);
    MUST(uswitch_ring_enable(us, 1, 1, 0) == 0 && uswitch_ring_enable(us, 1, 1, 1) == 0);
    MUST(toy_guest_send(a, frame, sizeof(frame)) && await_frame(b, got, sizeof(got)) == sizeof(frame));
    MUST(uswitch_ring_stop(us, 2, 1) >= 0);
    log_info("from inside the sandbox");
    log_warning("with %s", strerror(EACCES));
    toy_guest_misbehave(a);
    while (uswitch_event_next(us, &event) == 0)
        poll(NULL, 0, 1);
    MUST(event.port_id == 1);
    MUST(uswitch_port_del(us, 3) == 0 && uswitch_port_del(us, 1) == 0);
    uswitch_destroy(us);
}

static void work_inside(void)
{
    struct us_config config = { .n_workers = 2, .poll_us = 0, .fdb_buckets = 64, .fdb_age_s = 300,
                                .cpu = { -1, -1 } };
    const int state_fd = us_state_page_create(3), tap_state_fd = us_state_page_create(4), tap_fd = open_tap();
    struct toy_guest a, b;
    struct uswitch *us;

    log_init(LOG_LEVEL_ERROR);
    MUST(guard_install() == 0 && sandbox_prepare() == 0);
    MUST(toy_guest_create(&a) == 0 && toy_guest_create(&b) == 0);
    MUST(uswitch_create(&config, &us) == 0);
    MUST(toy_guest_plug(&a, us, 1, 1) == 0 && toy_guest_plug(&b, us, 2, 1) == 0);
    MUST(!FILTERED || sandbox_enter() == 0);
    if (tap_fd >= 0)
        tap_work(us, &a, tap_fd, tap_state_fd);
    while (toy_guest_receive(&b, (uint8_t[2048]){ 0 }, 2048))
        continue;
    daily_work(us, &a, &b, state_fd);
}

TEST(work_goes_on_inside)
{
    CHECK_EQ(outcome_allowed(work_inside), 0);
}

/* F2 under the filter: the guard's handler maps memory and returns by rt_sigreturn. */
static void memory_lost_inside(void)
{
    struct us_config config = { .n_workers = 1, .poll_us = 0, .fdb_buckets = 64, .fdb_age_s = 300, .cpu = { -1 } };
    struct us_event event;
    struct toy_guest a;
    struct uswitch *us;

    MUST(guard_install() == 0 && sandbox_prepare() == 0);
    MUST(toy_guest_create(&a) == 0 && uswitch_create(&config, &us) == 0);
    MUST(toy_guest_plug(&a, us, 1, 1) == 0);
    poll(NULL, 0, 20);
    MUST(ftruncate(a.memfd, 0) == 0);
    MUST(!FILTERED || sandbox_enter() == 0);
    /* The guest's own mapping is the same file, so only the eventfd can be touched. */
    MUST(eventfd_write(a.kick[1], 1) == 0);
    while (uswitch_event_next(us, &event) == 0)
        poll(NULL, 0, 1);
    MUST(event.port_id == 1);
    uswitch_destroy(us);
}

TEST(lost_memory_inside)
{
    CHECK_EQ(outcome_allowed(memory_lost_inside), 0);
}

/* An address nobody guards: the process ends by SIGBUS, not by the filter. */
static void real_fault_inside(void)
{
    const int fd = memfd_create("short", 0);
    volatile char *memory;

    MUST(guard_install() == 0 && ftruncate(fd, 4096) == 0);
    memory = mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    MUST(ftruncate(fd, 0) == 0);
    enter();
    (void)*memory;
}

TEST(real_faults_keep_their_signal)
{
    CHECK_EQ(outcome_allowed(real_fault_inside), 128 + SIGBUS);
}

MAIN
{
    log_init(LOG_LEVEL_ERROR);
    RUN(forbidden_calls_kill);
    RUN(filter_holds_in_every_thread);
    RUN(first_step);
    RUN(work_goes_on_inside);
    RUN(lost_memory_inside);
    RUN(real_faults_keep_their_signal);
}
