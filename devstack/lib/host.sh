#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What this host must have before anything is installed, packages, and the user of the switch.  What is missing ends
# stack.sh at once, with a text that says what to do.

USWITCH_USER=uswitch    # also the name that the root-side helpers know
USWITCH_CONTROL_GROUP=uswitch-control
USWITCH_USER_NOTE="vif-uswitch for devstack"    # whom clean.sh may delete

function uswitch_check_settings {
    if [[ "$Q_AGENT" != "uswitch" ]]; then
        die $LINENO "vif-uswitch: Q_AGENT is '$Q_AGENT'. Say Q_AGENT=uswitch in local.conf, or take the plugin out."
    fi
    if [[ ! ,$Q_ML2_PLUGIN_MECHANISM_DRIVERS, =~ ,uswitch, ]]; then
        die $LINENO "vif-uswitch: Q_ML2_PLUGIN_MECHANISM_DRIVERS is '$Q_ML2_PLUGIN_MECHANISM_DRIVERS'." \
            "Add uswitch to it, or leave it out of local.conf."
    fi
    if [[ ! "$Q_ML2_TENANT_NETWORK_TYPE" =~ ^(vlan|flat|local)(,(vlan|flat|local))*$ ]]; then
        die $LINENO "vif-uswitch: Q_ML2_TENANT_NETWORK_TYPE is '$Q_ML2_TENANT_NETWORK_TYPE': the switch has no" \
            "tunnels. Say vlan, or leave it out of local.conf."
    fi
    if [[ ! "$USWITCH_GUEST_MEMORY" =~ ^(auto|file|hugepages|none)$ ]]; then
        die $LINENO "vif-uswitch: USWITCH_GUEST_MEMORY is '$USWITCH_GUEST_MEMORY': say auto, file, hugepages or none."
    fi
    if [[ ! "$USWITCH_GUEST_MEMORY_MB" =~ ^([1-9][0-9]*)?$ ]]; then
        die $LINENO "vif-uswitch: USWITCH_GUEST_MEMORY_MB is '$USWITCH_GUEST_MEMORY_MB': say a number of MiB."
    fi
    uswitch_uplink_kind > /dev/null
}

function uswitch_check_host {
    if ! is_ubuntu; then
        die $LINENO "vif-uswitch: what it needs is known for Debian and Ubuntu only; for others see bindep.txt."
    fi
    uswitch_check_foreign
    if [[ ! -c /dev/net/tun ]] && ! sudo modprobe tun; then
        die $LINENO "vif-uswitch: this kernel has no TAP devices (CONFIG_TUN); routers and DHCP need them."
    fi
    case $(uswitch_uplink_kind) in
        veth|interface)
            # Without CAP_NET_RAW the kernel refuses as well, but for another reason.
            if ! python3 -c 'import errno, socket, sys
try:
    socket.socket(44, socket.SOCK_RAW)
except OSError as error:
    sys.exit(error.errno == errno.EAFNOSUPPORT)'; then
                die $LINENO "vif-uswitch: this kernel has no AF_XDP (CONFIG_XDP_SOCKETS), which the uplink" \
                    "'$USWITCH_UPLINK' needs. Give USWITCH_UPLINK the PCI address of an adapter, or none."
            fi
            ;;
    esac
}

function uswitch_install_packages {
    install_bindep "$USWITCH_DIR/bindep.txt" build
    if is_service_enabled uswitchd; then
        install_package ethtool
    fi
}

# Nova and Neutron load our code into their processes: it must be where their interpreters look.
function uswitch_check_entry_points {
    if is_service_enabled n-cpu; then
        _uswitch_seen_by "$NOVA_BIN_DIR/nova-compute" os_vif
    fi
    if is_service_enabled q-svc neutron-api; then
        _uswitch_seen_by "$NEUTRON_BIN_DIR/neutron-rpc-server" neutron.ml2.mechanism_drivers
    fi
    if is_service_enabled q-dhcp q-l3; then
        _uswitch_seen_by "$AGENT_DHCP_BINARY" neutron.interface_drivers
    fi
}

# _uswitch_seen_by PROGRAM GROUP: dies unless PROGRAM's interpreter finds an entry point "uswitch" in GROUP
function _uswitch_seen_by {
    local program=$1 group=$2
    local interpreter
    interpreter=$(sed -n '1s/^#! *//p' "$program")
    # The line may have an argument ("-sP").
    # shellcheck disable=SC2086
    if ! $interpreter -c "import sys
from importlib.metadata import entry_points
sys.exit('uswitch' not in {point.name for point in entry_points(group='$group')})"; then
        die $LINENO "vif-uswitch: $program runs with $interpreter, which finds no 'uswitch' among $group:" \
            "the switch is installed in another environment than OpenStack."
    fi
}

# The user of both daemons, and the group of the control socket: the agents and Nova are in it, so $STACK_USER.  The
# user is in QEMU's group too, to write to the sockets that QEMU makes.
function uswitch_create_user {
    local own=--user-group
    if getent group "$USWITCH_USER" > /dev/null; then
        own="--gid $USWITCH_USER"
    fi
    if ! getent passwd "$USWITCH_USER" > /dev/null; then
        # shellcheck disable=SC2086
        sudo useradd --system $own --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin \
            --comment "$USWITCH_USER_NOTE" "$USWITCH_USER"
    fi
    if ! getent group "$USWITCH_CONTROL_GROUP" > /dev/null; then
        sudo groupadd --system "$USWITCH_CONTROL_GROUP"
    fi
    add_user_to_group "$STACK_USER" "$USWITCH_CONTROL_GROUP"
    add_user_to_group "$USWITCH_USER" "$USWITCH_CONTROL_GROUP"
    local group
    group=$(uswitch_qemu_group)
    if [[ "$group" != "$USWITCH_USER" ]]; then
        add_user_to_group "$USWITCH_USER" "$group"
    fi
}

# Prints the group in which libvirt runs QEMU.  A QEMU of root needs nobody's.
function uswitch_qemu_group {
    local group=$USWITCH_QEMU_GROUP
    if [[ -z "$group" ]]; then
        group=$(uswitch_qemu_setting group)
        # "+107" is a number to libvirt, even if a group has that name.
        group=$(getent group "${group#+}" | cut -d: -f1)
    fi
    if [[ -z "$group" ]]; then
        group=kvm
    fi
    if [[ "$group" == root ]]; then
        group=$USWITCH_USER
    fi
    echo "$group"
}

# Prints what qemu.conf says for NAME, without quotes; nothing if it says nothing.
function uswitch_qemu_setting {
    local file=${QEMU_CONF:-/etc/libvirt/qemu.conf}
    if sudo test -e "$file"; then
        sudo sed -n "s/^[[:space:]]*$1[[:space:]]*=[[:space:]]*\"\\([^\"]*\\)\".*/\\1/p" "$file" | tail -n 1
    fi
}

# The environment lies below $DATA_DIR, which may lie below somebody's closed home directory.
function uswitch_check_program {
    if ! sudo -u "$USWITCH_USER" "$(uswitch_bin_dir)/uswitchd" --version; then
        die $LINENO "vif-uswitch: user $USWITCH_USER cannot run $(uswitch_bin_dir)/uswitchd, see above. All" \
            "directories on the way to it, and to $USWITCH_DIR, must be open to everybody (chmod o+x)."
    fi
}

# Prints where setup_develop has put the programs.
function uswitch_bin_dir {
    get_python_exec_prefix
}

# Fails if processes keep it.
function uswitch_remove_user {
    local note
    note=$(getent passwd "$USWITCH_USER" | cut -d: -f5)
    if [[ "$note" == "$USWITCH_USER_NOTE" ]]; then
        sudo userdel "$USWITCH_USER" || return 1
        local group
        # userdel keeps the user's group where that has other members.
        for group in "$USWITCH_USER" "$USWITCH_CONTROL_GROUP"; do
            if getent group "$group" > /dev/null; then
                sudo groupdel "$group"
            fi
        done
    fi
}
