"""Figures of what the metrics compute, as scikit-learn's displays."""
