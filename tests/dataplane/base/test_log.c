/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * test_log.c - the form of a line, the level, the rate limit, and that a
 * reader who is stuck or gone stops nobody.
 */
#include "harness.h"

#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <signal.h>
#include <unistd.h>

#include "base/log.h"

static int saved_stderr;

/* Make stderr a pipe; returns its reading end, non-blocking. */
static int capture(void)
{
    int pipes[2];

    saved_stderr = dup(STDERR_FILENO);
    if (pipe(pipes) != 0 || dup2(pipes[1], STDERR_FILENO) < 0)
        abort();
    close(pipes[1]);
    fcntl(pipes[0], F_SETFL, O_NONBLOCK);
    return pipes[0];
}

static void restore(void)
{
    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
}

static char *drain(int fd)
{
    static char text[1 << 17];
    size_t len = 0;
    ssize_t n;

    while ((n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
        len += (size_t)n;
    text[len] = '\0';
    return text;
}

static bool matches(const char *text, const char *pattern)
{
    regex_t re;
    bool found;

    if (regcomp(&re, pattern, REG_EXTENDED | REG_NOSUB) != 0)
        abort();
    found = regexec(&re, text, 0, NULL, 0) == 0;
    regfree(&re);
    return found;
}

TEST(form_of_a_line)
{
    const int fd = capture();
    char *text;

    log_init(LOG_LEVEL_INFO);
    log_debug("not written");
    log_warning("port %d\nis\tgone", 7);
    text = drain(fd);
    restore();
    CHECK(matches(text, "^[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3} [0-9]+ WARNING "
                        "uswitch\\.dataplane \\[-\\] port 7 is gone\n$"));
    close(fd);
}

TEST(long_lines_are_cut)
{
    const int fd = capture();
    char *text;

    log_info("%0*d", 5000, 1);
    text = drain(fd);
    restore();
    CHECK_EQ(strlen(text), 1024);
    CHECK_EQ(text[1023], '\n');
    close(fd);
}

TEST(level_names)
{
    CHECK_EQ(log_level_parse("debug"), LOG_LEVEL_DEBUG);
    CHECK_EQ(log_level_parse("INFO"), LOG_LEVEL_INFO);
    CHECK_EQ(log_level_parse("Warning"), LOG_LEVEL_WARNING);
    CHECK_EQ(log_level_parse("error"), LOG_LEVEL_ERROR);
    CHECK_EQ(log_level_parse("loud"), -EINVAL);
    CHECK_EQ(log_level_parse(""), -EINVAL);
}

/* R2 */
TEST(rate_is_limited_and_counted)
{
    const int fd = capture();
    unsigned lines = 0;
    char *text;

    for (unsigned i = 0; i < 2000; i++)
        log_info("again");
    text = drain(fd);
    for (const char *c = text; *c; c++)
        lines += *c == '\n';
    usleep(1100000);
    log_info("after");
    text = drain(fd);
    restore();
    CHECK(lines > 10 && lines <= 120);
    CHECK(matches(text, "\\[-\\] \\([0-9]+ lines suppressed\\) after\n$"));
    close(fd);
}

/* The bucket may be empty here; either way log_line() must return. */
TEST(stuck_and_gone_readers)
{
    const int fd = capture();
    const char block[4096] = { 0 };
    char *text;

    signal(SIGPIPE, SIG_IGN);
    fcntl(STDERR_FILENO, F_SETFL, O_NONBLOCK);
    while (write(STDERR_FILENO, block, sizeof(block)) > 0)
        continue;
    fcntl(STDERR_FILENO, F_SETFL, 0);
    usleep(1100000);
    log_info("into a full pipe");
    drain(fd);
    log_info("room again");
    text = drain(fd);
    CHECK(matches(text, "\\(1 lines suppressed\\) room again\n$"));
    close(fd);
    log_info("into a broken pipe");
    restore();
}

MAIN
{
    alarm(30);
    RUN(form_of_a_line);
    RUN(long_lines_are_cut);
    RUN(level_names);
    RUN(rate_is_limited_and_counted);
    RUN(stuck_and_gone_readers);
}
