/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * model_device.h - what VFIO does for nic_port.c, done for a model of a
 * device: registers, the pool, eventfds.
 */
#ifndef USWITCH_TESTS_MODEL_DEVICE_H
#define USWITCH_TESTS_MODEL_DEVICE_H

#include "nic/bar.h"
#include "nic/nic_device.h"

#define MODEL_IOVA 0x123456789000ull

/**
 * struct model_device - a device that is a model
 * @dev: first
 * @bar, @size, @model: which BAR has its registers, and what is behind it
 * @pool: where the model has its memory from: what is mapped, or NULL (the model's)
 * @alive: made and not destroyed
 * @master: it may access memory
 */
struct model_device {
    struct nic_device dev;
    unsigned bar;
    uint32_t size;
    const struct bar_model *model;
    const struct dma_pool **pool;
    bool alive;
    bool master;
};

/**
 * model_device_init() - a device that nobody has yet
 * @d: to fill; must live until it is destroyed by its ops
 * @bar, @size, @model, @pool: as above
 */
void model_device_init(struct model_device *d, unsigned bar, uint32_t size, const struct bar_model *model,
                       const struct dma_pool **pool);

/* The model sends a message: the vector's eventfd becomes readable. */
void model_device_fire(struct model_device *d, unsigned vector);

#endif /* USWITCH_TESTS_MODEL_DEVICE_H */
