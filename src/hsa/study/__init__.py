"""What is studied: one YAML file, checked once at the door.

A study file comes in; out go its settings as typed, frozen objects, the places of every file that the study makes,
and the record of what made a result.
"""

__all__ = ["paths", "provenance", "records", "settings", "study"]
