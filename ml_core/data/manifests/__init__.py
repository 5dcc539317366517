"""What a revision holds, as a manifest, and how its items are split. Imports no torch."""
