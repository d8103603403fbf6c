/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * vfio_irq.c - see vfio.h: interrupts as eventfds.
 *
 * A vector for each queue and one for everything else, if the device has so
 * many MSI-X vectors; else one for all.
 */
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/log.h"
#include "base/vfio_abi.h"
#include "nic/vfio.h"

/* A request with the most eventfds that one needs. */
union irq_set {
    struct vfio_irq_set head;
    uint8_t room[sizeof(struct vfio_irq_set) + (US_QUEUES_MAX + 1) * sizeof(int32_t)];
};

/* How many vectors of a kind the device has. */
static uint32_t count_vectors(const struct vfio *v, uint32_t index)
{
    struct vfio_irq_info info = { .argsz = sizeof(info), .index = index };

    if (ioctl(v->fd, VFIO_DEVICE_GET_IRQ_INFO, &info) < 0 || !(info.flags & VFIO_IRQ_INFO_EVENTFD))
        return 0;
    return info.count;
}

static int set_eventfds(const struct vfio *v, uint32_t index, const int *fd, uint32_t n)
{
    union irq_set set = {
        .head = {
            .argsz = (uint32_t)(sizeof(set.head) + n * sizeof(*fd)),
            .flags = VFIO_IRQ_SET_DATA_EVENTFD | VFIO_IRQ_SET_ACTION_TRIGGER,
            .index = index,
            .count = n,
        },
    };

    memcpy(set.room + sizeof(set.head), fd, n * sizeof(*fd));
    return ioctl(v->fd, VFIO_DEVICE_SET_IRQS, &set) < 0 ? -errno : 0;
}

static void disable(const struct vfio *v, uint32_t index)
{
    struct vfio_irq_set set = {
        .argsz = sizeof(set),
        .flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_TRIGGER,
        .index = index,
    };

    (void)ioctl(v->fd, VFIO_DEVICE_SET_IRQS, &set);
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int wire(struct vfio *v, uint32_t index, uint32_t n)
{
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && i < n; i++) {
        v->dev.irq_fd[i] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        rc = v->dev.irq_fd[i] < 0 ? -errno : 0;
    }
    if (rc == 0)
        rc = set_eventfds(v, index, v->dev.irq_fd, n);
    if (rc < 0) {
        for (uint32_t i = 0; i < n; i++)
            close_fd(&v->dev.irq_fd[i]);
        return rc;
    }
    v->irq_index = index;
    v->n_irq = n;
    v->dev.line = index == VFIO_PCI_INTX_IRQ_INDEX;
    return 0;
}

int vfio_wire(struct nic_device *d, uint32_t n_queues, struct nic_irq *irq)
{
    static const uint32_t kinds[] = { VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_INTX_IRQ_INDEX };
    struct vfio *const v = vfio_of(d);
    int rc = -ENOTSUP;

    for (unsigned i = 0; i < sizeof(kinds) / sizeof(kinds[0]) && rc < 0; i++) {
        const uint32_t have = count_vectors(v, kinds[i]), want = i == 0 && have > n_queues ? n_queues + 1 : 1;

        if (have)
            rc = wire(v, kinds[i], want);
    }
    if (rc < 0)
        return rc;
    *irq = (struct nic_irq){ .n = v->n_irq, .msix = v->irq_index == VFIO_PCI_MSIX_IRQ_INDEX };
    return 0;
}

void vfio_unmask(struct nic_device *d)
{
    struct vfio_irq_set set = {
        .argsz = sizeof(set),
        .flags = VFIO_IRQ_SET_DATA_NONE | VFIO_IRQ_SET_ACTION_UNMASK,
        .index = VFIO_PCI_INTX_IRQ_INDEX,
        .count = 1,
    };

    (void)ioctl(vfio_of(d)->fd, VFIO_DEVICE_SET_IRQS, &set);
}

static int wire_event(const struct vfio *v, uint32_t index)
{
    int fd = -1;

    if (count_vectors(v, index))
        fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fd >= 0 && set_eventfds(v, index, &fd, 1) < 0)
        close_fd(&fd);
    return fd;
}

void vfio_wire_events(struct vfio *v)
{
    v->dev.error_fd = wire_event(v, VFIO_PCI_ERR_IRQ_INDEX);
    v->dev.request_fd = wire_event(v, VFIO_PCI_REQ_IRQ_INDEX);
}

void vfio_unwire(struct vfio *v)
{
    if (v->n_irq)
        disable(v, v->irq_index);
    if (v->dev.error_fd >= 0)
        disable(v, VFIO_PCI_ERR_IRQ_INDEX);
    if (v->dev.request_fd >= 0)
        disable(v, VFIO_PCI_REQ_IRQ_INDEX);
    for (unsigned i = 0; i <= US_QUEUES_MAX; i++)
        close_fd(&v->dev.irq_fd[i]);
    close_fd(&v->dev.error_fd);
    close_fd(&v->dev.request_fd);
    v->n_irq = 0;
}
