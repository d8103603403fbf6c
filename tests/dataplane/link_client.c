/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * link_client.c - see link_client.h.
 */
#include "link_client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define DEADLINE_MS 10000
#define FDS_SENT_MAX 250

int link_client_listen(char name[64], uint32_t *len)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    struct timespec now;
    int n;

    clock_gettime(CLOCK_MONOTONIC, &now);
    n = snprintf(name, 64, "%cuswitch-test-%d-%ld", '\0', (int)getpid(), now.tv_nsec);
    memcpy(addr.sun_path, name, (size_t)n);
    *len = (uint32_t)n;
    if (bind(fd, (struct sockaddr *)&addr, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)n)) < 0 ||
        listen(fd, 8) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

int link_client_connect(const char name[64], uint32_t len)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    const int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

    memcpy(addr.sun_path, name, len);
    if (connect(fd, (struct sockaddr *)&addr, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) < 0) {
        close(fd);
        return -1;
    }
    return fd;
}

int link_client_send_raw(int fd, const void *bytes, size_t len, const int *fds, unsigned n_fds)
{
    struct iovec iov = { (void *)(uintptr_t)bytes, len };
    union {
        char bytes[CMSG_SPACE(FDS_SENT_MAX * sizeof(int))];
        struct cmsghdr align;
    } control = { { 0 } };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    if (n_fds > 0) {
        struct cmsghdr *c;

        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
    }
    return sendmsg(fd, &msg, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int link_client_send(int fd, uint32_t type, uint32_t seq, const void *payload, size_t len, const int *fds,
                     unsigned n_fds)
{
    struct {
        struct us_link_head head;
        uint8_t payload[2 * US_LINK_MSG_MAX];
    } message;

    if (len > sizeof(message.payload))
        return -E2BIG;
    message.head = (struct us_link_head){ .type = type, .len = (uint32_t)(sizeof(message.head) + len), .seq = seq };
    if (len > 0)
        memcpy(message.payload, payload, len);
    return link_client_send_raw(fd, &message, sizeof(message.head) + len, fds, n_fds);
}

void link_client_receive(int fd, struct link_answer *answer)
{
    struct iovec iov[2] = {
        { &answer->head, sizeof(answer->head) },
        { answer->payload, sizeof(answer->payload) },
    };
    union {
        char bytes[CMSG_SPACE(US_LINK_FDS_MAX * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct msghdr msg = {
        .msg_iov = iov, .msg_iovlen = 2, .msg_control = &control, .msg_controllen = sizeof(control),
    };
    struct pollfd ready = { .fd = fd, .events = POLLIN };
    struct cmsghdr *c;
    ssize_t n;

    memset(&answer->head, 0, sizeof(answer->head));
    answer->len = answer->n_fds = 0;
    if (poll(&ready, 1, DEADLINE_MS) != 1)
        return;
    n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC);
    if (n < (ssize_t)sizeof(answer->head) || answer->head.len != (size_t)n) {
        memset(&answer->head, 0, sizeof(answer->head));
        return;
    }
    answer->len = (uint32_t)((size_t)n - sizeof(answer->head));
    c = CMSG_FIRSTHDR(&msg);
    if (c && c->cmsg_type == SCM_RIGHTS) {
        answer->n_fds = (uint32_t)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
        memcpy(answer->fds, CMSG_DATA(c), answer->n_fds * sizeof(int));
    }
}

int link_client_call(int fd, uint32_t type, const void *payload, size_t len, const int *fds, unsigned n_fds,
                     struct link_answer *answer)
{
    const uint32_t seq = 0x80000000u | type;

    if (link_client_send(fd, type, seq, payload, len, fds, n_fds) < 0)
        return -ENOTCONN;
    do {
        link_client_receive(fd, answer);
    } while (answer->head.type == US_LINK_EVENT);
    if (answer->head.type != US_LINK_REPLY || answer->head.seq != seq)
        return -ENOTCONN;
    return answer->head.rc;
}

int link_client_hello(int fd, struct link_answer *answer)
{
    const struct us_link_hello hello = { .abi = US_ABI_VERSION, .build_id = us_build_id() };

    return link_client_call(fd, US_LINK_HELLO, &hello, sizeof(hello), NULL, 0, answer);
}

void link_answer_close(struct link_answer *answer)
{
    while (answer->n_fds > 0)
        close(answer->fds[--answer->n_fds]);
}
