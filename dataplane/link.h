/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * link.h - the dataplane link: uswitchd's requests come in, replies and events
 * go out (uswitch.h, "the dataplane link").  The process's control thread
 * lives in link_serve().
 *
 * One controller at a time.  When its connection ends everything keeps
 * running, and the next one is waited for (design law 1).  The controller is
 * our own uid, checked by the kernel, but it may be of another version and may
 * die half way: every message is checked like a stranger's.
 */
#ifndef USWITCH_LINK_H
#define USWITCH_LINK_H

#include "include/uswitch.h"

struct link;

/**
 * link_create() - prepare to serve
 * @us: the switch to work on (borrowed)
 * @listen_fd: listening SOCK_SEQPACKET unix socket (borrowed); made non-blocking
 * @stop_fd: readable when the process shall end, such as a signalfd (borrowed); -1: none
 * @out: the link
 *
 * Return: 0, -EINVAL if listen_fd is something else, -errno.
 */
int link_create(struct uswitch *us, int listen_fd, int stop_fd, struct link **out);

/* Ends the connection, lets go of the escrow; NULL is legal. */
void link_destroy(struct link *link);

/**
 * link_serve() - answer until US_LINK_SHUTDOWN or stop_fd
 *
 * Return: 0 after an orderly end, -errno if polling itself fails.
 */
int link_serve(struct link *link);

#endif /* USWITCH_LINK_H */
