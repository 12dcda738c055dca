"""What the system says about cards and processors, from files made up for this."""

import pytest

from src.system import accelerators
from src.system.accelerators import has_bfloat16_units, has_nvidia_card, why_no_gpu


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def pci_device(root, vendor="0x10de", kind="0x030200"):
    write(root / "sys/bus/pci/devices/0000:01:00.0/vendor", f"{vendor}\n")
    write(root / "sys/bus/pci/devices/0000:01:00.0/class", f"{kind}\n")


@pytest.fixture(autouse=True)
def _nothing_hidden(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(accelerators.platform, "system", lambda: "Linux")


def test_a_machine_without_a_card_has_nothing_to_say(tmp_path):
    assert not has_nvidia_card(tmp_path)
    assert why_no_gpu(tmp_path) is None


@pytest.mark.parametrize(
    ("vendor", "kind", "expected"),
    [
        ("0x10de", "0x030200", True),  # a 3D controller
        ("0x10de", "0x030000", True),  # with a display
        ("0x10de", "0x040300", False),  # the audio device of a card
        ("0x1002", "0x030000", False),  # AMD's
    ],
)
def test_cards_are_found_by_vendor_and_class(tmp_path, vendor, kind, expected):
    pci_device(tmp_path, vendor, kind)
    assert has_nvidia_card(tmp_path) is expected


def test_a_card_without_its_driver(tmp_path):
    pci_device(tmp_path)
    assert why_no_gpu(tmp_path) == (
        "an NVIDIA card is present, but TensorFlow sees no GPU and uses the processor: "
        "the card's driver is not loaded"
    )


@pytest.mark.parametrize(
    "seen", ["dev/nvidia0", "proc/driver/nvidia/gpus/0000:01:00.0/information"]
)
def test_a_card_with_its_driver_but_without_cuda(tmp_path, seen):
    write(tmp_path / seen, "")
    write(tmp_path / "proc/driver/nvidia/version", "NVRM version: NVIDIA 550.54\n")
    line = why_no_gpu(tmp_path)
    assert line.endswith("CUDA's libraries are missing: pip install 'tensorflow[and-cuda]'")


def test_a_card_that_is_hidden_has_nothing_to_say(tmp_path, monkeypatch):
    pci_device(tmp_path)
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert why_no_gpu(tmp_path) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert why_no_gpu(tmp_path)


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16\n", True),
        ("flags : fpu amx_tile amx_bf16\n", True),
        ("Features : fp asimd bf16 i8mm\n", True),
        ("flags : fpu avx2 avx512f avx512_vnni\n", False),
        ("model name : bf16\nflags : fpu\n", False),
        ("", False),
    ],
)
def test_units_for_bfloat16_are_found_by_flags(tmp_path, cpuinfo, expected):
    write(tmp_path / "proc/cpuinfo", cpuinfo)
    assert has_bfloat16_units(tmp_path) is expected
    assert not has_bfloat16_units(tmp_path / "nowhere")


def test_units_for_bfloat16_of_a_mac(monkeypatch):
    monkeypatch.setattr(accelerators.platform, "system", lambda: "Darwin")
    for answer, expected in (("1\n", True), ("0\n", False), ("", False)):
        result = type("Result", (), {"stdout": answer})
        monkeypatch.setattr(accelerators.subprocess, "run", lambda *args, r=result, **keys: r)
        assert has_bfloat16_units() is expected
