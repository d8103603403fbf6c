/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * state_page.c - makes, seals, maps and checks the shared pages.  See
 * state_page.h for what they are.
 */
#include "state_page.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "drop.h"

/* From Linux 5.1: no new writable mappings, existing ones stay. */
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif

#define SIZE_SEALS (F_SEAL_SHRINK | F_SEAL_GROW)

/*
 * The mapping of a new memfd of a fixed size, touched now so that no worker takes the page faults.
 * *fd: the memfd; -errno if NULL is returned.
 */
static void *sealed_memory(const char *name, size_t size, int *fd)
{
    void *memory = MAP_FAILED;
    int saved_errno;

    *fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (*fd >= 0 && ftruncate(*fd, (off_t)size) == 0 && fcntl(*fd, F_ADD_SEALS, SIZE_SEALS) == 0)
        memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, *fd, 0);
    if (memory != MAP_FAILED)
        return memory;
    saved_errno = errno;
    if (*fd >= 0)
        close(*fd);
    *fd = -saved_errno;
    return NULL;
}

int state_page_make(uint32_t port_id)
{
    struct us_state_page *page;
    char name[32];
    int fd;

    if (port_id >= US_PORTS_MAX)
        return -EINVAL;
    snprintf(name, sizeof(name), "uswitch-port-%u", port_id);
    page = sealed_memory(name, US_STATE_PAGE_SIZE, &fd);
    if (!page)
        return fd;
    page->magic = US_STATE_MAGIC;
    page->version = US_ABI_VERSION;
    page->port_id = port_id;
    munmap(page, US_STATE_PAGE_SIZE);
    /* Nobody needs other seals later; a seal against writing would stop the next dataplane. */
    if (fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL) < 0) {
        const int rc = -errno;

        close(fd);
        return rc;
    }
    return fd;
}

/* Only memory that cannot shrink under the mapping will do. */
static int check_fd(int fd)
{
    struct stat st;
    int seals;

    if (fstat(fd, &st) < 0)
        return -errno;
    if (!S_ISREG(st.st_mode) || st.st_size != US_STATE_PAGE_SIZE)
        return -EINVAL;
    seals = fcntl(fd, F_GET_SEALS);
    if (seals < 0 || (seals & SIZE_SEALS) != SIZE_SEALS)
        return -EINVAL;
    return 0;
}

int state_page_map(int fd, struct us_state_page **out)
{
    struct us_state_page *page;
    int rc = check_fd(fd);

    if (rc < 0)
        return rc;
    page = mmap(NULL, US_STATE_PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (page == MAP_FAILED)
        return -errno;
    if (page->magic != US_STATE_MAGIC || page->version != US_ABI_VERSION ||
        page->port_id >= US_PORTS_MAX) {
        munmap(page, US_STATE_PAGE_SIZE);
        return -EINVAL;
    }
    page->broken = BREAK_none;
    page->broken_ring = 0;
    page->broken_detail = 0;
    *out = page;
    return 0;
}

void state_page_unmap(struct us_state_page *page)
{
    if (page)
        munmap(page, US_STATE_PAGE_SIZE);
}

int switch_page_make(uint32_t n_workers, struct us_switch_page **out)
{
    struct us_switch_page *page;
    struct timespec now;
    int fd;

    page = sealed_memory("uswitch-switch", US_SWITCH_PAGE_SIZE, &fd);
    if (!page)
        return fd;
    page->magic = US_SWITCH_MAGIC;
    page->version = US_ABI_VERSION;
    page->pid = (uint32_t)getpid();
    page->n_workers = n_workers;
    clock_gettime(CLOCK_BOOTTIME, &now);
    page->started_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    /* On an older kernel the reader could write; it is our own uswitchd, so that is no reason to fail. */
    (void)fcntl(fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE);
    (void)fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL);
    *out = page;
    return fd;
}

void switch_page_unmap(struct us_switch_page *page)
{
    if (page)
        munmap(page, US_SWITCH_PAGE_SIZE);
}
