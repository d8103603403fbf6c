# SPDX-License-Identifier: Apache-2.0
"""The control API's daemon side: sockets, requests, answers."""
