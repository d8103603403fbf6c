#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# uswitchd as a service of devstack: directories, configuration, the root-side helpers' units, start and end.
#
# devstack's units end the main process only, and by that the switch goes on forwarding: what a restart wants, and
# unstack does not.  So uswitch_stop ends whatever runs as the user of the switch.

USWITCH_SERVICE=uswitchd
USWITCH_UNITS="uswitch-xdp uswitch-tap"    # each a .socket and a @.service in etc/systemd
USWITCH_STOP_S=10

function uswitch_configure {
    sudo install -d -o "$STACK_USER" -m 0755 "$USWITCH_CONF_DIR"
    sudo install -d -o "$USWITCH_USER" -g "$USWITCH_USER" -m 0755 "$USWITCH_RUN_DIR"
    sudo install -d -o "$USWITCH_USER" -g "$USWITCH_USER" -m 0700 "$USWITCH_STATE_DIR"
    rm -f "$USWITCHD_CONF"
    echo "$USWITCH_MADE_BY" > "$USWITCHD_CONF"
    iniset "$USWITCHD_CONF" DEFAULT run_dir "$USWITCH_RUN_DIR"
    iniset "$USWITCHD_CONF" DEFAULT state_dir "$USWITCH_STATE_DIR"
    iniset "$USWITCHD_CONF" DEFAULT control_group "$USWITCH_CONTROL_GROUP"
    iniset "$USWITCHD_CONF" DEFAULT debug "$ENABLE_DEBUG_LOG_LEVEL"
    # uswitchd makes the directory of the sockets itself, for this group.
    iniset "$USWITCHD_CONF" DEFAULT vhost_socket_group "$(uswitch_qemu_group)"
}

# Prints the names of the units of root's helpers.
function uswitch_unit_names {
    local unit
    for unit in $USWITCH_UNITS; do
        echo "$unit.socket $unit@.service"
    done
}

# Programs that give uswitchd a file descriptor that only root can open; systemd starts them when asked.
function uswitch_install_units {
    local unit
    local bin
    bin=$(uswitch_bin_dir)
    for unit in $(uswitch_unit_names); do
        sed "s:/opt/uswitch/bin/:$bin/:" "$USWITCH_DIR/etc/systemd/$unit" | uswitch_make "$SYSTEMD_DIR/$unit"
    done
    # What devstack's unit for uswitchd does not say: when it is ready, and that it may lock memory for adapters.
    sudo install -d "$SYSTEMD_DIR/devstack@$USWITCH_SERVICE.service.d"
    printf '[Service]\nType=notify\nLimitMEMLOCK=infinity\n' \
        | sudo tee "$SYSTEMD_DIR/devstack@$USWITCH_SERVICE.service.d/uswitch.conf" > /dev/null
    $SYSTEMCTL daemon-reload
    for unit in $USWITCH_UNITS; do
        $SYSTEMCTL enable --now "$unit.socket"
    done
}

function uswitch_remove_units {
    local unit
    for unit in $USWITCH_UNITS; do
        if uswitch_made "$SYSTEMD_DIR/$unit.socket"; then
            $SYSTEMCTL disable --now "$unit.socket"
        fi
    done
    for unit in $(uswitch_unit_names); do
        uswitch_remove_made "$SYSTEMD_DIR/$unit"
    done
    sudo rm -rf "$SYSTEMD_DIR/devstack@$USWITCH_SERVICE.service.d"
    $SYSTEMCTL daemon-reload
}

function uswitch_start {
    run_process "$USWITCH_SERVICE" "$(uswitch_bin_dir)/uswitchd --config-file $USWITCHD_CONF" "" "$USWITCH_USER"
    if ! sudo "$(uswitch_bin_dir)/uswitchctl" --socket "$USWITCH_RUN_DIR/control.sock" show > /dev/null; then
        die $LINENO "vif-uswitch: uswitchd does not answer. See: journalctl -u devstack@$USWITCH_SERVICE"
    fi
}

function uswitch_stop {
    stop_process "$USWITCH_SERVICE"
    getent passwd "$USWITCH_USER" > /dev/null || return 0
    if sudo pkill -TERM -u "$USWITCH_USER"; then
        sudo timeout "$USWITCH_STOP_S" pidwait -u "$USWITCH_USER" || sudo pkill -KILL -u "$USWITCH_USER" || :
    fi
}

# TAP devices of routers and DHCP servers that are in no namespace (any more); only those that the switch may open.
function uswitch_remove_taps {
    local uid device
    uid=$(getent passwd "$USWITCH_USER" | cut -d: -f3)
    [[ -n "$uid" ]] || return 0
    for device in $(ip tuntap show | sed -n "s/^\\(tap[^:]*\\|q[rg]-[^:]*\\):.* user $uid\\( .*\\)\\?$/\\1/p"); do
        sudo ip link delete "$device"
    done
}

function uswitch_remove_state {
    sudo rm -rf "$USWITCH_RUN_DIR" "$USWITCH_STATE_DIR"
}

# Directories in which root's helpers have remembered other adapters stay.
function uswitch_remove_configuration {
    uswitch_remove_made "$USWITCHD_CONF"
    local directory
    for directory in "$USWITCH_CONF_DIR/xdp.d" "$USWITCH_CONF_DIR/uplinks.d"; do
        if [[ -d "$directory" ]]; then
            sudo rmdir --ignore-fail-on-non-empty "$directory"
        fi
    done
}

# What an operator would look at first; a host that is not perfect keeps nobody from having a cloud.
function uswitch_report {
    sudo "$(uswitch_bin_dir)/uswitchctl" --socket "$USWITCH_RUN_DIR/control.sock" show
    sudo "$(uswitch_bin_dir)/uswitchctl" --socket "$USWITCH_RUN_DIR/control.sock" doctor || :
    echo_summary "vif-uswitch: rules of security groups are not applied; see README.rst of its devstack folder"
}
