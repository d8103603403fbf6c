/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * tap_wire.h - the other side of a TAP device, for tests: makes one in a
 * network namespace of the test's own, and sends and receives on it as the
 * host's stack would (packet socket with virtio-net headers).
 */
#ifndef USWITCH_TESTS_TAP_WIRE_H
#define USWITCH_TESTS_TAP_WIRE_H

#include <linux/virtio_net.h>
#include <stdbool.h>
#include <stdint.h>

/**
 * struct tap_wire - a device and both its sides
 * @fd: the queue, what a tap port gets
 * @socket: packet socket on the interface
 * @index: the interface's
 * @name: its name
 * @vlan_tci: of the last frame received, -1 if it had no tag
 */
struct tap_wire {
    int fd;
    int socket;
    int index;
    char name[16];
    int vlan_tci;
};

/* A quiet network namespace for this process; false if that is not allowed. */
bool tap_wire_namespace(void);

/* An open queue of a device with these IFF_* flags, not up; -1 if that is not allowed. */
int tap_wire_open(int flags, char name[16]);

/* A device that is up. */
bool tap_wire_init(struct tap_wire *w);
void tap_wire_fini(struct tap_wire *w);

bool tap_wire_set_up(struct tap_wire *w, bool up);

/* Delete the interface while the queue is open. */
bool tap_wire_delete(struct tap_wire *w);

/* The host sends: the frame can be read from w->fd. @hdr NULL: an ordinary frame. */
bool tap_wire_send(struct tap_wire *w, const struct virtio_net_hdr *hdr, const void *frame, uint32_t len);

/* The host receives what was written to w->fd, waits up to @timeout_ms. Returns its length, 0 if nothing comes. */
uint32_t tap_wire_receive(struct tap_wire *w, struct virtio_net_hdr *hdr, void *frame, uint32_t size,
                          int timeout_ms);

#endif /* USWITCH_TESTS_TAP_WIRE_H */
