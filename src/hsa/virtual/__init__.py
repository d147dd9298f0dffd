"""Virtual tissue: seeded specimens cut into consecutive H&E and IHC sections, with the truth beside them.

Data flows one way: `markers` (what a marker is) -> `specimen` (what the tissue is) -> `cells` (who lives in
one section) -> `nuclei`, `render` (what a stain shows) -> `optics` (what the scanner sees) -> `scan` (slides
on disk, truth table).
"""
