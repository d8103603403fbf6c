/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_pci_regs.h - what a virtio network adapter has on the PCI bus, as
 * virtio 1.2 numbers it: capabilities (4.1.4), the common configuration
 * (4.1.4.3), device status (2.1), the configuration of a network device
 * (5.1.4) and the commands of its control queue (5.1.6.5).  The feature bits
 * that both ends of a virtqueue know are in base/virtq_spec.h.
 */
#ifndef USWITCH_NIC_VIRTIO_PCI_REGS_H
#define USWITCH_NIC_VIRTIO_PCI_REGS_H

/* 4.1.4: a vendor capability (PCI 3.0, appendix H), and offsets in a struct virtio_pci_cap. */
#define VIRTIO_CAP_ID 0x09
#define VIRTIO_CAP_LEN 2
#define VIRTIO_CAP_TYPE 3
#define VIRTIO_CAP_BAR 4
#define VIRTIO_CAP_OFFSET 8
#define VIRTIO_CAP_LENGTH 12
#define VIRTIO_CAP_SIZE 16
#define VIRTIO_CAP_NOTIFY_MULTIPLIER 16 /* 4.1.4.4 */
#define VIRTIO_CAP_NOTIFY_SIZE 20

#define VIRTIO_CAP_TYPE_COMMON 1
#define VIRTIO_CAP_TYPE_NOTIFY 2
#define VIRTIO_CAP_TYPE_DEVICE 4

/* 4.1.4.3: common configuration; widths as the names' comments say. */
#define VIRTIO_COMMON_DEVICE_FEATURE_SELECT 0x00    /* 32 */
#define VIRTIO_COMMON_DEVICE_FEATURE 0x04           /* 32, read only */
#define VIRTIO_COMMON_DRIVER_FEATURE_SELECT 0x08    /* 32 */
#define VIRTIO_COMMON_DRIVER_FEATURE 0x0c           /* 32 */
#define VIRTIO_COMMON_CONFIG_MSIX_VECTOR 0x10       /* 16 */
#define VIRTIO_COMMON_NUM_QUEUES 0x12               /* 16, read only */
#define VIRTIO_COMMON_DEVICE_STATUS 0x14            /* 8 */
#define VIRTIO_COMMON_CONFIG_GENERATION 0x15        /* 8, read only */
#define VIRTIO_COMMON_QUEUE_SELECT 0x16             /* 16 */
#define VIRTIO_COMMON_QUEUE_SIZE 0x18               /* 16 */
#define VIRTIO_COMMON_QUEUE_MSIX_VECTOR 0x1a        /* 16 */
#define VIRTIO_COMMON_QUEUE_ENABLE 0x1c             /* 16 */
#define VIRTIO_COMMON_QUEUE_NOTIFY_OFF 0x1e         /* 16, read only */
#define VIRTIO_COMMON_QUEUE_DESC 0x20               /* 64, by halves */
#define VIRTIO_COMMON_QUEUE_DRIVER 0x28             /* 64, by halves */
#define VIRTIO_COMMON_QUEUE_DEVICE 0x30             /* 64, by halves */
#define VIRTIO_COMMON_SIZE 0x38

#define VIRTIO_NO_VECTOR 0xffff     /* 4.1.5.1.2 */

/* 2.1: device status. */
#define VIRTIO_STATUS_ACKNOWLEDGE 0x01
#define VIRTIO_STATUS_DRIVER 0x02
#define VIRTIO_STATUS_DRIVER_OK 0x04
#define VIRTIO_STATUS_FEATURES_OK 0x08
#define VIRTIO_STATUS_NEEDS_RESET 0x40
#define VIRTIO_STATUS_FAILED 0x80
#define VIRTIO_STATUS_GONE 0xff     /* FAILED and DRIVER_OK and the reserved bits: nobody is there */

/* 5.1.3, 6: features that only a driver of the PCI device looks at. */
#define VIRTIO_NET_F_MTU 3
#define VIRTIO_NET_F_MAC 5
#define VIRTIO_NET_F_STATUS 16
#define VIRTIO_NET_F_CTRL_VQ 17
#define VIRTIO_NET_F_CTRL_RX 18
#define VIRTIO_NET_F_MQ 22
#define VIRTIO_NET_F_NOTF_COAL 53
#define VIRTIO_NET_F_RSS 60
#define VIRTIO_NET_F_SPEED_DUPLEX 63
#define VIRTIO_F_ORDER_PLATFORM 36

/* 5.1.4: configuration of a network device. */
#define VIRTIO_NET_CFG_MAC 0x00                     /* six times 8 */
#define VIRTIO_NET_CFG_STATUS 0x06                  /* 16 */
#define VIRTIO_NET_CFG_MAX_PAIRS 0x08               /* 16 */
#define VIRTIO_NET_CFG_MTU 0x0a                     /* 16 */
#define VIRTIO_NET_CFG_SPEED 0x0c                   /* 32, Mbit/s */
#define VIRTIO_NET_CFG_DUPLEX 0x10                  /* 8 */
#define VIRTIO_NET_CFG_RSS_KEY 0x11                 /* 8, longest key */
#define VIRTIO_NET_CFG_RSS_TABLE 0x12               /* 16, longest table */
#define VIRTIO_NET_CFG_HASH_TYPES 0x14              /* 32, VIRTIO_NET_HASH_* */

#define VIRTIO_NET_S_LINK_UP 1
#define VIRTIO_NET_SPEED_MAX 0x7fffffff             /* above it: unknown */
#define VIRTIO_NET_DUPLEX_FULL 1
#define VIRTIO_NET_MAX_PAIRS 0x7fff                 /* 5.1.4.1 has one more, but no number for its control queue */

/* 5.1.6.4.3.1: what a hash is made of. */
#define VIRTIO_NET_HASH_IPV4 0x01
#define VIRTIO_NET_HASH_TCPV4 0x02
#define VIRTIO_NET_HASH_UDPV4 0x04
#define VIRTIO_NET_HASH_IPV6 0x08
#define VIRTIO_NET_HASH_TCPV6 0x10
#define VIRTIO_NET_HASH_UDPV6 0x20

/* 5.1.2: numbers of the queues; the control queue follows the last pair. */
#define VIRTIO_NET_RX_QUEUE(pair) (2 * (pair))
#define VIRTIO_NET_TX_QUEUE(pair) (2 * (pair) + 1)

/* 5.1.6.5: classes, commands and answers of the control queue. */
#define VIRTIO_NET_CTRL_RX 0
#define VIRTIO_NET_CTRL_RX_PROMISC 0
#define VIRTIO_NET_CTRL_MQ 4
#define VIRTIO_NET_CTRL_MQ_VQ_PAIRS_SET 0
#define VIRTIO_NET_CTRL_MQ_RSS_CONFIG 1
#define VIRTIO_NET_CTRL_NOTF_COAL 6
#define VIRTIO_NET_CTRL_NOTF_COAL_RX_SET 1
#define VIRTIO_NET_OK 0

#endif /* USWITCH_NIC_VIRTIO_PCI_REGS_H */
