/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * intel_device.c - see intel_device.h.
 */
#include "nic/intel_device.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "nic/intel_offload.h"
#include "nic/intel_ring.h"

#define STATUS 0x0008u
#define RAH_AV (1u << 31)
/* From TDH to TDT. */
#define TAIL_BEHIND 8u
/* A frame takes so many descriptors at most: its buffers and a context. */
#define DESCS_MAX (NIC_SEGS_MAX + 1)

bool intel_is_gone(const struct nic *n)
{
    return nic_is_gone(bar_read32(&n->bar[0], STATUS));
}

void intel_sleep_us(uint32_t us)
{
    struct timespec left = { .tv_sec = us / 1000000, .tv_nsec = (long)(us % 1000000) * 1000 };

    while (nanosleep(&left, &left) < 0 && errno == EINTR)
        ;
}

int intel_wait(const struct nic *n, uint32_t reg, uint32_t mask, uint32_t want, uint32_t step_us, uint32_t steps)
{
    for (uint32_t i = 0; i < steps; i++) {
        const uint32_t value = bar_read32(&n->bar[0], reg);

        if (nic_is_gone(value) && intel_is_gone(n))
            return -EIO;
        if ((value & mask) == want)
            return 0;
        intel_sleep_us(step_us);
    }
    return -ETIMEDOUT;
}

/* As the EEPROM has it, bytes in the order of the wire from the lowest on (82576 8.10, 82599 8.2.3.10.6). */
static int read_mac(struct nic *n, uint32_t ral)
{
    const uint32_t low = bar_read32(&n->bar[0], ral), high = bar_read32(&n->bar[0], ral + 4);

    for (unsigned i = 0; i < ETH_ALEN; i++)
        n->mac[i] = (uint8_t)(i < 4 ? low >> (8 * i) : high >> (8 * (i - 4)));
    return !(high & RAH_AV) || (n->mac[0] & 1) || (low | (high & 0xffff)) == 0 ? -EIO : 0;
}

int intel_open(struct nic *n, size_t bar_size, size_t priv_size, int (*reset)(struct nic *n), uint32_t ral)
{
    int rc;

    if (n->bar[0].size < bar_size)
        return -ENODEV;
    n->priv = calloc(1, priv_size);
    if (!n->priv)
        return -ENOMEM;
    rc = reset(n);
    if (rc == 0)
        rc = read_mac(n, ral);
    if (rc < 0) {
        intel_close(n);
        return rc;
    }
    atomic_store(&n->port.offloads, INTEL_OFFLOADS);
    return 0;
}

void intel_close(struct nic *n)
{
    free(n->priv);
    n->priv = NULL;
}

/*
 * 82576 7.2.2.3, 82599 7.2.3.3: what lies between head and tail the device has not taken yet.  The head moves as
 * descriptors are taken, also where nothing is reported.
 */
void intel_tx_progress(const struct nic_queue *q, uint32_t tdh, struct nic_tx_progress *out)
{
    const uint32_t size = q->nic->cfg.ring_size;
    const uint32_t head = bar_read32(&q->nic->bar[0], tdh), tail = bar_read32(&q->nic->bar[0], tdh + TAIL_BEHIND);

    *out = (struct nic_tx_progress){ .position = head, .around = (size + DESCS_MAX - 1) / DESCS_MAX };
    /* Neither is beyond the ring, unless the device is gone. */
    if (head < size && tail < size)
        out->pending = tail >= head ? tail - head : tail + size - head;
}
