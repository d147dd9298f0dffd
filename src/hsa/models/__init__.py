"""The method: the slide encoders and the three losses, to be read in one sitting.

A batch of bags comes in; out go slide embeddings (B, D) and the losses that align them. Begin with `losses`, then
`model`, then `longnet`. Losses know no model; models know no study.
"""

__all__ = ["attention", "checkpoints", "longnet", "losses", "model", "pooling", "published"]
