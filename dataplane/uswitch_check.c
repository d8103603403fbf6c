/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * uswitch_check.c - what a request for a port may hold, whichever way it came
 * in.  Pure functions, any thread.
 */
#include <errno.h>

#include "uswitch_priv.h"

#define IRQ_US_MAX 100000

int uswitch_check_limits(uint32_t flood_rate, uint32_t flood_burst, uint32_t max_frame)
{
    if (max_frame < US_FRAME_MIN || max_frame > US_FRAME_MAX)
        return -EINVAL;
    /* A rate without depth would never let anything pass. */
    return flood_rate != 0 && flood_burst == 0 ? -EINVAL : 0;
}

/* What only an adapter has, and how many fds a port's kind takes. */
static int check_device(const struct us_port_add *add, uint32_t n_fds)
{
    const uint32_t flags = add->kind == US_KIND_NIC ? US_NIC_IOMMUFD | US_NIC_ZERO_COPY | US_NIC_LRO : US_NIC_ZERO_COPY;

    if (add->kind == US_KIND_VHOST || add->kind == US_KIND_TAP) {
        if (add->n_queues || add->ring_size || add->irq_us || add->nic_flags || add->ifindex)
            return -EINVAL;
        return n_fds == (add->kind == US_KIND_TAP ? 1 : 0) ? 0 : -EINVAL;
    }
    if (add->n_queues < 1 || add->n_queues > US_QUEUES_MAX || add->ring_size > US_RING_SIZE_MAX)
        return -EINVAL;
    if (add->irq_us > (add->kind == US_KIND_NIC ? IRQ_US_MAX : 0) || add->nic_flags & ~flags)
        return -EINVAL;
    if ((add->ifindex != 0) != (add->kind == US_KIND_XDP))
        return -EINVAL;
    return n_fds == (add->kind == US_KIND_NIC ? 2 : add->n_queues) ? 0 : -EINVAL;
}

int uswitch_check_port(const struct us_port_add *add, uint32_t n_device_fds)
{
    int rc;

    if (add->port_id >= US_PORTS_MAX || add->kind < US_KIND_VHOST || add->kind > US_KIND_XDP)
        return -EINVAL;
    rc = check_device(add, n_device_fds);
    return rc < 0 ? rc : uswitch_check_limits(add->flood_rate, add->flood_burst, add->max_frame);
}
