"""Seeded interactions of users with products: who looked at what, with a skewed popularity and tastes behind it.

No public data set ships with a package small enough, so the data is made: products follow Zipf's law, as shop traffic does
(Adamic and Huberman, "Zipf's law and the Internet", 2002), and each user has a taste in a low-dimensional space. A model that
learns the tastes ranks held-out products above chance, which is what the tests measure.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Exponent of product popularity; web and shop traffic is reported between 0.6 and 1.2.
POPULARITY_EXPONENT = 0.9
TASTE_DIMENSIONS = 12
# Products a user sees before choosing one: the choice among them carries the taste.
CHOICES_SEEN = 8
# How strongly taste decides: larger means less noise in the choice.
TASTE_SHARPNESS = 4.0


@dataclass(frozen=True)
class Interactions:
    """Pairs of user row and product row, int32, in order of time."""

    users: NDArray[np.int32]
    products: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.users)


@dataclass(frozen=True)
class Market:
    """The hidden tastes that interactions are drawn from: the same market gives v1's and v2's data."""

    user_tastes: NDArray[np.float32]
    product_traits: NDArray[np.float32]
    popularity: NDArray[np.float64]

    @classmethod
    def make(cls, users: int, products: int, seed: int) -> "Market":
        """Make a market of `users` users and `products` products; the same seed gives the same market."""
        random = np.random.default_rng(seed)
        rank = random.permutation(products) + 1
        popularity = rank.astype(np.float64) ** -POPULARITY_EXPONENT
        return cls(
            user_tastes=_unit_rows(random.standard_normal((users, TASTE_DIMENSIONS), dtype=np.float32)),
            product_traits=_unit_rows(random.standard_normal((products, TASTE_DIMENSIONS), dtype=np.float32)),
            popularity=popularity / popularity.sum(),
        )

    def draw(self, count: int, seed: int) -> Interactions:
        """Draw `count` interactions: a user sees some products by popularity and takes one by taste."""
        random = np.random.default_rng(seed)
        users = random.integers(0, len(self.user_tastes), count, dtype=np.int32)
        seen = random.choice(len(self.popularity), size=(count, CHOICES_SEEN), p=self.popularity).astype(np.int32)
        affinity = np.einsum("nd,ncd->nc", self.user_tastes[users], self.product_traits[seen])
        # The Gumbel trick: the largest of score plus Gumbel noise is a draw from the softmax of the scores.
        noise = random.gumbel(size=affinity.shape)
        taken = np.argmax(affinity * TASTE_SHARPNESS * np.sqrt(TASTE_DIMENSIONS) + noise, axis=1)
        return Interactions(users, seen[np.arange(count), taken])


def _unit_rows(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = matrix / np.linalg.norm(matrix, axis=1, keepdims=True).astype(np.float32)
    return unit
