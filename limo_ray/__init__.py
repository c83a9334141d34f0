"""limo_ray: find the few hundred examples that teach a model to reason (arXiv 2502.03387)."""

__version__ = "0.1.0"
