"""What this machine has to compute with, as the system describes it: NVIDIA cards, bfloat16 units.

TensorFlow is not needed for this. It silently uses the processor if a card's driver is missing.
"""

import os
import platform
import subprocess
from pathlib import Path

_NVIDIA, _DISPLAY = "0x10de", "0x03"  # PCI: the vendor; the first byte of the class

# The processor's flags, of x86 and of Arm, of which one is enough.
_BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}


def has_nvidia_card(root: Path = Path("/")) -> bool:
    """Return whether Linux knows an NVIDIA card, with a driver or without.

    Args:
        root: the folder of `sys`, `proc` and `dev`.
    """
    if any(root.glob("dev/nvidia[0-9]*")) or any(root.glob("proc/driver/nvidia/gpus/*")):
        return True
    return any(
        _read(vendor) == _NVIDIA and _read(vendor.parent / "class").startswith(_DISPLAY)
        for vendor in root.glob("sys/bus/pci/devices/*/vendor")
    )


def why_no_gpu(root: Path = Path("/")) -> str | None:
    """Return a line on what TensorFlow, which sees no GPU, lacks to see an NVIDIA card.

    Args:
        root: as of `has_nvidia_card`.

    Returns:
        None if there is no card, or if CUDA_VISIBLE_DEVICES hides it.
    """
    hides = os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1")
    if hides or not has_nvidia_card(root):
        return None
    missing = "CUDA's libraries are missing: pip install 'tensorflow[and-cuda]'"
    if not (root / "proc/driver/nvidia/version").exists() and not (root / "dev/dxg").exists():
        missing = "the card's driver is not loaded"
    return (
        f"an NVIDIA card is present, but TensorFlow sees no GPU and uses the processor: {missing}"
    )


def has_bfloat16_units(root: Path = Path("/")) -> bool:
    """Return whether the processor multiplies bfloat16; False if that is not known."""
    if platform.system() == "Darwin":
        command = ["sysctl", "-n", "hw.optional.arm.FEAT_BF16"]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        return found.stdout.strip() == "1"
    lines = _read(root / "proc/cpuinfo").splitlines()
    flags = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return bool(_BFLOAT16_FLAGS.intersection(flags.split()))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
