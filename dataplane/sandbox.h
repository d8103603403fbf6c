/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * sandbox.h - what the dataplane process gives up before it serves: new
 * privileges, core files, the file system, and every system call but a few.
 *
 * Two steps, because Landlock binds only the calling thread and those it
 * starts, while the workers need calls to start that nobody needs later.
 */
#ifndef USWITCH_SANDBOX_H
#define USWITCH_SANDBOX_H

/**
 * sandbox_prepare() - no new privileges, no core files, no file system
 *
 * Before the first worker is created.  A kernel without Landlock costs a log line, not the start.
 * Return: 0 or -errno.
 */
int sandbox_prepare(void);

/**
 * sandbox_enter() - only the listed system calls from here on, in every thread
 *
 * After all workers run; none can be started afterwards.  A call that is not listed kills the process.
 * Return: 0 or -errno.
 */
int sandbox_enter(void);

#endif /* USWITCH_SANDBOX_H */
