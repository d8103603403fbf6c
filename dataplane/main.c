/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * main.c - the dataplane process: arguments, what it inherits, the switch, the
 * sandbox, then link_serve() until the end.
 *
 * uswitchd starts it and may die first: nothing here depends on the parent,
 * and its pipes are let go of (law 1).  There is no way back up: a failure
 * before serving is one line on stderr and exit status 1 (2: bad arguments).
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "include/uswitch.h"
#include "link.h"
#include "sandbox.h"

/**
 * struct options - the command line
 * @config: of the switch
 * @listen_fd: listening socket of the dataplane link, inherited
 * @log_level: enum log_level
 * @sandbox: false with --no-sandbox, for debuggers and profilers
 */
struct options {
    struct us_config config;
    int listen_fd;
    int log_level;
    bool sandbox;
};

static const char usage[] =
    "usage: uswitch-dataplane --listen-fd N [options]\n"
    "\n"
    "The packet process of the userspace switch; uswitchd starts it.\n"
    "\n"
    "  --listen-fd N     listening SOCK_SEQPACKET unix socket, inherited (required)\n"
    "  --workers N       packet threads (default 1)\n"
    "  --cpu LIST        CPU of each worker, such as 2,3 or 2-5; - for no CPU\n"
    "  --rebalance-ms N  how often queues are spread anew over the workers, 0: never (default 1000)\n"
    "  --poll-us N       spin so long without work before sleeping (default 50)\n"
    "  --fdb-buckets N   address table, power of two, five addresses a bucket (default 8192)\n"
    "  --fdb-age N       seconds until an address is forgotten (default 300)\n"
    "  --log-level L     debug, info, warning or error (default info)\n"
    "  --no-sandbox      keep all system calls, for debugging\n"
    "  --version         print the ABI version and the layout's hash\n";

static bool parse_u32(const char *text, uint32_t max, uint32_t *out)
{
    char *end;
    unsigned long value;

    if (*text < '0' || *text > '9')
        return false;
    errno = 0;
    value = strtoul(text, &end, 10);
    if (errno || *end || value > max)
        return false;
    *out = (uint32_t)value;
    return true;
}

/* One item of a CPU list: "3", "2-5" or "-". Appends to config->cpu. */
static bool parse_cpus(char *item, struct us_config *config, unsigned *n)
{
    uint32_t first, last;
    char *dash;

    if (!strcmp(item, "-"))
        return *n < US_WORKERS_MAX ? (config->cpu[(*n)++] = -1, true) : false;
    dash = strchr(item, '-');
    if (dash)
        *dash = '\0';
    if (!parse_u32(item, INT32_MAX, &first) || !parse_u32(dash ? dash + 1 : item, INT32_MAX, &last))
        return false;
    for (; first <= last; first++) {
        if (*n == US_WORKERS_MAX)
            return false;
        config->cpu[(*n)++] = (int32_t)first;
    }
    return true;
}

static bool parse_cpu_list(char *list, struct us_config *config)
{
    char *rest = NULL;
    unsigned n = 0;

    for (char *item = strtok_r(list, ",", &rest); item; item = strtok_r(NULL, ",", &rest)) {
        if (!parse_cpus(item, config, &n))
            return false;
    }
    return n > 0;
}

static bool parse_option(int option, struct options *o)
{
    uint32_t value;

    switch (option) {
    case 'f':
        if (!parse_u32(optarg, INT32_MAX, &value))
            return false;
        o->listen_fd = (int)value;
        return value > STDERR_FILENO;
    case 'w':
        return parse_u32(optarg, US_WORKERS_MAX, &o->config.n_workers) && o->config.n_workers > 0;
    case 'c':
        return parse_cpu_list(optarg, &o->config);
    case 'r':
        return parse_u32(optarg, UINT32_MAX, &o->config.rebalance_ms);
    case 'p':
        return parse_u32(optarg, UINT32_MAX, &o->config.poll_us);
    case 'b':
        return parse_u32(optarg, UINT32_MAX, &o->config.fdb_buckets);
    case 'a':
        return parse_u32(optarg, UINT32_MAX, &o->config.fdb_age_s);
    case 'l':
        o->log_level = log_level_parse(optarg);
        return o->log_level >= 0;
    case 'n':
        o->sandbox = false;
        return true;
    default:
        return false;
    }
}

/* 0 to go on, 1 when there is nothing more to do, -EINVAL. */
static int parse_arguments(int argc, char **argv, struct options *o)
{
    static const struct option options[] = {
        { "listen-fd", required_argument, NULL, 'f' }, { "workers", required_argument, NULL, 'w' },
        { "cpu", required_argument, NULL, 'c' },       { "poll-us", required_argument, NULL, 'p' },
        { "rebalance-ms", required_argument, NULL, 'r' },
        { "fdb-buckets", required_argument, NULL, 'b' }, { "fdb-age", required_argument, NULL, 'a' },
        { "log-level", required_argument, NULL, 'l' }, { "no-sandbox", no_argument, NULL, 'n' },
        { "version", no_argument, NULL, 'v' },         { "help", no_argument, NULL, 'h' },
        { NULL, 0, NULL, 0 },
    };
    int option;

    *o = (struct options){
        .config = { .n_workers = 1, .poll_us = 50, .fdb_buckets = 8192, .fdb_age_s = 300, .rebalance_ms = 1000 },
        .listen_fd = -1, .log_level = LOG_LEVEL_INFO, .sandbox = true,
    };
    for (unsigned i = 0; i < US_WORKERS_MAX; i++)
        o->config.cpu[i] = -1;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'h')
            return printf("%s", usage) < 0 ? -EINVAL : 1;
        if (option == 'v')
            return printf("uswitch-dataplane ABI %d layout %016llx\n", US_ABI_VERSION,
                          (unsigned long long)us_build_id()) < 0 ? -EINVAL : 1;
        if (!parse_option(option, o)) {
            if (option != '?')
                fprintf(stderr, "bad value: %s\n", optarg ? optarg : "");
            return -EINVAL;
        }
    }
    return o->listen_fd >= 0 && optind == argc ? 0 : -EINVAL;
}

/* Let go of what was inherited: other fds, the terminal's input and output, the session. */
static int shed_inheritance(int listen_fd)
{
    const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    const unsigned keep = (unsigned)listen_fd;

    if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
        return -errno;
    /* A program started without stderr must not log into whatever got number 2. */
    if (fcntl(STDERR_FILENO, F_GETFD) < 0 && dup2(null, STDERR_FILENO) < 0)
        return -errno;
    if ((keep > 3 && close_range(3, keep - 1, 0) < 0) || close_range(keep + 1, ~0u, 0) < 0)
        return -errno;
    if (fcntl(listen_fd, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    /* Fails for a process group's leader, which needs it least. */
    (void)setsid();
    umask(077);
    return 0;
}

/* Every guest costs tens of file descriptors; the hard limit is what the administrator allows. */
static void raise_fd_limit(void)
{
    struct rlimit files;

    if (getrlimit(RLIMIT_NOFILE, &files) < 0)
        return;
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files);
}

/* SIGTERM and SIGINT become readable; the workers inherit the mask. Returns the fd or -errno. */
static int take_signals(void)
{
    sigset_t stop;
    int fd;

    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || signal(SIGHUP, SIG_IGN) == SIG_ERR)
        return -errno;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    if (sigprocmask(SIG_BLOCK, &stop, NULL) < 0)
        return -errno;
    fd = signalfd(-1, &stop, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? -errno : fd;
}

static int fail(const char *what, int rc)
{
    log_error("%s: %s", what, strerror(-rc));
    return EXIT_FAILURE;
}

/* From a switch that runs to the end of the process. */
static int serve(struct uswitch *us, const struct options *o, int stop_fd)
{
    struct link *link;
    int rc = link_create(us, o->listen_fd, stop_fd, &link);

    if (rc < 0)
        return fail("the listening socket", rc);
    rc = o->sandbox ? sandbox_enter() : 0;
    if (rc < 0) {
        link_destroy(link);
        return fail("the system call filter", rc);
    }
    log_info("serving with %u worker(s)%s", o->config.n_workers, o->sandbox ? "" : ", without sandbox");
    rc = link_serve(link);
    link_destroy(link);
    if (rc < 0)
        return fail("the link", rc);
    log_info("end");
    return EXIT_SUCCESS;
}

static int run(const struct options *o)
{
    struct uswitch *us;
    int stop_fd, rc, status;

    rc = shed_inheritance(o->listen_fd);
    if (rc < 0)
        return fail("inherited file descriptors", rc);
    raise_fd_limit();
    stop_fd = take_signals();
    if (stop_fd < 0)
        return fail("signals", stop_fd);
    rc = o->sandbox ? sandbox_prepare() : 0;
    if (rc < 0)
        return fail("the sandbox", rc);
    rc = uswitch_create(&o->config, &us);
    if (rc < 0)
        return fail("the switch", rc);
    status = serve(us, o, stop_fd);
    uswitch_destroy(us);
    close(stop_fd);
    return status;
}

int main(int argc, char **argv)
{
    struct options o;
    const int rc = parse_arguments(argc, argv, &o);

    if (rc < 0) {
        fputs(usage, stderr);
        return 2;
    }
    if (rc > 0)
        return EXIT_SUCCESS;
    /* Guests' memory is mapped here: no ptrace, no core, no /proc/PID/mem for others of our uid. */
    if (o.sandbox && prctl(PR_SET_DUMPABLE, 0) < 0)
        return fail("prctl", -errno);
    log_init((enum log_level)o.log_level);
    return run(&o);
}
