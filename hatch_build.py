"""Put kernels/ inside the wheel; an editable install finds them beside the package, where edits are seen."""

from __future__ import annotations

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class KernelsInWheel(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "standard":
            build_data["force_include"]["kernels"] = "gpu_backprop/kernels"
