"""Same Noise: sampling, training and attacks behind the chapters."""

__version__ = "0.1.0"
