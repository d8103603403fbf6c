#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Guests' memory must be of a kind that another process can map: files on a tmpfs, or hugepages.  Nova offers nothing
# else.  Files serve every flavor as it is; hugepages need a property of the flavor, which is set on all that exist.

USWITCH_MOUNT=uswitch-guests    # by which our tmpfs is known among the mounts
USWITCH_MEMORY_DIR=${USWITCH_MEMORY_DIR:-/var/lib/libvirt/qemu/ram}    # libvirt's own default
USWITCH_HUGEPAGES_DIR=${USWITCH_HUGEPAGES_DIR:-/sys/kernel/mm/hugepages}

# Prints file, hugepages or none.
function uswitch_memory_kind {
    if [[ "$USWITCH_GUEST_MEMORY" != auto ]]; then
        echo "$USWITCH_GUEST_MEMORY"
    elif (( $(_uswitch_hugepages_mb) > 0 )); then
        echo hugepages
    else
        echo file
    fi
}

# Prints how many MiB of hugepages the host has set aside, used or not, of all sizes together.
function _uswitch_hugepages_mb {
    local total_kb=0
    local size pages
    for size in "$USWITCH_HUGEPAGES_DIR"/hugepages-*kB; do
        if [[ -r "$size/nr_hugepages" ]]; then
            pages=$(cat "$size/nr_hugepages")
            size=${size##*hugepages-}
            total_kb=$(( total_kb + pages * ${size%kB} ))
        fi
    done
    echo $(( total_kb / 1024 ))
}

# Prints the MiB that all guests together may have as files.
function _uswitch_file_memory_mb {
    if [[ -n "$USWITCH_GUEST_MEMORY_MB" ]]; then
        echo "$USWITCH_GUEST_MEMORY_MB"
    else
        awk '/^MemTotal:/ { print int($2 / 2048) }' /proc/meminfo
    fi
}

# A tmpfs where libvirt makes a directory for each guest, as root.  On a disk files would work too, and be slow.
function uswitch_provide_memory {
    is_service_enabled n-cpu && [[ "$VIRT_DRIVER" == libvirt ]] || return 0
    local kind directory size
    kind=$(uswitch_memory_kind)
    if [[ "$kind" == hugepages ]]; then
        if (( $(_uswitch_hugepages_mb) == 0 )); then
            die $LINENO "vif-uswitch: USWITCH_GUEST_MEMORY is hugepages, and this host has none." \
                "Set some aside (sysctl vm.nr_hugepages=1024), or say file."
        fi
        echo_summary "Memory of guests: $(_uswitch_hugepages_mb) MiB of hugepages"
    elif [[ "$kind" == file ]]; then
        directory=$(uswitch_qemu_setting memory_backing_dir)
        if [[ -n "$directory" ]]; then
            echo_summary "Memory of guests: files in $directory, as qemu.conf says"
            return 0
        fi
        directory=$USWITCH_MEMORY_DIR
        size=$(_uswitch_file_memory_mb)
        echo_summary "Memory of guests: $size MiB, files in a tmpfs on $directory"
        sudo mkdir -p "$directory"
        if findmnt --noheadings --source "$USWITCH_MOUNT" > /dev/null; then
            sudo mount -o "remount,size=${size}M" "$directory"
        else
            sudo mount -t tmpfs -o "size=${size}M,mode=0755" "$USWITCH_MOUNT" "$directory"
        fi
    fi
}

# Detached at once; the memory is free when the last guest has ended, which unstack.sh sees to after us.
function uswitch_release_memory {
    while findmnt --noheadings --source "$USWITCH_MOUNT" > /dev/null; do
        sudo umount --lazy "$(findmnt --noheadings --output TARGET --source "$USWITCH_MOUNT" | head -n 1)"
    done
}

# $NOVA_CONF as it is now; stack.sh merges what local.conf has for it afterwards.
function uswitch_configure_nova {
    is_service_enabled n-cpu n-sch || return 0
    if is_service_enabled n-cpu; then
        iniset "$NOVA_CONF" os_vif_uswitch control_socket "$USWITCH_RUN_DIR/control.sock"
    fi
    case $(uswitch_memory_kind) in
        file)
            if is_service_enabled n-cpu; then
                iniset "$NOVA_CONF" libvirt file_backed_memory "$(_uswitch_file_memory_mb)"
                # nova-compute does not start with other values.
                iniset "$NOVA_CONF" DEFAULT ram_allocation_ratio 1.0
                iniset "$NOVA_CONF" DEFAULT reserved_host_memory_mb 0
            fi
            ;;
        hugepages)
            local filters
            filters=$(iniget "$NOVA_CONF" filter_scheduler enabled_filters)
            if [[ -n "$filters" && ! ,$filters, =~ ,NUMATopologyFilter, ]]; then
                iniset "$NOVA_CONF" filter_scheduler enabled_filters "$filters,NUMATopologyFilter"
            fi
            ;;
    esac
}

# Flavors that do not say which pages they want get large ones.  All have been made by now, tempest's too.
function uswitch_adapt_flavors {
    is_service_enabled n-api && [[ "$(uswitch_memory_kind)" == hugepages ]] || return 0
    local flavor
    for flavor in $(openstack --os-cloud devstack-admin flavor list --all -f value -c ID); do
        if ! openstack --os-cloud devstack-admin flavor show "$flavor" -f value -c properties \
                | grep -q hw:mem_page_size; then
            openstack --os-cloud devstack-admin flavor set --property hw:mem_page_size=large "$flavor"
        fi
    done
}
