/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * link_client.h - uswitchd's end of the dataplane link, for tests: blocking,
 * with a deadline, and able to send what uswitchd never would.
 */
#ifndef USWITCH_TESTS_LINK_CLIENT_H
#define USWITCH_TESTS_LINK_CLIENT_H

#include <stddef.h>

#include "include/uswitch.h"

/**
 * struct link_answer - a message received
 * @head: its head; type 0: nothing came (end of file, error or deadline)
 * @len: bytes of payload
 * @payload: the payload
 * @n_fds: file descriptors in @fds
 * @fds: owned by the caller; link_answer_close()
 */
struct link_answer {
    struct us_link_head head;
    uint32_t len;
    uint8_t payload[US_LINK_MSG_MAX] __attribute__((aligned(8)));
    uint32_t n_fds;
    int fds[US_LINK_FDS_MAX];
};

/* A listening socket under a name of its own in the abstract space; returns the fd, fills name (its length in *len). */
int link_client_listen(char name[64], uint32_t *len);

/* Connects; returns the fd or -1. */
int link_client_connect(const char name[64], uint32_t len);

/* Sends raw bytes and fds as one packet; returns 0 or -errno. */
int link_client_send_raw(int fd, const void *bytes, size_t len, const int *fds, unsigned n_fds);

/* Sends one request with a correct head. */
int link_client_send(int fd, uint32_t type, uint32_t seq, const void *payload, size_t len, const int *fds,
                     unsigned n_fds);

/* Receives the next message, waiting some seconds at most. */
void link_client_receive(int fd, struct link_answer *answer);

/* Sends and waits for the reply with its seq, events in between are skipped; returns rc, or -ENOTCONN. */
int link_client_call(int fd, uint32_t type, const void *payload, size_t len, const int *fds, unsigned n_fds,
                     struct link_answer *answer);

/* HELLO as a peer of the same build; returns rc. */
int link_client_hello(int fd, struct link_answer *answer);

void link_answer_close(struct link_answer *answer);

#endif /* USWITCH_TESTS_LINK_CLIENT_H */
