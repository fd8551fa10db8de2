"""Names the packages and the extension for builds; everything else about the project is in pyproject.toml.

In the repository, recordio/reader, recordio/writer and recordio/tools are symbolic links to the folders at the top. A
zip archive turns them into text files, so a build does not use them: it takes the three packages from the top.

The kernels in C are optional: where no compiler is, the build goes on without them, and Python does their work.
"""

import os

from setuptools import Extension, find_packages, setup

LINKED = ["reader", "writer", "tools"]

packages = find_packages(
    include=["recordio", "recordio.*"], exclude=[f"recordio.{name}{rest}" for name in LINKED for rest in ("", ".*")]
)
for name in LINKED:
    packages += [f"recordio.{name}", *(f"recordio.{name}.{package}" for package in find_packages(name))]

sources = ["recordio/_kernels.c", "recordio/_pixels.c"]
kernels = Extension(
    "recordio._kernels",
    sources,
    depends=["recordio/_pixels.h"],
    extra_compile_args=["-O3"] if os.name == "posix" else [],  # not every Python was built so: -O2 takes twice as long
    optional=True,
)
setup(packages=packages, package_dir={f"recordio.{name}": name for name in LINKED}, ext_modules=[kernels])
