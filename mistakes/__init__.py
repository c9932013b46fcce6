"""Wrong gradients, on purpose: what the pages show under "Classic mistakes".

Each takes the place of a function of the snippet with the same file name, `grad_W_without_sum`
that of `grad_W`. The tests plant each one and see that the gradient test turns red.
"""
