"""Learning what extrapolation leaves: features, forests as plain arrays, training, splits."""
