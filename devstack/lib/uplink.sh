#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# The switch's way to the physical network $PHYSICAL_NETWORK, by what USWITCH_UPLINK says:
#
# 0000:05:00.0   an adapter that the switch drives itself (VFIO); the kernel has it no more
# eth1           an interface that the kernel keeps (AF_XDP)
# veth           a cable to this host: the outer end, usw-host, is the gateway of the external network, as br-ex is in
#                other clouds of devstack
# none           nothing; no network can be bound on this host until there is an uplink
#
# VLANs of project networks and the untagged external network go through it alike.  It stands in uswitchd's
# configuration as [uplink:wire].

USWITCH_UPLINK_SECTION=uplink:wire
USWITCH_VETH_HOST=usw-host
USWITCH_VETH_WIRE=usw-wire
USWITCH_QUEUES_MAX=8
USWITCH_RULES=60-uswitch-vfio.rules
USWITCH_RULES_DIR=${USWITCH_RULES_DIR:-/etc/udev/rules.d}

# Prints pci, interface, veth or none; dies on anything else.
function uswitch_uplink_kind {
    case "$USWITCH_UPLINK" in
        veth|none)
            echo "$USWITCH_UPLINK"
            ;;
        *:*)
            if [[ ! "$USWITCH_UPLINK" =~ ^([0-9a-f]{4,8}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]$ ]]; then
                die $LINENO "vif-uswitch: USWITCH_UPLINK is '$USWITCH_UPLINK', which is no PCI address." \
                    "See: uswitch-uplink list, or lspci -D."
            fi
            echo pci
            ;;
        *)
            if [[ ! "$USWITCH_UPLINK" =~ ^[A-Za-z0-9_.-]{1,15}$ ]]; then
                die $LINENO "vif-uswitch: USWITCH_UPLINK is '$USWITCH_UPLINK': say an interface, a PCI address," \
                    "veth or none."
            fi
            echo interface
            ;;
    esac
}

# Gives the uplink to the switch, and writes it into uswitchd's configuration.
function uswitch_connect_uplink {
    case $(uswitch_uplink_kind) in
        pci)
            _uswitch_bind_adapter
            ;;
        interface)
            if ! ip link show dev "$USWITCH_UPLINK" > /dev/null; then
                die $LINENO "vif-uswitch: USWITCH_UPLINK is '$USWITCH_UPLINK', and there is no such interface." \
                    "See: ip link"
            fi
            _uswitch_attach_interface "$USWITCH_UPLINK"
            ;;
        veth)
            _uswitch_make_veth
            _uswitch_attach_interface "$USWITCH_VETH_WIRE"
            ;;
        none)
            echo_summary "USWITCH_UPLINK is none: networks on $PHYSICAL_NETWORK cannot be bound on this host"
            return 0
            ;;
    esac
    iniset "$USWITCHD_CONF" "$USWITCH_UPLINK_SECTION" physnet "$PHYSICAL_NETWORK"
}

function _uswitch_bind_adapter {
    local address=$USWITCH_UPLINK
    if [[ "$address" =~ ^..:..\..$ ]]; then
        address=0000:$address
    fi
    uswitch_make "$USWITCH_RULES_DIR/$USWITCH_RULES" < "$USWITCH_DIR/etc/udev/$USWITCH_RULES"
    # First, so that unstack.sh knows it however this ends.
    iniset "$USWITCHD_CONF" "$USWITCH_UPLINK_SECTION" pci "$address"
    sudo udevadm control --reload
    if ! sudo "$(uswitch_bin_dir)/uswitch-uplink" bind "$address"; then
        die $LINENO "vif-uswitch: the adapter $address (USWITCH_UPLINK) cannot be given to the switch, see above."
    fi
}

# _uswitch_attach_interface NAME
function _uswitch_attach_interface {
    local name=$1
    local queues=0
    local queue
    # Frames of queues that the switch does not take would go to the kernel.
    for queue in "/sys/class/net/$name/queues"/rx-*; do
        queues=$(( queues + 1 ))
    done
    if (( queues > USWITCH_QUEUES_MAX )); then
        die $LINENO "vif-uswitch: $name has $queues queues, the switch takes $USWITCH_QUEUES_MAX at most." \
            "First: ethtool -L $name combined $USWITCH_QUEUES_MAX"
    fi
    # First, so that unstack.sh knows it however this ends.
    iniset "$USWITCHD_CONF" "$USWITCH_UPLINK_SECTION" ifname "$name"
    if ! sudo "$(uswitch_bin_dir)/uswitch-xdp" attach "$name"; then
        die $LINENO "vif-uswitch: the interface $name (USWITCH_UPLINK) cannot be given to the switch, see above."
    fi
    sudo ip link set dev "$name" up
    iniset "$USWITCHD_CONF" "$USWITCH_UPLINK_SECTION" queues "$queues"
}

function _uswitch_make_veth {
    if ! ip link show dev "$USWITCH_VETH_WIRE" > /dev/null 2>&1; then
        sudo ip link add "$USWITCH_VETH_HOST" mtu "$PUBLIC_BRIDGE_MTU" numrxqueues 1 numtxqueues 1 type veth \
            peer name "$USWITCH_VETH_WIRE" mtu "$PUBLIC_BRIDGE_MTU" numrxqueues 1 numtxqueues 1
    fi
    # XDP sees frames before anybody has filled in a checksum that was left to the device.
    sudo ethtool -K "$USWITCH_VETH_HOST" tx off
    sudo ip link set dev "$USWITCH_VETH_HOST" up
}

# Addresses on the cable's outer end, once the external network exists: this host reaches floating addresses, and is
# the way out of the cloud (lib/neutron translates addresses for $FLOATING_RANGE).
function uswitch_connect_host {
    is_service_enabled q-svc neutron-api && is_service_enabled q-l3 || return 0
    [[ "$(uswitch_uplink_kind)" == veth && "$NEUTRON_CREATE_INITIAL_NETWORKS" == True ]] || return 0
    if [[ "$Q_USE_PROVIDERNET_FOR_PUBLIC" != True ]]; then
        echo_summary "The external network is a VLAN of its own: this host has no address in it"
        return 0
    fi
    if [[ "$IP_VERSION" =~ 4 ]]; then
        _uswitch_take_gateway "$PUBLIC_SUBNET_NAME" "$FLOATING_RANGE" || :
    fi
    if [[ "$IP_VERSION" =~ 6 ]] && _uswitch_take_gateway "$IPV6_PUBLIC_SUBNET_NAME" "$IPV6_PUBLIC_RANGE"; then
        # Project networks with IPv6 are routed; lib/neutron has found out the router's address.
        local range=$SUBNETPOOL_PREFIX_V6
        if [[ -z "${SUBNETPOOL_V6_ID:-}" ]]; then
            range=$FIXED_RANGE_V6
        fi
        sudo ip -6 route replace "$range" via "$IPV6_ROUTER_GW_IP" dev "$USWITCH_VETH_HOST"
    fi
}

# _uswitch_take_gateway SUBNET RANGE: fails if the subnet has no gateway that this host could be
function _uswitch_take_gateway {
    local gateway
    gateway=$(openstack --os-cloud devstack-admin --os-region "$REGION_NAME" subnet show "$1" -f value -c gateway_ip)
    if [[ ! "$gateway" =~ ^[0-9A-Fa-f.:]+$ ]]; then
        echo_summary "Subnet $1 has no gateway: this host has no address in it"
        return 1
    fi
    sudo ip address replace "$gateway/${2#*/}" dev "$USWITCH_VETH_HOST"
}

# What is taken back is what the configuration names, whatever local.conf says by now.
function uswitch_disconnect_uplink {
    local bin
    bin=$(uswitch_bin_dir)
    local name=""
    local address=""
    if [[ -r "$USWITCHD_CONF" ]]; then
        name=$(iniget "$USWITCHD_CONF" "$USWITCH_UPLINK_SECTION" ifname)
        address=$(iniget "$USWITCHD_CONF" "$USWITCH_UPLINK_SECTION" pci)
    fi
    if [[ -n "$name" ]]; then
        # It complains if that was done before.
        sudo "$bin/uswitch-xdp" detach "$name" || :
    fi
    if [[ -n "$address" ]]; then
        sudo "$bin/uswitch-uplink" unbind "$address" || :
    fi
    uswitch_remove_made "$USWITCH_RULES_DIR/$USWITCH_RULES"
    if ip link show dev "$USWITCH_VETH_HOST" > /dev/null 2>&1; then
        sudo ip link delete "$USWITCH_VETH_HOST"
    fi
}
