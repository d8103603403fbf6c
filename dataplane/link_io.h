/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * link_io.h - one message of the dataplane link at a time, in and out, with
 * its file descriptors.  Knows the head, not what a message means.
 * Control thread.  Nothing here blocks.
 */
#ifndef USWITCH_LINK_IO_H
#define USWITCH_LINK_IO_H

#include <sys/uio.h>

#include "include/uswitch.h"

/**
 * struct link_in - a message received
 * @n_fds: file descriptors in @fds
 * @fds: owned; link_in_close() ends them
 * @head: the message's head, in host byte order as it came
 * @payload: head.len - sizeof(head) bytes; aligned for every struct of uswitch.h
 */
struct link_in {
    uint32_t n_fds;
    int fds[US_LINK_FDS_MAX];
    struct us_link_head head __attribute__((aligned(8)));
    uint8_t payload[US_LINK_MSG_MAX - sizeof(struct us_link_head)] __attribute__((aligned(8)));
};

static inline uint32_t link_in_len(const struct link_in *in)
{
    return in->head.len - (uint32_t)sizeof(in->head);
}

/**
 * struct link_out - a message to send
 * @head: len is filled by link_send()
 * @payload: up to two parts (borrowed until sent)
 * @n_fds: file descriptors in @fds
 * @fds: borrowed until sent
 */
struct link_out {
    struct us_link_head head;
    struct iovec payload[2];
    uint32_t n_fds;
    const int *fds;
};

/**
 * link_receive() - take the next message
 * @fd: non-blocking seqpacket socket
 * @in: filled; its fds belong to the caller on success
 *
 * Return: 1; 0 when there is none; -ECONNRESET when the peer is gone; -EMSGSIZE (bytes or fds cut off) or
 * -EBADMSG (head wrong): then no fds are left, and in->head has the type and seq to answer with, or zeros.
 */
int link_receive(int fd, struct link_in *in);

/* Close the fds of a message that are still there. */
void link_in_close(struct link_in *in);

/**
 * link_send() - send one message
 * @fd: seqpacket socket
 * @out: the message
 *
 * Return: 0; -EAGAIN when the peer's buffer is full; -errno when the peer is gone.
 */
int link_send(int fd, struct link_out *out);

#endif /* USWITCH_LINK_IO_H */
