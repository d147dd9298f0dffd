"""Step 2, for slides: through the tile encoder, into bags."""

import pandas as pd

from hsa.bags.encoding import encode_cohort
from hsa.pipeline.stamps import bag_settings, stamp
from hsa.study.study import Study


def encode(
    study: Study, slides: pd.DataFrame, workers: int, progress: bool, keep: bool, verify: bool = False
) -> dict[str, str]:
    """Encode these slides of the study's cohort into its bags, see `hsa.bags.encoding.encode_cohort`.

    Returns:
        slide_id -> SHA-256 of the file.
    """
    made = encode_cohort(
        slides,
        study.paths.bags,
        study.tile_encoder,
        study.tiles,
        stamp=stamp(study, "bag"),
        settings=bag_settings(study),
        keep=keep,
        verify=verify,
        workers=workers,
        progress=progress,
    )
    return dict(zip(made["slide_id"], made["source_sha256"], strict=True))
