"""New slides: prediction, worklist, triage.

An H&E slide and a trained model come in; out go a probability with its caveats, a heat map, and the order in which
slides are worth staining. The IHC slide is never asked for.
"""

__all__ = ["caveats", "decision", "predict", "predictor", "triage", "verdict", "worklist"]
