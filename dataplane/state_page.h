/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * state_page.h - the memory that outlives the process: a sealed memfd a port
 * (struct us_state_page) and one for the switch (struct us_switch_page).
 *
 * The pages are plain shared memory between two processes of ours, and a state
 * page may come from a dataplane that died at any instruction, so its header
 * is checked like a peer's.  The counters need no check: they are only added to.
 * Control thread.
 */
#ifndef USWITCH_STATE_PAGE_H
#define USWITCH_STATE_PAGE_H

#include "include/uswitch.h"

/**
 * state_page_make() - make the state page of a new port
 * @port_id: 0 .. US_PORTS_MAX - 1
 *
 * Return: a memfd (close-on-exec, sealed against growing and shrinking, so that no access to the
 * mapping can fault; the caller owns it), or -errno.
 */
int state_page_make(uint32_t port_id);

/**
 * state_page_map() - map a state page somebody handed in
 * @fd: borrowed
 * @out: the mapping; ends with state_page_unmap() (port_fini() does it for a port)
 *
 * Return: 0; -EINVAL if size, seals or header are not those of a state page of this version; -errno.
 * The fence of a previous process is taken off; ring positions and counters stay.
 */
int state_page_map(int fd, struct us_state_page **out);

/* Unmap; NULL is legal. */
void state_page_unmap(struct us_state_page *page);

/**
 * switch_page_make() - make the switch page, header filled
 * @n_workers: for the header
 * @out: writable mapping; ends with switch_page_unmap()
 *
 * Return: a memfd (caller owns it) that other processes can map only for reading, or -errno.
 */
int switch_page_make(uint32_t n_workers, struct us_switch_page **out);

/* Unmap; NULL is legal. */
void switch_page_unmap(struct us_switch_page *page);

#endif /* USWITCH_STATE_PAGE_H */
