/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * tap_port.c - see tap_port.h.
 *
 * One queue.  The kernel takes and gives one frame a system call, so there is
 * nothing to gain from short snapshots: rx_burst reads whole frames into
 * buffers of the port's own, tx_burst hands the kernel the frame as it lies.
 *
 * Ownership: buffers and idle counters belong to the worker that has the
 * queue; counters of the outgoing side to whoever holds count_lock.
 */
#include "tap/tap_port.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "base/spin.h"
#include "vnet.h"

#define TUN_MAJOR 10
#define TUN_MINOR 200

/* What every kernel we run on does, and what it does since 6.2, whose header may be newer than ours. */
#define TAP_OFFLOADS (OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_TSO6 | OFFLOAD_ECN)
#define TAP_OFFLOADS_USO (OFFLOAD_USO4 | OFFLOAD_USO6)
#define KERNEL_OFFLOADS (TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN)
#ifndef TUN_F_USO4
#define TUN_F_USO4 0x20
#define TUN_F_USO6 0x40
#endif

#define LINE 64
#define LINES(n) (((n) + LINE - 1) / LINE * LINE)
/* An odd number of cache lines, so that the frames of a burst do not all fall into the same cache sets. */
#define BUF_SIZE (LINES(HDR_ROOM + US_FRAME_MAX) | LINE)
/* Entries of writev() that are not the source's: header, addresses, tag, rest of the snapshot. */
#define TX_IOV_OWN 4
#define TX_IOV_MAX (IOV_MAX - 8)
/* While the device is silent only every so many polls cost a system call. */
#define IDLE_SKIP_MAX 16

/**
 * struct tap_port - a TAP device as port
 * @port: generic part
 * @fd: the device (owned, immutable)
 * @count_lock: state->out[0], if the port is shared
 * @skip: polls to leave out, doubles up to IDLE_SKIP_MAX (worker)
 * @skipped: polls left out since the last attempt (worker)
 * @buf: BURST_MAX buffers of BUF_SIZE (worker)
 */
struct tap_port {
    struct port port;
    int fd;
    struct spin count_lock;
    uint32_t skip;
    uint32_t skipped;
    uint8_t *buf;
};

static struct tap_port *tap_of(struct port *p)
{
    return (struct tap_port *)p;
}

/* The device was deleted, or its queue detached: nothing will ever come of this fd again. */
static bool is_gone(int error)
{
    return error == EBADFD || error == ENODEV;
}

/* ---- from the device ---- */

static bool has_tag(const struct frame *f)
{
    return f->hdr[2 * ETH_ALEN] == ETHERTYPE_VLAN >> 8 && f->hdr[2 * ETH_ALEN + 1] == (ETHERTYPE_VLAN & 0xff);
}

static enum drop_reason check_frame(struct tap_port *t, struct frame *f, const uint8_t *wire)
{
    enum drop_reason why;
    uint32_t longest;

    if (f->len < ETH_HDR_LEN)
        return DROP_frame_short;
    why = vnet_parse(wire, f->len, atomic_load_explicit(&t->port.offloads, memory_order_relaxed), &f->vnet);
    if (why != DROP_none)
        return why;
    longest = atomic_load_explicit(&t->port.max_frame, memory_order_relaxed) + (has_tag(f) ? VLAN_TAG_LEN : 0);
    if (f->vnet.gso_type == VNET_GSO_NONE && f->len > longest)
        return DROP_frame_long;
    return DROP_none;
}

/* Reads one frame into a buffer. Returns bytes read, header included, or -errno. */
static ssize_t read_frame(struct tap_port *t, uint8_t *buf, uint8_t wire[VNET_WIRE_LEN_MRG])
{
    const struct iovec iov[2] = {
        { .iov_base = wire, .iov_len = VNET_WIRE_LEN_MRG },
        { .iov_base = buf + HDR_ROOM, .iov_len = US_FRAME_MAX },
    };
    const ssize_t n = readv(t->fd, iov, 2);

    return n < 0 ? -errno : n;
}

/* Nothing there, or an error: polls become rarer. */
static void read_failed(struct tap_port *t, ssize_t rc)
{
    if (is_gone((int)-rc))
        port_break(&t->port, 0, BREAK_device_gone, (uint64_t)-rc);
    t->skip = t->skip < IDLE_SKIP_MAX ? t->skip * 2 + 1 : t->skip;
    t->skipped = 0;
}

static unsigned tap_rx_burst(struct rxq *q, struct burst *b)
{
    struct tap_port *t = tap_of(q->port);
    uint32_t bytes = 0;

    b->n = 0;
    b->n_iov = 0;
    if (t->skipped < t->skip) {
        t->skipped++;
        return 0;
    }
    for (unsigned i = b->held_back; i < BURST_MAX && bytes < BURST_BYTES; i++) {
        uint8_t *buf = t->buf + (size_t)b->n * BUF_SIZE;
        uint8_t wire[VNET_WIRE_LEN_MRG];
        const ssize_t n = read_frame(t, buf, wire);
        struct frame *f = &b->frame[b->n];
        enum drop_reason why;

        if (n < 0) {
            read_failed(t, n);
            return b->n;
        }
        t->skip = 0;
        *f = (struct frame){ .hdr = buf + HDR_ROOM };
        f->len = n > VNET_WIRE_LEN_MRG ? (uint32_t)n - VNET_WIRE_LEN_MRG : 0;
        f->hdr_len = f->len;
        bytes += f->len;
        why = check_frame(t, f, wire);
        if (why == DROP_none)
            b->n++;
        else
            count_drop_in(q->port, q->index, why);
    }
    return b->n;
}

/* The buffers are ours and free again. */
static void tap_rx_complete(struct rxq *q, struct burst *b)
{
    (void)q;
    (void)b;
}

/*
 * The device announces every frame by itself.  An edge may have been swept
 * away, or fallen into polls left out: look, the next poll must not skip.
 */
static bool tap_arm(struct rxq *q)
{
    struct tap_port *t = tap_of(q->port);
    struct pollfd p = { .fd = t->fd, .events = POLLIN };

    t->skip = 0;
    return poll(&p, 1, 0) > 0;  /* a frame, or POLLERR: the device is gone, and the next read finds it out */
}

static void tap_disarm(struct rxq *q)
{
    tap_of(q->port)->skip = 0;
}

/* ---- to the device ---- */

/**
 * struct tap_frame - what surrounds a frame's bytes in writev()
 * @wire: virtio-net header
 * @tag: 802.1Q tag
 * @iov: everything, in order
 * @n_iov: entries
 */
struct tap_frame {
    uint8_t wire[VNET_WIRE_LEN_MRG];
    uint8_t tag[VLAN_TAG_LEN];
    struct iovec iov[TX_IOV_OWN + TX_IOV_MAX];
    int n_iov;
};

static void append(struct tap_frame *out, const void *base, size_t len)
{
    if (len)
        out->iov[out->n_iov++] = (struct iovec){ .iov_base = (void *)(uintptr_t)base, .iov_len = len };
}

/* 802.1Q: the tag stands between the addresses and the type. */
static void append_tag(struct tap_frame *out, const struct frame *f)
{
    const uint32_t tci = f->pcp | f->out_vid;

    out->tag[0] = ETHERTYPE_VLAN >> 8;
    out->tag[1] = ETHERTYPE_VLAN & 0xff;
    out->tag[2] = (uint8_t)(tci >> 8);
    out->tag[3] = (uint8_t)tci;
    append(out, out->tag, sizeof(out->tag));
}

static void lay_out(struct tap_frame *out, const struct frame *f)
{
    const bool tagged = f->out_vid != US_VID_UNTAGGED;

    memset(out->wire, 0, sizeof(out->wire));
    vnet_format(&f->vnet, tagged ? VLAN_TAG_LEN : 0, out->wire);
    out->n_iov = 0;
    append(out, out->wire, sizeof(out->wire));
    if (tagged) {
        append(out, f->hdr, 2 * ETH_ALEN);
        append_tag(out, f);
        append(out, f->hdr + 2 * ETH_ALEN, f->hdr_len - 2 * ETH_ALEN);
    } else {
        append(out, f->hdr, f->hdr_len);
    }
    for (uint32_t i = 0; i < f->n_iov; i++)
        append(out, f->iov[i].iov_base, f->iov[i].iov_len);
}

/*
 * EFAULT is a source whose memory was truncated, EINVAL a header the kernel
 * likes less than we do: the frame's fault, not the port's.
 */
static enum drop_reason write_frame(struct tap_port *t, const struct frame *f, struct tap_frame *out)
{
    if (f->n_iov > TX_IOV_MAX)
        return DROP_device;
    lay_out(out, f);
    if (writev(t->fd, out->iov, out->n_iov) >= 0)
        return DROP_none;
    if (errno == EAGAIN || errno == ENOBUFS)
        return DROP_ring_full;
    if (errno == EIO)           /* the interface is down */
        return DROP_link_down;
    if (is_gone(errno))
        port_break(&t->port, 0, BREAK_device_gone, (uint64_t)errno);
    return DROP_device;
}

/* The lock is for the counters alone: the kernel takes frames from several threads at once. */
static unsigned count_burst(struct tap_port *t, struct frame *const *frames, const uint8_t *why, unsigned n)
{
    unsigned delivered;

    if (t->port.shared)
        spin_lock(&t->count_lock);
    delivered = count_burst_out(&t->port.state->out[0], frames, why, n);
    if (t->port.shared)
        spin_unlock(&t->count_lock);
    return delivered;
}

static unsigned tap_tx_burst(struct port *p, struct frame *const *frames, unsigned n)
{
    struct tap_port *t = tap_of(p);
    uint8_t why[BURST_MAX];
    struct tap_frame out;
    unsigned delivered = 0;

    for (unsigned done = 0; done < n; done += BURST_MAX) {
        const unsigned now = n - done < BURST_MAX ? n - done : BURST_MAX;

        for (unsigned i = 0; i < now; i++)
            why[i] = port_is_broken(p) ? DROP_broken : write_frame(t, frames[done + i], &out);
        delivered += count_burst(t, frames + done, why, now);
    }
    return delivered;
}

/* ---- life ---- */

/*
 * An ioctl means something else on another kind of device, so the kind is looked at first.  IFF_NO_PI cannot be
 * checked: TUNGETIFF reports "no filter attached" in the same bit.
 */
static bool is_tap(int fd)
{
    struct ifreq ifr;
    struct stat st;

    if (fstat(fd, &st) < 0 || !S_ISCHR(st.st_mode) || st.st_rdev != makedev(TUN_MAJOR, TUN_MINOR))
        return false;
    memset(&ifr, 0, sizeof(ifr));
    if (ioctl(fd, TUNGETIFF, &ifr) < 0)
        return false;
    return (ifr.ifr_flags & IFF_TAP) && (ifr.ifr_flags & IFF_VNET_HDR);
}

/*
 * The kernel hands over what it is told we take, and takes what it can hand over.  Both versions of UDP
 * segmentation or none: a kernel treats one alone as none.
 */
static int configure_offloads(int fd, uint32_t *offloads)
{
    *offloads = TAP_OFFLOADS | TAP_OFFLOADS_USO;
    if (ioctl(fd, TUNSETOFFLOAD, KERNEL_OFFLOADS | TUN_F_USO4 | TUN_F_USO6) == 0)
        return 0;
    *offloads = TAP_OFFLOADS;
    return ioctl(fd, TUNSETOFFLOAD, KERNEL_OFFLOADS) < 0 ? -errno : 0;
}

/* Fills @offloads with OFFLOAD_*. */
static int configure(int fd, uint32_t *offloads)
{
    const int hdr_len = VNET_WIRE_LEN_MRG;
    const int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
        return -errno;
    if (ioctl(fd, TUNSETVNETHDRSZ, &hdr_len) < 0)
        return -errno;
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
    if (ioctl(fd, TUNSETVNETLE, &(int){ 1 }) < 0)
        return -errno;
#endif
    return configure_offloads(fd, offloads);
}

static void tap_stop(struct port *p)
{
    rxq_watch(&p->rxq[0], RXQ_QUIET);
}

static void tap_destroy(struct port *p)
{
    struct tap_port *t = tap_of(p);

    port_fini(p);
    if (t->fd >= 0)
        close(t->fd);
    free(t->buf);
    free(t);
}

static const struct port_ops tap_ops = {
    .kind = "tap",
    .rx_burst = tap_rx_burst,
    .rx_complete = tap_rx_complete,
    .tx_burst = tap_tx_burst,
    .arm = tap_arm,
    .disarm = tap_disarm,
    .stop = tap_stop,
    .destroy = tap_destroy,
};

int tap_port_create(const struct us_port_add *add, struct us_state_page *state, int tap_fd, bool shared,
                    int news_fd, struct port **out)
{
    struct tap_port *t;
    uint32_t offloads = 0;
    int rc;

    if (!is_tap(tap_fd))
        return -EINVAL;
    t = calloc(1, sizeof(*t));
    if (!t)
        return -ENOMEM;
    t->fd = -1;
    t->buf = aligned_alloc(LINE, (size_t)BURST_MAX * BUF_SIZE);
    spin_init(&t->count_lock);
    port_init(&t->port, &tap_ops, add, state, 1);
    t->port.shared = shared;
    t->port.news_fd = news_fd;
    rc = -ENOMEM;
    if (!t->buf)
        goto fail;
    t->fd = fcntl(tap_fd, F_DUPFD_CLOEXEC, 0);
    rc = t->fd < 0 ? -errno : configure(t->fd, &offloads);
    if (rc < 0)
        goto fail;
    atomic_store(&t->port.offloads, offloads);
    rc = rxq_watch(&t->port.rxq[0], t->fd);
    if (rc < 0)
        goto fail;
    *out = &t->port;
    return 0;
fail:
    t->port.state = NULL;       /* stays the caller's */
    tap_destroy(&t->port);
    return rc;
}
