"""What the tasks share whose examples are made at any length: the text, the draws, and how much of it fits."""
