"""What work takes before it is done: operations, memory and rough times."""
