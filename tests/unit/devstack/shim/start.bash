#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# What stack.sh, unstack.sh and clean.sh begin with alike: paths, devstack's defaults, the local.conf of the user.
# $SHIM_ROOT_DIR is the directory that stands for the whole host.

set -o errexit
set -o pipefail
source "$SHIM_DIR/functions.bash"

DEST=$SHIM_ROOT_DIR/opt/stack
TOP_DIR=$DEST/devstack
STACK_USER=stack
SYSTEMCTL="sudo systemctl"
export SYSTEMD_DIR=$SHIM_ROOT_DIR/etc/systemd/system
ENABLED_SERVICES=n-api,n-cpu,n-cond,n-sch,placement-api,placement-client,g-api,ovn-controller,ovn-northd,ovs-vswitchd
ENABLED_SERVICES+=,ovsdb-server,q-svc,q-ovn-agent,rabbit,mysql
DISABLED_SERVICES=""
VIRT_DRIVER=libvirt
REGION_NAME=RegionOne
FLOATING_RANGE=172.24.4.0/24
PUBLIC_NETWORK_NAME=public
PUBLIC_INTERFACE=""
ENABLE_DEBUG_LOG_LEVEL=True
# The only words of the test about where things are; everything else is as in a real host.
USWITCH_CONF_DIR=$SHIM_ROOT_DIR/etc/uswitch
USWITCH_RUN_DIR=$SHIM_ROOT_DIR/run/uswitch
USWITCH_STATE_DIR=$SHIM_ROOT_DIR/var/lib/uswitch
USWITCH_HUGEPAGES_DIR=$SHIM_ROOT_DIR/sys/kernel/mm/hugepages
USWITCH_RULES_DIR=$SHIM_ROOT_DIR/etc/udev/rules.d
USWITCH_MEMORY_DIR=$SHIM_ROOT_DIR/var/lib/libvirt/qemu/ram

function shim_localrc {
    source "$TOP_DIR/localrc"
}

function shim_override_defaults {
    source "$SHIM_PLUGIN/devstack/override-defaults"
}

# What lib/nova and lib/neutron decide where nobody has.
function shim_libraries {
    NOVA_CONF=$SHIM_ROOT_DIR/etc/nova/nova.conf
    NOVA_CPU_CONF=$SHIM_ROOT_DIR/etc/nova/nova-cpu.conf
    NOVA_BIN_DIR=$(get_python_exec_prefix)
    QEMU_CONF=$SHIM_ROOT_DIR/etc/libvirt/qemu.conf
    NEUTRON_CONF=$SHIM_ROOT_DIR/etc/neutron/neutron.conf
    NEUTRON_BIN_DIR=$(get_python_exec_prefix)
    AGENT_DHCP_BINARY=$NEUTRON_BIN_DIR/neutron-dhcp-agent
    Q_DHCP_CONF_FILE=$SHIM_ROOT_DIR/etc/neutron/dhcp_agent.ini
    Q_L3_CONF_FILE=$SHIM_ROOT_DIR/etc/neutron/l3_agent.ini
    Q_PLUGIN_CONF_FILE=${SHIM_ROOT_DIR#/}/etc/neutron/plugins/ml2/ml2_conf.ini
    Q_PLUGIN=${Q_PLUGIN:-ml2}
    Q_AGENT=${Q_AGENT:-ovn}
    Q_ML2_PLUGIN_MECHANISM_DRIVERS=${Q_ML2_PLUGIN_MECHANISM_DRIVERS:-ovn}
    Q_ML2_TENANT_NETWORK_TYPE=${Q_ML2_TENANT_NETWORK_TYPE:-geneve}
    PHYSICAL_NETWORK=${PHYSICAL_NETWORK:-public}
    PUBLIC_PHYSICAL_NETWORK=${PUBLIC_PHYSICAL_NETWORK:-public}
    ENABLE_ISOLATED_METADATA=${ENABLE_ISOLATED_METADATA:-False}
    NEUTRON_CREATE_INITIAL_NETWORKS=${NEUTRON_CREATE_INITIAL_NETWORKS:-True}
    Q_USE_PROVIDERNET_FOR_PUBLIC=${Q_USE_PROVIDERNET_FOR_PUBLIC:-True}
    PUBLIC_BRIDGE_MTU=${PUBLIC_BRIDGE_MTU:-1500}
    PUBLIC_SUBNET_NAME=public-subnet
    IPV6_PUBLIC_SUBNET_NAME=ipv6-public-subnet
    IPV6_PUBLIC_RANGE=2001:db8::/64
    IPV6_ROUTER_GW_IP=2001:db8::1
    FIXED_RANGE_V6=fd12:3456:789a::/64
    SUBNETPOOL_PREFIX_V6=fd12:3456:789a::/56
    SUBNETPOOL_V6_ID=some-pool
    IP_VERSION=${IP_VERSION:-4+6}
}

function shim_settings {
    source "$SHIM_PLUGIN/devstack/settings"
    local service
    for service in ${ENABLED_SERVICES//,/ }; do
        [[ ,$DISABLED_SERVICES, != *,$service,* ]] || die $LINENO "enabled and disabled: $service"
    done
}

function shim_phase {
    shim_record phase "$@"
    # As devstack does: its own positional parameters are the plugin's.
    source "$SHIM_PLUGIN/devstack/plugin.sh" "$@"
}
