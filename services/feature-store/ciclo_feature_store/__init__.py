"""The feature store: the same features for training and serving, and all data at rest."""
