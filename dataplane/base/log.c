/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * log.c - see log.h.
 */
#include "base/log.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024     /* < PIPE_BUF, so that a line is written whole or not at all */
#define RATE_PER_S 10
#define RATE_BURST 100

static const char *const level_names[] = { "DEBUG", "INFO", "WARNING", "ERROR" };

/* Control thread. */
static struct {
    enum log_level level;
    uint32_t tokens;            /* lines that may be written now */
    uint64_t suppressed;        /* lines not written since the last one that was */
    time_t filled;              /* when tokens were last added */
} sink = { .level = LOG_LEVEL_INFO, .tokens = RATE_BURST };

void log_init(enum log_level level)
{
    sink.level = level;
    tzset();
}

int log_level_parse(const char *name)
{
    for (unsigned i = 0; i < sizeof(level_names) / sizeof(level_names[0]); i++) {
        if (!strcasecmp(name, level_names[i]))
            return (int)i;
    }
    return -EINVAL;
}

static bool rate_allows(const struct timespec *now)
{
    const time_t seconds = now->tv_sec - sink.filled;

    if (seconds != 0) {
        /* A clock set back fills the bucket as well: rather a few lines more than silence. */
        if (seconds < 0 || seconds >= RATE_BURST / RATE_PER_S)
            sink.tokens = RATE_BURST;
        else
            sink.tokens += (uint32_t)seconds * RATE_PER_S;
        if (sink.tokens > RATE_BURST)
            sink.tokens = RATE_BURST;
        sink.filled = now->tv_sec;
    }
    if (sink.tokens == 0)
        return false;
    sink.tokens--;
    return true;
}

/* poll() first: stderr's description is shared with the parent, so it must not be made non-blocking. */
static bool write_line(const char *line, size_t len)
{
    struct pollfd ready = { .fd = STDERR_FILENO, .events = POLLOUT };

    if (poll(&ready, 1, 0) != 1 || !(ready.revents & POLLOUT))
        return false;
    return write(STDERR_FILENO, line, len) == (ssize_t)len;
}

/* Head of the line, up to the text. Returns its length. */
static size_t format_head(char *line, size_t size, enum log_level level, const struct timespec *now)
{
    struct tm tm = { 0 };
    size_t len;

    localtime_r(&now->tv_sec, &tm);
    len = strftime(line, size, "%Y-%m-%d %H:%M:%S", &tm);
    return len + (size_t)snprintf(line + len, size - len, ".%03ld %d %s uswitch.dataplane [-] ",
                                  now->tv_nsec / 1000000, (int)getpid(), level_names[level]);
}

void log_line(enum log_level level, const char *format, ...)
{
    char line[LINE_MAX_BYTES];
    struct timespec now;
    va_list args;
    size_t len, text;
    int n;

    if (level < sink.level)
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    if (!rate_allows(&now)) {
        sink.suppressed++;
        return;
    }
    len = text = format_head(line, sizeof(line), level, &now);
    if (sink.suppressed != 0)
        len += (size_t)snprintf(line + len, sizeof(line) - len, "(%llu lines suppressed) ",
                                (unsigned long long)sink.suppressed);
    va_start(args, format);
    n = vsnprintf(line + len, sizeof(line) - len, format, args);
    va_end(args);
    if (n > 0)
        len += (size_t)n;
    if (len > sizeof(line) - 1)
        len = sizeof(line) - 1;
    for (size_t i = text; i < len; i++) {
        if ((unsigned char)line[i] < ' ')
            line[i] = ' ';
    }
    line[len++] = '\n';
    if (write_line(line, len))
        sink.suppressed = 0;
    else
        sink.suppressed++;
}
