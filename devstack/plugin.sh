#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# plugin.sh MODE [PHASE]: sourced by devstack's stack.sh, unstack.sh and clean.sh at the points that its plugin
# interface names.  This file is the table of contents; the work is done in lib/:
#
# owner.sh     whose switch this host has: devstack's, or another, which is left alone
# host.sh      what this host must have, packages, the user
# neutron.sh   what lib/neutron asks of a plugin (sourced by override-defaults)
# memory.sh    memory of guests that other processes can map: Nova, libvirt, a tmpfs, flavors
# uplink.sh    the physical network: an adapter, an interface, or a cable to this host
# switch.sh    uswitchd: directories, configuration, units, start and end
#
# Everything may be done twice.  What unstack takes back it finds out from the host, not from variables: local.conf may
# have changed since.

for _uswitch_file in owner host memory uplink switch; do
    source "$USWITCH_DIR/devstack/lib/$_uswitch_file.sh"
done
unset _uswitch_file

case "$1/${2:-}" in
    stack/pre-install)
        uswitch_check_settings
        if is_service_enabled uswitchd; then
            uswitch_check_host
        fi
        echo_summary "Installing what the switch is built with"
        uswitch_install_packages
        ;;
    stack/install)
        echo_summary "Building and installing the switch"
        setup_develop "$USWITCH_DIR"
        uswitch_check_entry_points
        if is_service_enabled uswitchd; then
            uswitch_mark
            uswitch_create_user
            uswitch_check_program
            uswitch_provide_memory
        fi
        ;;
    stack/post-config)
        # Nova's file is being written in the background until then.
        async_wait configure_neutron_nova
        uswitch_configure_neutron
        uswitch_configure_nova
        if is_service_enabled uswitchd; then
            echo_summary "Starting uswitchd"
            uswitch_stop
            uswitch_install_units
            uswitch_configure
            uswitch_connect_uplink
            # shellcheck disable=SC2016
            merge_config_file "$TOP_DIR/local.conf" post-config '$USWITCHD_CONF'
            uswitch_start
        fi
        ;;
    stack/extra)
        if is_service_enabled uswitchd; then
            uswitch_connect_host
            uswitch_report
        fi
        ;;
    stack/test-config)
        uswitch_adapt_flavors
        ;;
    unstack/*)
        if uswitch_is_ours; then
            uswitch_stop
            uswitch_remove_taps
            uswitch_disconnect_uplink
            uswitch_remove_units
            uswitch_remove_state
            uswitch_release_memory
        fi
        ;;
    clean/*)
        if uswitch_is_ours; then
            # Devices of namespaces that unstack.sh deleted after our turn may have come back to the host.
            uswitch_remove_taps
            uswitch_remove_configuration
            if uswitch_remove_user; then
                uswitch_unmark
            fi
        fi
        ;;
esac
