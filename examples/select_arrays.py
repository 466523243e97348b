"""`vizsla.select` on plain arrays: any features, any classifier, no images and no network."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import vizsla

X, y = load_digits(return_X_y=True)
X, X_test, y, y_test = train_test_split(X / 16, y, test_size=0.3, random_state=0, stratify=y)

for strategy in ("random", "margin"):
    labelled = vizsla.select("random", embeddings=X, n=20, seed=0)  # both start from the same 20 labels
    while True:
        model = LogisticRegression(max_iter=1000).fit(X[labelled], y[labelled])
        print(f"{strategy:>6}, {len(labelled):3} labels: {model.score(X_test, y_test):.1%} right")
        if len(labelled) == 160:
            break
        batch = vizsla.select(
            strategy, probs=model.predict_proba(X), labelled=labelled, n=20, seed=len(labelled)
        )
        labelled = np.concatenate([labelled, batch])
