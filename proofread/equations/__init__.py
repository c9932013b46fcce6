"""Read and evaluate the equations of a page."""
