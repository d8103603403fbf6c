#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# clean.sh as a plugin sees it: unstack.sh has its turn, the plugin's settings are read without its override-defaults.

source "$SHIM_DIR/start.bash"
set +o errexit
shim_localrc
shim_libraries
set -o xtrace
bash "$SHIM_DIR/unstack.bash" --all
shim_settings
shim_phase clean
sudo rm -rf "$(dirname "$NOVA_CONF")" "$(dirname "$NEUTRON_CONF")"
