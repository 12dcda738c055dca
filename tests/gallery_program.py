"""Runs a program of the gallery with the network of `gallery_experiment`: no TensorFlow is needed.

python tests/gallery_program.py gallery list --model_dir DIR
"""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from src.system.first_moments import end_silently

if __name__ == "__main__":
    end_silently()

from src import registry
from src.system.cli import run

if __name__ == "__main__":
    registry.EMBEDDERS["checkpoint"] = "gallery_experiment:Quadrants"
    name = sys.argv.pop(1)
    run(importlib.import_module(name).main)
