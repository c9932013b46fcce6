"""The forward as a program of small steps: recorded, recognised, and differentiated step by step."""
