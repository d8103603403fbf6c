#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The functions by which devstack's lib/neutron knows an L2 agent, for Q_AGENT=uswitch.  They are called with a
# configuration file, or with nothing; lib/neutron starts the agent itself, as service q-agt.

function neutron_plugin_install_agent_packages {
    :
}

function neutron_plugin_configure_plugin_agent {
    local conf=/$Q_PLUGIN_CONF_FILE
    # Read by lib/neutron.
    AGENT_BINARY=$NEUTRON_BIN_DIR/neutron-uswitch-agent
    iniset "$conf" uswitch control_socket "$USWITCH_RUN_DIR/control.sock"
    if [[ -n "$USWITCH_PHYSICAL_INTERFACE_MAPPINGS" ]]; then
        iniset "$conf" uswitch physical_interface_mappings "$USWITCH_PHYSICAL_INTERFACE_MAPPINGS"
    fi
    # Rules of security groups are stored by the API, and applied by nobody.
    iniset "$conf" securitygroup firewall_driver noop
}

function neutron_plugin_setup_interface_driver {
    iniset "$1" DEFAULT interface_driver uswitch
    iniset "$1" uswitch control_socket "$USWITCH_RUN_DIR/control.sock"
}

function neutron_plugin_configure_dhcp_agent {
    iniset "$1" DEFAULT enable_isolated_metadata "$ENABLE_ISOLATED_METADATA"
}

function neutron_plugin_configure_l3_agent {
    :
}

# Not here: the file is being written in the background meanwhile (see memory.sh).
function neutron_plugin_create_nova_conf {
    :
}

# The API server's side, once lib/neutron has written the file.
function uswitch_configure_neutron {
    if [[ -n "$USWITCH_NOVA_PLUG" ]] && is_service_enabled q-svc neutron-api; then
        iniset "/$Q_PLUGIN_CONF_FILE" ml2_uswitch nova_plug "$USWITCH_NOVA_PLUG"
    fi
}

function neutron_plugin_check_adv_test_requirements {
    is_service_enabled q-agt neutron-agent && is_service_enabled q-dhcp neutron-dhcp
}

function is_neutron_ovs_base_plugin {
    return 1
}
