"""The background process that learns while people label.

pool.py     the images of a project that can be learned from, and their features
fit.py      labels to a head, honest probabilities and everything shown of them
review.py   suspected label errors and near-duplicates
tuning.py   the whole network on all labels, beside the head
kept.py     the project's model: that network where it was better, else the newest head
shown.py    each model's figures on the dashboards asked for
trainer.py  `Trainer`: embeds what is new, fits when it is due, ranks, publishes
"""
