/*
 * SPDX-License-Identifier: Apache-2.0
 *
 * names.c - names and texts of the drop and break reasons, for people.  Made
 * from the lists of drop.h, like everything else about them.  Any thread.
 */
#include <assert.h>
#include <stddef.h>

#include "drop.h"
#include "include/uswitch.h"

#define DROP_NAME(name, side, text) #name,
#define DROP_TEXT(name, side, text) text,
#define BREAK_NAME(name, text) #name,
#define BREAK_TEXT(name, text) text,

static const char *const drop_names[] = { DROP_REASONS(DROP_NAME) };
static const char *const drop_texts[] = { DROP_REASONS(DROP_TEXT) };
static const char *const break_names[] = { BREAK_REASONS(BREAK_NAME) };
static const char *const break_texts[] = { BREAK_REASONS(BREAK_TEXT) };

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

static_assert(COUNT(drop_names) == DROP_COUNT, "a name for each drop");
static_assert(COUNT(break_names) == BREAK_COUNT, "a name for each break");
static_assert(DROP_COUNT <= US_DROPS_MAX, "the state page has a counter for each drop");

const char *us_drop_name(uint32_t reason)
{
    return reason < DROP_COUNT ? drop_names[reason] : NULL;
}

const char *us_drop_text(uint32_t reason)
{
    return reason < DROP_COUNT ? drop_texts[reason] : NULL;
}

const char *us_break_name(uint32_t reason)
{
    return reason < BREAK_COUNT ? break_names[reason] : NULL;
}

const char *us_break_text(uint32_t reason)
{
    return reason < BREAK_COUNT ? break_texts[reason] : NULL;
}
