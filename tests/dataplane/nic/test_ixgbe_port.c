/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_ixgbe_port.c - the ixgbe driver under nic_port.c, on the model: found
 * by its id, woken by its vectors, fenced and started anew.
 */
#include "harness.h"

#include <poll.h>
#include <unistd.h>

#include "nic/ixgbe_model.h"
#include "nic/model_device.h"
#include "nic/nic_counter.h"
#include "nic/nic_port.h"
#include "nic/pci.h"
#include "state_page.h"

/**
 * struct machine - a device that is the model, and its port
 */
struct machine {
    struct model_device dev;
    struct ixgbe_model m;
    struct port *port;
    struct us_state_page *page;
    struct burst b;
};

static void fire(void *ctx, unsigned vector)
{
    model_device_fire(ctx, vector);
}

static struct machine *machine_create(uint32_t queues)
{
    const struct us_port_add add = { .port_id = 3, .kind = US_KIND_NIC, .max_frame = 1514, .n_queues = queues,
                                     .irq_us = 20 };
    struct machine *k = calloc(1, sizeof(*k));
    const int fd = us_state_page_create(3);

    if (!k || fd < 0 || state_page_map(fd, &k->page) < 0)
        exit(EXIT_FAILURE);
    close(fd);
    model_device_init(&k->dev, 0, IXM_BAR_SIZE, &k->m.bar, &k->m.pool);
    k->dev.dev.config[PCI_VENDOR] = 0x86;
    k->dev.dev.config[PCI_VENDOR + 1] = 0x80;
    k->dev.dev.config[PCI_DEVICE] = 0xfb;
    k->dev.dev.config[PCI_DEVICE + 1] = 0x10;
    ixm_init(&k->m, NULL, IXM_82599);
    k->m.fire = fire;
    k->m.fire_ctx = &k->dev;
    if (nic_port_create_on(&add, k->page, &k->dev.dev, NULL, false, -1, &k->port) < 0)
        exit(EXIT_FAILURE);
    return k;
}

static void machine_destroy(struct machine *k)
{
    CHECK_EQ(k->m.breaches, 0);
    k->port->ops->stop(k->port);
    k->port->ops->destroy(k->port);
    CHECK(!k->dev.alive && !k->dev.master && !k->m.pool);
    ixm_fini(&k->m);
    free(k);
}

static bool is_readable(int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLIN };

    return poll(&p, 1, 0) == 1;
}

static unsigned receive(struct machine *k, uint32_t queue)
{
    const unsigned n = k->port->ops->rx_burst(&k->port->rxq[queue], &k->b);

    k->port->ops->rx_complete(&k->port->rxq[queue], &k->b);
    return n;
}

static unsigned transmit(struct machine *k)
{
    uint8_t room[HDR_ROOM + 64] = { 0 };
    struct frame f = { .hdr = room + HDR_ROOM, .hdr_len = 64, .len = 64, .out_vid = 7 };
    struct frame *const list[1] = { &f };

    memset(f.hdr, 2, 12);
    f.hdr[12] = 0x88;
    return k->port->ops->tx_burst(k->port, list, 1);
}

static const uint8_t frame[64] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2 };

TEST(it_is_found_and_works)
{
    struct machine *k = machine_create(2);

    CHECK_STR((const char *)k->page->nic.driver, "ixgbe");
    CHECK_MEM(k->page->nic.mac, k->m.mac, 6);
    CHECK_EQ(k->page->nic.speed_mbps, 10000);
    CHECK(!k->port->ops->arm(&k->port->rxq[0]));
    CHECK(!is_readable(k->dev.dev.irq_fd[0]));
    CHECK_EQ(ixm_receive(&k->m, frame, sizeof(frame)), 0);
    CHECK(is_readable(k->dev.dev.irq_fd[0]));
    CHECK(!is_readable(k->dev.dev.irq_fd[1]));
    CHECK_EQ(receive(k, 0), 1);
    CHECK_EQ(transmit(k), 1);
    CHECK_EQ(k->m.n_sent, 1);
    CHECK_EQ(k->m.sent[0].len, 68);
    CHECK_EQ(nic_port_read(k->port), 0);
    CHECK_EQ(k->page->nic.counter[NIC_COUNTER_rx_packets], 1);
    CHECK_EQ(k->page->nic.counter[NIC_COUNTER_tx_packets], 1);
    machine_destroy(k);
}

TEST(link_and_errors_come_by_the_last_vector)
{
    struct machine *k = machine_create(2);

    ixm_link(&k->m, false, 3);
    CHECK(is_readable(k->dev.dev.irq_fd[2]));
    nic_port_other(k->port);
    CHECK_EQ(k->page->nic.link_up, 0);
    CHECK_EQ(k->page->nic.link_changes, 1);
    CHECK_EQ(transmit(k), 0);
    ixm_link(&k->m, true, 2);
    nic_port_other(k->port);
    CHECK_EQ(k->page->nic.speed_mbps, 1000);
    CHECK_EQ(transmit(k), 1);
    ixm_cause(&k->m, 1u << 28);
    nic_port_other(k->port);
    CHECK_EQ(atomic_load(&k->port->broken), BREAK_nic_error);
    CHECK_EQ(transmit(k), 0);
    ixm_receive(&k->m, frame, sizeof(frame));
    CHECK_EQ(receive(k, 0), 0);
    CHECK_EQ(nic_port_reset(k->port), 0);
    CHECK_EQ(atomic_load(&k->port->broken), BREAK_none);
    CHECK_EQ(k->page->nic.resets, 1);
    CHECK_EQ(ixm_receive(&k->m, frame, sizeof(frame)), 0);
    CHECK_EQ(receive(k, 0), 1);
    CHECK_EQ(transmit(k), 1);
    CHECK_EQ(nic_port_read(k->port), 0);
    CHECK_EQ(k->page->nic.counter[NIC_COUNTER_rx_packets], 2);
    machine_destroy(k);
}

TEST(a_device_that_is_gone_stays_fenced)
{
    struct machine *k = machine_create(1);

    k->m.gone = true;
    ixm_cause(&k->m, 0);
    nic_port_other(k->port);
    CHECK_EQ(atomic_load(&k->port->broken), BREAK_device_gone);
    CHECK(nic_port_reset(k->port) < 0);
    CHECK_EQ(transmit(k), 0);
    CHECK_EQ(receive(k, 0), 0);
    k->m.gone = false;
    CHECK_EQ(nic_port_reset(k->port), 0);
    CHECK_EQ(transmit(k), 1);
    machine_destroy(k);
}

MAIN
{
    RUN(it_is_found_and_works);
    RUN(link_and_errors_come_by_the_last_vector);
    RUN(a_device_that_is_gone_stays_fenced);
}
