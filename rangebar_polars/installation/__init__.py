"""What is installed and set: versions, extras, settings in force and misspelt variables."""
