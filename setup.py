"""What pyproject.toml cannot say: the presets in conf/ become limo_ray/conf in the wheel."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["limo_ray*"]), "limo_ray.conf"],
    package_dir={"limo_ray.conf": "conf"},
)
