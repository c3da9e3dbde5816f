"""Programs that are written into exports and run where this package is not installed."""
