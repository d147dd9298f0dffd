"""What made a result: study, seeds, versions."""

import platform
from importlib.metadata import version
from typing import Any

from hsa.study.study import Study

_REPORTED = ["torch", "numpy", "scikit-learn", "onnxruntime", "umap-learn"]


def provenance(study: Study, **more: Any) -> dict[str, Any]:
    """Say what made a result: study, seed, versions. No date and no path, so that a second run is identical."""
    return {
        "study": study.name,
        "seeds": list(study.seeds),
        "hsa": version("hsa"),
        "python": platform.python_version(),
        **{name: version(name) for name in _REPORTED},
        **more,
    }
