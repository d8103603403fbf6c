/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * xdp_port.h - a port whose peer is a network device that the kernel keeps:
 * any NIC, or a veth pair, through AF_XDP sockets, one a queue.
 *
 * An XDP program on the device, which somebody with the privilege loads
 * (uswitch-xdp), redirects each queue's frames to its socket before the
 * kernel's network stack sees them.  No offloads: the kernel hands frames over
 * as they were on the wire and takes them as they shall be there.
 *
 * When this process ends, its sockets do, and the program passes frames to the
 * kernel's stack again.
 */
#ifndef USWITCH_XDP_PORT_H
#define USWITCH_XDP_PORT_H

#include "port.h"

/* Longest frame, bytes without tag: what fits into one chunk, and what in as many as a frame may take. */
#define XDP_FRAME_MAX_ONE (4096 - 256 - VLAN_TAG_LEN)
#define XDP_FRAME_MAX (16 * (4096 - 256) - VLAN_TAG_LEN)
#define XDP_RING_DEFAULT 1024
#define XDP_RING_MIN 64
#define XDP_RING_MAX 8192

/**
 * xdp_port_create() - make a port of AF_XDP sockets
 * @add: validated request; .ifindex: the device, in the network namespace where the sockets were made; .max_frame: up
 *      to XDP_FRAME_MAX_ONE everywhere, up to XDP_FRAME_MAX if kernel and driver do frames in several pieces;
 *      .ring_size: 0 or a power of two; .nic_flags: US_NIC_ZERO_COPY: the driver's zero-copy mode, or -EOPNOTSUPP
 * @state: state page; the port's on success, still the caller's on error.  nic.pool_bytes says in either case how much
 *      memory was to be shared with the kernel
 * @fds: a socket a queue, neither set up nor bound; borrowed, duplicated.  Who keeps one keeps its queue busy
 * @n: how many, add->n_queues
 * @shared: more than one worker delivers
 * @news_fd: for struct port
 * @out: the port, ended by its ops: stop, grace period, destroy
 *
 * Needs no capability.  Control thread.  Return: 0; -EINVAL: an fd is no AF_XDP socket, the device has fewer queues, or
 * a value is beyond what kernel and driver can do (the log says which); -EDQUOT: RLIMIT_MEMLOCK is less than
 * nic.pool_bytes; -EBUSY: a socket or a queue is in use; -ENODEV, -ENETDOWN, -EOPNOTSUPP, -ENOMEM, or -errno.
 */
int xdp_port_create(const struct us_port_add *add, struct us_state_page *state, const int *fds, uint32_t n,
                    bool shared, int news_fd, struct port **out);

/**
 * xdp_port_read() - bring state->nic up to date: whether the device is up, what the kernel dropped
 * @p: the port; queues may be running
 *
 * The device's own counters are the kernel's (ip -s link).  A device that is gone is noticed here, or when a frame is
 * sent to it; the kernel does not tell a sleeping worker.  Control thread.
 * Return: 0.
 */
int xdp_port_read(struct port *p);

/* The longest frame the port was set up for, bytes. */
uint32_t xdp_port_max_frame(const struct port *p);

#endif /* USWITCH_XDP_PORT_H */
