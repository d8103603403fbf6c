/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * bar.h - a NIC's registers.  Drivers read and write them through these
 * functions only, so that a model of the device may stand behind them where
 * there is no device: tests and benchmarks drive an unchanged driver.
 *
 * Registers are little-endian (PCI 3.0, 6.1); values here are the host's.
 * Any thread, as the driver orders it.
 */
#ifndef USWITCH_NIC_BAR_H
#define USWITCH_NIC_BAR_H

#include <endian.h>
#include <stdint.h>

/**
 * struct bar_model - what stands behind a BAR without a device
 * @read: value of the register of @bytes (1, 2, 4) at @offset
 * @write: the register is written; side effects (DMA, completions) happen before it returns
 * @ctx: first argument of both
 */
struct bar_model {
    uint32_t (*read)(void *ctx, uint32_t offset, unsigned bytes);
    void (*write)(void *ctx, uint32_t offset, uint32_t value, unsigned bytes);
    void *ctx;
};

/**
 * struct bar - a mapped BAR, or a model
 * @base: mapping; NULL: a model
 * @size: bytes; a driver checks once, when it opens the device, that its registers lie below
 * @model: used where @base is NULL (borrowed)
 */
struct bar {
    volatile uint8_t *base;
    uint32_t size;
    const struct bar_model *model;
};

static inline uint32_t bar_read32(const struct bar *b, uint32_t offset)
{
    if (__builtin_expect(!b->base, 0))
        return b->model->read(b->model->ctx, offset, 4);
    return le32toh(*(const volatile uint32_t *)(b->base + offset));
}

/*
 * All stores to memory before it are visible to the device first: on x86 stores stay in order and the mapping
 * is uncached, elsewhere the store's ordering does it.
 */
static inline void bar_write32(const struct bar *b, uint32_t offset, uint32_t value)
{
    if (__builtin_expect(!b->base, 0)) {
        b->model->write(b->model->ctx, offset, value, 4);
        return;
    }
    __atomic_store_n((volatile uint32_t *)(b->base + offset), htole32(value), __ATOMIC_RELEASE);
}

static inline uint16_t bar_read16(const struct bar *b, uint32_t offset)
{
    if (__builtin_expect(!b->base, 0))
        return (uint16_t)b->model->read(b->model->ctx, offset, 2);
    return le16toh(*(const volatile uint16_t *)(b->base + offset));
}

static inline void bar_write16(const struct bar *b, uint32_t offset, uint16_t value)
{
    if (__builtin_expect(!b->base, 0)) {
        b->model->write(b->model->ctx, offset, value, 2);
        return;
    }
    __atomic_store_n((volatile uint16_t *)(b->base + offset), htole16(value), __ATOMIC_RELEASE);
}

static inline uint8_t bar_read8(const struct bar *b, uint32_t offset)
{
    if (__builtin_expect(!b->base, 0))
        return (uint8_t)b->model->read(b->model->ctx, offset, 1);
    return b->base[offset];
}

static inline void bar_write8(const struct bar *b, uint32_t offset, uint8_t value)
{
    if (__builtin_expect(!b->base, 0)) {
        b->model->write(b->model->ctx, offset, value, 1);
        return;
    }
    __atomic_store_n(b->base + offset, value, __ATOMIC_RELEASE);
}

#endif /* USWITCH_NIC_BAR_H */
