"""The public losses: each checks its arguments, prepares a call and evaluates it."""
