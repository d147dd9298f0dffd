"""The steps of a study in order, and what each of them depends on.

A study comes in; each step makes its files where they are missing or out of date, and gives what it made. The command
line, the workflow and the notebooks call these same functions.
"""

__all__ = ["again", "agreement", "costs", "experiment", "ledger", "plan", "stamps", "steps"]
