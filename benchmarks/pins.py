"""The environments that are measured, and the exact wheels that they need beyond the channel's."""

from __future__ import annotations

# Beside those of tests.channel.pins; repacked as conda packages likewise.
WHEELS = {
    "cloudpickle": "3.1.2",
    "h5py": "3.16.0",
    "joblib": "1.6.0",
    "narwhals": "2.29.0",
    "networkx": "3.6.1",
    "scikit-learn": "1.9.1",
    "threadpoolctl": "3.8.0",
    "typing-extensions": "4.16.0",
}
# Left out where there is no build of PyTorch for processors alone.
DEEP = {
    "filelock": "4.2.11",
    "fsspec": "2026.9.0",
    "jinja2": "3.1.6",
    "markupsafe": "3.0.4",
    "mpmath": "1.3.0",
    "sympy": "1.14.0",
    "torch": "2.13.0+cpu",
}
# What pip brings; the original installs it from requirements.txt, too.
PIP = {"sqlalchemy": "2.1.9", "greenlet": "3.5.3", "tqdm": "4.70.1", "typing-extensions": "4.16.0"}

SMALL = "dependencies: [python, click, rich, requests, pip]\n"
SCIENTIFIC = """\
channels: [conda-forge]
dependencies:
  - python
  - pip
  - click
  - h5py
  - matplotlib
  - numpy =2
  - pandas =3
  - pyyaml
  - requests
  - rich
  - scikit-learn
  - scipy
"""
REQUIREMENTS = "sqlalchemy==2.1.9\ntqdm==4.70.1\n"
# The package that is added to it.
ONE_MORE = "networkx"
TORCH = "channels: [conda-forge]\ndependencies: [python, pip, numpy, torch]\n"
# The rest of what it needs is in a file of the tests.
KERNEL = "name: kernel\nchannels: [conda-forge]\ndependencies: [python]\n"
KERNEL_REQUIREMENTS = "-c jupyterlab-pins.txt\nipykernel\n"
