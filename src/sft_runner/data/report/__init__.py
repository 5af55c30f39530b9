"""What `report.json` says, for people: a page with pictures, a short Markdown text, lines in the terminal."""
