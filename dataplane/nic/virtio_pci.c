/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_pci.c - driver of virtio network devices on the PCI bus, for clouds
 * within clouds: life, link, and the table that nic_port.c sees.  Queues are
 * in virtio_rx.c and virtio_tx.c, registers in virtio_device.c.
 *
 * Theory of operation.  open resets the device and reads what it offers, so
 * that the port's offloads are known; start resets it again and goes through
 * 3.1.1: features, rings, DRIVER_OK, commands.  stop is a reset by register:
 * virtio functions need have no other.  Interrupts are MSI-X: vector i is
 * receive queue i's, the one behind them tells of changes of the
 * configuration; sent frames are reclaimed by the next burst and need none.
 *
 * A device is refused that could not be kept behind the IOMMU, see
 * VIRTIO_FEATURES_NEEDED.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "nic/nic.h"
#include "nic/nic_counter.h"
#include "nic/virtio_features.h"
#include "nic/virtio_pci_regs.h"
#include "nic/virtio_rx.h"
#include "nic/virtio_start.h"
#include "nic/virtio_tx.h"

#define RING_MIN 64
#define RING_MAX 4096

static const struct nic_id virtio_ids[] = {
    { 0x1af4, 0x1041, 0, "virtio network device" },
    { 0x1af4, 0x1000, 0, "virtio network device (transitional)" },
    { 0, 0, 0, NULL },
};

static size_t virtio_pool_size(const struct nic_config *cfg)
{
    return cfg->n_queues * (virtio_rx_bytes(cfg->ring_size) + virtio_tx_bytes(cfg->ring_size)) + virtio_ctrl_bytes();
}

/* ---- open ---- */

static void read_mac(struct nic *n, const struct virtio_nic *v)
{
    uint8_t claimed[ETH_ALEN];

    if (!(v->dev.offered & VIRTIO_BIT(VIRTIO_NET_F_MAC)) ||
        virtio_device_config_copy(&v->dev, VIRTIO_NET_CFG_MAC, claimed, sizeof(claimed)) < 0)
        return;
    if (!(claimed[0] & 1))      /* a group address is no station's */
        memcpy(n->mac, claimed, sizeof(claimed));
}

static int open_device(struct nic *n, struct virtio_nic *v)
{
    int rc = virtio_device_init(&v->dev, n);

    if (rc < 0) {
        log_error("port %u: the virtio device has no usable registers of virtio 1.x in its config space", n->port.id);
        return rc;
    }
    rc = virtio_device_reset(&v->dev);
    if (rc < 0)
        return rc;
    virtio_device_begin(&v->dev);
    rc = virtio_check_offer(n, v);
    if (rc < 0)
        virtio_device_add_status(&v->dev, VIRTIO_STATUS_FAILED);
    return rc;
}

static int virtio_open(struct nic *n)
{
    struct virtio_nic *const v = aligned_alloc(64, sizeof(*v));
    int rc;

    if (!v)
        return -ENOMEM;
    memset(v, 0, sizeof(*v));
    rc = open_device(n, v);
    if (rc < 0) {
        free(v);
        return rc;
    }
    n->priv = v;
    read_mac(n, v);
    atomic_store(&n->port.offloads,
                 virtio_features_tx_offloads(virtio_features_choose(v->dev.offered, US_QUEUES_MAX)));
    return 0;
}

static void virtio_close(struct nic *n)
{
    free(n->priv);
    n->priv = NULL;
}

/* ---- start and stop ---- */

static void stop(struct nic *n)
{
    struct virtio_nic *const v = n->priv;

    if (!v)
        return;
    if (virtio_device_reset(&v->dev) < 0)
        log_error("port %u: the virtio device does not answer to a reset", n->port.id);
    for (uint32_t i = 0; i < US_QUEUES_MAX; i++) {
        struct nic_queue *const q = &n->queue[i];

        if (q->rx)
            virtio_rx_fini(q->rx);
        if (q->tx)
            virtio_tx_fini(q->tx);
        free(q->rx);
        free(q->tx);
        q->rx = q->tx = NULL;
    }
    virtio_ctrl_stop(&v->ctrl);
}

static int start(struct nic *n)
{
    const int rc = virtio_start(n);

    if (rc < 0)
        stop(n);
    else
        atomic_store(&n->failed, 0);
    return rc;
}

/* ---- while it runs ---- */

static bool virtio_arm(struct nic_queue *q)
{
    struct virtio_rx *const rx = q->rx;

    return virtio_ring_arm(&rx->ring);
}

static void virtio_disarm(struct nic_queue *q)
{
    struct virtio_rx *const rx = q->rx;

    virtio_ring_disarm(&rx->ring);
}

/* The configuration has changed; an error is told of in the same way (2.1.2).  MSI-X needs no acknowledgement. */
static void virtio_other(struct nic *n)
{
    const struct virtio_nic *const v = n->priv;
    const uint8_t status = virtio_device_status(&v->dev);

    if (status == VIRTIO_STATUS_GONE)
        nic_fail(n, 0, BREAK_device_gone, status);
    else if (status & VIRTIO_STATUS_NEEDS_RESET)
        nic_fail(n, 0, BREAK_nic_error, status);
}

/* 5.1.4.2: without the STATUS feature the link is always up. */
static void read_link(const struct virtio_device *d, struct us_nic_state *out)
{
    const bool gone = virtio_device_status(d) == VIRTIO_STATUS_GONE;
    const uint32_t speed = virtio_device_config(d, VIRTIO_NET_CFG_SPEED, 4);

    out->link_up = !gone && (!virtio_has(d, VIRTIO_NET_F_STATUS) ||
                             (virtio_device_config(d, VIRTIO_NET_CFG_STATUS, 2) & VIRTIO_NET_S_LINK_UP) != 0);
    if (virtio_has(d, VIRTIO_NET_F_SPEED_DUPLEX) && speed <= VIRTIO_NET_SPEED_MAX) {
        out->speed_mbps = speed;
        out->full_duplex = virtio_device_config(d, VIRTIO_NET_CFG_DUPLEX, 1) == VIRTIO_NET_DUPLEX_FULL;
    }
}

/* A counter of all queues; @member: its place in struct virtio_count. */
static uint64_t total(const struct virtio_nic *v, size_t member)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < US_QUEUES_MAX; i++)
        sum += atomic_load_explicit((const _Atomic uint64_t *)(const void *)((const char *)&v->count[i] + member),
                                    memory_order_relaxed);
    return sum;
}

static void virtio_read(struct nic *n, struct us_nic_state *out)
{
    const struct virtio_nic *const v = n->priv;

    virtio_other(n);
    read_link(&v->dev, out);
    out->counter[NIC_COUNTER_rx_packets] = total(v, offsetof(struct virtio_count, rx_packets));
    out->counter[NIC_COUNTER_rx_bytes] = total(v, offsetof(struct virtio_count, rx_bytes));
    out->counter[NIC_COUNTER_rx_length_errors] = total(v, offsetof(struct virtio_count, rx_length_errors));
    out->counter[NIC_COUNTER_tx_packets] = total(v, offsetof(struct virtio_count, tx_packets));
    out->counter[NIC_COUNTER_tx_bytes] = total(v, offsetof(struct virtio_count, tx_bytes));
    out->counter[NIC_COUNTER_tx_tso] = total(v, offsetof(struct virtio_count, tx_tso));
}

/* A frame is a buffer. */
static void virtio_tx_progress(const struct nic_queue *q, struct nic_tx_progress *out)
{
    const struct virtio_tx *const tx = q->tx;

    out->pending = virtio_ring_pending(&tx->ring, &out->position);
    out->around = tx->ring.size;
}

const struct nic_driver virtio_pci_driver = {
    .name = "virtio_pci",
    .ids = virtio_ids,
    .bars = (1u << NIC_BARS) - 1,   /* the capabilities say which */
    .queues_max = US_QUEUES_MAX,
    .ring_min = RING_MIN,
    .ring_max = RING_MAX,
    .ring_multiple = 1,
    .frame_max = US_FRAME_MAX,
    .pool_size = virtio_pool_size,
    .open = virtio_open,
    .start = start,
    .stop = stop,
    .close = virtio_close,
    .rx_burst = virtio_rx_burst,
    .rx_complete = virtio_rx_complete,
    .tx_burst = virtio_tx_burst,
    .tx_progress = virtio_tx_progress,
    .arm = virtio_arm,
    .disarm = virtio_disarm,
    .other = virtio_other,
    .read = virtio_read,
};
