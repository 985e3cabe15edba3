"""The compiled exchange, which is optional: where there is no compiler, the build goes on without it.

Everything else stands in ``pyproject.toml``. The digest of the source goes into the module, so that a stale build in a
checkout is noticed and not used (``zmqlab/market/compiled_exchange.py``).
"""

from hashlib import blake2b
from pathlib import Path

from setuptools import Extension, setup

SOURCE = "zmqlab/market/_matching.c"
DIGEST = blake2b(Path(__file__).with_name("zmqlab").joinpath("market", "_matching.c").read_bytes(), digest_size=16)

setup(
    ext_modules=[
        Extension(
            "zmqlab.market._matching",
            [SOURCE],
            define_macros=[("SOURCE_DIGEST", f'"{DIGEST.hexdigest()}"')],
            optional=True,
        )
    ]
)
