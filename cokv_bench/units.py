"""Names of the units in which records tell what was measured."""

#: Mean log-probabilities, and scores from 0 to 1.
NATS, FRACTION = "nats per token", "fraction"
#: Of a utility that names none.
UTILITY = "utility"
