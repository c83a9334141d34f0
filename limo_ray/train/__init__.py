"""Full fine-tuning with Ray Train and DeepSpeed: examples become a model."""

from limo_ray.core.callable_package import make_callable

make_callable(__name__)
