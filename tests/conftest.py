# SPDX-License-Identifier: Apache-2.0
"""What all tests share: hypothesis draws the same examples in every run."""

from hypothesis import settings

settings.register_profile("seeded", derandomize=True)
settings.load_profile("seeded")
