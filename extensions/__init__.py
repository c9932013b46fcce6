"""Python-Markdown extensions of the site. They know Markdown, not MkDocs."""
