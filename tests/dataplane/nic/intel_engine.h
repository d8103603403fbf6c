/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * intel_engine.h - what Intel's adapters do with advanced descriptors, for
 * models of them: frames into a receive ring, frames out of a transmit ring
 * with checksums inserted and segments cut, by the Intel 82576EB datasheet,
 * 7.1.5 and 7.2 (the 82599 agrees).  Not made from the driver: offsets and
 * bits are its own.
 *
 * It reaches the pool and nothing else, as behind an IOMMU, but what @guest
 * lets it read; and watches what
 * the data sheet demands of software: a breach is printed and counted.
 * There is no time in it.  One thread.
 */
#ifndef USWITCH_TESTS_INTEL_ENGINE_H
#define USWITCH_TESTS_INTEL_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "nic/dma.h"

#define ENGINE_FRAME_MAX 16384

/**
 * struct engine - what all rings of a model share
 * @pool: memory (borrowed)
 * @guest: memory beside the pool that may be read, NULL if @iova is none; NULL: there is no such memory
 * @guest_ctx: its first argument
 * @guest_reads: data descriptors that named such memory
 * @faults: accesses outside of it, stopped
 * @breaches: of the data sheet's rules, by software
 * @flags_first, @flags_middle, @flags_last: masks of TCP flags for segments (DTXTCPFLGL, DTXTCPFLGH)
 * @mangle: a broken device: may change a descriptor (host order) before it is written back
 * @sent: a frame goes out, without FCS
 * @ctx: first argument of both
 */
struct engine {
    const struct dma_pool *pool;
    const uint8_t *(*guest)(void *ctx, uint64_t iova, uint32_t len);
    void *guest_ctx;
    unsigned guest_reads;
    unsigned faults;
    unsigned breaches;
    uint32_t flags_first, flags_middle, flags_last;
    void (*mangle)(void *ctx, bool tx, uint32_t index, uint64_t desc[2]);
    void (*sent)(void *ctx, const uint8_t *frame, uint32_t len);
    void *ctx;
};

/* A context descriptor (7.2.2.2). */
struct engine_context {
    bool valid;
    uint32_t mac_len, ip_len, l4_len, mss;
    bool ipv4, tcp, udp;
};

/**
 * struct engine_ring - a ring as the device sees it
 * @base, @size: place and descriptors
 * @head, @tail: next descriptor of the device, first of software's
 * @on: enabled
 * @buf_size: receive: bytes of a buffer
 * @context: transmit: two of them
 * @data: transmit: the frame being gathered
 * @len, @n: its bytes and data descriptors so far
 * @cmd, @olinfo: words of its first one
 * @writes: descriptors written back
 */
struct engine_ring {
    uint64_t base;
    uint32_t size;
    uint32_t head, tail;
    bool on;
    uint32_t buf_size;
    struct engine_context context[2];
    uint8_t *data;
    uint32_t len, n;
    uint32_t cmd, olinfo;
    uint64_t writes;
};

void engine_breach(struct engine *e, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Memory of the device's; NULL and a fault if it is not the pool's. */
uint8_t *engine_memory(struct engine *e, uint64_t iova, uint32_t len);

/* Descriptors that software has given. */
uint32_t engine_given(const struct engine_ring *r);

/**
 * engine_receive() - write a frame into a receive ring
 * @e: engine
 * @r: ring, on
 * @frame: bytes, without FCS
 * @len: number
 * @status: status and errors of the last descriptor, DD and EOP are added
 * @hash: RSS
 *
 * Return: false if there are too few descriptors.
 */
bool engine_receive(struct engine *e, struct engine_ring *r, const uint8_t *frame, uint32_t len, uint32_t status,
                    uint32_t hash);

/**
 * engine_transmit() - send everything between head and tail
 * @e: engine
 * @r: ring, on
 *
 * Return: whether a descriptor was written back.
 */
bool engine_transmit(struct engine *e, struct engine_ring *r);

/* Forget what is being gathered; contexts as well. */
void engine_ring_reset(struct engine_ring *r);

#endif /* USWITCH_TESTS_INTEL_ENGINE_H */
