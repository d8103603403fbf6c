#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# unstack.sh as a plugin sees it: it comes first, while guests and agents still run.  No errexit, as in devstack.

source "$SHIM_DIR/start.bash"
set +o errexit
shim_localrc
shim_override_defaults
shim_libraries
shim_settings
set -o xtrace
shim_phase unstack
stop_process n-cpu
stop_process q-dhcp
stop_process q-agt
