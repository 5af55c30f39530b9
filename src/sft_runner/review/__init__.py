"""What a pull request to a recipe really changes: lint, diff, lock, record, verify."""
