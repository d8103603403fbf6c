#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Where the Makefile keeps the virtual environment and logs of this checkout.
#
# The demo and the functional tests, when root starts them, run the daemons as
# an unprivileged user.  That user must be able to read what it runs, and a
# checkout below /root (mode 0700) is closed to it.  Then, and only then,
# everything lives in a directory of its own in /var/tmp.
#
# state_dir.sh         print the directory ("build" means: in the checkout)
# state_dir.sh create  make it as well, safe against somebody else's directory
#                      of that name
set -eu

top=$(cd "$(dirname "$0")/.." && pwd -P)

open_to_others() {
    directory=$top
    while :; do
        case $(stat -c %A "$directory") in
            *[xt]) ;;
            *) return 1 ;;
        esac
        [ "$directory" = / ] && break
        directory=$(dirname "$directory")
    done
    # Cloned with umask 077: the directories are open, the files are not.
    case $(stat -c %A "$top/setup.py") in
        *r[-w][-x]) return 0 ;;
        *) return 1 ;;
    esac
}

uid=$(id -u)
if [ "$uid" != 0 ] || open_to_others; then
    state=build
else
    hash=$(printf %s "$top" | cksum | cut -d' ' -f1)
    state=/var/tmp/vif-uswitch-$uid-$hash
fi

if [ "${1-}" = create ]; then
    mkdir -m 0755 "$state" 2>/dev/null || :
    if [ -L "$state" ] || [ ! -d "$state" ] || [ "$(stat -c %u "$state")" != "$uid" ]; then
        echo "$state is not a directory of user $uid: remove it" >&2
        exit 1
    fi
fi
echo "$state"
