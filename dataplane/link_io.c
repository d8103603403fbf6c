/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * link_io.c - see link_io.h.  The rule of this file: whatever is wrong with a
 * message, every file descriptor that came with it is closed.
 */
#include "link_io.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Room for exactly the fds allowed: with one more the kernel says MSG_CTRUNC. */
union fd_control {
    char bytes[CMSG_SPACE(US_LINK_FDS_MAX * sizeof(int))];
    struct cmsghdr align;
};

static void take_fds(struct msghdr *msg, struct link_in *in)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        size_t n;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < n; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (in->n_fds < US_LINK_FDS_MAX)
                in->fds[in->n_fds++] = fd;
            else
                close(fd);
        }
    }
}

void link_in_close(struct link_in *in)
{
    while (in->n_fds > 0)
        close(in->fds[--in->n_fds]);
}

/* What the socket said against what the message says. */
static int check(const struct link_in *in, size_t received, int flags)
{
    if (flags & (MSG_TRUNC | MSG_CTRUNC))
        return -EMSGSIZE;
    if (in->head.len != received || received < sizeof(in->head))
        return -EBADMSG;
    return 1;
}

int link_receive(int fd, struct link_in *in)
{
    struct iovec iov[2] = {
        { &in->head, sizeof(in->head) },
        { in->payload, sizeof(in->payload) },
    };
    union fd_control control;
    struct msghdr msg = {
        .msg_iov = iov,
        .msg_iovlen = 2,
        .msg_control = &control,
        .msg_controllen = sizeof(control),
    };
    ssize_t received;
    int rc;

    in->n_fds = 0;
    memset(&in->head, 0, sizeof(in->head));
    do {
        received = recvmsg(fd, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    } while (received < 0 && errno == EINTR);
    if (received < 0)
        return errno == EAGAIN ? 0 : -ECONNRESET;
    take_fds(&msg, in);
    if (received == 0) {
        link_in_close(in);
        return -ECONNRESET;
    }
    if ((size_t)received < sizeof(in->head))
        memset(&in->head, 0, sizeof(in->head));
    rc = check(in, (size_t)received, msg.msg_flags);
    if (rc < 0)
        link_in_close(in);
    return rc;
}

int link_send(int fd, struct link_out *out)
{
    struct iovec iov[3] = {
        { &out->head, sizeof(out->head) },
        out->payload[0],
        out->payload[1],
    };
    union fd_control control;
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 3 };
    ssize_t sent;

    out->head.len = (uint32_t)(sizeof(out->head) + iov[1].iov_len + iov[2].iov_len);
    if (out->n_fds > 0) {
        struct cmsghdr *c;

        memset(&control, 0, sizeof(control));
        msg.msg_control = &control;
        msg.msg_controllen = CMSG_SPACE(out->n_fds * sizeof(int));
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(out->n_fds * sizeof(int));
        memcpy(CMSG_DATA(c), out->fds, out->n_fds * sizeof(int));
    }
    do {
        sent = sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0)
        return errno == ENOBUFS ? -EAGAIN : -errno;
    return 0;
}
