/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_regs.h - registers of the Intel 82599 and its successors X540 and
 * X550, as far as the driver uses them.  Section numbers are those of the
 * "Intel 82599 10 GbE Controller Datasheet", revision 3.x (331520); where the
 * other two differ it is said.
 *
 * Descriptors are in intel_desc.h: the 82576 has the same.
 */
#ifndef USWITCH_NIC_IXGBE_REGS_H
#define USWITCH_NIC_IXGBE_REGS_H

/* BAR 0 is 128 KiB at least (9.3.6.1); all registers below lie in it. */
#define IXGBE_BAR_SIZE 0x20000u

/* ---- general, 8.2.3.1 ---- */

#define IXGBE_CTRL 0x00000u
#define IXGBE_CTRL_GIO_DIS (1u << 2)            /* PCIe master disable, 5.2.5.3.2 */
#define IXGBE_CTRL_LRST (1u << 3)               /* link reset */
#define IXGBE_CTRL_RST (1u << 26)               /* software reset; with LRST: global reset */
#define IXGBE_STATUS 0x00008u
#define IXGBE_STATUS_LAN_ID(v) (((v) >> 2) & 3) /* which function of the chip */
#define IXGBE_STATUS_GIO (1u << 19)             /* PCIe master still enabled */
#define IXGBE_CTRL_EXT 0x00018u
#define IXGBE_CTRL_EXT_NS_DIS (1u << 16)        /* no snoop disabled, 4.6.7 */
#define IXGBE_CTRL_EXT_DRV_LOAD (1u << 28)      /* tells firmware that a driver is there */
#define IXGBE_ESDP 0x00020u
#define IXGBE_ESDP_SDP3 (1u << 3)               /* SFP+: high switches the transmitter off */

/* ---- EEPROM, firmware, PCIe: 8.2.3.2 - 8.2.3.4 ---- */

#define IXGBE_EEC 0x10010u
#define IXGBE_EEC_PRES (1u << 8)                /* an EEPROM is there */
#define IXGBE_EEC_ARD (1u << 9)                 /* it has been read */
#define IXGBE_EEMNGCTL 0x10110u
#define IXGBE_EEMNGCTL_CFG_DONE(port) (1u << (18 + (port)))
#define IXGBE_SWSM 0x10140u                     /* 10.5.4 */
#define IXGBE_SWSM_SMBI (1u << 0)
#define IXGBE_SWSM_SWESMBI (1u << 1)            /* 82599 */
#define IXGBE_SW_FW_SYNC 0x10160u               /* 10.5.4 */
#define IXGBE_SW_FW_PHY(port) (1u << (1 + (port)))
#define IXGBE_SW_FW_MAC_CSR (1u << 3)
#define IXGBE_SW_FW_TO_FW 5                     /* shift: the same resources, held by firmware */
#define IXGBE_SW_FW_REGSMP (1u << 31)           /* X540, X550: instead of SWESMBI */
#define IXGBE_GCR_EXT 0x11050u
#define IXGBE_GCR_EXT_BUFFERS_CLEAR (1u << 30)  /* 5.2.5.3.2 */

/* ---- interrupts, 8.2.3.5 ---- */

#define IXGBE_EICR 0x00800u
#define IXGBE_EICS 0x00808u
#define IXGBE_EIAC 0x00810u
#define IXGBE_EITR(n) (0x00820u + 4 * (n))      /* n < 24 */
#define IXGBE_EITR_UNIT_NS 2048u                /* at 1 and 10 Gbit/s */
#define IXGBE_EITR_UNITS_MAX 0x1ffu
#define IXGBE_EITR_INTERVAL(units) ((units) << 3)
#define IXGBE_EITR_CNT_WDIS (1u << 31)          /* leave the running counter alone */
#define IXGBE_EIMS 0x00880u
#define IXGBE_EIMC 0x00888u
#define IXGBE_EIAM 0x00890u
#define IXGBE_GPIE 0x00898u
#define IXGBE_GPIE_MSIX (1u << 4)
#define IXGBE_GPIE_OCD (1u << 5)                /* reading EICR clears "other" causes only */
#define IXGBE_GPIE_EIAME (1u << 30)
#define IXGBE_GPIE_PBA (1u << 31)
#define IXGBE_IVAR(n) (0x00900u + 4 * (n))      /* two queues each */
#define IXGBE_IVAR_MISC 0x00a00u
#define IXGBE_IVAR_VALID 0x80u

/* Causes.  Bits 15:0 are the queues, by vector. */
#define IXGBE_EICR_QUEUES 0x0000ffffu
#define IXGBE_EICR_FLOW_DIRECTOR (1u << 16)
#define IXGBE_EICR_RX_MISS (1u << 17)
#define IXGBE_EICR_PCI (1u << 18)               /* PCI exception: timeouts, parity */
#define IXGBE_EICR_LSC (1u << 20)               /* link status change */
#define IXGBE_EICR_ECC (1u << 28)               /* unrecoverable error in an internal memory */
#define IXGBE_EICR_OTHER (1u << 31)

/* ---- receive, 8.2.3.7, 8.2.3.8, 8.2.3.10 ---- */

#define IXGBE_FCTRL 0x05080u
#define IXGBE_FCTRL_MPE (1u << 8)
#define IXGBE_FCTRL_UPE (1u << 9)
#define IXGBE_FCTRL_BAM (1u << 10)
#define IXGBE_VLNCTRL 0x05088u
#define IXGBE_VLNCTRL_VFE (1u << 30)            /* VLAN filter */
#define IXGBE_MTA(n) (0x05200u + 4 * (n))       /* n < 128 */
#define IXGBE_RAL(n) (0x05400u + 8 * (n))       /* n < 16, here and below: also at other places, for more */
#define IXGBE_RAH(n) (0x05404u + 8 * (n))
#define IXGBE_RAH_AV (1u << 31)
#define IXGBE_RXCSUM 0x05000u
#define IXGBE_RXCSUM_IPPCSE (1u << 12)
#define IXGBE_RXCSUM_PCSD (1u << 13)            /* write back the RSS hash, not a fragment's sum */
#define IXGBE_RFCTL 0x05008u
#define IXGBE_RFCTL_RSC_DIS (1u << 5)
#define IXGBE_RFCTL_NFSW_DIS (1u << 6)
#define IXGBE_RFCTL_NFSR_DIS (1u << 7)
#define IXGBE_MRQC 0x05818u
#define IXGBE_MRQC_FIELDS 0xffff000fu           /* mode, and what is hashed */
#define IXGBE_MRQC_RSS 1u
#define IXGBE_MRQC_TCP4 (1u << 16)
#define IXGBE_MRQC_IP4 (1u << 17)
#define IXGBE_MRQC_IP6 (1u << 20)
#define IXGBE_MRQC_TCP6 (1u << 21)
#define IXGBE_MRQC_UDP4 (1u << 22)
#define IXGBE_MRQC_UDP6 (1u << 23)
#define IXGBE_RETA(n) (0x05c00u + 4 * (n))      /* n < 32, four queues each */
#define IXGBE_ERETA(n) (0x0ee80u + 4 * (n))     /* X550: the same, entries 128 .. 511, n < 96 */
#define IXGBE_RSSRK(n) (0x05c80u + 4 * (n))     /* n < 10 */
#define IXGBE_PSRTYPE(n) (0x05480u + 4 * (n))   /* n < 16 */
#define IXGBE_PSRTYPE_TCPHDR (1u << 4)

#define IXGBE_RSCDBU 0x03028u
#define IXGBE_RSCDBU_RSCACKDIS (1u << 7)        /* pure acknowledgements are not joined */

#define IXGBE_RXCTRL 0x03000u
#define IXGBE_RXCTRL_RXEN (1u << 0)
#define IXGBE_SECRXCTRL 0x08d00u
#define IXGBE_SECRXCTRL_RX_DIS (1u << 1)
#define IXGBE_SECRXSTAT 0x08d04u
#define IXGBE_SECRXSTAT_RDY (1u << 0)
#define IXGBE_RDRXCTL 0x02f00u
#define IXGBE_RDRXCTL_CRCSTRIP (1u << 1)
#define IXGBE_RDRXCTL_DMAIDONE (1u << 3)
#define IXGBE_RDRXCTL_RSCFRSTSIZE (0x1fu << 17)
#define IXGBE_RDRXCTL_RSCACKC (1u << 25)
#define IXGBE_RDRXCTL_FCOE_WRFIX (1u << 26)
#define IXGBE_RXPBSIZE(n) (0x03c00u + 4 * (n))  /* n < 8 */
#define IXGBE_RXPBSIZE_KB(kb) ((kb) << 10)

/* A receive queue, n < 64: a page of 64 bytes each. */
#define IXGBE_RX_QUEUE(n) (0x01000u + 0x40 * (n))
#define IXGBE_RDBAL(n) (IXGBE_RX_QUEUE(n) + 0x00)
#define IXGBE_RDBAH(n) (IXGBE_RX_QUEUE(n) + 0x04)
#define IXGBE_RDLEN(n) (IXGBE_RX_QUEUE(n) + 0x08)
#define IXGBE_DCA_RXCTRL(n) (0x02200u + 4 * (n)) /* n < 16 */
#define IXGBE_DCA_RXCTRL_BIT12 (1u << 12)       /* reserved, set after reset, to be cleared: 4.6.7 */
#define IXGBE_RDH(n) (IXGBE_RX_QUEUE(n) + 0x10)
#define IXGBE_SRRCTL(n) (0x02100u + 4 * (n))    /* n < 16 */
#define IXGBE_SRRCTL_BSIZEPACKET(bytes) ((bytes) >> 10)
#define IXGBE_SRRCTL_BSIZEHEADER(bytes) (((bytes) >> 6) << 8)
#define IXGBE_SRRCTL_ADV_ONE_BUFFER (1u << 25)
#define IXGBE_SRRCTL_DROP_EN (1u << 28)
#define IXGBE_RDT(n) (IXGBE_RX_QUEUE(n) + 0x18)
#define IXGBE_RXDCTL(n) (IXGBE_RX_QUEUE(n) + 0x28)
#define IXGBE_RXDCTL_ENABLE (1u << 25)
#define IXGBE_RXDCTL_VME (1u << 30)             /* strip tags */
#define IXGBE_RSCCTL(n) (IXGBE_RX_QUEUE(n) + 0x2c)
#define IXGBE_RSCCTL_RSCEN (1u << 0)
#define IXGBE_RSCCTL_MAXDESC_16 (3u << 2)

/* ---- transmit, 8.2.3.9 ---- */

#define IXGBE_DMATXCTL 0x04a80u
#define IXGBE_DMATXCTL_TE (1u << 0)
#define IXGBE_DTXTCPFLGL 0x04a88u               /* flags of the first and the middle segments */
#define IXGBE_DTXTCPFLGH 0x04a8cu               /* of the last */
#define IXGBE_DTXMXSZRQ 0x08100u
#define IXGBE_DTXMXSZRQ_MAX 0xfffu
#define IXGBE_MTQC 0x08120u
#define IXGBE_RTTDCS 0x04900u
#define IXGBE_RTTDCS_ARBDIS (1u << 6)
#define IXGBE_TXPBSIZE(n) (0x0cc00u + 4 * (n))  /* n < 8 */
#define IXGBE_TXPBSIZE_KB(kb) ((kb) << 10)
#define IXGBE_TXPBTHRESH(n) (0x04950u + 4 * (n)) /* KiB */

/* A transmit queue, n < 128. */
#define IXGBE_TX_QUEUE(n) (0x06000u + 0x40 * (n))
#define IXGBE_TDBAL(n) (IXGBE_TX_QUEUE(n) + 0x00)
#define IXGBE_TDBAH(n) (IXGBE_TX_QUEUE(n) + 0x04)
#define IXGBE_TDLEN(n) (IXGBE_TX_QUEUE(n) + 0x08)
#define IXGBE_DCA_TXCTRL(n) (IXGBE_TX_QUEUE(n) + 0x0c)
#define IXGBE_DCA_TXCTRL_DESC_WRO (1u << 11)    /* relaxed ordering of write-back */
#define IXGBE_TDH(n) (IXGBE_TX_QUEUE(n) + 0x10)
#define IXGBE_TDT(n) (IXGBE_TX_QUEUE(n) + 0x18)
#define IXGBE_TXDCTL(n) (IXGBE_TX_QUEUE(n) + 0x28)
#define IXGBE_TXDCTL_ENABLE (1u << 25)
#define IXGBE_TXDCTL_PTHRESH(n) (n)
#define IXGBE_TXDCTL_HTHRESH(n) ((n) << 8)
#define IXGBE_TXDCTL_THRESHOLDS 0x007f7f7fu     /* those two, and WTHRESH */

/* ---- MAC and link, 8.2.3.22 ---- */

#define IXGBE_HLREG0 0x04240u
#define IXGBE_HLREG0_TXCRCEN (1u << 0)
#define IXGBE_HLREG0_RXCRCSTRP (1u << 1)
#define IXGBE_HLREG0_JUMBOEN (1u << 2)
#define IXGBE_HLREG0_TXPADEN (1u << 10)
#define IXGBE_HLREG0_LPBK (1u << 15)
#define IXGBE_MAXFRS 0x04268u                   /* bits 31:16: bytes, FCS included, tag not */
#define IXGBE_AUTOC 0x042a0u
#define IXGBE_AUTOC_RESTART_AN (1u << 12)
#define IXGBE_AUTOC_LMS(v) (((v) >> 13) & 7)
#define IXGBE_AUTOC_LMS_MASK (7u << 13)
#define IXGBE_AUTOC_LMS_10G_SFI (3u << 13)
#define IXGBE_AUTOC2 0x042a8u
#define IXGBE_AUTOC2_PMA_MASK (3u << 16)
#define IXGBE_AUTOC2_PMA_SFI (2u << 16)
#define IXGBE_LINKS 0x042a4u
#define IXGBE_LINKS_UP (1u << 30)
#define IXGBE_LINKS_SPEED(v) (((v) >> 28) & 3)
#define IXGBE_LINKS_SPEED_100M 1u
#define IXGBE_LINKS_SPEED_1G 2u
#define IXGBE_LINKS_SPEED_10G 3u
#define IXGBE_LINKS_NON_STD (1u << 27)          /* X550: 2.5 Gbit/s instead of 10, 5 instead of 0.1 */

/* ---- flow control, 8.2.3.3, cleared: 4.6.3.2 ---- */

#define IXGBE_FCTTV(n) (0x03200u + 4 * (n))     /* n < 4 */
#define IXGBE_FCRTL(n) (0x03220u + 4 * (n))     /* n < 8 */
#define IXGBE_FCRTH(n) (0x03260u + 4 * (n))     /* n < 8 */
#define IXGBE_FCRTV 0x032a0u
#define IXGBE_FCCFG 0x03d00u
#define IXGBE_MFLCN 0x04294u

/* ---- statistics, 8.2.3.23: cleared by reading ---- */

#define IXGBE_CRCERRS 0x04000u
#define IXGBE_ILLERRC 0x04004u
#define IXGBE_ERRBC 0x04008u
#define IXGBE_MPC(n) (0x03fa0u + 4 * (n))       /* packet buffer full; n < 8 */
#define IXGBE_RLEC 0x04040u
#define IXGBE_LXONTXC 0x03f60u
#define IXGBE_LXONRXCNT 0x041a4u
#define IXGBE_LXOFFTXC 0x03f68u
#define IXGBE_LXOFFRXCNT 0x041a8u
#define IXGBE_GPRC 0x04074u
#define IXGBE_BPRC 0x04078u
#define IXGBE_MPRC 0x0407cu
#define IXGBE_GPTC 0x04080u
#define IXGBE_GORCL 0x04088u                    /* 36 bits: the low word first, the high one clears both */
#define IXGBE_GORCH 0x0408cu
#define IXGBE_GOTCL 0x04090u
#define IXGBE_GOTCH 0x04094u
#define IXGBE_RUC 0x040a4u
#define IXGBE_RFC 0x040a8u
#define IXGBE_ROC 0x040acu
#define IXGBE_RJC 0x040b0u
#define IXGBE_MPTC 0x040f0u
#define IXGBE_BPTC 0x040f4u
#define IXGBE_XEC 0x04120u
#define IXGBE_QPRDC(n) (0x01430u + 0x40 * (n))  /* no descriptor; n < 16 */

#endif /* USWITCH_NIC_IXGBE_REGS_H */
