/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * log.h - the log sink of the dataplane process: lines to stderr in oslo.log's
 * form, so that uswitchd's and the dataplane's read alike.
 *
 * Control thread only: workers count, they do not log.  A line is written at
 * once or not at all: a reader that is stuck or gone never holds the dataplane
 * up.  Lines above the rate limit are counted, and the count is logged.
 * The one mutable global of the dataplane lives in log.c.
 */
#ifndef USWITCH_LOG_H
#define USWITCH_LOG_H

enum log_level { LOG_LEVEL_DEBUG, LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };

/**
 * log_init() - set the level; before the sandbox, because the time zone is read here
 * @level: lines below it are not written
 */
void log_init(enum log_level level);

/* The level of a name such as "INFO" (any case), or -EINVAL. */
int log_level_parse(const char *name);

/**
 * log_line() - write one line
 * @level: how bad it is
 * @format: printf format, without newline
 */
void log_line(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_line(LOG_LEVEL_DEBUG, __VA_ARGS__)
#define log_info(...) log_line(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_warning(...) log_line(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_error(...) log_line(LOG_LEVEL_ERROR, __VA_ARGS__)

#endif /* USWITCH_LOG_H */
