"""One local Ray for the whole test session, and the engine that needs no model."""

import os
import secrets

import pytest

# As guard_local_ray does: nobody else may run code in the Ray of a test session.
os.environ.setdefault("RAY_AUTH_MODE", "token")
os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


@pytest.fixture(scope="session")
def local_ray():
    import ray

    from limo_ray.sampling import ray_data_settings

    if not ray.is_initialized():
        ray.init(
            num_cpus=2, include_dashboard=False, object_store_memory=300 * 2**20,
            logging_level="warning",
        )  # fmt: skip
    ray_data_settings.configure()
    yield ray
    ray.shutdown()
