/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * tap_wire.c - see tap_wire.h.
 */
#include "tap/tap_wire.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define MTU 9000

bool tap_wire_namespace(void)
{
    const int device = open("/dev/net/tun", O_RDWR | O_CLOEXEC);
    int fd;

    if (device < 0 || unshare(CLONE_NEWNET) < 0)
        return false;
    close(device);
    /* Otherwise the interface speaks by itself as soon as it is up. */
    fd = open("/proc/sys/net/ipv6/conf/default/disable_ipv6", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        (void)!write(fd, "1", 1);
        close(fd);
    }
    return true;
}

int tap_wire_open(int flags, char name[16])
{
    struct ifreq ifr = { .ifr_name = "ustest%d", .ifr_flags = (short)flags };
    const int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

    if (fd >= 0 && ioctl(fd, TUNSETIFF, &ifr) < 0) {
        close(fd);
        return -1;
    }
    memcpy(name, ifr.ifr_name, sizeof(ifr.ifr_name));
    return fd;
}

static bool interface(struct tap_wire *w, unsigned long request, struct ifreq *ifr)
{
    const int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    bool ok;

    memcpy(ifr->ifr_name, w->name, sizeof(ifr->ifr_name));
    ok = fd >= 0 && ioctl(fd, request, ifr) == 0;
    if (fd >= 0)
        close(fd);
    return ok;
}

bool tap_wire_set_up(struct tap_wire *w, bool up)
{
    struct ifreq ifr = { 0 };

    ifr.ifr_flags = up ? IFF_UP : 0;
    return interface(w, SIOCSIFFLAGS, &ifr);
}

static bool open_socket(struct tap_wire *w)
{
    const struct sockaddr_ll addr = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL),
                                      .sll_ifindex = w->index };
    const int one = 1;

    w->socket = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL));
    return w->socket >= 0 && setsockopt(w->socket, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) == 0 &&
           setsockopt(w->socket, SOL_PACKET, PACKET_AUXDATA, &one, sizeof(one)) == 0 &&
           setsockopt(w->socket, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof(one)) == 0 &&
           bind(w->socket, (const struct sockaddr *)&addr, sizeof(addr)) == 0;
}

bool tap_wire_init(struct tap_wire *w)
{
    struct ifreq ifr = { 0 };

    memset(w, 0, sizeof(*w));
    w->socket = -1;
    w->fd = tap_wire_open(IFF_TAP | IFF_NO_PI | IFF_VNET_HDR, w->name);
    ifr.ifr_mtu = MTU;
    if (w->fd < 0 || !interface(w, SIOCSIFMTU, &ifr) || !tap_wire_set_up(w, true))
        return false;
    if (!interface(w, SIOCGIFINDEX, &ifr))
        return false;
    w->index = ifr.ifr_ifindex;
    return open_socket(w);
}

void tap_wire_fini(struct tap_wire *w)
{
    if (w->socket >= 0)
        close(w->socket);
    if (w->fd >= 0)
        close(w->fd);
}

bool tap_wire_delete(struct tap_wire *w)
{
    struct {
        struct nlmsghdr head;
        struct ifinfomsg info;
    } msg = { .head = { .nlmsg_len = sizeof(msg), .nlmsg_type = RTM_DELLINK,
                        .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK },
              .info = { .ifi_index = w->index } };
    struct {
        struct nlmsghdr head;
        struct nlmsgerr error;
    } reply = { 0 };
    const int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    const bool ok = fd >= 0 && send(fd, &msg, sizeof(msg), 0) == sizeof(msg) &&
                    recv(fd, &reply, sizeof(reply), 0) > 0 && reply.error.error == 0;

    if (fd >= 0)
        close(fd);
    return ok;
}

bool tap_wire_send(struct tap_wire *w, const struct virtio_net_hdr *hdr, const void *frame, uint32_t len)
{
    const struct virtio_net_hdr none = { 0 };
    const struct iovec iov[2] = {
        { .iov_base = (void *)(uintptr_t)(hdr ? hdr : &none), .iov_len = sizeof(none) },
        { .iov_base = (void *)(uintptr_t)frame, .iov_len = len },
    };

    return writev(w->socket, iov, 2) == (ssize_t)(sizeof(none) + len);
}

static int tci_of(struct msghdr *msg)
{
    for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
        struct tpacket_auxdata aux;

        if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA)
            continue;
        memcpy(&aux, CMSG_DATA(c), sizeof(aux));
        return aux.tp_status & TP_STATUS_VLAN_VALID ? aux.tp_vlan_tci : -1;
    }
    return -1;
}

uint32_t tap_wire_receive(struct tap_wire *w, struct virtio_net_hdr *hdr, void *frame, uint32_t size,
                          int timeout_ms)
{
    char control[256] __attribute__((aligned(8)));
    struct virtio_net_hdr ignored = { 0 };
    struct iovec iov[2] = {
        { .iov_base = hdr ? hdr : &ignored, .iov_len = sizeof(ignored) },
        { .iov_base = frame, .iov_len = size },
    };
    struct msghdr msg = { .msg_iov = iov, .msg_iovlen = 2, .msg_control = control,
                          .msg_controllen = sizeof(control) };
    struct pollfd p = { .fd = w->socket, .events = POLLIN };
    ssize_t n;

    if (poll(&p, 1, timeout_ms) <= 0)
        return 0;
    n = recvmsg(w->socket, &msg, MSG_DONTWAIT);
    w->vlan_tci = tci_of(&msg);
    return n > (ssize_t)sizeof(ignored) ? (uint32_t)n - (uint32_t)sizeof(ignored) : 0;
}
