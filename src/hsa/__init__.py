"""HistoStainAlign, as a study that anyone can run: IHC status predicted from the H&E slide alone.

How a slide becomes a prediction, wing by wing. A `study` file names the stains, the methods and every setting.
`slides` opens a slide, reads it by microns, finds its tissue and lays tiles on it; one of the `encoders` turns each
tile into a vector. `cohorts` says who takes part: patients, cases, their slides, labels and folds. `bags` keeps the
vectors of a slide with their places in one file. Where there are no slides, `virtual` draws some whose truth is known.

`models` is the method: a slide encoder makes one embedding of a bag, and three losses teach it, one of which draws the
H&E slide to the IHC slide of its case. `evaluation` asks what embeddings are worth on cases that no model has seen;
`training` fits a model a fold, and keeps the epoch that does best. `pipeline` takes these steps in order and repeats
what has changed, `reporting` turns results into tables, figures and this book. `screening` takes a new H&E slide
through the same bags and models to a probability; the IHC slide is never asked for. `cli` is all of it from a shell.
"""

__version__ = "0.2.0"
