/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * link_calls.h - what each request of the dataplane link means.  Control
 * thread; knows messages, not sockets.
 */
#ifndef USWITCH_LINK_CALLS_H
#define USWITCH_LINK_CALLS_H

#include <stdbool.h>

#include "escrow.h"
#include "link_io.h"

/**
 * struct link_calls - what requests work on
 * @us: the switch (borrowed)
 * @escrow: owned
 * @pid: of this process, for replies
 * @greeted: this connection has said HELLO and is of our version
 * @shutdown: US_LINK_SHUTDOWN came
 * @hello: payload of the last HELLO reply
 * @page_fd: switch page, for HELLO replies (borrowed)
 * @escrow_id: head of the last ESCROW_GET reply
 * @entries: payload of the last FDB_DUMP reply
 *
 * A reply points into this struct or into the escrow, so it must be sent before the next request is
 * worked on.
 */
struct link_calls {
    struct uswitch *us;
    struct escrow *escrow;
    uint32_t pid;
    bool greeted;
    bool shutdown;
    struct us_link_hello hello;
    int page_fd;
    struct us_link_escrow escrow_id;
    struct us_fdb_entry entries[(US_LINK_MSG_MAX - sizeof(struct us_link_head)) /
                                sizeof(struct us_fdb_entry)];
};

/**
 * link_calls_run() - work on one request and fill the reply
 * @calls: context
 * @in: a whole message; its fds stay with the caller
 * @out: zeroed; the reply, outcome in head.rc
 */
void link_calls_run(struct link_calls *calls, const struct link_in *in, struct link_out *out);

/* Fill calls->hello with what this process says of itself. */
void link_calls_fill_hello(struct link_calls *calls);

#endif /* USWITCH_LINK_CALLS_H */
