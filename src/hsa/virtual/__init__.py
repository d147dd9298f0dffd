"""Virtual tissue: seeded specimens cut into consecutive H&E and IHC sections, with the truth beside them.

Data flows one way: `markers` (what a marker is) -> `specimen` (what the tissue is) -> `cells` (who lives in
one section, in the terms of `nuclei`) -> `render` (what a stain shows) -> `artefacts`, `optics` (what the
scanner sees) -> `recipe` (one section from its seeds) -> `scan` (slides on disk, truth table).
"""

__all__ = ["composing", "foci", "markers", "recipe", "scan", "whole"]
