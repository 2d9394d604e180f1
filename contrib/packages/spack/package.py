import os

from spack.package import *


class Condainer(Package):
    """Declarative Conda environments as content-addressed, compressed, shared images.

    Unpacks what contrib/packages/archive.py makes, with an interpreter and all Python packages in
    it, so that py-rattler and conda-lock need no packages of their own.
    """

    license("MIT")

    # In the directory where `spack install` is called, or in a mirror; write its sha256 here.
    url = f"file://{os.getcwd()}/condainer-1.0.0.tar.gz"
    version("1.0.0", sha256="0" * 64)

    depends_on("squashfs+zstd", type="run")
    depends_on("squashfuse+zstd", type="run")

    def install(self, spec, prefix):
        install_tree(".", prefix)

    @run_after("install")
    def check(self):
        Executable(self.prefix.bin.cnd)("--version")
