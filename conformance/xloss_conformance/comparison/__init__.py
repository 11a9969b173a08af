"""Two losses on the same cases: where they first differ, by how much, and which is right."""
