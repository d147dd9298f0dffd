"""What a study says: tables, sentences, figures, executed notebooks, staged pages.

The results of the steps come in; out go frames, prose and pictures, and the folder that the book is built from.
Nothing is reckoned here that a result does not hold.
"""

__all__ = [
    "book",
    "figures",
    "notebooks",
    "pieces",
    "prescreening_tables",
    "reference",
    "sentences",
    "staging",
    "tables",
]
