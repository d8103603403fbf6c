/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * sandbox.c - see sandbox.h.  What remains when both steps are done: memory,
 * threads waiting for each other, and the file descriptors somebody handed in.
 *
 * To add a system call: one line in the table that fits, with its reason.
 */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "base/vfio_abi.h"

/* Calls that are allowed with any arguments. */
static const struct {
    int call;
    const char *why;
} allowed[] = {
    { SCMP_SYS(read), "eventfds, signalfd, tap devices" },
    { SCMP_SYS(readv), "frames from tap devices" },
    { SCMP_SYS(write), "eventfds, the log" },
    { SCMP_SYS(writev), "frames to tap devices" },
    { SCMP_SYS(pread64), "config space of adapters" },
    { SCMP_SYS(pwrite64), "the same: command register" },
    { SCMP_SYS(eventfd2), "interrupts of adapters" },
    { SCMP_SYS(clock_nanosleep), "an adapter's reset takes a while" },
    { SCMP_SYS(epoll_wait), "workers asleep" },
    { SCMP_SYS(epoll_pwait), "workers asleep, as newer C libraries do it" },
    { SCMP_SYS(epoll_ctl), "kick eventfds come and go" },
    { SCMP_SYS(poll), "the link's loop; liburcu while a grace period takes long" },
    { SCMP_SYS(ppoll), "poll() on architectures without that call" },
    { SCMP_SYS(futex), "liburcu, mutexes, the end of threads" },
    { SCMP_SYS(sched_yield), "spinning locks that give way" },
    { SCMP_SYS(clock_gettime), "where the vDSO cannot answer" },
    { SCMP_SYS(restart_syscall), "interrupted sleeps" },
    { SCMP_SYS(recvmsg), "the link: requests" },
    { SCMP_SYS(sendmsg), "the link: replies, events" },
    { SCMP_SYS(accept4), "the link: the next uswitchd" },
    { SCMP_SYS(getsockopt), "who connected (SO_PEERCRED); rings of AF_XDP sockets" },
    { SCMP_SYS(bind), "AF_XDP sockets; there are no others that are not bound" },
    { SCMP_SYS(sendto), "AF_XDP sockets: send what lies in the ring" },
    { SCMP_SYS(recvfrom), "AF_XDP sockets: receive into what lies in the ring" },
    { SCMP_SYS(close), "file descriptors end" },
    { SCMP_SYS(fstat), "what is this file descriptor: checks of guest memory" },
    { SCMP_SYS(fstatfs), "page size of hugetlbfs memory" },
    { SCMP_SYS(munmap), "guest memory goes" },
    { SCMP_SYS(madvise), "malloc, guest memory kept out of dumps" },
    { SCMP_SYS(mremap), "malloc, large blocks" },
    { SCMP_SYS(brk), "malloc" },
    { SCMP_SYS(getrandom), "malloc" },
    { SCMP_SYS(getpid), "log lines" },
    { SCMP_SYS(tgkill), "raise() by the guard for a SIGBUS that is not its own" },
    { SCMP_SYS(rt_sigaction), "the same: back to the default action" },
    { SCMP_SYS(rt_sigprocmask), "the same; end of threads" },
    { SCMP_SYS(rt_sigreturn), "back from the guard of guest memory" },
    { SCMP_SYS(timer_settime), "what interrupts a worker stuck in a write" },
    { SCMP_SYS(timer_delete), "the same, when a worker ends" },
    { SCMP_SYS(sched_getaffinity), "malloc counts CPUs when it makes an arena" },
    { SCMP_SYS(exit), "workers end" },
    { SCMP_SYS(exit_group), "the process ends" },
};

/* Calls that are allowed with certain values of one argument. */
static const struct {
    int call;
    unsigned argument;
    uint64_t mask;              /* argument & mask ... */
    uint64_t value;             /* ... must be this */
    const char *why;
} filtered[] = {
    { SCMP_SYS(mmap), 2, PROT_EXEC, 0, "guest memory, malloc; never code" },
    { SCMP_SYS(mprotect), 2, PROT_EXEC, 0, "malloc arenas; never code" },
    { SCMP_SYS(newfstatat), 3, ~0ull, AT_EMPTY_PATH, "fstat(), as newer C libraries do it" },
    { SCMP_SYS(fcntl), 1, ~0ull, F_DUPFD_CLOEXEC, "keep a file descriptor" },
    { SCMP_SYS(fcntl), 1, ~0ull, F_GETFL, "is it blocking, is it writable" },
    { SCMP_SYS(fcntl), 1, ~0ull, F_SETFL, "make eventfds non-blocking" },
    { SCMP_SYS(fcntl), 1, ~0ull, F_GET_SEALS, "can this memory shrink" },
    { SCMP_SYS(ioctl), 1, ~0ull, TUNGETIFF, "is this a tap device" },
    { SCMP_SYS(ioctl), 1, ~0ull, TUNSETOFFLOAD, "tap offloads" },
    { SCMP_SYS(ioctl), 1, ~0ull, TUNSETVNETHDRSZ, "tap header length" },
    { SCMP_SYS(ioctl), 1, ~0ull, TUNSETVNETLE, "tap headers on big-endian hosts" },
    { SCMP_SYS(ioctl), 1, ~0ull, VFIO_GET_API_VERSION, "is this a VFIO container" },
    { SCMP_SYS(ioctl), 1, ~0ull, VFIO_CHECK_EXTENSION, "what kind of IOMMU it has" },
    { SCMP_SYS(ioctl), 1, ~0ull, VFIO_IOMMU_GET_INFO, "addresses an adapter may use" },
    { SCMP_SYS(ioctl), 1, ~0ull, VFIO_IOMMU_MAP_DMA, "an adapter's own memory, guests' for zero copy" },
    { SCMP_SYS(ioctl), 1, ~0ull, VFIO_IOMMU_UNMAP_DMA, "the same, and what a dead process left" },
    { SCMP_SYS(ioctl), 1, ~0ull, VFIO_DEVICE_GET_INFO, "is this a PCI device" },
    { SCMP_SYS(ioctl), 1, ~0ull, VFIO_DEVICE_GET_REGION_INFO, "an adapter's BARs" },
    { SCMP_SYS(ioctl), 1, ~0ull, VFIO_DEVICE_GET_IRQ_INFO, "an adapter's interrupts" },
    { SCMP_SYS(ioctl), 1, ~0ull, VFIO_DEVICE_SET_IRQS, "the same: which eventfd they end in" },
    { SCMP_SYS(ioctl), 1, ~0ull, VFIO_DEVICE_RESET, "an adapter from its beginning" },
    { SCMP_SYS(ioctl), 1, ~0ull, VFIO_DEVICE_ATTACH_IOMMUFD_PT, "an adapter without container" },
    { SCMP_SYS(ioctl), 1, ~0ull, IOMMUFD_ABI_IOAS_ALLOC, "its address space" },
    { SCMP_SYS(ioctl), 1, ~0ull, IOMMUFD_ABI_IOAS_IOVA_RANGES, "addresses it may use" },
    { SCMP_SYS(ioctl), 1, ~0ull, IOMMUFD_ABI_IOAS_MAP, "its memory" },
    { SCMP_SYS(ioctl), 1, ~0ull, IOMMUFD_ABI_IOAS_UNMAP, "the same" },
    { SCMP_SYS(ioctl), 1, ~0ull, IOMMUFD_ABI_DESTROY, "what a dead process left" },
    { SCMP_SYS(setsockopt), 1, ~0ull, SOL_XDP, "memory and rings of AF_XDP sockets" },
    { SCMP_SYS(prlimit64), 2, ~0ull, 0, "how much memory may be locked; read only" },
};

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/*
 * Landlock, by number: the C library has no wrapper, and headers are often
 * older than the kernel.  The attribute's size tells the kernel which fields
 * we know; an access right must be named to be denied.
 */
struct landlock_attr {
    uint64_t fs;
    uint64_t net;
    uint64_t scoped;
};

/* The rights each version of the interface knows: all of them are denied. */
static void landlock_fill(struct landlock_attr *attr, long abi, size_t *size)
{
    static const unsigned fs_rights[] = { 0, 13, 14, 15, 15, 16 };
    const unsigned known = COUNT(fs_rights) - 1;

    attr->fs = (1ull << fs_rights[abi < (long)known ? (unsigned long)abi : known]) - 1;
    attr->net = abi >= 4 ? 3 : 0;       /* TCP bind and connect */
    attr->scoped = abi >= 6 ? 3 : 0;    /* abstract unix sockets, signals to others */
    *size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
}

static int landlock_deny_all(void)
{
    const long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    struct landlock_attr attr;
    size_t size;
    int fd, rc = 0;

    if (abi < 1) {
        log_info("this kernel has no Landlock; the system call filter alone keeps the file system away");
        return 0;
    }
    landlock_fill(&attr, abi, &size);
    fd = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
    if (fd < 0)
        return -errno;
    if (syscall(SYS_landlock_restrict_self, fd, 0) < 0)
        rc = -errno;
    close(fd);
    return rc;
}

int sandbox_prepare(void)
{
    const struct rlimit none = { 0, 0 };

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -errno;
    /* A core file would hold guests' memory. */
    if (setrlimit(RLIMIT_CORE, &none) < 0)
        return -errno;
    return landlock_deny_all();
}

static int add_rules(scmp_filter_ctx filter)
{
    int rc;

    for (unsigned i = 0; i < COUNT(allowed); i++) {
        rc = seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i].call, 0);
        /* -EDOM: this architecture has no such call. */
        if (rc < 0 && rc != -EDOM)
            return rc;
    }
    for (unsigned i = 0; i < COUNT(filtered); i++) {
        const struct scmp_arg_cmp when =
            SCMP_CMP64(filtered[i].argument, SCMP_CMP_MASKED_EQ, filtered[i].mask, filtered[i].value);

        rc = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, filtered[i].call, 1, &when);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int sandbox_enter(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    int rc;

    if (!filter)
        return -ENOMEM;
    /* Another architecture's calls (i386, x32) have other numbers. */
    rc = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (rc == 0)
        rc = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    if (rc == 0)
        rc = add_rules(filter);
    if (rc == 0)
        rc = seccomp_load(filter);
    seccomp_release(filter);
    return rc;
}
