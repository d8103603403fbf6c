/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * link.c - the control thread's loop and the controller's connection.
 *
 * A send that finds the peer's buffer full is kept, one message, and nothing
 * is received and no event taken until it is out: a controller that does not
 * read slows down only itself, and needs no queue here.
 */
#include "link.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "link_calls.h"
#include "link_io.h"

/* Requests of one turn, so that a busy controller does not hide the stop signal. */
#define REQUESTS_A_TURN 32
#define ACCEPT_PAUSE_MS 1000

/**
 * struct link - control thread
 * @listen_fd: borrowed
 * @stop_fd: borrowed, or -1
 * @conn_fd: the controller, -1 while there is none
 * @uid: whose connections are taken
 * @pausing: accept() ran out of something; do not spin on it
 * @unsent: a message waits in @out for room
 * @out: the last message, sent or not
 * @event: payload of @out when that is an event
 * @in: the request being worked on
 * @calls: what requests work on
 * @balance_at: CLOCK_MONOTONIC ms of the next uswitch_balance(); -1: when its fd says so
 * @check_at: of the next uswitch_device_check(); -1: when there is something new
 */
struct link {
    int listen_fd;
    int stop_fd;
    int conn_fd;
    uid_t uid;
    bool pausing;
    bool unsent;
    struct link_out out;
    struct us_event event;
    struct link_in in;
    struct link_calls calls;
    int64_t balance_at;
    int64_t check_at;
};

static int check_listener(int fd)
{
    static const struct { int option, value; } wanted[] = {
        { SO_DOMAIN, AF_UNIX }, { SO_TYPE, SOCK_SEQPACKET }, { SO_ACCEPTCONN, 1 },
    };

    for (unsigned i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        int value;
        socklen_t len = sizeof(value);

        if (getsockopt(fd, SOL_SOCKET, wanted[i].option, &value, &len) < 0)
            return errno == ENOTSOCK ? -EINVAL : -errno;
        if (value != wanted[i].value)
            return -EINVAL;
    }
    return 0;
}

int link_create(struct uswitch *us, int listen_fd, int stop_fd, struct link **out)
{
    struct link *link;
    int flags, rc = check_listener(listen_fd);

    if (rc < 0)
        return rc;
    flags = fcntl(listen_fd, F_GETFL);
    if (flags < 0 || fcntl(listen_fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    link = calloc(1, sizeof(*link));
    if (!link)
        return -ENOMEM;
    rc = escrow_create(&link->calls.escrow);
    if (rc < 0) {
        free(link);
        return rc;
    }
    link->listen_fd = listen_fd;
    link->stop_fd = stop_fd;
    link->conn_fd = -1;
    link->uid = geteuid();
    link->calls.us = us;
    link->calls.pid = (uint32_t)getpid();
    *out = link;
    return 0;
}

static void disconnect(struct link *link)
{
    if (link->conn_fd < 0)
        return;
    close(link->conn_fd);
    link->conn_fd = -1;
    link->unsent = false;
    link->calls.greeted = false;
}

void link_destroy(struct link *link)
{
    if (!link)
        return;
    disconnect(link);
    escrow_destroy(link->calls.escrow);
    free(link);
}

/* Send what is in link->out, now or when there is room. */
static void flush(struct link *link)
{
    const int rc = link_send(link->conn_fd, &link->out);

    link->unsent = rc == -EAGAIN;
    if (rc < 0 && rc != -EAGAIN) {
        log_info("the controller is gone (%s); packets go on", strerror(-rc));
        disconnect(link);
    }
}

/* A second controller, while the first is alive: told so, and closed. */
static void refuse(struct link *link, int fd)
{
    struct link_out reply = { .head = { .type = US_LINK_REPLY, .rc = -EBUSY } };

    /* Its HELLO, if it is there already; unread, it would turn our answer into a reset. */
    if (link_receive(fd, &link->in) == 1) {
        reply.head.seq = link->in.head.seq;
        link_in_close(&link->in);
    }
    link_calls_fill_hello(&link->calls);
    reply.payload[0] = (struct iovec){ &link->calls.hello, sizeof(link->calls.hello) };
    (void)link_send(fd, &reply);
    log_warning("refused a second controller");
}

static bool may_connect(const struct link *link, int fd)
{
    struct ucred peer;
    socklen_t len = sizeof(peer);

    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || peer.uid != link->uid) {
        log_warning("refused a connection from another user");
        return false;
    }
    return true;
}

static void accept_one(struct link *link)
{
    const int fd = accept4(link->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0) {
        /* Out of file descriptors or memory: the connection stays in line, try again later. */
        link->pausing = errno != EAGAIN && errno != EINTR && errno != ECONNABORTED;
        if (link->pausing)
            log_warning("cannot accept a connection: %s", strerror(errno));
        return;
    }
    if (may_connect(link, fd)) {
        if (link->conn_fd < 0) {
            link->conn_fd = fd;
            log_info("controller connected");
            return;
        }
        refuse(link, fd);
    }
    close(fd);
}

/* Requests until there are none, the reply does not go out, or it is somebody else's turn. */
static void serve_requests(struct link *link)
{
    for (unsigned i = 0; i < REQUESTS_A_TURN; i++) {
        const int rc = link_receive(link->conn_fd, &link->in);

        if (rc == 0)
            return;
        if (rc == -ECONNRESET) {
            log_info("the controller is gone; packets go on");
            disconnect(link);
            return;
        }
        memset(&link->out, 0, sizeof(link->out));
        link->out.head.type = US_LINK_REPLY;
        link->out.head.seq = link->in.head.seq;
        if (rc < 0)
            link->out.head.rc = rc;
        else
            link_calls_run(&link->calls, &link->in, &link->out);
        if (link->out.head.rc < 0)
            log_debug("request %u failed: %s", link->in.head.type, strerror(-link->out.head.rc));
        link_in_close(&link->in);
        flush(link);
        if (link->conn_fd < 0 || link->unsent || link->calls.shutdown)
            return;
    }
}

static void log_event(const struct us_event *e)
{
    const char *why = us_break_text(e->reason);

    if (e->kind == US_EVENT_LINK)
        log_info("port %u: link %s, %llu Mbit/s", e->port_id, e->ring ? "up" : "down", (unsigned long long)e->detail);
    else
        log_warning("port %u is fenced, ring %u: %s (%llu)", e->port_id, e->ring, why ? why : "no known reason",
                    (unsigned long long)e->detail);
}

static void push_events(struct link *link)
{
    while (link->conn_fd >= 0 && !link->unsent && uswitch_event_next(link->calls.us, &link->event) == 1) {
        log_event(&link->event);
        memset(&link->out, 0, sizeof(link->out));
        link->out.head.type = US_LINK_EVENT;
        link->out.payload[0] = (struct iovec){ &link->event, sizeof(link->event) };
        flush(link);
    }
}

/* CLOCK_MONOTONIC, ms. */
static int64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* The queues are spread anew when it is time, or when workers woke up after a silence. */
static void balance(struct link *link, bool woke)
{
    int again;

    if (!woke && (link->balance_at < 0 || now_ms() < link->balance_at))
        return;
    again = uswitch_balance(link->calls.us);
    link->balance_at = again < 0 ? -1 : now_ms() + again;
}

/* Adapters are looked at from time to time; while there are none, whenever a request may have brought one. */
static void check_devices(struct link *link)
{
    int again;

    if (link->check_at >= 0 && now_ms() < link->check_at)
        return;
    again = uswitch_device_check(link->calls.us);
    link->check_at = again < 0 ? -1 : now_ms() + again;
}

/* For poll(): until something is due, or -1. */
static int wait_ms(const struct link *link)
{
    const int64_t pause = link->pausing ? now_ms() + ACCEPT_PAUSE_MS : -1;
    const int64_t due[] = { link->balance_at, link->check_at, pause };
    int64_t first = -1;

    for (unsigned i = 0; i < sizeof(due) / sizeof(due[0]); i++) {
        if (due[i] >= 0 && (first < 0 || due[i] < first))
            first = due[i];
    }
    if (first < 0)
        return -1;
    first -= now_ms();
    return first < 0 ? 0 : (int)first;
}

enum { POLL_STOP, POLL_CONN, POLL_NEWS, POLL_LISTEN, POLL_BALANCE, POLL_DEVICE, POLL_COUNT };

/* What the loop waits for now; poll() skips entries with fd -1. News wait while nobody could be told. */
static void fill_poll(const struct link *link, struct pollfd set[POLL_COUNT])
{
    const bool can_send = link->conn_fd >= 0 && !link->unsent;

    set[POLL_STOP] = (struct pollfd){ .fd = link->stop_fd, .events = POLLIN };
    set[POLL_CONN] = (struct pollfd){ .fd = link->conn_fd, .events = link->unsent ? POLLOUT : POLLIN };
    set[POLL_NEWS] = (struct pollfd){ .fd = can_send ? uswitch_event_fd(link->calls.us) : -1, .events = POLLIN };
    set[POLL_LISTEN] = (struct pollfd){ .fd = link->pausing ? -1 : link->listen_fd, .events = POLLIN };
    set[POLL_BALANCE] = (struct pollfd){ .fd = uswitch_balance_fd(link->calls.us), .events = POLLIN };
    set[POLL_DEVICE] = (struct pollfd){ .fd = uswitch_device_fd(link->calls.us), .events = POLLIN };
}

int link_serve(struct link *link)
{
    struct pollfd set[POLL_COUNT];

    while (!link->calls.shutdown) {
        fill_poll(link, set);
        if (poll(set, POLL_COUNT, wait_ms(link)) < 0) {
            if (errno == EINTR)
                continue;
            return -errno;
        }
        link->pausing = false;
        if (set[POLL_STOP].revents)
            return 0;
        if (set[POLL_CONN].revents && link->unsent)
            flush(link);
        if (set[POLL_CONN].revents && link->conn_fd >= 0 && !link->unsent)
            serve_requests(link);
        if (set[POLL_DEVICE].revents)
            uswitch_device_work(link->calls.us);
        push_events(link);
        if (set[POLL_LISTEN].revents)
            accept_one(link);
        balance(link, set[POLL_BALANCE].revents != 0);
        check_devices(link);
    }
    return 0;
}
