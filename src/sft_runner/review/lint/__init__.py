"""`sft-runner lint`: recipes and the files of choices, looked at without running anything."""
