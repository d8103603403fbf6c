/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * nic_port.h - a port whose peer is the wire: a physical adapter, driven here.
 *
 * The device comes from somebody with the right to open it (vfio.h); which of
 * the drivers takes it is decided by its PCI ids.  Link and hardware counters
 * are in us_state_page.nic.
 */
#ifndef USWITCH_NIC_PORT_H
#define USWITCH_NIC_PORT_H

#include "nic/nic_device.h"

/**
 * nic_port_create() - make a port of a VFIO device
 * @add: validated request
 * @state: state page; the port's on success, still the caller's on error.  nic.pool_bytes says in either case how much
 *      memory the device was to get, if it came so far
 * @fds: container (or iommufd, see US_NIC_IOMMUFD) and device; borrowed, duplicated
 * @n: how many, 2
 * @shared: more than one worker delivers
 * @news_fd: for struct port
 * @out: the port, running, ended by its ops: stop, grace period, destroy
 *
 * Control thread.  Return: 0; -ENODEV: no driver for that device; -EINVAL: an fd is something else, or a value is
 * beyond what the driver can do; -ENOTSUP: zero copy, which the driver does not know; -EPERM: no IOMMU; -EDQUOT:
 * RLIMIT_MEMLOCK is less than the pool; -EIO: the device does not do as it is told; or -errno.
 */
int nic_port_create(const struct us_port_add *add, struct us_state_page *state, const int *fds, uint32_t n,
                    bool shared, int news_fd, struct port **out);

/**
 * nic_port_create_on() - the same, on a device that is open
 * @d: the device; the port's on success, still the caller's on error
 * @driver: who drives it; NULL: decided by its ids
 */
int nic_port_create_on(const struct us_port_add *add, struct us_state_page *state, struct nic_device *d,
                       const struct nic_driver *driver, bool shared, int news_fd, struct port **out);

/**
 * nic_port_watch() - have interrupts that are nobody's queue's announced
 * @p: the port
 * @epoll_fd: gets the port's eventfds, edge-triggered, with the port id as data; borrowed as long as the port exists
 *
 * Control thread.  Return: 0 or -errno.
 */
int nic_port_watch(struct port *p, int epoll_fd);

/* One of these is readable: link changed, error, device wanted back.  Control thread. */
void nic_port_other(struct port *p);

/* A device is read so often, ms, or more often; less, and one that hangs is found late. */
#define NIC_READ_MS 2000

/*
 * Bring state->nic up to date; a device that is gone, or has stopped sending, is fenced.  Control thread.  Return: 0,
 * or -EIO: the device is not started.
 */
int nic_port_read(struct port *p);

/**
 * nic_port_reset() - start the device anew, whatever it does
 * @p: the port; no worker has its queues
 *
 * Waits for a grace period.  On success the port is mended; if it was fenced and the device cannot be started it stays
 * fenced.  Control thread.  Return: 0 or -errno.
 */
int nic_port_reset(struct port *p);

/* Is it a NIC port with zero copy?  Any port; control thread. */
bool nic_port_lends(const struct port *p);

/**
 * nic_port_lend() - let the device read guest memory in place
 * @p: NIC port with zero copy
 * @base: where it is mapped here, on a page; no part of it is lent yet
 * @size: bytes, whole pages of the mapping
 *
 * All of it becomes resident and is locked.  Waits for a grace period.  Control thread.
 * Return: 0; -EDQUOT: RLIMIT_MEMLOCK does not allow so much; -ENOSPC: no addresses left for the device; or -errno.
 */
int nic_port_lend(struct port *p, void *base, size_t size);

/**
 * nic_port_unlend() - take memory of nic_port_lend() back
 * @p: the port
 * @base: as then; without effect if it was refused
 *
 * The device has read what it was given when this returns: waits for that a fraction of a second at most, and fences
 * and stops an adapter that does not finish.  Control thread.
 */
void nic_port_unlend(struct port *p, void *base);

/* A fenced adapter goes on reading in place until it is stopped: stop it, until it is reset.  NIC port; control. */
void nic_port_rest(struct port *p);

/* The longest frame the device was set up for, bytes. */
uint32_t nic_port_max_frame(const struct port *p);

#endif /* USWITCH_NIC_PORT_H */
