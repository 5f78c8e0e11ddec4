"""Tensors in, tensors out: flips, partitions, losses, averages of weights, calibration, statistics, ensembles."""
