"""The one step of the build that pyproject.toml cannot say: folders at the top of a checkout go into the package.

setuptools could map the folders by itself (package-dir), but an editable installation is then no longer a path: in the
folder above a checkout named bnrepro, `import bnrepro` would find that folder.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("conf/**/*.yaml", "scripts/*.py", "results/paper.csv")  # found by bnrepro.files.shipped


class Build(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for folder in ("conf", "scripts"):  # what an earlier build left there, under names of its time
                shutil.rmtree(Path(self.build_lib, "bnrepro", folder), ignore_errors=True)
            for path in (path for pattern in SHIPPED for path in Path().glob(pattern)):
                target = Path(self.build_lib, "bnrepro", path)
                self.mkpath(str(target.parent))
                self.copy_file(str(path), str(target))


setup(cmdclass={"build_py": Build})
