/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * igb_model.h - an Intel 82576 at the level of its registers and descriptors,
 * behind struct bar_model; made from the "Intel 82576EB Gigabit Ethernet
 * Controller Datasheet", not from the driver, with its own register offsets.
 * Descriptors are intel_engine.h's.
 *
 * It does what the device does - reset, PHY, filters, RSS, checksums, TSO,
 * interrupts, counters that clear - and can be broken in many ways.  There is
 * no time in it: what the device does by itself happens in the call that
 * causes it, or when the test says so.  One thread.
 */
#ifndef USWITCH_TESTS_IGB_MODEL_H
#define USWITCH_TESTS_IGB_MODEL_H

#include "nic/bar.h"
#include "nic/intel_engine.h"

#define IGM_BAR_SIZE 0x10000u
#define IGM_QUEUES 16
#define IGM_SENT 4096
#define IGM_VECTORS 25

/* A frame on the wire, without FCS. */
struct igm_frame {
    uint32_t len;
    uint8_t *data;
};

/**
 * struct igb_model - the device
 * @bar: for struct bar.model
 * @e: descriptor engine; faults and breaches are counted there
 * @reg: registers
 * @rx, @tx: rings
 * @gone: reads as all ones, writes are lost
 * @gone_in: accesses until it is gone, 0: never
 * @accesses: reads and writes so far
 * @resets: software resets
 * @never_reset, @no_eeprom, @no_phy, @phy_error: the reset, the EEPROM, the PHY that does not end, load, answer, work
 * @no_ard, @no_cfg_done: the EEPROM is loaded, firmware has nothing to do, but neither says so
 * @master_busy: requests that never end until a reset
 * @rx_stuck, @tx_stuck: queues, a bit each, that never become enabled; @rx_on, @tx_on: that never become disabled
 * @tx_hold: nothing is sent until igm_send()
 * @cable: link is possible
 * @negotiated: the PHY was told to negotiate since the last reset
 * @phy: its registers
 * @mac: of the EEPROM
 * @fired: messages, by vector
 * @bytes: good octets received and sent
 * @n_sent, @sent: frames on the wire
 * @discard: frames are not kept
 */
struct igb_model {
    struct bar_model bar;
    struct engine e;
    uint32_t reg[IGM_BAR_SIZE / 4];
    struct engine_ring rx[IGM_QUEUES], tx[IGM_QUEUES];

    bool gone;
    uint64_t gone_in;
    uint64_t accesses;
    unsigned resets;
    bool never_reset, no_eeprom, no_phy, phy_error, no_ard, no_cfg_done, master_busy;
    uint32_t rx_stuck, tx_stuck, rx_on, tx_on;
    bool tx_hold;

    bool cable, negotiated;
    uint16_t phy[32];
    uint8_t mac[6];
    unsigned fired[IGM_VECTORS];
    uint64_t bytes[2];
    uint32_t n_sent;
    struct igm_frame sent[IGM_SENT];
    bool discard;
};

void igm_init(struct igb_model *m, const struct dma_pool *pool);
void igm_fini(struct igb_model *m);

/* A frame arrives, without FCS.  Returns the queue it went to, -1 if it was lost or refused. */
int igm_receive(struct igb_model *m, const uint8_t *frame, uint32_t len);
/* The same, with errors (bits 31:20) that the device claims. */
int igm_receive_status(struct igb_model *m, const uint8_t *frame, uint32_t len, uint32_t status);
/* Send what was held back. */
void igm_send(struct igb_model *m);
/* Plug or unplug the cable. */
void igm_link(struct igb_model *m, bool cable);
/* Raise causes in ICR. */
void igm_cause(struct igb_model *m, uint32_t icr);
/* Forget the frames that were sent. */
void igm_clear(struct igb_model *m);

/* ---- between its files ---- */

enum {
    IGM_CTRL = 0x0, IGM_STATUS = 0x8, IGM_EECD = 0x10, IGM_CTRL_EXT = 0x18, IGM_MDIC = 0x20, IGM_RCTL = 0x100,
    IGM_TCTL = 0x400, IGM_EEMNGCTL = 0x1010, IGM_ICR = 0x1500, IGM_ICS = 0x1504, IGM_IMS = 0x1508, IGM_IMC = 0x150c,
    IGM_GPIE = 0x1514, IGM_EIMS = 0x1524, IGM_EIMC = 0x1528, IGM_EIAC = 0x152c, IGM_EIAM = 0x1530, IGM_EICR = 0x1580,
    IGM_IVAR = 0x1700, IGM_IVAR_MISC = 0x1740, IGM_DTXTCPFLGL = 0x359c, IGM_DTXTCPFLGH = 0x35a0, IGM_MPC = 0x4010,
    IGM_GPRC = 0x4074, IGM_BPRC = 0x4078, IGM_MPRC = 0x407c, IGM_GPTC = 0x4080, IGM_GORCL = 0x4088,
    IGM_GORCH = 0x408c, IGM_GOTCL = 0x4090, IGM_GOTCH = 0x4094, IGM_ROC = 0x40ac, IGM_MPTC = 0x40f0,
    IGM_BPTC = 0x40f4, IGM_RXCSUM = 0x5000, IGM_RLPML = 0x5004, IGM_RAL = 0x5400, IGM_RAH = 0x5404, IGM_SWSM = 0x5b50,
    IGM_MRQC = 0x5818, IGM_SW_FW_SYNC = 0x5b5c, IGM_RETA = 0x5c00, IGM_RSSRK = 0x5c80, IGM_RX = 0xc000, IGM_TX = 0xe000,
};

static inline uint32_t igm_reg(const struct igb_model *m, uint32_t offset)
{
    return m->reg[offset / 4];
}

/* A statistic: sticks at its maximum. */
static inline void igm_count(struct igb_model *m, uint32_t reg)
{
    m->reg[reg / 4] += m->reg[reg / 4] != ~0u;
}

/* Software enables causes: IMS, EIMS. */
void igm_enable(struct igb_model *m, uint32_t ims, uint32_t eims);
/* The cause of a queue's interrupt. */
void igm_queue_cause(struct igb_model *m, uint32_t queue, bool tx);
/* Software writes MDIC. */
void igm_mdic(struct igb_model *m, uint32_t value);
void igm_transmit(struct igb_model *m, uint32_t queue);
/* engine.sent */
void igm_sent(void *ctx, const uint8_t *frame, uint32_t len);

#endif /* USWITCH_TESTS_IGB_MODEL_H */
