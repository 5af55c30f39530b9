"""`python -m sft_runner`."""

from sft_runner.cli import main

if __name__ == "__main__":
    main()
