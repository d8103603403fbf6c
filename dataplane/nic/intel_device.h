/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * intel_device.h - what igb and ixgbe ask of their devices in the same words;
 * intel_ring.h has their rings.  Registers lie in BAR 0; STATUS is at the same
 * place in both (82576 8.2.2, 82599 8.2.3.1.2).
 *
 * Control thread.
 */
#ifndef USWITCH_NIC_INTEL_DEVICE_H
#define USWITCH_NIC_INTEL_DEVICE_H

#include "nic/nic.h"

/* A register of all ones may be a value; STATUS never is. */
bool intel_is_gone(const struct nic *n);

/* Sleep so long at least. */
void intel_sleep_us(uint32_t us);

/**
 * intel_wait() - poll a register
 * @n: device
 * @reg: register
 * @mask: bits of interest
 * @want: their value to wait for
 * @step_us: between two looks
 * @steps: looks
 *
 * Return: 0, -ETIMEDOUT, -EIO if the device is gone.
 */
int intel_wait(const struct nic *n, uint32_t reg, uint32_t mask, uint32_t want, uint32_t step_us, uint32_t steps);

/**
 * intel_open() - nic_driver.open: reset, and the permanent address
 * @n: device
 * @bar_size: bytes of registers that there must be
 * @priv_size: bytes of nic->priv, made and zeroed here; intel_close() frees it
 * @reset: the driver's
 * @ral: register of the address' first four bytes; the one behind it has the others
 *
 * Return: 0; -ENODEV: it has fewer registers; -EIO: it does not answer, or has no address; -ENOMEM.
 */
int intel_open(struct nic *n, size_t bar_size, size_t priv_size, int (*reset)(struct nic *n), uint32_t ral);

/* nic_driver.close */
void intel_close(struct nic *n);

/**
 * intel_tx_progress() - nic_driver.tx_progress
 * @q: queue
 * @tdh: register of its transmit head; the tail is two registers further
 * @out: filled
 */
void intel_tx_progress(const struct nic_queue *q, uint32_t tdh, struct nic_tx_progress *out);

#endif /* USWITCH_NIC_INTEL_DEVICE_H */
