"""Run the equations of a derivation, and name the mistake in a wrong gradient."""
