/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * tap_port.h - a port whose peer is the host's network stack, through a TAP
 * device: a host address, a container, a physical bridge.
 *
 * The device is made and configured by somebody with the privilege to do so;
 * this process gets its file descriptor (design law 5).  Checksum and TCP
 * segmentation requests pass through it untouched, both ways.
 */
#ifndef USWITCH_TAP_PORT_H
#define USWITCH_TAP_PORT_H

#include "port.h"

/**
 * tap_port_create() - make a port of an open TAP device
 * @add: validated request
 * @state: state page; the port's on success, still the caller's on error
 * @tap_fd: queue of a device made with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR; borrowed, duplicated; becomes
 *      non-blocking.  Whoever made it vouches for IFF_NO_PI, which the kernel does not let others see
 * @shared: more than one worker delivers
 * @news_fd: for struct port
 * @out: the port, ended by its ops: stop, grace period, destroy
 *
 * Control thread.  Return: 0; -EINVAL if the fd is not such a device; -ENOMEM, -EMFILE; or the kernel's
 * refusal of the header length or the offloads.
 */
int tap_port_create(const struct us_port_add *add, struct us_state_page *state, int tap_fd, bool shared,
                    int news_fd, struct port **out);

#endif /* USWITCH_TAP_PORT_H */
