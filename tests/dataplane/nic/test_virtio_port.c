/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_virtio_port.c - the virtio driver below a whole port: found by its PCI
 * id, brought up, used, fenced when the device lies, reset, taken down.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "harness.h"
#include "nic/model_device.h"
#include "nic/nic_port.h"
#include "nic/virtio_fixture.h"
#include "state_page.h"

static const struct us_port_add request = {
    .port_id = 9, .kind = US_KIND_NIC, .max_frame = 1514, .n_queues = 2, .ring_size = 64,
};

static struct vm vm;
static struct model_device device;
static struct us_state_page *page;
static struct burst burst;

static int create(uint64_t offered, struct port **out)
{
    const int fd = us_state_page_create(9);

    vm_init(&vm, NULL, offered, 64);
    vm_set_net(&vm, VIRTIO_NET_CFG_MAX_PAIRS, 2, 2);
    model_device_init(&device, VM_BAR, VM_BAR_SIZE, &vm.model, &vm.pool);
    memcpy(device.dev.config, vm.config, sizeof(device.dev.config));
    CHECK(fd >= 0 && state_page_map(fd, &page) == 0);
    close(fd);
    return nic_port_create_on(&request, page, &device.dev, NULL, false, -1, out);
}

static void end(struct port *p)
{
    p->ops->stop(p);
    p->ops->destroy(p);
    CHECK(!device.alive && !device.master && !vm.pool && !(vm.status & VIRTIO_STATUS_DRIVER_OK));
    CHECK_EQ(vm.violations, 0);
}

/* A frame in at each queue and one out. */
static void check_works(struct port *p)
{
    static uint8_t bytes[300], got[300], hdr[VM_HDR_LEN];
    struct iovec pieces[8];
    struct frame f, *frames[1] = { &f };
    unsigned sent = 0;

    for (uint32_t i = 0; i < 2; i++) {
        frame_make(bytes, 300, i);
        CHECK_EQ(vm_receive(&vm, i, NULL, bytes, 300), 1);
        CHECK(p->ops->arm(&p->rxq[i]));
        CHECK_EQ(p->ops->rx_burst(&p->rxq[i], &burst), 1);
        CHECK_EQ(frame_flatten(&burst.frame[0], got), 300);
        CHECK_MEM(got, bytes, 300);
        p->ops->rx_complete(&p->rxq[i], &burst);
    }
    f = frame_view(bytes, 300, 64, 100, pieces);
    CHECK_EQ(p->ops->tx_burst(p, frames, 1), 1);
    for (uint32_t i = 0; i < 2; i++)
        sent += vm_send(&vm, i, hdr, got, sizeof(got)) == 300;
    CHECK_EQ(sent, 1);
    CHECK_MEM(got, bytes, 300);
}

TEST(a_life)
{
    struct port *p = NULL;

    REQUIRE(create(VM_ALL_FEATURES, &p) == 0);
    CHECK_STR((const char *)page->nic.driver, "virtio_pci");
    CHECK(page->nic.link_up == 1 && page->nic.speed_mbps == 10000 && page->nic.mac[0] == 0x52);
    check_works(p);
    CHECK_EQ(nic_port_read(p), 0);
    CHECK_EQ(page->nic.counter[0], 2);
    end(p);
}

TEST(fenced_and_reset)
{
    struct vm_buf b;
    struct port *p = NULL;

    REQUIRE(create(VM_ALL_FEATURES, &p) == 0);
    for (unsigned i = 0; i < 5; i++) {
        check_works(p);
        CHECK(vm_pop(&vm, &vm.queue[2], &b));
        vm_push_raw(&vm, &vm.queue[2], 0xfff0, 0, 1, 1);
        CHECK_EQ(p->ops->rx_burst(&p->rxq[1], &burst), 0);
        CHECK(page->broken == BREAK_nic_descriptor && page->broken_ring == 1 && page->broken_detail == 0xfff0);
        p->ops->rx_complete(&p->rxq[1], &burst);
        CHECK_EQ(nic_port_reset(p), 0);
        CHECK_EQ(page->broken, BREAK_none);
    }
    vm_break(&vm);
    nic_port_other(p);
    CHECK_EQ(page->broken, BREAK_nic_error);
    CHECK_EQ(nic_port_reset(p), 0);
    check_works(p);
    CHECK_EQ(page->nic.resets, 6);
    end(p);
}

TEST(refused)
{
    struct port *p = NULL;

    CHECK_EQ(create(VM_ALL_FEATURES & ~VIRTIO_BIT(VIRTIO_F_ACCESS_PLATFORM), &p), -ENODEV);
    CHECK(!vm.pool && !device.master);
    device.dev.ops->destroy(&device.dev);
    state_page_unmap(page);
    CHECK_EQ(create(VM_ALL_FEATURES & ~VIRTIO_BIT(VIRTIO_NET_F_MQ), &p), -EINVAL);
    CHECK(!vm.pool && !device.master);
    device.dev.ops->destroy(&device.dev);
    state_page_unmap(page);
}

MAIN
{
    RUN(a_life);
    RUN(fenced_and_reset);
    RUN(refused);
}
