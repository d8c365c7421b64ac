"""From a query to ranked documents: analyser, keyword index, vectors, fusion, cache, pipeline."""
