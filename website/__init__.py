"""What makes the documentation site of the pages in docs: python -m mkdocs build --strict."""
