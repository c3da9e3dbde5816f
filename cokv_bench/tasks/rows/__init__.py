"""What the tasks over rows share: rows and rules, their splits, prompts and scores; and a user's own rows."""
