#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Whose switch is on this host: devstack's, or one that a package or an operator has installed, which carries somebody's
# guests.  The two would share a user, directories and names of units; so stack.sh refuses beside another one, running
# or not, and unstack.sh and clean.sh touch nothing that devstack has not made.
#
# A mark, made before anything is changed and removed by clean.sh as the last, says that stack.sh got so far, however it
# ended.  It is a file of one line; the same line stands in each file that others might have put there as well.

USWITCH_MADE_BY="# Made by devstack's stack.sh; its clean.sh removes it."

function _uswitch_mark_file {
    echo "$USWITCH_CONF_DIR/devstack"
}

# Whether FILE is devstack's.
function uswitch_made {
    sudo grep -qsxF "$USWITCH_MADE_BY" "$1"
}

function uswitch_mark {
    sudo install -d -m 0755 "$USWITCH_CONF_DIR"
    echo "$USWITCH_MADE_BY" | sudo tee "$(_uswitch_mark_file)" > /dev/null
}

function uswitch_unmark {
    sudo rm -f "$(_uswitch_mark_file)"
    if [[ -d "$USWITCH_CONF_DIR" ]]; then
        sudo rmdir --ignore-fail-on-non-empty "$USWITCH_CONF_DIR"
    fi
}

# uswitch_make FILE: standard input, and whose it is, into a file of root
function uswitch_make {
    { echo "$USWITCH_MADE_BY"; cat; } | sudo tee "$1" > /dev/null
}

# uswitch_remove_made FILE...
function uswitch_remove_made {
    local file
    for file in "$@"; do
        if uswitch_made "$file"; then
            sudo rm -f "$file"
        fi
    done
}

# Prints what there is of another switch, and what to do with it; nothing if there is none.
function uswitch_foreign {
    local name path
    for name in uswitchd.service $(uswitch_unit_names); do
        if $SYSTEMCTL cat "$name" > /dev/null 2>&1 && ! uswitch_made "$SYSTEMD_DIR/$name"; then
            echo "its unit $name is installed. Stop it (systemctl disable --now ${name%.service}) and remove its" \
                "package, or its unit and configuration"
            return 0
        fi
    done
    for path in "$USWITCHD_CONF" "$USWITCH_RULES_DIR/$USWITCH_RULES"; do
        # What stack.sh could not write, on a full disk, is empty.
        if sudo test -s "$path" && ! uswitch_made "$path"; then
            echo "$path is its. Remove its package, or move the file away"
            return 0
        fi
    done
    if uswitch_made "$(_uswitch_mark_file)"; then
        return 0
    fi
    for path in "$USWITCH_RUN_DIR" "$USWITCH_STATE_DIR"; do
        if sudo test -e "$path"; then
            echo "$path is its. End it, and move the directory away"
            return 0
        fi
    done
    if getent passwd "$USWITCH_USER" > /dev/null && sudo pgrep -u "$USWITCH_USER" > /dev/null; then
        echo "it runs, as user $USWITCH_USER. See: pgrep -a -u $USWITCH_USER. End it"
    fi
}

function uswitch_check_foreign {
    local foreign
    foreign=$(uswitch_foreign)
    if [[ -n "$foreign" ]]; then
        die $LINENO "vif-uswitch: this host has a switch that devstack did not install: $foreign; or use another host."
    fi
}

# Whether there may be something to take away.  Says so if not: unstack.sh has more to do than this.
function uswitch_is_ours {
    local foreign
    if ! uswitch_made "$(_uswitch_mark_file)"; then
        echo "vif-uswitch: stack.sh has installed no switch here, so there is none to take away"
        return 1
    fi
    foreign=$(uswitch_foreign)
    if [[ -n "$foreign" ]]; then
        echo "vif-uswitch: NOTHING of the switch is taken away. Beside what stack.sh has installed, this host has a" \
            "switch that devstack did not install: $foreign, and come again. If that one is to stay, remove" \
            "$(_uswitch_mark_file)." >&2
        return 1
    fi
}
