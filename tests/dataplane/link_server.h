/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * link_server.h - the dataplane's side of a link test: a switch in this
 * process and a thread that plays the control thread; and the requests that
 * most tests begin with.
 */
#ifndef USWITCH_TESTS_LINK_SERVER_H
#define USWITCH_TESTS_LINK_SERVER_H

#include <pthread.h>

#include "link.h"
#include "link_client.h"
#include "toy_guest.h"

/**
 * struct link_server - the dataplane's side of a test
 */
struct link_server {
    struct uswitch *us;
    struct link *link;
    int listen_fd;
    int stop_fd;
    char name[64];
    uint32_t name_len;
    pthread_t thread;
    int rc;
};

/* Starts it; ends the program if that fails. */
void link_server_start(struct link_server *s);

/* Joins the control thread, which has been told to end; returns what link_serve() returned. */
int link_server_finish(struct link_server *s);

/* Tells it to end by its stop fd, and finishes. */
int link_server_stop(struct link_server *s);

/* A connection that has said HELLO; ends the program if that fails. */
int link_server_attach(const struct link_server *s);

/* Entries of /proc/self/fd. */
unsigned link_server_open_fds(void);

#endif /* USWITCH_TESTS_LINK_SERVER_H */
