/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * vhost_port.h - a port whose peer is a guest: up to US_QUEUES_MAX pairs of
 * virtqueues in memory the guest's VMM shares.  What vhost-user negotiated
 * arrives here as plain values (design law 1), and is checked again.
 *
 * All calls: control thread.  File descriptors are borrowed, what is kept is
 * duplicated.  A call that fails leaves the port as it was.
 */
#ifndef USWITCH_VHOST_PORT_H
#define USWITCH_VHOST_PORT_H

#include "port.h"

/**
 * vhost_port_create() - make a port without memory and with all rings stopped
 * @add: validated request
 * @state: its state page; moves to the port on success
 * @shared: more than one worker may deliver into it
 * @news_fd: eventfd for port_break(), borrowed, outlives the port
 * @out: the port, ended by its ops' stop, a grace period, and destroy
 *
 * Return: 0 or -ENOMEM.
 */
int vhost_port_create(const struct us_port_add *add, struct us_state_page *state, bool shared, int news_fd,
                      struct port **out);

/**
 * struct vhost_mem_watch - who wants to know which memory a port has mapped (control thread)
 * @came: mapped, and the port's from now on
 * @goes: no worker has it any more; unmapped when this returns
 * @arg: for both
 */
struct vhost_mem_watch {
    void (*came)(void *arg, void *base, size_t len);
    void (*goes)(void *arg, void *base, size_t len);
    void *arg;
};

/* From now on, until the port's end; copied. NULL: nobody. What is mapped already is not told. */
void vhost_port_watch_mem(struct port *p, const struct vhost_mem_watch *watch);

/**
 * vhost_port_each_mem() - go through what a port has mapped
 * @p: port
 * @call: gets each mapping; an error of it ends the walk
 * @arg: for it
 *
 * Return: 0 or the error.
 */
int vhost_port_each_mem(struct port *p, int (*call)(void *arg, void *base, size_t len), void *arg);

/*
 * Adapters may read what the guest sends in place (hold.h), or no more; in the latter case buffers that wait still go
 * back when they are read.
 */
void vhost_port_lend(struct port *p, bool on);

/**
 * vhost_port_set_mem() - replace the whole memory table
 * @p: port
 * @mem: the new table
 * @fds: one a region
 *
 * Running rings go on in the new table without losing a frame; returns when the old one is unmapped.  An adapter that
 * reads in place knows the new one last, so that it never has both mapped; frames are copied meanwhile.
 * mem->n == 0 forgets the table.
 *
 * Return: 0, -EBUSY (no table while a ring runs), -EFAULT (a running ring lies outside), or see
 * guest_mem_create().
 */
int vhost_port_set_mem(struct port *p, const struct us_vhost_mem *mem, const int *fds);

/**
 * vhost_port_set_log() - replace the log of dirty pages
 * @p: port
 * @log: where and what to record; log->on == 0: nothing any more
 * @fd: its file, -1 if off
 *
 * Running rings go on.  When it returns, whatever is written is recorded there, and nobody uses the old log.
 *
 * Return: 0, or see dirty_log_create().
 */
int vhost_port_set_log(struct port *p, const struct us_vhost_log *log, int fd);

/**
 * vhost_port_ring_start() - check a ring and set it up; vhost_port_ring_run() follows
 * @p: port; if it is broken it stays so
 * @ring: nothing in it is trusted
 * @kick_fd: TX rings: watched by the queue's worker, never read; -1: the worker has to poll (RXQ_POLLED)
 * @call_fd: written when the guest wants to hear; -1: never
 *
 * Return: 0, -EBUSY (running already), -EINVAL, -EFAULT (no memory, lost, or the ring lies outside),
 * -EPERM (the kick fd cannot be waited for), -ENOMEM, -EMFILE.
 */
int vhost_port_ring_start(struct port *p, const struct us_vhost_ring *ring, int kick_fd, int call_fd);

/**
 * vhost_port_ring_run() - the last step of a ring's start: what may fail has not, the port is mended
 * @p: port; unless its memory is gone it moves frames from now on
 * @ring: a ring that was started
 * @resumed: who served it before may be dead, so the guest is signalled once
 *
 * The worker of the ring's queue must be woken afterwards: it does not look at a broken port.  The signal is a
 * write to the guest's call fd, so the calling thread needs its nudge (base/nudge.h); a write that blocks breaks
 * the port.
 */
void vhost_port_ring_run(struct port *p, uint32_t ring, bool resumed);

/*
 * When it returns no worker touches the ring, and no adapter its buffers; needs a nudge as above.
 * Return: next avail index (also of a stopped ring) or -EINVAL.
 */
int vhost_port_ring_stop(struct port *p, uint32_t ring);

/*
 * Exchange the call fd (-1: none), also of a running ring; needs a nudge as above.  The new one is written once: a signal
 * that went to the old one may have been heard by nobody, and a guest with event indices waits for no second one.
 * Return: 0 or -errno.
 */
int vhost_port_ring_call(struct port *p, uint32_t ring, int call_fd);

/* A ring that is not enabled moves nothing; no effect on a stopped ring. Return: 0 or -EINVAL. */
int vhost_port_ring_enable(struct port *p, uint32_t ring, bool enabled);

#endif /* USWITCH_VHOST_PORT_H */
