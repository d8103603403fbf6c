/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * drop.h - every way a frame can end without being delivered, and every way a
 * peer can break its port, each with a name.
 *
 * The lists are X-macros: enum, name table, help text and documentation are
 * made from them.  To add a drop: one line here.  The numbers are part of the
 * state page, so new lines go at the end.
 *
 * Columns: name, side, text.  The side says whose counters carry it:
 * IN (the port the frame came from) or OUT (the port it should have gone to).
 */
#ifndef USWITCH_DROP_H
#define USWITCH_DROP_H

#define DROP_REASONS(X)                                                            \
    X(none, IN, "not dropped")                                                     \
    X(chain_addr, IN, "a descriptor points outside guest memory")                  \
    X(chain_loop, IN, "a descriptor chain is longer than its ring")                \
    X(chain_next, IN, "a descriptor's next index is outside the ring")             \
    X(chain_indirect, IN, "an indirect descriptor table is malformed")             \
    X(chain_direction, IN, "a descriptor has the wrong direction for its ring")    \
    X(hdr_short, IN, "a chain is shorter than the virtio-net header")              \
    X(frame_short, IN, "a frame is shorter than an Ethernet header")               \
    X(frame_long, IN, "a frame is longer than the port's maximum")                 \
    X(vnet_csum, IN, "the checksum fields of the virtio-net header are invalid")   \
    X(vnet_gso, IN, "the segmentation fields of the virtio-net header are invalid")\
    X(no_segment, IN, "the port has no row for untagged frames")                   \
    X(vlan_unknown, IN, "the port has no row for the frame's VLAN tag")            \
    X(vlan_nested, OUT, "a second VLAN tag would become the outer one")            \
    X(src_invalid, IN, "the source address is a group address or zero")            \
    X(link_local, IN, "the destination is reserved for the link (01-80-c2-00-00-0x)") \
    X(policy, IN, "the port's policy forbids the frame")                           \
    X(same_port, IN, "the destination is behind the port the frame came from")     \
    X(no_receiver, IN, "nobody else is in the segment")                            \
    X(flood_budget, IN, "the port's flooding budget is used up")                   \
    X(link_down, OUT, "the receiving port is not connected or not enabled")        \
    X(ring_full, OUT, "the receiver has no free buffers")                          \
    X(ring_small, OUT, "the receiver's buffers are too small for the frame")       \
    X(out_chain, OUT, "the receiver's buffers are malformed")                      \
    X(mtu, OUT, "the frame is longer than the receiving port's maximum")           \
    X(offload, OUT, "the receiver lacks an offload and software cannot replace it")\
    X(device, OUT, "the kernel device refused the frame")                          \
    X(broken, OUT, "the receiving port is fenced")                                 \
    X(nic_rx, IN, "the adapter received the frame damaged")                        \
    X(guard_mac, IN, "the source address is not one that the port may use")        \
    X(guard_ip, IN, "the source IP address is not one that the port may use, or cannot be seen") \
    X(guard_arp, IN, "the port claims an address by ARP that it may not use")      \
    X(guard_nd, IN, "the port claims by neighbor discovery an address that it may not use, or a router's role") \
    X(guard_dhcp, IN, "the port sends to a DHCP client, as only a server does")    \
    X(guard_type, IN, "a guarded port sends IPv4, IPv6, ARP and RARP only")

#define BREAK_REASONS(X)                                                       \
    X(none, "healthy")                                                         \
    X(avail_index, "the avail index went back, or ahead by more than the ring is long") \
    X(avail_head, "the avail ring names a descriptor outside the ring")        \
    X(ring_memory, "a ring lies outside guest memory")                         \
    X(memory_gone, "guest memory was truncated or became unreadable")          \
    X(call_stuck, "the call file descriptor blocks")                           \
    X(device_gone, "the device is gone")                                       \
    X(ring_chain, "a chain of a packed ring is longer than the ring, or only a part of it is available") \
    X(log_gone, "the log of dirty pages was truncated or became unreadable")   \
    X(nic_descriptor, "the adapter wrote back a descriptor that makes no sense")\
    X(nic_error, "the adapter reported an error, or does not do as it is told")\
    X(nic_tx_hang, "the adapter has stopped taking frames to send, with its link up")

#define DROP_ENUM(name, side, text) DROP_##name,
enum drop_reason { DROP_REASONS(DROP_ENUM) DROP_COUNT };
#undef DROP_ENUM

#define BREAK_ENUM(name, text) BREAK_##name,
enum break_reason { BREAK_REASONS(BREAK_ENUM) BREAK_COUNT };
#undef BREAK_ENUM

#endif /* USWITCH_DROP_H */
