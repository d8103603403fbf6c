/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * uswitch.h - the ABI of the dataplane, single source for C and Python.
 *
 * Everything that crosses from the control plane (Python) into the dataplane
 * (C) has its layout here: the library calls, the messages of the dataplane
 * link, the shared state pages.  The text between the two cffi markers is cut
 * out and parsed by cffi, so it holds plain declarations only: literal
 * numbers, fixed-width integers, structs without attributes.  uswitch.c
 * proves sizes and offsets at compile time.
 *
 * Every struct is laid out without implicit padding.  Integers are in host
 * byte order: both sides run on one host.
 *
 * Calls return 0 or a negative errno.  A file descriptor argument is borrowed:
 * a call that keeps one duplicates it (close-on-exec), the caller closes its
 * own.  All calls except uswitch_poll() belong to one thread, the control
 * thread.
 */
#ifndef USWITCH_H
#define USWITCH_H

#include <stdint.h>

/* cffi:begin */

#define US_ABI_VERSION 1

/* Limits.  A bigger value from outside is refused with -EINVAL or -E2BIG. */
#define US_PORTS_MAX 1024       /* port ids are 0 .. US_PORTS_MAX - 1 */
#define US_SEGMENTS_MAX 4096    /* segment ids are 1 .. US_SEGMENTS_MAX - 1 */
#define US_SEGMENT_NONE 0
#define US_VID_UNTAGGED 4096    /* "no tag", a row of the tag table like any other */
#define US_TAG_ROWS_MAX 4097
#define US_MACS_MAX 64          /* pinned addresses a port */
#define US_GUARD_PAIRS_MAX 256  /* what a guarded port may claim to be */
#define US_WORKERS_MAX 32
#define US_QUEUES_MAX 8         /* queue pairs a port */
#define US_RINGS_MAX 16         /* virtqueues a port: 2 * i receives, 2 * i + 1 transmits (guest view) */
#define US_RING_SIZE_MAX 32768
#define US_REGIONS_MAX 64
#define US_FRAME_MIN 14
#define US_FRAME_MAX 65562      /* 64 KiB IPv4/6 packet + Ethernet + two tags */
#define US_DROPS_MAX 48
#define US_NIC_COUNTERS_MAX 32
#define US_LINK_MSG_MAX 65536   /* bytes of one message of the dataplane link */
#define US_LINK_FDS_MAX 64      /* file descriptors beside one message */
#define US_BLOB_MAX 32768       /* bytes of one escrow entry */

/* Kinds of ports (us_port_add.kind). */
#define US_KIND_VHOST 1
#define US_KIND_TAP 2
#define US_KIND_NIC 3           /* a physical adapter, driven through VFIO */
#define US_KIND_XDP 4           /* a kernel device, by AF_XDP sockets */

/* ---- state pages: shared memory, memfd of US_STATE_PAGE_SIZE bytes ---- */

#define US_STATE_MAGIC 0x67507375
#define US_STATE_PAGE_SIZE 16384

/*
 * Counters of one queue of a port.  Directions are the switch's: "in" counts
 * frames that enter the switch from the port (the guest sent them), "out"
 * those the switch delivers to the port (the guest receives them).  One
 * writer at a time: "in" by the worker that owns the queue, "out" by whoever
 * holds the lock of the receiving ring.
 */
struct us_queue_counters {
    uint64_t frames;
    uint64_t bytes;             /* Ethernet frame bytes, no FCS, no virtio-net header */
    uint64_t flooded;           /* in: frames flooded; out: copies received by flooding */
    uint64_t gso;               /* frames that carry a segmentation request */
    uint64_t csum_fixed;        /* out: checksums completed in software for this receiver */
    uint64_t gso_fixed;         /* out: frames segmented in software for this receiver */
    uint64_t bursts;
    uint64_t signals;           /* call eventfd writes */
    uint64_t cycles;            /* in: TSC cycles of turns that took in frames, delivery included */
    uint64_t worker;            /* in: who serves the queue: number of the worker + 1, 0: nobody (writer: control) */
    uint64_t spare[6];
    uint64_t drop[48];          /* indexed by drop reason, see us_drop_name() */
};

/*
 * Position of one virtqueue; written before it is published to the guest.  A cache line: the two rings of a queue
 * may have different writers.
 */
struct us_ring_state {
    uint16_t last_avail;        /* next avail index the switch will take */
    uint16_t used_idx;          /* next used index the switch will publish */
    uint16_t active;            /* 1 while the dataplane serves the ring */
    uint16_t size;
    uint64_t features;          /* virtio feature bits the ring runs with */
    uint64_t burst;             /* packed: what is being handed back, see vhost/virtq_packed.h */
    uint64_t spare;
    uint64_t pad[4];
};

/*
 * An adapter as it is: link and hardware counters, indexed as us_nic_counter_name() says; US_NIC_COUNTER_NONE where
 * the device has no such counter.  Counters, resets and link_changes only grow while the page exists.
 */
struct us_nic_state {
    uint32_t link_up;           /* 1: up */
    uint32_t speed_mbps;        /* 0: unknown */
    uint32_t full_duplex;
    uint32_t n_queues;          /* pairs of rings in use */
    uint32_t resets;            /* starts anew after an error */
    uint32_t link_changes;
    uint16_t pci_vendor;
    uint16_t pci_device;
    uint8_t mac[6];
    uint16_t spare16[3];
    uint64_t pool_bytes;        /* memory the device can reach */
    uint64_t counter[32];
    uint8_t driver[16];         /* name, zero-terminated */
    uint64_t spare[4];
};

#define US_NIC_COUNTER_NONE 0xffffffffffffffff

struct us_state_page {
    uint32_t magic;             /* US_STATE_MAGIC */
    uint32_t version;           /* US_ABI_VERSION */
    uint32_t port_id;
    uint32_t broken;            /* drop/break reason, 0 while the port is healthy (writer: dataplane) */
    uint32_t broken_ring;
    uint32_t session_busy;      /* 1 while uswitchd works on a peer's request (writer: uswitchd) */
    uint64_t broken_detail;     /* the offending value, for the operator's message */
    uint64_t spare[4];
    struct us_ring_state ring[16];
    struct us_queue_counters in[8];
    struct us_queue_counters out[8];
    struct us_nic_state nic;    /* US_KIND_NIC, US_KIND_XDP (writer: control thread of the dataplane) */
};

#define US_SWITCH_MAGIC 0x77537375
#define US_SWITCH_PAGE_SIZE 16384

/* One worker thread; writer: that worker. */
struct us_worker_state {
    uint64_t passes;            /* turns of the poll loop */
    uint64_t busy_passes;       /* turns that moved at least one frame */
    uint64_t cycles;            /* TSC cycles spent awake */
    uint64_t busy_cycles;       /* TSC cycles of the busy turns */
    uint64_t frames;            /* frames taken in */
    uint64_t sleeps;            /* times gone to sleep */
    uint64_t wakeups;
    uint64_t queues;            /* queues it serves now */
    int64_t tid;                /* kernel thread id, 0 if not running */
    int64_t cpu;                /* pinned CPU, -1 if not pinned */
    uint64_t spare[6];
};

/* memfd of US_SWITCH_PAGE_SIZE bytes, one a dataplane process. */
struct us_switch_page {
    uint32_t magic;             /* US_SWITCH_MAGIC */
    uint32_t version;
    uint32_t pid;
    uint32_t n_workers;
    uint64_t started_ns;        /* CLOCK_BOOTTIME at start */
    uint64_t tsc_khz;           /* cycles a millisecond, 0 if unknown */
    uint64_t fdb_entries;       /* live entries (writer: workers and control) */
    uint64_t fdb_capacity;
    uint64_t fdb_moves;         /* addresses that moved between ports */
    uint64_t fdb_evicted;
    uint64_t fdb_refused;       /* not learned: quota or full bucket */
    uint64_t spare[7];
    struct us_worker_state worker[32];
};

/* ---- requests: arguments of the library calls and payload of the link ---- */

struct us_config {
    uint32_t n_workers;         /* 1 .. US_WORKERS_MAX; 0 in us_config means: no threads, uswitch_poll() drives */
    uint32_t poll_us;           /* how long a worker spins without work before it sleeps; 0: sleep at once */
    uint32_t fdb_buckets;       /* power of two, 16 .. 1048576, five addresses each */
    uint32_t fdb_age_s;         /* seconds, 1 .. 65000 */
    int32_t cpu[32];            /* CPU of each worker, -1: not pinned */
    uint32_t rebalance_ms;      /* how often queues are spread anew over several workers, 0: never */
    uint32_t spare;
};

struct us_port_add {
    uint32_t port_id;
    uint32_t kind;              /* US_KIND_* */
    uint32_t flood_rate;        /* copies a second this port may cause by flooding, 0: no limit */
    uint32_t flood_burst;       /* copies, bucket depth */
    uint32_t fdb_quota;         /* addresses learned from this port, at most */
    uint32_t max_frame;         /* bytes, US_FRAME_MIN .. US_FRAME_MAX: longest frame without segmentation request */
    uint32_t max_kbps;          /* kilobits a second the port may send, 0: no limit */
    uint32_t burst_kbit;        /* kilobits at once after a silence; a few ms' worth at least, whatever it says */
    uint32_t max_kpps;          /* thousands of frames a second, 0: no limit; one to be segmented counts as one */
    uint32_t burst_kpkt;        /* thousands of frames at once after a silence */
    uint32_t n_queues;          /* NIC, XDP: queues, 1 .. US_QUEUES_MAX; else 0 */
    uint32_t ring_size;         /* NIC, XDP: descriptors a ring, 0: the driver's choice; else 0 */
    uint32_t irq_us;            /* NIC: at most one interrupt a queue in so many microseconds; else 0 */
    uint32_t nic_flags;         /* US_NIC_*; else 0 */
    uint32_t ifindex;           /* XDP: the kernel's device, in the network namespace of its sockets; else 0 */
    uint32_t spare;
};

#define US_NIC_IOMMUFD 1        /* NIC: the first device fd is an iommufd, the device a cdev; else container, group */
#define US_NIC_ZERO_COPY 2      /* NIC: send from guests' memory; XDP: the socket's zero-copy mode */
#define US_NIC_LRO 4            /* NIC: the device may join received TCP segments, where it can */

struct us_port_del {
    uint32_t port_id;
    uint32_t spare;
};

struct us_port_ref {
    uint32_t port_id;
    uint32_t spare;
};

struct us_tag_row {
    uint16_t vid;               /* 1 .. 4094 or US_VID_UNTAGGED */
    uint16_t segment;           /* 1 .. US_SEGMENTS_MAX - 1 */
};

/* Replaces the port's whole tag table; n == 0 cuts the port off. */
struct us_port_tags {
    uint32_t port_id;
    uint32_t n;
    struct us_tag_row row[4097];
};

/* Replaces the list of addresses pinned to the port, in every segment it has a row for. */
struct us_port_macs {
    uint32_t port_id;
    uint32_t n;
    uint8_t mac[64][6];
};

/* One thing that a guarded port may claim to be. */
struct us_guard_pair {
    uint8_t mac[6];             /* of one station */
    uint8_t family;             /* US_GUARD_* */
    uint8_t prefix_len;         /* bits of .ip that count: 0 .. 32 or 128; the others are 0 */
    uint8_t ip[16];             /* as on the wire; IPv4: the first four bytes */
};

#define US_GUARD_MAC 0          /* the MAC address alone: .ip and .prefix_len are 0 */
#define US_GUARD_IPV4 4
#define US_GUARD_IPV6 6

/* Replaces the port's guard, at once: no frame is judged by neither. */
struct us_port_guard {
    uint32_t port_id;
    uint32_t guarded;           /* 1: frames that no pair covers are dropped; 0: nothing is checked, and .n is 0 */
    uint32_t n;                 /* 0: nothing may be sent */
    uint32_t spare;
    struct us_guard_pair pair[256];
};

struct us_port_limits {
    uint32_t port_id;
    uint32_t flood_rate;
    uint32_t flood_burst;
    uint32_t fdb_quota;
    uint32_t max_frame;
    uint32_t max_kbps;
    uint32_t burst_kbit;
    uint32_t max_kpps;
    uint32_t burst_kpkt;
    uint32_t spare;
};

/* One region of guest memory; the fd travels beside the message, one a region, in order. */
struct us_mem_region {
    uint64_t gpa;               /* guest physical address */
    uint64_t size;              /* bytes, > 0 */
    uint64_t uva;               /* the front-end's own address of it; ring addresses are given in these */
    uint64_t mmap_offset;       /* offset in the fd */
};

/* Replaces the port's whole memory table, running rings included (they move over without loss). */
struct us_vhost_mem {
    uint32_t port_id;
    uint32_t n;                 /* 0 .. US_REGIONS_MAX; 0 only while no ring is active */
    struct us_mem_region region[64];
};

/* Starts one virtqueue; beside it the fds: kick (or -1), call (or -1). */
struct us_vhost_ring {
    uint32_t port_id;
    uint32_t ring;              /* 0 .. US_RINGS_MAX - 1 */
    uint32_t size;              /* 2 .. US_RING_SIZE_MAX; a power of two unless the ring is packed */
    uint32_t base;              /* first avail index (packed: bit 15 is the wrap counter); or US_BASE_FROM_USED */
    uint64_t features;          /* negotiated virtio feature bits */
    uint64_t desc_uva;
    uint64_t avail_uva;
    uint64_t used_uva;
    uint32_t enabled;           /* 0: set up, but move nothing until enabled */
    uint32_t resume;            /* 1: signal the guest once: who served the ring before may be dead */
    uint32_t fds;               /* which fds travel beside: US_RING_KICK | US_RING_CALL */
    uint32_t spare;
};

/*
 * Replaces what the port records of its writes to guest memory, running rings included; one fd beside it if
 * .on.  Bit gpa / 4096 of the file's bytes from .offset on stands for a page of guest memory.
 */
struct us_vhost_log {
    uint32_t port_id;
    uint32_t on;                /* 0: record nothing, all else is 0 */
    uint64_t size;              /* bytes of the log, > 0 */
    uint64_t offset;            /* where it begins in the fd */
    uint64_t used;              /* bit i: writes to the used ring of ring i are recorded, too */
    uint64_t used_gpa[16];      /* as if that used ring began there */
};

/* The port's peer says that this address is behind the port now. */
struct us_port_announce {
    uint32_t port_id;
    uint8_t mac[6];             /* of one station */
    uint16_t spare;
};

/* Go on behind what the guest has seen as used, which is found out from its memory and the state page. */
#define US_BASE_FROM_USED 0x10000
#define US_RING_KICK 1
#define US_RING_CALL 2

struct us_vhost_ring_ref {
    uint32_t port_id;
    uint32_t ring;
    uint32_t enabled;           /* for enable */
    uint32_t spare;
};

struct us_fdb_entry {
    uint8_t mac[6];
    uint16_t segment;
    uint32_t port_id;
    uint16_t age_s;
    uint16_t pinned;
};

struct us_event {
    uint32_t kind;              /* US_EVENT_* */
    uint32_t port_id;
    uint32_t ring;
    uint32_t reason;            /* see us_break_name() */
    uint64_t detail;
};

#define US_EVENT_NONE 0
#define US_EVENT_PORT_BROKEN 1
#define US_EVENT_LINK 2         /* an adapter's link changed; ring: 1 up, 0 down; detail: Mbit/s, 0: down or unknown */

/* ---- the dataplane link: SOCK_SEQPACKET, one message a packet ---- */

#define US_LINK_HELLO 1         /* request: us_link_hello; reply: us_link_hello + fd of the switch page */
#define US_LINK_PORT_ADD 2      /* us_port_add; fds: state page, then the device's, see uswitch_port_add() */
#define US_LINK_PORT_DEL 3
#define US_LINK_PORT_TAGS 4     /* us_port_tags, cut after n rows */
#define US_LINK_PORT_MACS 5     /* us_port_macs, cut after n addresses */
#define US_LINK_PORT_LIMITS 6
#define US_LINK_VHOST_MEM 7     /* us_vhost_mem, cut after n regions; n fds */
#define US_LINK_RING_START 8    /* us_vhost_ring; fds as in .fds, kick first */
#define US_LINK_RING_STOP 9     /* us_vhost_ring_ref; reply value: next avail index */
#define US_LINK_RING_CALL 10    /* us_vhost_ring_ref; one fd or none */
#define US_LINK_RING_ENABLE 11
#define US_LINK_FDB_DUMP 12     /* us_link_cursor; reply value: next cursor (0: end), payload: us_fdb_entry[] */
#define US_LINK_FDB_FLUSH 13    /* us_link_fdb_flush; reply value: entries removed */
#define US_LINK_ESCROW_PUT 14   /* us_link_escrow + blob + fds; replaces what has the same (port_id, slot) */
#define US_LINK_ESCROW_GET 15   /* us_link_cursor; reply: next cursor (0: end), payload us_link_escrow + blob, fds */
#define US_LINK_ESCROW_DROP 16  /* us_link_escrow: one slot, or all of the port's with US_SLOT_ALL */
#define US_LINK_PING 17
#define US_LINK_SHUTDOWN 18     /* orderly end of the process */
#define US_LINK_VHOST_LOG 19    /* us_vhost_log; one fd or none, as in .on */
#define US_LINK_PORT_ANNOUNCE 20 /* us_port_announce */
#define US_LINK_NIC_READ 21     /* us_port_ref: bring us_state_page.nic up to date */
#define US_LINK_NIC_RESET 22    /* us_port_ref: start an adapter anew, after an error */
#define US_LINK_PORT_GUARD 23   /* us_port_guard, cut after n pairs */
#define US_LINK_REPLY 100
#define US_LINK_EVENT 101       /* us_event */

struct us_link_head {
    uint32_t type;
    uint32_t len;               /* bytes of the whole message, this head included */
    uint32_t seq;               /* a reply repeats its request's */
    int32_t rc;                 /* reply: 0 or -errno */
    uint64_t value;             /* reply: see the request */
};

struct us_link_hello {
    uint32_t abi;               /* US_ABI_VERSION */
    uint32_t pid;
    uint32_t n_ports;           /* ports the dataplane has now */
    uint32_t n_escrow;          /* escrow entries it holds */
    uint64_t build_id;          /* hash of the layout, must be equal on both sides */
};

struct us_link_cursor {
    uint64_t cursor;            /* 0: from the start */
};

struct us_link_fdb_flush {
    uint32_t port_id;           /* US_ANY: every port */
    uint32_t segment;           /* US_ANY: every segment */
};

#define US_ANY 0xffffffff

struct us_link_escrow {
    uint32_t port_id;           /* US_ANY: belongs to the daemon as a whole */
    uint32_t slot;
    uint32_t blob_len;
    uint32_t n_fds;
};

#define US_SLOT_ALL 0xffffffff

/* ---- the library ---- */

struct uswitch;

int uswitch_create(const struct us_config *config, struct uswitch **out);
void uswitch_destroy(struct uswitch *us);

/* The switch page's memfd; owned by the switch, valid until uswitch_destroy(). */
int uswitch_page_fd(const struct uswitch *us);

/* Makes a sealed state page for a port; the caller owns the returned fd. */
int us_state_page_create(uint32_t port_id);

/*
 * Device fds, borrowed: TAP: the device.  NIC: container (or iommufd), then the VFIO device.  XDP: a socket a queue,
 * not bound yet, in the order of the queues.  vhost: none, device_fds may be NULL.
 */
int uswitch_port_add(struct uswitch *us, const struct us_port_add *add, int state_fd, const int *device_fds,
                     uint32_t n_device_fds);
/*
 * Why a NIC is refused: -ENODEV no driver for it; -EDQUOT RLIMIT_MEMLOCK is less than us_nic_state.pool_bytes, which is
 * in the state page then; -EPERM no IOMMU; -EINVAL wrong fds, or values beyond what its driver can do; -EIO it does not
 * answer.
 */
/* Read link and hardware counters into the state page; -ENOTSUP: neither NIC nor XDP. */
int uswitch_nic_read(struct uswitch *us, uint32_t port_id);
/* Reset a fenced adapter and start it anew; queues, tags and addresses stay. -ENOTSUP: XDP, which takes a new port. */
int uswitch_nic_reset(struct uswitch *us, uint32_t port_id);
/*
 * Interrupts of adapters that are no queue's, for callers that do not use the link's loop: when the fd is readable,
 * call uswitch_device_work().
 */
int uswitch_device_fd(const struct uswitch *us);
void uswitch_device_work(struct uswitch *us);
/*
 * Reads every NIC as uswitch_nic_read() does, and fences those that are gone or hang; for callers that do not use the
 * link's loop.  Returns in how many milliseconds to call again; -1: when there is a NIC.
 */
int uswitch_device_check(struct uswitch *us);
int uswitch_port_del(struct uswitch *us, uint32_t port_id);
int uswitch_port_tags(struct uswitch *us, const struct us_port_tags *tags);
int uswitch_port_macs(struct uswitch *us, const struct us_port_macs *macs);
/*
 * Anti-spoofing of what the port sends, in all its segments.  Every frame that is delivered after the call has returned
 * was judged by the new guard; a port begins unguarded, and keeps its guard while its rings come and go.
 */
int uswitch_port_guard(struct uswitch *us, const struct us_port_guard *guard);
/*
 * Has the port's worker send a RARP request for the address into the port's untagged segment, as if the peer had
 * sent it.  -EAGAIN: none of the port's queues is served, or too many announcements wait.
 */
int uswitch_port_announce(struct uswitch *us, const struct us_port_announce *announce);
int uswitch_port_limits(struct uswitch *us, const struct us_port_limits *limits);

/*
 * Gives an incoming queue (0 .. US_QUEUES_MAX - 1) that is served to another worker; -ENOENT if nobody serves it.
 * No frame is lost or overtakes another.
 */
int uswitch_queue_move(struct uswitch *us, uint32_t port_id, uint32_t queue, uint32_t worker);
/*
 * Spreads the queues by what they cost since the last call, for callers that do not use the link's loop.
 * Returns in how many milliseconds to call again; -1: not before uswitch_balance_fd() becomes readable, because
 * nothing moves or there is nothing to spread.
 */
int uswitch_balance(struct uswitch *us);
int uswitch_balance_fd(const struct uswitch *us);

int uswitch_vhost_mem(struct uswitch *us, const struct us_vhost_mem *mem, const int *fds);
/* When it returns, every write from now on is recorded (or none any more). */
int uswitch_vhost_log(struct uswitch *us, const struct us_vhost_log *log, int fd);
int uswitch_ring_start(struct uswitch *us, const struct us_vhost_ring *ring, int kick_fd, int call_fd);
/* Returns the next avail index (0 .. 65535) or -errno; when it returns, no worker touches the ring. */
int uswitch_ring_stop(struct uswitch *us, uint32_t port_id, uint32_t ring);
int uswitch_ring_call(struct uswitch *us, uint32_t port_id, uint32_t ring, int call_fd);
int uswitch_ring_enable(struct uswitch *us, uint32_t port_id, uint32_t ring, uint32_t enabled);

/* Copies up to max entries from *cursor on; returns how many, sets *cursor to 0 at the end. */
int uswitch_fdb_dump(struct uswitch *us, uint64_t *cursor, struct us_fdb_entry *out, uint32_t max);
/* Removes learned entries; returns how many. */
int uswitch_fdb_flush(struct uswitch *us, uint32_t port_id, uint32_t segment);

/* News for the control plane: an eventfd that becomes readable, and the queue behind it. */
int uswitch_event_fd(const struct uswitch *us);
/* 1 and *out filled, or 0 when there is none. */
int uswitch_event_next(struct uswitch *us, struct us_event *out);

/*
 * One turn of worker 0's loop, for switches created with n_workers == 0.
 * Returns the number of frames taken in.  One thread at a time.
 */
int uswitch_poll(struct uswitch *us);

/* Names; NULL for an index out of range. */
const char *us_drop_name(uint32_t reason);
const char *us_drop_text(uint32_t reason);
const char *us_break_name(uint32_t reason);
const char *us_break_text(uint32_t reason);
const char *us_nic_counter_name(uint32_t index);

/* Hash of all struct sizes and limits, for us_link_hello.build_id. */
uint64_t us_build_id(void);

/* cffi:end */

#endif /* USWITCH_H */
