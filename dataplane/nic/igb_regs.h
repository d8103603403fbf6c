/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * igb_regs.h - registers of the Intel 82576 and of I350 and I210, as far as
 * the driver uses them.  Section numbers are those of the "Intel 82576EB
 * Gigabit Ethernet Controller Datasheet"; where the others differ it is said.
 *
 * Descriptors are in intel_desc.h.
 */
#ifndef USWITCH_NIC_IGB_REGS_H
#define USWITCH_NIC_IGB_REGS_H

/* BAR 0 is 128 KiB; all registers below lie in its first 64 (8.1.1). */
#define IGB_BAR_SIZE 0x10000u

/* ---- general, 8.2 ---- */

#define IGB_CTRL 0x0000u
#define IGB_CTRL_GIO_DIS (1u << 2)              /* PCIe master disable, 5.2.3.3 */
#define IGB_CTRL_SLU (1u << 6)                  /* set link up */
#define IGB_CTRL_FRCSPD (1u << 11)              /* speed and duplex by software, not by the PHY */
#define IGB_CTRL_FRCDPX (1u << 12)
#define IGB_CTRL_RST (1u << 26)                 /* software reset, clears itself */
#define IGB_CTRL_RFCE (1u << 27)                /* flow control */
#define IGB_CTRL_TFCE (1u << 28)
#define IGB_CTRL_VME (1u << 30)                 /* strip tags */
#define IGB_STATUS 0x0008u
#define IGB_STATUS_FD (1u << 0)
#define IGB_STATUS_LU (1u << 1)                 /* link up */
#define IGB_STATUS_LAN_ID(v) (((v) >> 2) & 3)   /* which function of the chip */
#define IGB_STATUS_SPEED(v) (((v) >> 6) & 3)
#define IGB_STATUS_GIO (1u << 19)               /* PCIe master still enabled */
#define IGB_EECD 0x0010u
#define IGB_EECD_ARD (1u << 9)                  /* the EEPROM has been read */
#define IGB_CTRL_EXT 0x0018u
#define IGB_CTRL_EXT_DRV_LOAD (1u << 28)        /* tells firmware that a driver is there */
#define IGB_CTRL_EXT_LINK_MODE (3u << 22)       /* 0: internal PHY; else SerDes, SGMII */
#define IGB_MDIC 0x0020u                        /* 8.2.4 */
#define IGB_MDIC_REG(reg) ((reg) << 16)
#define IGB_MDIC_PHY1 (1u << 21)                /* the internal PHY's address; ignored by I350 and I210 */
#define IGB_MDIC_WRITE (1u << 26)
#define IGB_MDIC_READ (2u << 26)
#define IGB_MDIC_READY (1u << 28)
#define IGB_MDIC_ERROR (1u << 30)
#define IGB_EEMNGCTL 0x1010u
#define IGB_EEMNGCTL_CFG_DONE(port) (1u << (18 + (port)))

/* Registers of the PHY: IEEE 802.3, 22.2.4. */
#define IGB_PHY_CONTROL 0u
#define IGB_PHY_CONTROL_AUTONEG 0x1000u
#define IGB_PHY_CONTROL_RESTART 0x0200u
#define IGB_PHY_CONTROL_POWER_DOWN 0x0800u
#define IGB_PHY_CONTROL_ISOLATE 0x0400u

/* ---- software and firmware semaphore, 4.7 ---- */

#define IGB_SWSM 0x5b50u
#define IGB_SWSM_SMBI (1u << 0)                 /* among drivers; reading sets it */
#define IGB_SWSM_SWESMBI (1u << 1)              /* against firmware */
#define IGB_SW_FW_SYNC 0x5b5cu
#define IGB_SW_FW_PHY(port) ((port) < 2 ? 1u << (1 + (port)) : 1u << (3 + (port)))
#define IGB_SW_FW_TO_FW 16                      /* shift: the same resource, held by firmware */

/* ---- interrupts, 8.8 ---- */

#define IGB_ICR 0x1500u                         /* cleared by reading */
#define IGB_ICR_LSC (1u << 2)                   /* link status change */
#define IGB_ICR_FER (1u << 22)                  /* fatal error: packet buffer or PCIe parity */
#define IGB_ICR_DOUTSYNC (1u << 28)             /* DMA transmit out of step */
#define IGB_ICR_DRSTA (1u << 30)                /* the device was reset by somebody else */
#define IGB_IMS 0x1508u
#define IGB_IMC 0x150cu
#define IGB_GPIE 0x1514u
#define IGB_GPIE_NSICR (1u << 0)                /* reading ICR clears it in any case */
#define IGB_GPIE_MSIX (1u << 4)
#define IGB_GPIE_EIAME (1u << 30)               /* EIAM applies to MSI-X */
#define IGB_GPIE_PBA (1u << 31)
#define IGB_EIMS 0x1524u
#define IGB_EIMC 0x1528u
#define IGB_EIAC 0x152cu                        /* cause cleared by the message */
#define IGB_EIAM 0x1530u                        /* cause masked by the message */
#define IGB_EICR 0x1580u                        /* write 1 to clear */
#define IGB_EITR(n) (0x1680u + 4 * (n))
#define IGB_EITR_US(us) ((us) << 2)             /* bits 14:2, microseconds */
#define IGB_EITR_US_MAX 0x1fffu
#define IGB_EITR_CNT_IGNR (1u << 31)            /* leave the running counter alone */
/* 82576: entry n is queue n & 7, the queues from 8 on in its upper half; I350, I210: two queues each. */
#define IGB_IVAR(n) (0x1700u + 4 * (n))
#define IGB_IVAR_MISC 0x1740u                   /* bits 15:8: everything else */
#define IGB_IVAR_VALID 0x80u

/* ---- receive, 8.10 ---- */

#define IGB_RCTL 0x0100u
#define IGB_RCTL_EN (1u << 1)
#define IGB_RCTL_UPE (1u << 3)
#define IGB_RCTL_MPE (1u << 4)
#define IGB_RCTL_LPE (1u << 5)                  /* frames longer than 1522: up to RLPML */
#define IGB_RCTL_BAM (1u << 15)
#define IGB_RCTL_SECRC (1u << 26)               /* strip the FCS */
#define IGB_RXPBS 0x2404u                       /* cut of the packet buffer, left as the EEPROM has it */
#define IGB_FCRTL 0x2160u
#define IGB_FCRTH 0x2168u
#define IGB_FCTTV 0x0170u
#define IGB_RXCSUM 0x5000u
#define IGB_RXCSUM_IPOFLD (1u << 8)
#define IGB_RXCSUM_TUOFLD (1u << 9)
#define IGB_RXCSUM_PCSD (1u << 13)              /* write back the RSS hash, not a fragment's sum */
#define IGB_RLPML 0x5004u                       /* bytes, tag and FCS included */
#define IGB_MTA(n) (0x5200u + 4 * (n))          /* n < 128 */
#define IGB_RAL(n) (0x5400u + 8 * (n))          /* n < 16 */
#define IGB_RAH(n) (0x5404u + 8 * (n))
#define IGB_RAH_AV (1u << 31)
#define IGB_MRQC 0x5818u
#define IGB_MRQC_RSS 2u
#define IGB_MRQC_FIELDS (0x1ffu << 16)          /* IPv4, IPv6, TCP, UDP, extensions */
#define IGB_VT_CTL 0x581cu
#define IGB_RETA(n) (0x5c00u + 4 * (n))         /* n < 32, four queues each */
#define IGB_RSSRK(n) (0x5c80u + 4 * (n))        /* n < 10 */

/* A receive queue, n < 16. */
#define IGB_RX_QUEUE(n) (0xc000u + 0x40 * (n))
#define IGB_RDBAL(n) (IGB_RX_QUEUE(n) + 0x00)
#define IGB_RDBAH(n) (IGB_RX_QUEUE(n) + 0x04)
#define IGB_RDLEN(n) (IGB_RX_QUEUE(n) + 0x08)
#define IGB_SRRCTL(n) (IGB_RX_QUEUE(n) + 0x0c)
#define IGB_SRRCTL_BSIZEPACKET(bytes) ((bytes) >> 10)
#define IGB_SRRCTL_ADV_ONE_BUFFER (1u << 25)
#define IGB_SRRCTL_DROP_EN (1u << 31)
#define IGB_RDH(n) (IGB_RX_QUEUE(n) + 0x10)
#define IGB_RDT(n) (IGB_RX_QUEUE(n) + 0x18)
#define IGB_RXDCTL(n) (IGB_RX_QUEUE(n) + 0x28)
#define IGB_RQDPC(n) (IGB_RX_QUEUE(n) + 0x30)   /* dropped, no descriptor */
/* RXDCTL and TXDCTL, 8.10 and 8.12: prefetch below PTHRESH if HTHRESH are there, write back WTHRESH at once. */
#define IGB_DCTL_ENABLE (1u << 25)
#define IGB_DCTL_THRESH(p, h, w) ((p) | (h) << 8 | (w) << 16)

/* ---- transmit, 8.12 ---- */

#define IGB_TCTL 0x0400u
#define IGB_TCTL_EN (1u << 1)
#define IGB_TCTL_PSP (1u << 3)                  /* pad short frames */
#define IGB_TCTL_CT(n) ((n) << 4)               /* collisions, half duplex */
#define IGB_TCTL_CT_MASK (0xffu << 4)
#define IGB_TCTL_RTLC (1u << 24)
#define IGB_DTXTCPFLGL 0x359cu                  /* flags of the first and the middle segments */
#define IGB_DTXTCPFLGH 0x35a0u                  /* of the last */

/* A transmit queue, n < 16. */
#define IGB_TX_QUEUE(n) (0xe000u + 0x40 * (n))
#define IGB_TDBAL(n) (IGB_TX_QUEUE(n) + 0x00)
#define IGB_TDBAH(n) (IGB_TX_QUEUE(n) + 0x04)
#define IGB_TDLEN(n) (IGB_TX_QUEUE(n) + 0x08)
#define IGB_TDH(n) (IGB_TX_QUEUE(n) + 0x10)
#define IGB_TDT(n) (IGB_TX_QUEUE(n) + 0x18)
#define IGB_TXDCTL(n) (IGB_TX_QUEUE(n) + 0x28)
#define IGB_TDWBAL(n) (IGB_TX_QUEUE(n) + 0x38)  /* head write-back, instead of DD */

/* ---- statistics, 8.19: cleared by reading ---- */

#define IGB_CRCERRS 0x4000u
#define IGB_ALGNERRC 0x4004u
#define IGB_RXERRC 0x400cu
#define IGB_MPC 0x4010u                         /* packet buffer full */
#define IGB_ECOL 0x4018u
#define IGB_LATECOL 0x4020u
#define IGB_RLEC 0x4040u
#define IGB_XONRXC 0x4048u
#define IGB_XONTXC 0x404cu
#define IGB_XOFFRXC 0x4050u
#define IGB_XOFFTXC 0x4054u
#define IGB_GPRC 0x4074u
#define IGB_BPRC 0x4078u
#define IGB_MPRC 0x407cu
#define IGB_GPTC 0x4080u
#define IGB_GORCL 0x4088u                       /* 64 bits: the low word first, the high one clears both */
#define IGB_GORCH 0x408cu
#define IGB_GOTCL 0x4090u
#define IGB_GOTCH 0x4094u
#define IGB_RUC 0x40a4u
#define IGB_RFC 0x40a8u
#define IGB_ROC 0x40acu
#define IGB_RJC 0x40b0u
#define IGB_MPTC 0x40f0u
#define IGB_BPTC 0x40f4u

#endif /* USWITCH_NIC_IGB_REGS_H */
