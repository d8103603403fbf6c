/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_mmap.c - the library's mmap() in the fuzz targets (ld --wrap): a shared
 * mapping of a file, which is what guest memory is, gets an untouchable page
 * on either side.  The sanitizers do not watch such mappings; the processor
 * watches the pages.
 */
#include <stddef.h>
#include <sys/mman.h>
#include <sys/types.h>

#define PAGE 4096u
#define MAPPINGS_MAX 256

void *__real_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
int __real_munmap(void *addr, size_t len);
void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset);
int __wrap_munmap(void *addr, size_t len);

static void *fenced[MAPPINGS_MAX];

void *__wrap_mmap(void *addr, size_t len, int prot, int flags, int fd, off_t offset)
{
    unsigned slot = 0;
    char *room;
    void *map;

    if (fd < 0 || !(flags & MAP_SHARED) || (flags & MAP_FIXED) || len > (size_t)1 << 40)
        return __real_mmap(addr, len, prot, flags, fd, offset);
    while (slot < MAPPINGS_MAX && fenced[slot])
        slot++;
    if (slot == MAPPINGS_MAX)
        return __real_mmap(addr, len, prot, flags, fd, offset);
    room = __real_mmap(NULL, len + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (room == MAP_FAILED)
        return MAP_FAILED;
    map = __real_mmap(room + PAGE, len, prot, flags | MAP_FIXED, fd, offset);
    if (map == MAP_FAILED)
        __real_munmap(room, len + 2 * PAGE);
    else
        fenced[slot] = map;
    return map;
}

int __wrap_munmap(void *addr, size_t len)
{
    for (unsigned slot = 0; slot < MAPPINGS_MAX; slot++) {
        if (addr && fenced[slot] == addr) {
            fenced[slot] = NULL;
            return __real_munmap((char *)addr - PAGE, (len + PAGE - 1) / PAGE * PAGE + 2 * PAGE);
        }
    }
    return __real_munmap(addr, len);
}
