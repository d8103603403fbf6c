/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_model_priv.h - what the files of ixgbe_model.h share.
 */
#ifndef USWITCH_TESTS_IXGBE_MODEL_PRIV_H
#define USWITCH_TESTS_IXGBE_MODEL_PRIV_H

#include "nic/ixgbe_model.h"

/* Registers with code of their own, 8.2.2. */
enum { CTRL = 0x0, STATUS = 0x8, CTRL_EXT = 0x18, ESDP = 0x20, EICR = 0x800, EICS = 0x808, EIAC = 0x810, EIMS = 0x880,
       EIMC = 0x888, EIAM = 0x890, GPIE = 0x898, IVAR = 0x900, IVAR_MISC = 0xa00, RDRXCTL = 0x2f00, RXCTRL = 0x3000,
       HLREG0 = 0x4240, MAXFRS = 0x4268, AUTOC = 0x42a0, LINKS = 0x42a4, DMATXCTL = 0x4a80, RTTDCS = 0x4900,
       SECRXCTRL = 0x8d00, SECRXSTAT = 0x8d04, EEC = 0x10010, EEMNGCTL = 0x10110, SWSM = 0x10140,
       SW_FW_SYNC = 0x10160, GCR_EXT = 0x11050, GORCL = 0x4088, GORCH = 0x408c, GOTCL = 0x4090, GOTCH = 0x4094 };

/* Memory of the device's, NULL and a breach if it is not the pool's. */
uint8_t *ixm_memory(struct ixgbe_model *m, uint64_t iova, uint32_t len, const char *what);

/* ixgbe_model_irq.c */
void ixm_deliver(struct ixgbe_model *m);
/* The cause of a queue's interrupt: rx or tx. */
void ixm_queue_cause(struct ixgbe_model *m, uint32_t queue, bool tx);
/* Is every queue cause in the mask some queue's? */
void ixm_check_mask(struct ixgbe_model *m, uint32_t queues);

/* ixgbe_model_reset.c */
int64_t ixm_now_ns(void);
bool ixm_is_x5(const struct ixgbe_model *m);
void ixm_defaults(struct ixgbe_model *m);
void ixm_reset(struct ixgbe_model *m);

/* ixgbe_model_ring.c: offset of any register of a queue. */
void ixm_write_queue(struct ixgbe_model *m, uint32_t offset, uint32_t value, bool tx);
uint32_t ixm_read_queue(struct ixgbe_model *m, uint32_t offset, bool tx);

/* ixgbe_model_rx.c: is every rule kept that must be when receiving begins? */
void ixm_rx_check(struct ixgbe_model *m);
uint8_t *ixm_rx_buffer(struct ixgbe_model *m, uint32_t q, uint32_t index);
uint32_t ixm_rx_buffer_size(const struct ixgbe_model *m, uint32_t q);
uint32_t ixm_rx_available(const struct ixgbe_model *m, uint32_t q);
uint32_t ixm_rx_take(struct ixgbe_model *m, uint32_t q);
void ixm_rx_write_back(struct ixgbe_model *m, uint32_t q, uint32_t index, uint32_t info, uint32_t hash,
                       uint32_t status, uint32_t len);
uint32_t ixm_rx_packet_type(const struct nic_packet *p);

/* ixgbe_model_rsc.c: joins the packet, or says that it is an ordinary one; closes what it ends. */
bool ixm_rsc_receive(struct ixgbe_model *m, uint32_t q, const uint8_t *data, const struct nic_packet *p,
                     uint32_t hash, uint32_t status);
uint32_t ixm_rsc_max_desc(const struct ixgbe_model *m, uint32_t q);

/* ixgbe_model_tx.c */
void ixm_tx_run(struct ixgbe_model *m, uint32_t queue);

/* Write-back of a received frame, 7.1.6.2: status below, errors above. */
#define IXM_DD (1u << 0)
#define IXM_EOP (1u << 1)
#define IXM_UDPCS (1u << 4)
#define IXM_L4CS (1u << 5)
#define IXM_IPCS (1u << 6)
#define IXM_TCPE (1u << 30)
#define IXM_IPE (1u << 31)

#endif /* USWITCH_TESTS_IXGBE_MODEL_PRIV_H */
