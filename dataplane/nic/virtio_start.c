/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_start.c - see virtio_start.h: virtio 1.2, 3.1.1, step by step, with
 * everything the device says of itself checked against what is wanted.
 */
#include "nic/virtio_start.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "nic/virtio_features.h"
#include "nic/virtio_pci_regs.h"
#include "nic/virtio_rss.h"
#include "nic/virtio_rx.h"
#include "nic/virtio_tx.h"

int virtio_check_offer(const struct nic *n, const struct virtio_nic *v)
{
    const uint64_t missing = VIRTIO_FEATURES_NEEDED & ~v->dev.offered;

    if (v->dev.offered == UINT64_MAX)
        return -EIO;
    if (!missing)
        return 0;
    if (missing & VIRTIO_BIT(VIRTIO_F_VERSION_1))
        log_error("port %u: the virtio device is a legacy one, VERSION_1 is needed", n->port.id);
    else
        log_error("port %u: the virtio device goes past the IOMMU, it has to offer ACCESS_PLATFORM (QEMU: "
                  "iommu_platform=on)", n->port.id);
    return -ENODEV;
}

/* Is the device, as it is now, one for this configuration? */
static int check_config(const struct nic *n, struct virtio_nic *v)
{
    const uint32_t mtu = virtio_device_config(&v->dev, VIRTIO_NET_CFG_MTU, 2);
    const struct nic_config *const cfg = &n->cfg;

    v->pairs = 1;               /* 5.1.2: without MQ there is one, whatever the device says */
    if (virtio_has(&v->dev, VIRTIO_NET_F_MQ))
        v->pairs = virtio_device_config(&v->dev, VIRTIO_NET_CFG_MAX_PAIRS, 2);
    if (v->pairs < cfg->n_queues || v->pairs > VIRTIO_NET_MAX_PAIRS) {
        log_error("port %u: the virtio device has %u pairs of queues, %u are wanted", n->port.id, v->pairs,
                  cfg->n_queues);
        return -EINVAL;
    }
    if (virtio_has(&v->dev, VIRTIO_NET_F_MTU) && cfg->max_frame > mtu + ETH_HDR_LEN) {
        log_error("port %u: the virtio device's MTU is %u, %u is wanted", n->port.id, mtu,
                  cfg->max_frame - ETH_HDR_LEN);
        return -EINVAL;
    }
    if (!virtio_has(&v->dev, VIRTIO_NET_F_MRG_RXBUF) &&
        cfg->max_frame + VLAN_TAG_LEN + VNET_WIRE_LEN_MRG > DMA_BUF_SIZE) {
        log_error("port %u: the virtio device cannot receive %u bytes, it lacks MRG_RXBUF", n->port.id,
                  cfg->max_frame);
        return -EINVAL;
    }
    return 0;
}

/* A vector for each queue and one more, one for all of them, or no interrupts at all. */
static uint16_t vector(const struct nic *n, uint32_t index)
{
    if (n->irq.n == 0)
        return VIRTIO_NO_VECTOR;
    return n->irq.n > n->cfg.n_queues ? (uint16_t)index : 0;
}

/* A queue's ring as it will be, or size 0: the device has none. */
static struct virtio_ring plan_ring(const struct nic *n, const struct virtio_nic *v, uint32_t index)
{
    const bool packed = virtio_has(&v->dev, VIRTIO_F_RING_PACKED);
    uint32_t size = virtio_device_queue_size(&v->dev, index);

    if (size > n->cfg.ring_size)
        size = n->cfg.ring_size;
    if (size && !packed)        /* 2.7: a power of two, at most what was asked for */
        size = 1u << (31 - __builtin_clz(size));
    return (struct virtio_ring){
        .index = (uint16_t)index,
        .size = (uint16_t)size,
        .packed = packed,
        .event_idx = virtio_has(&v->dev, VIRTIO_F_RING_EVENT_IDX),
        .in_order = virtio_has(&v->dev, VIRTIO_F_IN_ORDER),
        .step = 1,
    };
}

static int start_rx(struct nic *n, struct virtio_nic *v, struct nic_queue *q)
{
    struct virtio_rx *const rx = calloc(1, sizeof(*rx));
    int rc;

    q->rx = rx;
    if (!rx)
        return -ENOMEM;
    rx->ring = plan_ring(n, v, VIRTIO_NET_RX_QUEUE(q->index));
    rx->offloads = virtio_features_rx_offloads(v->dev.features);
    rx->mergeable = virtio_has(&v->dev, VIRTIO_NET_F_MRG_RXBUF);
    rx->count = &v->count[q->index];
    if (rx->ring.size == 0)
        return -EIO;
    rc = virtio_rx_init(rx, &n->pool);
    return rc < 0 ? rc : virtio_device_queue_start(&v->dev, &rx->ring, &n->pool, vector(n, q->index));
}

static int start_tx(struct nic *n, struct virtio_nic *v, struct nic_queue *q)
{
    struct virtio_tx *const tx = calloc(1, sizeof(*tx));
    int rc;

    q->tx = tx;
    if (!tx)
        return -ENOMEM;
    tx->ring = plan_ring(n, v, VIRTIO_NET_TX_QUEUE(q->index));
    tx->count = &v->count[q->index];
    if (tx->ring.size == 0)
        return -EIO;
    rc = virtio_tx_init(tx, &n->pool);
    return rc < 0 ? rc : virtio_device_queue_start(&v->dev, &tx->ring, &n->pool, VIRTIO_NO_VECTOR);
}

static int start_queues(struct nic *n, struct virtio_nic *v)
{
    int rc = virtio_device_config_vector(&v->dev, vector(n, n->cfg.n_queues));

    for (uint32_t i = 0; i < n->cfg.n_queues && rc == 0; i++) {
        rc = start_rx(n, v, &n->queue[i]);
        if (rc == 0)
            rc = start_tx(n, v, &n->queue[i]);
    }
    if (rc == 0 && virtio_has(&v->dev, VIRTIO_NET_F_CTRL_VQ))
        rc = virtio_ctrl_start(&v->ctrl, &v->dev, &n->pool, (uint16_t)VIRTIO_NET_RX_QUEUE(v->pairs));
    if (rc < 0)
        log_error("port %u: the virtio device's queues cannot be set up: %s", n->port.id, strerror(-rc));
    return rc;
}

/* By RSS if the device can; else as it thinks best, which is by flow as well (5.1.6.5.6). */
static int spread(const struct nic *n, struct virtio_nic *v)
{
    const le16 pairs = cpu_to_le16((uint16_t)n->cfg.n_queues);
    int rc = -ENOTSUP;

    if (virtio_has(&v->dev, VIRTIO_NET_F_RSS)) {
        rc = virtio_rss_start(n, v);
        if (rc < 0)
            log_warning("port %u: the virtio device offers RSS and does not do it; it spreads flows as it likes",
                        n->port.id);
    }
    if (rc < 0)
        rc = virtio_ctrl_command(&v->ctrl, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET, &pairs, sizeof(pairs));
    return rc;
}

/* What is asked for by commands.  Moderation is a wish; the others must be fulfilled. */
static int configure(const struct nic *n, struct virtio_nic *v)
{
    const struct { le32 max_packets, usecs; } moderation = { cpu_to_le32(UINT32_MAX), cpu_to_le32(n->cfg.irq_us) };
    const uint8_t promiscuous = n->cfg.promiscuous;
    int rc = 0;

    if (n->cfg.n_queues > 1)
        rc = spread(n, v);
    if (rc == 0 && virtio_has(&v->dev, VIRTIO_NET_F_CTRL_RX))
        rc = virtio_ctrl_command(&v->ctrl, VIRTIO_NET_CTRL_RX, VIRTIO_NET_CTRL_RX_PROMISC, &promiscuous, 1);
    else if (rc == 0 && promiscuous)
        log_warning("port %u: the virtio device cannot be asked for all frames, it may filter", n->port.id);
    if (rc < 0) {
        log_error("port %u: the virtio device does not carry out a command: %s", n->port.id, strerror(-rc));
        return rc;
    }
    if (n->cfg.irq_us && virtio_has(&v->dev, VIRTIO_NET_F_NOTF_COAL))
        rc = virtio_ctrl_command(&v->ctrl, VIRTIO_NET_CTRL_NOTF_COAL, VIRTIO_NET_CTRL_NOTF_COAL_RX_SET, &moderation,
                                 sizeof(moderation));
    return rc == -ETIMEDOUT ? rc : 0;
}

static int negotiate(struct nic *n, struct virtio_nic *v)
{
    const int rc = virtio_device_reset(&v->dev);
    uint64_t features;

    if (rc < 0) {
        log_error("port %u: the virtio device cannot be reset", n->port.id);
        return rc;
    }
    virtio_device_begin(&v->dev);
    features = virtio_features_choose(v->dev.offered, n->cfg.n_queues);
    if (virtio_check_offer(n, v) < 0 || virtio_device_accept(&v->dev, features) < 0) {
        log_error("port %u: the virtio device refuses features 0x%llx of 0x%llx", n->port.id,
                  (unsigned long long)features, (unsigned long long)v->dev.offered);
        return -EIO;
    }
    atomic_store(&n->port.offloads, virtio_features_tx_offloads(features));
    return check_config(n, v);
}

int virtio_start(struct nic *n)
{
    struct virtio_nic *const v = n->priv;
    int rc;

    if (n->irq.n && !n->irq.msix) {
        log_error("port %u: a virtio device without MSI-X is not driven", n->port.id);
        return -ENOSPC;
    }
    rc = negotiate(n, v);
    if (rc == 0)
        rc = start_queues(n, v);
    if (rc < 0)
        return rc;
    virtio_device_add_status(&v->dev, VIRTIO_STATUS_DRIVER_OK);
    for (uint32_t i = 0; i < n->cfg.n_queues; i++)
        virtio_rx_fill(n->queue[i].rx);
    rc = configure(n, v);
    if (rc == 0 && (virtio_device_status(&v->dev) & (VIRTIO_STATUS_NEEDS_RESET | VIRTIO_STATUS_FAILED))) {
        log_error("port %u: the virtio device is not content, status 0x%x", n->port.id,
                  virtio_device_status(&v->dev));
        rc = -EIO;
    }
    return rc;
}
