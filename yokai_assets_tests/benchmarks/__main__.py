"""Runs every benchmark: `python -m yokai_assets_tests.benchmarks [name ...]`."""

import runpy
import sys
from pathlib import Path

_FILES = [file for file in Path(__file__).parent.glob("*.py") if not file.stem.startswith("_")]
NAMES = sorted(file.stem for file in _FILES if "__main__" in file.read_text(encoding="utf-8"))

if __name__ == "__main__":
    chosen, sys.argv[1:] = sys.argv[1:] or NAMES, []
    for name in chosen:
        print(f"== {name}", flush=True)
        runpy.run_module(f"yokai_assets_tests.benchmarks.{name}", run_name="__main__")
