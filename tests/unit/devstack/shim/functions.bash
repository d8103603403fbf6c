#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The functions of devstack that our plugin calls, by what devstack's documentation promises of them.  They really write
# files, and tell $SHIM_CALLS what they were asked for.  One that is not here, the plugin must not call.
#
# $SHIM_BIN is where the programs of Python packages are.  tests/functional/devstack_host.py runs the same scripts on a
# host whose commands are the real ones; it has a sudo of its own.

# Arguments as a line, separated by US.
function shim_record {
    local IFS=$'\x1f'
    echo "$*" >> "$SHIM_CALLS"
}

if [[ -n "$SHIM_HOST" ]]; then
    function sudo {
        local user=root
        if [[ "$1" == -u ]]; then
            user=$2
            shift 2
        fi
        if [[ "$user" == root ]]; then
            SHIM_ROOT=yes "$@"
        else
            SHIM_USER=$user "$@"
        fi
    }
fi

function die {
    local line=$1
    shift
    echo "[ERROR] line $line: $*" >&2
    exit 1
}

function echo_summary {
    shim_record echo_summary "$*"
}

function is_ubuntu {
    [[ "$SHIM_DISTRO" == debian ]]
}

# ---- services ----

function is_service_enabled {
    local service
    for service in "$@"; do
        if [[ ,$ENABLED_SERVICES, == *,$service,* ]]; then
            return 0
        fi
        # Families of services.
        if [[ "$service" == nova && ,$ENABLED_SERVICES == *,n-* ]]; then
            return 0
        fi
        if [[ "$service" == neutron && ,$ENABLED_SERVICES == *,q-* ]]; then
            return 0
        fi
    done
    return 1
}

function enable_service {
    local service
    for service in "$@"; do
        if [[ ,$DISABLED_SERVICES, == *,$service,* ]]; then
            echo "not enabled, because it was disabled: $service" >&2
        elif ! is_service_enabled "$service"; then
            ENABLED_SERVICES+=,$service
        fi
    done
}

function disable_service {
    local service left
    for service in "$@"; do
        DISABLED_SERVICES+=,$service
        left=,$ENABLED_SERVICES,
        left=${left//,$service,/,}
        left=${left#,}
        ENABLED_SERVICES=${left%,}
    done
}

function run_process {
    local service=$1 command=$2 group=${3:-} user=${4:-}
    is_service_enabled "$service" || return 0
    [[ "$command" == /* ]] || die $LINENO "not an absolute path: $command"
    local file=$SYSTEMD_DIR/devstack@$service.service
    iniset -sudo "$file" Service User "${user:-$STACK_USER}"
    iniset -sudo "$file" Service Group "$group"
    iniset -sudo "$file" Service ExecStart "$command"
    $SYSTEMCTL enable --now "devstack@$service.service"
    shim-process run "$service" "$command" "$group" "${user:-$STACK_USER}"
}

function stop_process {
    local service=$1
    is_service_enabled "$service" || return 0
    [[ -e "$SYSTEMD_DIR/devstack@$service.service" ]] || return 0
    $SYSTEMCTL stop "devstack@$service.service"
    sudo rm "$SYSTEMD_DIR/devstack@$service.service"
    shim-process stop "$service"
}

# ---- files ----

# iniset [-sudo] FILE SECTION OPTION VALUE: replaces the option, or adds it; makes the file
function iniset {
    local as=()
    if [[ "$1" == -sudo ]]; then
        as=(sudo)
        shift
    fi
    shim_record iniset "${BASH_SOURCE[1]}" "$@"
    "${as[@]}" touch "$1"
    local text
    text=$(awk -v section="[$2]" -v option="$3" -v value="$4" '
        function close_section() {
            if (inside) { print option " = " value; done = 1 }
        }
        /^\[/ { if (!done) { close_section() }; inside = ($0 == section) }
        inside && $0 ~ "^" option "[ \t]*=" { next }
        { print }
        END {
            if (!done && !inside) { print section; inside = 1 }
            if (!done) { close_section() }
        }' "$1")
    echo "$text" | "${as[@]}" tee "$1" > /dev/null
}

# iniget FILE SECTION OPTION: prints the value
function iniget {
    awk -v section="[$2]" -v option="$3" '
        /^\[/ { inside = ($0 == section) }
        inside && $0 ~ "^" option "[ \t]*=" { sub("^[^=]*=[ \t]*", ""); value = $0 }
        END { print value }' "$1"
}

# merge_config_file LOCAL_CONF PHASE FILE: what local.conf has for FILE, which may be the name of a variable.
function merge_config_file {
    local file section option value
    file=$(eval echo "$3")
    [[ -e "$1" ]] || return 0
    awk -v head="[[$2|$3]]" '
        /^\[\[/ { mine = ($0 == head); next }
        mine && /^\[/ { gsub("[][]", ""); section = $0; next }
        mine && /=/ { option = $0; sub("[ \t]*=.*", "", option); sub("^[^=]*=[ \t]*", ""); print section, option, $0 }
    ' "$1" | while read -r section option value; do
        iniset "$file" "$section" "$option" "$value"
    done
}

# ---- installation ----

function get_python_exec_prefix {
    echo "${SHIM_BIN:-$DEST/data/venv/bin}"
}

function setup_develop {
    shim_record setup_develop "$@"
}

function install_bindep {
    shim_record install_bindep "$@"
}

function install_package {
    shim_record install_package "$@"
}

function add_user_to_group {
    sudo usermod -a -G "$2" "$1"
}

function define_plugin {
    shim_record define_plugin "$1"
}

# ---- work in the background ----

# async_runfunc FUNCTION: a job that has read $NOVA_CONF by the time we return, and writes it back when it is waited
# for: what was written in between is lost, as it may be with devstack.
function async_runfunc {
    SHIM_JOBS[$1]=$(cat "$NOVA_CONF")
}

function async_wait {
    local job
    for job in "$@"; do
        if [[ -n "${SHIM_JOBS[$job]:-}" ]]; then
            printf '%s\n' "${SHIM_JOBS[$job]}" > "$NOVA_CONF"
            unset "SHIM_JOBS[$job]"
            "$job"
        fi
    done
}
declare -A SHIM_JOBS
