"""Pools that lie in many files: embedding them, and choosing from them, with any engine.

pool.py       `Shards`: feature rows in several files, numbered through
places.py     where such files lie: on a disk, or in a bucket
folder.py     the folder of shards that an embedding makes, with what is planned and what is finished
embedding.py  images to such a folder, going on where it stopped
learned.py    what the labels teach, taken to each shard
choosing.py   `select_shards`: the ids to label next
ranking.py    the best of each shard, merged into the best of all
names.py      which image a row is of
centers.py    k-center and k-means, step by step over all shards
"""

from __future__ import annotations
