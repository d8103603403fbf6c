/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_rss.c - see virtio_rss.h.
 */
#include "nic/virtio_rss.h"

#include <errno.h>
#include <sys/random.h>

#include "nic/virtio_pci_regs.h"

/* What every device with the feature has at least (5.1.4.1). */
#define KEY_LEN 40
#define TABLE_LEN 128
/* Addresses alone for what has no ports: fragments, other protocols. */
#define HASH_TYPES (VIRTIO_NET_HASH_IPV4 | VIRTIO_NET_HASH_TCPV4 | VIRTIO_NET_HASH_UDPV4 | \
                    VIRTIO_NET_HASH_IPV6 | VIRTIO_NET_HASH_TCPV6 | VIRTIO_NET_HASH_UDPV6)

/* 5.1.6.5.7.1, with the sizes that are used here.  A queue is named by its pair. */
struct rss_config {
    le32 hash_types;
    le16 table_mask;
    le16 unclassified;
    le16 table[TABLE_LEN];
    le16 max_tx_vq;
    uint8_t key_len;
    uint8_t key[KEY_LEN];
} __attribute__((packed));

_Static_assert(sizeof(struct rss_config) <= VIRTIO_CTRL_DATA_MAX, "a command takes it");

int virtio_rss_start(const struct nic *n, struct virtio_nic *v)
{
    const uint32_t types = virtio_device_config(&v->dev, VIRTIO_NET_CFG_HASH_TYPES, 4) & HASH_TYPES;
    struct rss_config c = {
        .hash_types = cpu_to_le32(types),
        .table_mask = cpu_to_le16(TABLE_LEN - 1),
        .max_tx_vq = cpu_to_le16((uint16_t)n->cfg.n_queues),
        .key_len = KEY_LEN,
    };

    if (!types || virtio_device_config(&v->dev, VIRTIO_NET_CFG_RSS_KEY, 1) < KEY_LEN ||
        virtio_device_config(&v->dev, VIRTIO_NET_CFG_RSS_TABLE, 2) < TABLE_LEN)
        return -ENOTSUP;
    for (uint32_t i = 0; i < TABLE_LEN; i++)
        c.table[i] = cpu_to_le16((uint16_t)(i % n->cfg.n_queues));
    /* Secret, so that nobody can aim all his flows at one queue. */
    if (getrandom(c.key, sizeof(c.key), 0) != (ssize_t)sizeof(c.key))
        return -EIO;
    return virtio_ctrl_command(&v->ctrl, VIRTIO_NET_CTRL_MQ, VIRTIO_NET_CTRL_MQ_RSS_CONFIG, &c, sizeof(c));
}
