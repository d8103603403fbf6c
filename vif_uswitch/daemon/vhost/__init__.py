# SPDX-License-Identifier: Apache-2.0
"""vhost-user: messages, the conversation with a front-end, and the ports behind it."""
