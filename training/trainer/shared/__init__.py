"""What every room uses: failures, folders, files, figures, Markdown, recipes, batches."""
