"""The one compiled part of the package: ``export._runtime``, the emulator's Python binding."""

from pybind11.setup_helpers import Pybind11Extension, build_ext
from setuptools import setup
from setuptools.errors import CompileError, LinkError, PlatformError
from setuptools.extension import Extension


class BuildRuntime(build_ext):
    def build_extension(self, ext: Extension) -> None:
        try:
            super().build_extension(ext)
        except (CompileError, LinkError, PlatformError) as error:
            command = (getattr(self.compiler, "compiler_so_cxx", None) or ["c++"])[0]
            raise SystemExit(
                f"qapsule: {ext.name} could not be built from {', '.join(ext.sources)}: {error}\n"
                f"It needs a C++17 compiler and {command} did not do: install one (Debian: apt install g++) or name "
                "yours in the variable CXX, then install qapsule again."
            ) from error


setup(
    ext_modules=[
        Pybind11Extension("export._runtime", ["export/_runtime.cpp"], cxx_std=17, extra_compile_args=["-O3"]),
    ],
    cmdclass={"build_ext": BuildRuntime},
)
