/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * harness.h - the test harness: checks that go on after a failure, one
 * program a test_*.c.
 *
 *   TEST(adds)
 *   {
 *       CHECK_EQ(1 + 1, 2);
 *   }
 *
 *   int main(int argc, char **argv)
 *   {
 *       RUN(adds);
 *       return DONE();
 *   }
 *
 * main(argc, argv) may be written as MAIN { ... }: then an argument on the
 * command line runs only the tests whose name holds it.
 */
#ifndef USWITCH_TESTS_HARNESS_H
#define USWITCH_TESTS_HARNESS_H

#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Counters of this program; a test fails if its checks add failures. Main thread only, except failed_checks. */
static unsigned harness_passed, harness_failed;
/* One for all files of the program: what tests share checks as well. */
__attribute__((weak)) _Atomic unsigned harness_failed_checks;
static const char *harness_only;

static inline void harness_fail(const char *file, int line)
{
    fprintf(stderr, "%s:%d: ", file, line);
    harness_failed_checks++;
}

/* The condition holds; false is reported and the test goes on. Yields the condition. */
#define CHECK(cond)                                                                 \
    ({                                                                              \
        const bool harness_ok = (cond);                                             \
        if (!harness_ok) {                                                          \
            harness_fail(__FILE__, __LINE__);                                       \
            fprintf(stderr, "CHECK(%s) failed\n", #cond);                           \
        }                                                                           \
        harness_ok;                                                                 \
    })

/* Two integers are equal. Yields whether they are. */
#define CHECK_EQ(got, want)                                                         \
    ({                                                                              \
        const int64_t harness_got = (int64_t)(got), harness_want = (int64_t)(want); \
        if (harness_got != harness_want) {                                          \
            harness_fail(__FILE__, __LINE__);                                       \
            fprintf(stderr, "%s is %" PRId64 " (0x%" PRIx64 "), want %s = %" PRId64 " (0x%" PRIx64 ")\n", \
                    #got, harness_got, (uint64_t)harness_got, #want, harness_want,  \
                    (uint64_t)harness_want);                                        \
        }                                                                           \
        harness_got == harness_want;                                                \
    })

/* Two stretches of memory are equal. */
#define CHECK_MEM(got, want, len) CHECK(memcmp((got), (want), (len)) == 0)

/* Two strings are equal; NULL equals nothing. */
#define CHECK_STR(got, want)                                                        \
    ({                                                                              \
        const char *harness_got = (got), *harness_want = (want);                    \
        const bool harness_ok = harness_got && harness_want && !strcmp(harness_got, harness_want); \
        if (!harness_ok) {                                                          \
            harness_fail(__FILE__, __LINE__);                                       \
            fprintf(stderr, "%s is \"%s\", want \"%s\"\n", #got,                    \
                    harness_got ? harness_got : "(null)", harness_want ? harness_want : "(null)"); \
        }                                                                           \
        harness_ok;                                                                 \
    })

/* Like CHECK, but without it the test makes no sense: leaves the test. */
#define REQUIRE(cond)                                                               \
    do {                                                                            \
        if (!CHECK(cond))                                                           \
            return;                                                                 \
    } while (0)

#define TEST(name) static void test_##name(void)

#define RUN(name) harness_run(#name, test_##name)

static inline void harness_run(const char *name, void (*test)(void))
{
    const unsigned before = harness_failed_checks;

    if (harness_only && !strstr(name, harness_only))
        return;
    test();
    if (harness_failed_checks == before) {
        harness_passed++;
    } else {
        harness_failed++;
        fprintf(stderr, "FAILED %s\n", name);
    }
}

/* Exit status of the program; a program that ran nothing has not passed. */
static inline int harness_done(void)
{
    printf("%u passed, %u failed\n", harness_passed, harness_failed);
    return harness_failed || !harness_passed ? EXIT_FAILURE : EXIT_SUCCESS;
}

#define DONE() harness_done()

/* MAIN { RUN(a); RUN(b); } */
#define MAIN                                                                        \
    static void harness_main(void);                                                 \
    int main(int argc, char **argv)                                                 \
    {                                                                               \
        harness_only = argc > 1 ? argv[1] : NULL;                                   \
        harness_main();                                                             \
        return harness_done();                                                      \
    }                                                                               \
    static void harness_main(void)

#endif /* USWITCH_TESTS_HARNESS_H */
