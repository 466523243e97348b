"""The background process that learns while people label.

pool.py     the images of a project that can be learned from, and their features
fit.py      labels to a head, honest probabilities and everything shown of them
review.py   suspected label errors and near-duplicates
trainer.py  `Trainer`: embeds what is new, fits when it is due, ranks, publishes
"""
