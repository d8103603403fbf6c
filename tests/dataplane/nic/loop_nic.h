/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * loop_nic.h - an adapter whose wire is a loop: what is sent by a queue is
 * received by the same queue.  Device and driver for tests of what lies above
 * drivers.  A program that defines vfio_open() and nic_find_driver() by what is
 * here can make a whole switch with it: the linker takes its own first.
 *
 * One device at a time.
 */
#ifndef USWITCH_TESTS_LOOP_NIC_H
#define USWITCH_TESTS_LOOP_NIC_H

#include "nic/nic_port.h"

/* What can be made to fail. */
enum loop_step {
    LOOP_NONE, LOOP_MAP_BARS, LOOP_OPEN, LOOP_MAP_POOL, LOOP_WIRE, LOOP_MASTER, LOOP_START, LOOP_RESET,
    LOOP_OPEN_DEVICE,
};

/**
 * struct loop_nic - the device, as tests see and change it
 * @fail: this step fails with @error
 * @link_up, @speed: what the next read tells
 * @alive: opened and not destroyed
 * @master, @started, @opened, @bars, @pool: what is on or mapped
 * @resets: device resets
 * @others: interrupts that the driver was told of
 * @full: transmit rings are full
 * @progress: what the driver says of a transmit ring
 * @irq_fd: the vectors' eventfds (borrowed)
 * @n_irq: how many
 * @request_fd, @error_fd: the device's (borrowed)
 * @lost, @lost_arg: what map_bars was given
 */
struct loop_nic {
    enum loop_step fail;
    int error;
    bool link_up;
    uint32_t speed;
    bool alive, master, started, opened, bars, pool;
    unsigned resets, others;
    bool full;
    struct nic_tx_progress progress[US_QUEUES_MAX];
    int irq_fd[US_QUEUES_MAX + 1];
    uint32_t n_irq;
    int request_fd, error_fd;
    void (*lost)(void *arg);
    void *lost_arg;
};

extern struct loop_nic loop_nic;
extern const struct nic_driver loop_driver;

/* Everything works, link up at 1000 Mbit/s. */
void loop_nic_reset(void);

/* A device for nic_port_create_on(). */
struct nic_device *loop_nic_open(void);

/* As vfio_open(), whatever the fds, and nic_find_driver(). */
int loop_nic_vfio_open(int iommu_fd, int device_fd, bool iommufd, struct nic_device **out);
const struct nic_driver *loop_nic_find(uint16_t vendor, uint16_t device, uint32_t *variant);

/* The eventfd becomes readable. */
void loop_nic_signal(int fd);

#endif /* USWITCH_TESTS_LOOP_NIC_H */
