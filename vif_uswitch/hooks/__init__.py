# SPDX-License-Identifier: Apache-2.0
"""libvirt's side without a cloud: what a domain's XML says, and the hook that libvirt runs."""
