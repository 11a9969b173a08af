"""What came of a run: one record, and what is made of it for terminal, program and browser."""
