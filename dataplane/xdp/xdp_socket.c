/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * xdp_socket.c - the beginning and end of an AF_XDP socket: memory, rings,
 * bind.  See xdp_queue.h.
 *
 * Making such a socket takes CAP_NET_RAW, everything that follows takes
 * nothing: so somebody else makes it, and this process sets it up (design law
 * 5).  Memory and rings belong to the process that set them up; after its end
 * nobody can go on with the socket, a new process needs new ones.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "nic/nic_counter.h"
#include "xdp/xdp_queue.h"

/* Linux 6.6, newer than the headers of Debian 12. */
#ifndef XDP_USE_SG
#define XDP_USE_SG (1 << 4)
#endif
/* A snapshot may be read beyond the end of the last chunk, see nic_take_frame(). */
#define GUARD 4096
/* A socket that was closed lets go of its queue and of its locked memory in the background. */
#define TRIES 50
#define PAUSE_NS 10000000

int xdp_queue_memory(struct xdp_queue *q)
{
    const uint32_t n = q->cfg.ring_size;
    const size_t size = xdp_umem_size(&q->cfg);
    void *const umem = mmap(NULL, size + GUARD, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE,
                            -1, 0);

    q->fd = -1;
    spin_init(&q->tx_lock);
    atomic_init(&q->unsent, false);
    if (umem == MAP_FAILED)
        return -ENOMEM;
    q->umem = umem;
    (void)madvise(umem, size, MADV_DONTDUMP);
    q->with_kernel = calloc(2, n);
    q->free = calloc(n, sizeof(*q->free));
    if (!q->with_kernel || !q->free)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        q->free[i] = n + i;
    q->n_free = n;
    return 0;
}

static bool is_xdp(int fd)
{
    int domain = 0;
    socklen_t len = sizeof(domain);

    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len) == 0 && domain == AF_XDP;
}

/* Whether to try again what a dead socket may still stand against; after a pause. */
static bool may_pass(int error, int passing, unsigned tries)
{
    if (error != passing || tries >= TRIES)
        return false;
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ .tv_nsec = PAUSE_NS }, NULL);
    return true;
}

static int register_memory(const struct xdp_queue *q)
{
    const struct xdp_umem_reg reg = {
        .addr = (uint64_t)(uintptr_t)q->umem, .len = xdp_umem_size(&q->cfg), .chunk_size = q->cfg.chunk_size,
    };

    for (unsigned i = 0; setsockopt(q->fd, SOL_XDP, XDP_UMEM_REG, &reg, sizeof(reg)) < 0; i++) {
        const int error = errno;

        if (!may_pass(error, ENOBUFS, i))
            return error == ENOBUFS ? -EDQUOT : -error;
    }
    return 0;
}

/* The two rings that the kernel empties are longer than there are chunks: it says late how far it is. */
static int open_rings(struct xdp_queue *q)
{
    const uint32_t n = q->cfg.ring_size, longer = n * XDP_RING_SLACK;
    int rc = xdp_ring_open(&q->fill, q->fd, XDP_RING_FILL, longer);

    if (rc == 0)
        rc = xdp_ring_open(&q->completion, q->fd, XDP_RING_COMPLETION, n);
    if (rc == 0)
        rc = xdp_ring_open(&q->rx, q->fd, XDP_RING_RECEIVE, n);
    if (rc == 0)
        rc = xdp_ring_open(&q->tx, q->fd, XDP_RING_TRANSMIT, longer);
    return rc;
}

/* All chunks of the first half are the kernel's to receive into. */
static void fill_up(struct xdp_queue *q)
{
    for (uint32_t i = 0; i < q->cfg.ring_size; i++) {
        xdp_ring_put_addr(&q->fill, (uint64_t)i * q->cfg.chunk_size);
        q->with_kernel[i] = 1;
    }
    xdp_ring_publish(&q->fill);
}

static int bind_queue(const struct xdp_queue *q)
{
    const struct sockaddr_xdp to = {
        .sxdp_family = AF_XDP,
        .sxdp_flags = (uint16_t)(XDP_USE_NEED_WAKEUP | (q->cfg.zero_copy ? XDP_ZEROCOPY : XDP_COPY) |
                                 (q->cfg.pieces ? XDP_USE_SG : 0)),
        .sxdp_ifindex = q->cfg.ifindex,
        .sxdp_queue_id = q->cfg.queue,
    };

    for (unsigned i = 0; bind(q->fd, (const struct sockaddr *)&to, sizeof(to)) < 0; i++) {
        const int error = errno;

        if (!may_pass(error, EBUSY, i)) {
            log_error("port %u: an AF_XDP socket cannot be bound to queue %u of interface %u (%s%s): %s",
                      q->port->id, q->cfg.queue, q->cfg.ifindex, q->cfg.zero_copy ? "zero copy" : "copies",
                      q->cfg.pieces ? ", frames in several pieces, which takes Linux 6.6 and a driver that can" : "",
                      strerror(error));
            return -error;
        }
    }
    return 0;
}

int xdp_queue_open(struct xdp_queue *q, int fd)
{
    int rc = xdp_queue_memory(q);

    if (rc == 0 && !is_xdp(fd))
        rc = -EINVAL;
    if (rc < 0)
        return rc;
    q->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    rc = q->fd < 0 ? -errno : register_memory(q);
    if (rc == 0)
        rc = open_rings(q);
    if (rc == 0)
        fill_up(q);
    return rc == 0 ? bind_queue(q) : rc;
}

void xdp_queue_close(struct xdp_queue *q)
{
    xdp_ring_close(&q->rx);
    xdp_ring_close(&q->tx);
    xdp_ring_close(&q->fill);
    xdp_ring_close(&q->completion);
    if (q->fd >= 0)
        close(q->fd);
    q->fd = -1;
    if (q->umem)
        munmap(q->umem, xdp_umem_size(&q->cfg) + GUARD);
    q->umem = NULL;
    free(q->with_kernel);
    free(q->free);
    q->with_kernel = NULL;
    q->free = NULL;
}

void xdp_queue_count(const struct xdp_queue *q, uint64_t *counter)
{
    struct xdp_statistics s = { 0 };
    socklen_t len = sizeof(s);

    if (getsockopt(q->fd, SOL_XDP, XDP_STATISTICS, &s, &len) < 0)
        return;
    counter[NIC_COUNTER_rx_missed] += s.rx_ring_full + s.rx_fill_ring_empty_descs;
    /* With copies, a frame that found no chunk is among the dropped as well. */
    if (s.rx_dropped > s.rx_fill_ring_empty_descs)
        counter[NIC_COUNTER_rx_errors] += s.rx_dropped - s.rx_fill_ring_empty_descs;
    counter[NIC_COUNTER_rx_errors] += s.rx_invalid_descs;
    counter[NIC_COUNTER_tx_errors] += s.tx_invalid_descs;
}
