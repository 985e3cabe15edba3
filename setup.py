"""What ``pyproject.toml`` can't say: the compiled exchange, and the chapters as files of the package.

The exchange in C is optional: where there is no compiler, the build goes on without it. The digest of the source goes
into the module, so that a stale build in a checkout is noticed and not used (``zmqlab/market/compiled_exchange.py``).

The chapters stay in ``notebooks`` and ``docs``. A build copies them to ``zmqlab/chapters`` in what it builds, for
``zmqlab lab`` and ``zmqlab demo``. An editable installation copies nothing: there the commands read the checkout.
"""

from hashlib import blake2b
from pathlib import Path
from shutil import copytree, ignore_patterns

from setuptools import Extension, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
SOURCE = "zmqlab/market/_matching.c"
DIGEST = blake2b((ROOT / SOURCE).read_bytes(), digest_size=16)
CHAPTERS = ("notebooks", "docs")
NO_PART_OF_THEM = ignore_patterns(".*", "__pycache__")


class BuildWithChapters(build_py):
    """Builds the package, and puts the chapters into it."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for folder in CHAPTERS:
                target = Path(self.build_lib, "zmqlab", "chapters", folder)
                copytree(ROOT / folder, target, ignore=NO_PART_OF_THEM, dirs_exist_ok=True)


setup(
    cmdclass={"build_py": BuildWithChapters},
    ext_modules=[
        Extension(
            "zmqlab.market._matching",
            [SOURCE],
            define_macros=[("SOURCE_DIGEST", f'"{DIGEST.hexdigest()}"')],
            optional=True,
        )
    ],
)
