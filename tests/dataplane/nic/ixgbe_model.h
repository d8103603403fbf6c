/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * ixgbe_model.h - an Intel 82599 at the level of its registers and
 * descriptors, behind struct bar_model; made from the "Intel 82599 10 GbE
 * Controller Datasheet", not from the driver, with its own register offsets.
 *
 * It does what the device does - reset, filters, RSS, checksums, TSO,
 * coalescing, counters that clear - and watches what the data sheet demands
 * of software: order, alignment, reserved and read-only bits.  A breach is
 * printed with its section and counted in @breaches; tests end with none.
 *
 * There is no time in it: what the device does by itself happens in the call
 * that causes it, or when the test says so.  One thread.
 */
#ifndef USWITCH_TESTS_IXGBE_MODEL_H
#define USWITCH_TESTS_IXGBE_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "nic/bar.h"
#include "nic/dma.h"
#include "nic/intel_engine.h"
#include "nic/nic_math.h"

#define IXM_BAR_SIZE 0x20000u
#define IXM_QUEUES 16
#define IXM_SENT 2048
#define IXM_RSC_CONTEXTS 32
#define IXM_BYTES_MAX 0xfffffffffull     /* of the counters of bytes, 36 bits */

#define IXM_82599 0x10fb
#define IXM_82599_KX4 0x10f7
#define IXM_X540 0x1528
#define IXM_X550 0x1563

/* A frame on the wire, without FCS. */
struct ixm_frame {
    uint32_t len;
    uint8_t *data;
};

/**
 * struct ixm_ring - one side of a queue
 * @on: enabled
 * @confirmed: software has read that it is
 * @head: next descriptor of the device
 * @held: descriptors that software has given and not got back (receive)
 */
struct ixm_ring {
    bool on;
    bool confirmed;
    uint32_t head;
    uint32_t held;
};

/* A coalescing context (7.11). */
struct ixm_rsc {
    bool used;
    uint32_t queue;
    uint32_t first, current;    /* descriptors */
    uint32_t n_desc;
    uint32_t fill;              /* bytes in the current one */
    uint32_t packets;           /* that start in the current one */
    uint32_t bytes;
    uint32_t next_seq;
    uint32_t hash, ptype;
    struct nic_packet at;       /* of the first packet */
    uint8_t id[12];             /* addresses and ports */
    uint8_t *head;              /* first buffer */
};

/**
 * struct ixgbe_model - the device
 * @bar: for struct bar.model
 * @pool: memory that it reaches (borrowed); everything else is a breach
 * @device: PCI device id
 * @reg: registers
 * @breaches: of the data sheet's rules, by software
 * @hush: breaches are counted, not printed; for tests that commit them
 * @gone: reads as all ones, writes are lost
 * @gone_in: accesses until it is gone, 0: never
 * @accesses: reads and writes so far
 * @resets: software resets
 * @hold_reset: reset never ends
 * @no_eeprom, @no_dma_init: never done
 * @master_busy: requests that never end until a second reset
 * @rx_stuck, @tx_stuck: queues, a bit each, that never become enabled; @rx_on, @tx_on: that never become disabled
 * @tx_hold: nothing is sent until ixm_send()
 * @guest, @guest_reads: as in struct engine, the model is the first argument
 * @firmware_holds: so many looks at the semaphore find firmware at it
 * @link_up, @speed: 3: 10 Gbit/s, 2: 1, 1: 100 Mbit/s
 * @eeprom_lms: link mode of the EEPROM (AUTOC.LMS)
 * @keep_counters: they survive resets
 * @mac: of the EEPROM
 * @mangle: may change a received descriptor (host order) before it is written back
 * @fired: messages, by vector
 * @fire: called for each of them, if set
 * @sent: frames on the wire
 */
struct ixgbe_model {
    struct bar_model bar;
    const struct dma_pool *pool;
    uint16_t device;
    uint32_t reg[IXM_BAR_SIZE / 4];
    unsigned breaches;
    bool hush;
    bool gone;
    uint64_t gone_in;
    uint64_t accesses;
    unsigned resets;
    bool hold_reset, no_eeprom, no_dma_init, no_cfg_done, no_sec_ready;
    bool master_busy;
    unsigned flushes;
    uint32_t rx_stuck, tx_stuck, rx_on, tx_on;
    bool tx_hold;
    const uint8_t *(*guest)(void *ctx, uint64_t iova, uint32_t len);
    unsigned guest_reads;
    unsigned firmware_holds;
    bool link_up;
    uint32_t speed;
    uint32_t eeprom_lms;
    bool keep_counters;
    uint8_t mac[6];
    void (*mangle)(void *ctx, uint32_t queue, uint32_t index, uint64_t desc[2]);
    void *mangle_ctx;
    unsigned fired[64];
    void (*fire)(void *ctx, unsigned vector);
    void *fire_ctx;

    /* progress of initialisation since the last reset */
    bool eeprom_seen, dma_seen, sec_ready_seen, in_reset, second_reset_due;
    int64_t reset_ns;
    uint64_t counter_bytes_rx, counter_bytes_tx;

    struct ixm_ring rx[IXM_QUEUES], tx[IXM_QUEUES];
    struct engine_ring tx_ring[IXM_QUEUES];
    struct ixm_rsc rsc[IXM_RSC_CONTEXTS];
    uint32_t n_sent;
    struct ixm_frame sent[IXM_SENT];
};

void ixm_init(struct ixgbe_model *m, const struct dma_pool *pool, uint16_t device);
void ixm_fini(struct ixgbe_model *m);

/* A frame arrives, without FCS.  Returns the queue it went to, -1 if it was lost or refused. */
int ixm_receive(struct ixgbe_model *m, const uint8_t *data, uint32_t len);
/* The queue's interrupt timer expires: what is being joined is closed. */
void ixm_expire(struct ixgbe_model *m, uint32_t queue);
/* Send what was held back. */
void ixm_send(struct ixgbe_model *m);
void ixm_link(struct ixgbe_model *m, bool up, uint32_t speed);
/* Raise "other" causes. */
void ixm_cause(struct ixgbe_model *m, uint32_t eicr);
/* Forget the frames that were sent. */
void ixm_clear(struct ixgbe_model *m);

/* A breach, printed with the section of the data sheet. */
void ixm_breach(struct ixgbe_model *m, const char *section, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* A counter counts; it stops at its maximum. */
void ixm_count(struct ixgbe_model *m, uint32_t reg, uint32_t n);

static inline uint32_t ixm_reg(const struct ixgbe_model *m, uint32_t offset)
{
    return m->reg[offset / 4];
}

static inline uint32_t ixm_rx_reg(const struct ixgbe_model *m, uint32_t queue, uint32_t offset)
{
    return m->reg[(0x1000 + 0x40 * queue + offset) / 4];
}

static inline uint32_t ixm_tx_reg(const struct ixgbe_model *m, uint32_t queue, uint32_t offset)
{
    return m->reg[(0x6000 + 0x40 * queue + offset) / 4];
}

#endif /* USWITCH_TESTS_IXGBE_MODEL_H */
