#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# stack.sh as a plugin sees it: which files exist at which phase, who writes them, what is started when.

source "$SHIM_DIR/start.bash"

function configure_neutron {
    local file
    rm -f "$NEUTRON_CONF" "$Q_DHCP_CONF_FILE" "$Q_L3_CONF_FILE" "/$Q_PLUGIN_CONF_FILE"
    iniset "$NEUTRON_CONF" DEFAULT core_plugin ml2
    if is_service_enabled q-agt; then
        neutron_plugin_configure_plugin_agent
    fi
    if is_service_enabled q-dhcp; then
        neutron_plugin_setup_interface_driver "$Q_DHCP_CONF_FILE"
        neutron_plugin_configure_dhcp_agent "$Q_DHCP_CONF_FILE"
    fi
    if is_service_enabled q-l3; then
        neutron_plugin_setup_interface_driver "$Q_L3_CONF_FILE"
        neutron_plugin_configure_l3_agent "$Q_L3_CONF_FILE"
    fi
    if is_service_enabled q-svc; then
        local file=/$Q_PLUGIN_CONF_FILE
        iniset "$file" ml2 mechanism_drivers "$Q_ML2_PLUGIN_MECHANISM_DRIVERS"
        iniset "$file" ml2 type_drivers "$Q_ML2_PLUGIN_TYPE_DRIVERS"
        iniset "$file" ml2 project_network_types "$Q_ML2_TENANT_NETWORK_TYPE"
        iniset "$file" ml2 extension_drivers port_security
        iniset "$file" ml2_type_flat flat_networks "$PHYSICAL_NETWORK,$PUBLIC_PHYSICAL_NETWORK"
        iniset "$file" ml2_type_vlan network_vlan_ranges "$PHYSICAL_NETWORK:$TENANT_VLAN_RANGE"
    fi
}

function create_nova_conf {
    rm -f "$NOVA_CONF"
    iniset "$NOVA_CONF" DEFAULT debug True
    iniset "$NOVA_CONF" filter_scheduler enabled_filters ComputeFilter,ImagePropertiesFilter
}

function configure_neutron_nova {
    iniset "$NOVA_CONF" neutron region_name "$REGION_NAME"
    neutron_plugin_create_nova_conf "$NOVA_CONF"
}

for name in nova neutron neutron/plugins neutron/plugins/ml2; do
    sudo install -d -o "$STACK_USER" "$SHIM_ROOT_DIR/etc/$name"
done
shim_localrc
shim_override_defaults
shim_libraries
shim_settings
set -o xtrace

shim_phase stack pre-install
if is_service_enabled q-agt q-dhcp q-l3; then
    neutron_plugin_install_agent_packages
fi
if is_service_enabled nova; then
    create_nova_conf
fi
shim_phase stack install
if is_service_enabled neutron; then
    configure_neutron
fi
if is_service_enabled nova; then
    async_runfunc configure_neutron_nova
fi
shim_phase stack post-config
# shellcheck disable=SC2016
for file in '$NOVA_CONF' '$USWITCHD_CONF' '/$Q_PLUGIN_CONF_FILE'; do
    merge_config_file "$TOP_DIR/local.conf" post-config "$file"
done
async_wait configure_neutron_nova
run_process q-agt "${AGENT_BINARY:-} --config-file $NEUTRON_CONF --config-file /$Q_PLUGIN_CONF_FILE"
run_process q-dhcp "$AGENT_DHCP_BINARY --config-file $NEUTRON_CONF --config-file $Q_DHCP_CONF_FILE"
if is_service_enabled q-l3 && is_neutron_ovs_base_plugin; then
    die $LINENO "lib/neutron looks for bridges of Open vSwitch"
fi
if is_service_enabled n-cpu; then
    cp "$NOVA_CONF" "$NOVA_CPU_CONF"
    run_process n-cpu "$NOVA_BIN_DIR/nova-compute --config-file $NOVA_CPU_CONF" libvirt
fi
shim_phase stack extra
shim_phase stack test-config
set +o xtrace
shim_record services "$ENABLED_SERVICES"
declare -p > "$SHIM_VARIABLES"
