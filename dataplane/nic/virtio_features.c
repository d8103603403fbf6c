/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_features.c - see virtio_features.h.
 */
#include "nic/virtio_features.h"

#include <stdbool.h>

#include "base/virtq_spec.h"
#include "frame.h"
#include "nic/virtio_pci_regs.h"

#define GUEST_USO (VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO4) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_USO6))

/* Taken wherever they are offered. */
#define WELCOME (VIRTIO_FEATURES_NEEDED | VIRTIO_BIT(VIRTIO_F_RING_EVENT_IDX) | VIRTIO_BIT(VIRTIO_F_RING_PACKED) | \
                 VIRTIO_BIT(VIRTIO_F_IN_ORDER) | VIRTIO_BIT(VIRTIO_NET_F_MAC) | VIRTIO_BIT(VIRTIO_NET_F_MTU) | \
                 VIRTIO_BIT(VIRTIO_NET_F_STATUS) | VIRTIO_BIT(VIRTIO_NET_F_SPEED_DUPLEX) | \
                 VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF) | VIRTIO_BIT(VIRTIO_NET_F_CSUM) | \
                 VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) | VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ))

/* Taken if another one is. */
static const struct {
    uint64_t feature;
    uint64_t needs;             /* one of these bits */
} conditional[] = {
    { VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4), VIRTIO_BIT(VIRTIO_NET_F_CSUM) },
    { VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6), VIRTIO_BIT(VIRTIO_NET_F_CSUM) },
    { VIRTIO_BIT(VIRTIO_NET_F_HOST_USO), VIRTIO_BIT(VIRTIO_NET_F_CSUM) },
    { VIRTIO_BIT(VIRTIO_NET_F_HOST_ECN), VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_HOST_TSO6) },
    { VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4), VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) },
    { VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6), VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) },
    { GUEST_USO, VIRTIO_BIT(VIRTIO_NET_F_GUEST_CSUM) },
    { VIRTIO_BIT(VIRTIO_NET_F_GUEST_ECN), VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6) },
    { VIRTIO_BIT(VIRTIO_NET_F_CTRL_RX), VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) },
    { VIRTIO_BIT(VIRTIO_NET_F_MQ), VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) },
    { VIRTIO_BIT(VIRTIO_NET_F_RSS), VIRTIO_BIT(VIRTIO_NET_F_MQ) },     /* so that there is another way */
    { VIRTIO_BIT(VIRTIO_NET_F_NOTF_COAL), VIRTIO_BIT(VIRTIO_NET_F_CTRL_VQ) },
};

uint64_t virtio_features_choose(uint64_t offered, uint32_t n_queues)
{
    uint64_t features;

#if defined(__x86_64__)
    /* 6.1 wants the barriers of a device outside the processors; on x86 those between processors are the same. */
    features = offered & (WELCOME | VIRTIO_BIT(VIRTIO_F_ORDER_PLATFORM));
#else
    features = offered & WELCOME;
#endif
    if (!(offered & VIRTIO_BIT(VIRTIO_NET_F_MRG_RXBUF)))
        offered &= ~(VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO4) | VIRTIO_BIT(VIRTIO_NET_F_GUEST_TSO6) | GUEST_USO);
    if ((offered & GUEST_USO) != GUEST_USO)
        offered &= ~GUEST_USO;
    if (n_queues == 1)
        offered &= ~VIRTIO_BIT(VIRTIO_NET_F_MQ);
    for (unsigned i = 0; i < sizeof(conditional) / sizeof(conditional[0]); i++)
        if (features & conditional[i].needs)
            features |= offered & conditional[i].feature;
    return features;
}

/* OFFLOAD_* of a direction, bit by bit. */
static uint32_t offloads_of(uint64_t features, unsigned csum, unsigned tso4, unsigned tso6, unsigned ecn, unsigned uso)
{
    uint32_t offloads = 0;

    if (features & VIRTIO_BIT(csum))
        offloads |= OFFLOAD_CSUM;
    if (features & VIRTIO_BIT(tso4))
        offloads |= OFFLOAD_TSO4;
    if (features & VIRTIO_BIT(tso6))
        offloads |= OFFLOAD_TSO6;
    if (features & VIRTIO_BIT(ecn))
        offloads |= OFFLOAD_ECN;
    if (features & VIRTIO_BIT(uso))
        offloads |= OFFLOAD_USO4 | OFFLOAD_USO6;
    return offloads;
}

uint32_t virtio_features_tx_offloads(uint64_t features)
{
    return offloads_of(features, VIRTIO_NET_F_CSUM, VIRTIO_NET_F_HOST_TSO4, VIRTIO_NET_F_HOST_TSO6,
                       VIRTIO_NET_F_HOST_ECN, VIRTIO_NET_F_HOST_USO);
}

uint32_t virtio_features_rx_offloads(uint64_t features)
{
    return offloads_of(features, VIRTIO_NET_F_GUEST_CSUM, VIRTIO_NET_F_GUEST_TSO4, VIRTIO_NET_F_GUEST_TSO6,
                       VIRTIO_NET_F_GUEST_ECN, VIRTIO_NET_F_GUEST_USO4);
}
