"""The formula of keyword search, with exactly the arithmetic of rank-bm25's BM25Okapi.

Score of a chunk (Trotman et al. 2014, "Improvements to BM25 and Language Models Examined"), summed over the query's
terms in their order, repeats kept:  idf · tf · (k1 + 1) / (tf + k1 · (1 - b + b · length / mean length)).
"""

import math

import numpy as np
from numpy.typing import NDArray

K1 = 1.5
B = 0.75
EPSILON = 0.25  # BM25Okapi's floor: a term in over half of the chunks counts as this share of the mean idf
# Okapi's idf is zero or negative for most terms of a handful of chunks; below this many, Lucene's is used.
SMALL_COLLECTION = 50

Floats = NDArray[np.float64]


def norms(lengths: NDArray[np.int32], mean_length: float) -> Floats:
    """What is added to the count of a term below the fraction: k1 · (1 - b + b · length / mean length)."""
    return np.asarray(K1 * (1 - B + B * lengths / mean_length), dtype=np.float64)


def idf(size: int, frequency: int, mean_idf: float) -> float:
    """Weight of a term that `frequency` of `size` chunks hold; 0 for one that none has."""
    if frequency == 0:
        return 0.0
    if size < SMALL_COLLECTION:
        return math.log(1 + (size - frequency + 0.5) / (frequency + 0.5))
    okapi = math.log(size - frequency + 0.5) - math.log(frequency + 0.5)
    return okapi if okapi >= 0 else EPSILON * mean_idf


def mean_idf(size: int, terms_by_frequency: NDArray[np.int64]) -> float:
    """Mean of Okapi's idf over all terms in use, the negative ones included.

    `terms_by_frequency[f]` is the number of terms that f chunks hold. The sum depends on these numbers alone, so
    replicas that merged their segments otherwise agree to the last bit.
    """
    frequencies = np.flatnonzero(terms_by_frequency[1:]) + 1
    if not len(frequencies):
        return 0.0
    terms = terms_by_frequency[frequencies]
    idfs = np.log(size - frequencies + 0.5) - np.log(frequencies + 0.5)
    return float(np.sum(terms * idfs) / np.sum(terms))
