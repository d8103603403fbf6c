/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * virtio_fixture.c - see virtio_fixture.h.
 */
#include "nic/virtio_fixture.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "harness.h"

#define PAGE 4096

/* Nobody calls these: the tests call the driver. */
static const struct port_ops no_ops = { .kind = "nic" };

uint64_t shape_features(unsigned shape)
{
    uint64_t offered = VM_ALL_FEATURES;

    if (!(shape & SHAPE_PACKED))
        offered &= ~VIRTIO_BIT(VIRTIO_F_RING_PACKED);
    if (!(shape & SHAPE_IN_ORDER))
        offered &= ~VIRTIO_BIT(VIRTIO_F_IN_ORDER);
    if (!(shape & SHAPE_EVENT_IDX))
        offered &= ~VIRTIO_BIT(VIRTIO_F_RING_EVENT_IDX);
    return offered;
}

void vfix_init(struct vfix *x, uint64_t offered, uint16_t queue_max)
{
    const struct us_port_add add = { .port_id = 7, .kind = US_KIND_NIC, .max_frame = 1514 };
    struct us_state_page *const page =
        mmap(NULL, US_STATE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    memset(x, 0, sizeof(*x));
    x->drv = &virtio_pci_driver;
    x->nic = calloc(1, sizeof(*x->nic));
    x->burst = aligned_alloc(64, sizeof(*x->burst));
    if (page == MAP_FAILED || !x->nic || !x->burst)
        abort();
    x->burst->held_back = 0;
    vm_init(&x->vm, &x->nic->pool, offered, queue_max);
    port_init(&x->nic->port, &no_ops, &add, page, 1);
    x->nic->driver = x->drv;
    x->nic->config = x->vm.config;
    x->nic->bar[VM_BAR] = (struct bar){ .size = VM_BAR_SIZE, .model = &x->vm.model };
    x->nic->cfg = (struct nic_config){ .n_queues = 1, .ring_size = 256, .max_frame = 1514, .promiscuous = true };
    x->nic->irq = (struct nic_irq){ .n = 2, .msix = true };
    for (uint32_t i = 0; i < US_QUEUES_MAX; i++)
        x->nic->queue[i] = (struct nic_queue){ .nic = x->nic, .index = i };
}

int vfix_start(struct vfix *x)
{
    const size_t size = (x->drv->pool_size(&x->nic->cfg) + PAGE - 1) / PAGE * PAGE;
    int rc;

    if (!x->nic->pool.base) {
        void *const base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (base == MAP_FAILED)
            abort();
        x->nic->pool = (struct dma_pool){ .base = base, .size = size, .iova = VFIX_IOVA };
    }
    atomic_store(&x->nic->port.max_frame, x->nic->cfg.max_frame);
    rc = x->drv->open(x->nic);
    return rc < 0 ? rc : vfix_restart(x);
}

int vfix_restart(struct vfix *x)
{
    dma_reset(&x->nic->pool);
    return x->drv->start(x->nic);
}

void vfix_fini(struct vfix *x)
{
    x->drv->stop(x->nic);
    CHECK(x->vm.fault.gone || x->vm.fault.reset_stuck || !(x->vm.status & VIRTIO_STATUS_DRIVER_OK));
    x->drv->close(x->nic);
    CHECK_EQ(x->vm.violations, 0);
    if (x->nic->pool.base)
        munmap(x->nic->pool.base, x->nic->pool.size);
    port_fini(&x->nic->port);
    free(x->nic);
    free(x->burst);
}

unsigned vfix_rx(struct vfix *x, uint32_t queue)
{
    return x->drv->rx_burst(&x->nic->queue[queue], x->burst);
}

void vfix_done(struct vfix *x, uint32_t queue)
{
    x->drv->rx_complete(&x->nic->queue[queue], x->burst);
}

void vfix_receive(struct vfix *x, uint32_t queue, const uint8_t *frame, uint32_t len, const uint8_t *hdr)
{
    static uint8_t got[VFIX_FRAME_MAX];
    struct burst *const b = x->burst;

    CHECK(vm_receive(&x->vm, queue, hdr, frame, len) > 0);
    if (!CHECK_EQ(vfix_rx(x, queue), 1))
        return;
    CHECK_EQ(b->n, 1);
    CHECK(b->frame[0].hdr_len >= (len < 64 ? len : 64));
    CHECK_EQ(frame_flatten(&b->frame[0], got), len);
    CHECK_MEM(got, frame, len);
    vfix_done(x, queue);
}

uint8_t vfix_tx(struct vfix *x, uint32_t queue, struct frame *f)
{
    uint8_t why = 0xff;

    x->drv->tx_burst(&x->nic->queue[queue], &f, 1, &why);
    return why;
}

uint32_t frame_flatten(const struct frame *f, uint8_t *to)
{
    uint32_t len = f->hdr_len;

    memcpy(to, f->hdr, f->hdr_len);
    for (uint32_t i = 0; i < f->n_iov; i++) {
        CHECK(f->iov[i].iov_len > 0);
        memcpy(to + len, f->iov[i].iov_base, f->iov[i].iov_len);
        len += (uint32_t)f->iov[i].iov_len;
    }
    CHECK_EQ(len, f->len);
    return len;
}

void frame_make(uint8_t *to, uint32_t len, uint32_t seed)
{
    static const uint8_t hdr[ETH_HDR_LEN] = { 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5 };

    memcpy(to, hdr, sizeof(hdr));
    for (uint32_t i = sizeof(hdr); i < len; i++)
        to[i] = (uint8_t)(i * 31 + (i >> 8) * 5 + seed * 7 + 1);
}

struct frame frame_view(uint8_t *bytes, uint32_t len, uint32_t snap, uint32_t piece, struct iovec *iov)
{
    struct frame f = { .hdr = bytes, .hdr_len = len < snap ? len : snap, .len = len, .iov = iov,
                       .out_vid = US_VID_UNTAGGED };

    for (uint32_t at = f.hdr_len; at < len; at += piece)
        iov[f.n_iov++] = (struct iovec){ bytes + at, len - at < piece ? len - at : piece };
    return f;
}
