"""What is said of each mistake beyond its own account: its meaning, and what to look at next."""

from __future__ import annotations

# The hint on a transposition that no shape betrays.
SQUARE = "It is square, so its shape fits either way: derive one entry, or try unequal sizes."

# The hint on a sign in the rule of log_softmax, which that of cross-entropy is made of.
LOG_SOFTMAX = "The gradient is G - p * sum(G), with p the softmax and G the upstream."

# How a second label with the account of the first begins.
ANOTHER_NAME = "Another name for the same"

# Label: (what it means, hint). {wrt} is the argument, {shape} its shape. The meaning is said
# where a second label has the same account as the first; else the account itself is said.
SENTENCES: dict[str, tuple[str, str]] = {
    "applied_twice": (
        "A factor of the chain rule is multiplied in once too often.",
        "Count the factors of your product: each link of the chain occurs once.",
    ),
    "conv_flip": (
        "The kernel, or its gradient, has the wrong orientation in space.",
        "PyTorch's convolution does not flip the kernel, so its gradient comes out unflipped.",
    ),
    "derivative_at_wrong_point": (
        "The derivative is evaluated at the wrong point.",
        (
            "Ask of your formula whether it is written for the input or for the output, and which "
            "of the two you pass."
        ),
    ),
    "double_counted": (
        "Something is added more often than it occurs.",
        "List the uses of {wrt} in the forward; your gradient needs one term for each.",
    ),
    "extra_mean": (
        "Your gradient divides by a count where the forward does not average.",
        "A sum in the backward stays a sum. Look for a mean() or a division by a size.",
    ),
    "missing_broadcast_sum": (
        "The gradient is not summed over every use of {wrt}.",
        "{wrt} has shape {shape}. Sum over each axis along which it was reused.",
    ),
    "missing_cross_terms": (
        "Only the diagonal of a full Jacobian is used.",
        "Each output depends on several inputs here. Derive one entry: which outputs does it move?",
    ),
    "missing_local_derivative": (
        "One link of the chain rule is left out.",
        "Walk the forward backwards, line by line: each line contributes one factor.",
    ),
    "missing_mask": (
        "The mask of the forward has no effect in your gradient.",
        "Where the forward blocks an entry, no gradient passes. Multiply by the same mask.",
    ),
    "missing_mean": (
        "The 1/N of an averaging forward is left out.",
        "The forward takes a mean, so each entry has a share of 1/count.",
    ),
    "missing_path": (
        "One of the routes from {wrt} to the output is ignored.",
        "Find every place where the forward uses {wrt}, and add up what comes back from each.",
    ),
    "missing_product_term": (
        "One half of the product rule is left out.",
        "Both factors depend on {wrt}: (uv)' = u'v + uv'.",
    ),
    "missing_scale_factor": (
        "A multiplier of the forward is left out.",
        "What multiplies in the forward multiplies the gradient too.",
    ),
    "missing_target": (
        "The target is not subtracted.",
        "The gradient of this loss holds prediction minus target: check that both are there.",
    ),
    "missing_upstream": (
        "The upstream gradient is not multiplied in everywhere.",
        "A backward is upstream times local derivative, in every term.",
    ),
    "norm_mean_term_missing": (
        "The path through the mean of the normalisation is left out.",
        "Every entry moves the mean, and the mean moves every entry.",
    ),
    "norm_stats_detached": (
        "The statistics of the normalisation are treated as constants.",
        "The statistics depend on {wrt} as well: each adds a term.",
    ),
    "norm_var_term_missing": (
        "The path through the variance, or the mean square, is left out.",
        "The scale 1/std depends on {wrt} as well: there is a term with the normalised values.",
    ),
    "other_variant": (
        "This is the right gradient of a close relative of your forward.",
        "Compare the definition of the forward with the formula that you differentiated.",
    ),
    "overwrite_not_accumulate": (
        "Contributions to one place replace each other and do not add up.",
        (
            "Look for `=` where `+=` belongs; for repeated indices use index_add_ or "
            "index_put_(accumulate=True)."
        ),
    ),
    "sign_error": (
        "A sign is wrong.",
        "Compare the signs of your formula with the derivation, term by term.",
    ),
    "stale_gradient": (
        "What an earlier backward call left behind is added in.",
        "Start each backward from zero, and return a new tensor.",
    ),
    "transposed_operand": (
        "A matrix, or a pair of axes, is transposed by mistake.",
        "Name the axes of your product one by one: the result must be {shape}.",
    ),
    "upstream_collapsed": (
        "One number stands in for a whole gradient.",
        "Each output entry has its own upstream gradient: keep its shape.",
    ),
    "used_updated_weights": (
        "A weight is updated too early.",
        "Form all gradients first, then take the step.",
    ),
    "wrong_axis": (
        "A sum or a mean runs over the wrong axis, or over too many.",
        "The sums and means of a gradient run over the axes of the forward.",
    ),
    "wrong_mask": (
        "A mask is applied, but not the one of the forward.",
        "Use the mask that the forward used: the same tensor, the same condition.",
    ),
    "wrong_mean_count": (
        "An average divides by the wrong count.",
        "Count the entries that the forward's mean runs over.",
    ),
    "wrong_operand": (
        "Another tensor is used than the right one.",
        "Use the tensor that the forward used at this place.",
    ),
    "wrong_power": (
        "A statistic or a factor has the wrong exponent.",
        "Check which of std, var, 1/std and 1/var your formula needs.",
    ),
    "wrong_scale_factor": (
        "A multiplier has the wrong value.",
        "Check the constants of your formula against those of the forward.",
    ),
    "wrong_shape": (
        "The gradient must have the shape of {wrt}, {shape}.",
        (
            "Print the shape after each line; look for a lost or an added keepdim, or for "
            "broadcasting such as (N, 1) - (N,)."
        ),
    ),
    "not_finite": (
        "Your gradient holds values that are not finite.",
        "Look for a division by 0, a log of 0, or an exp that overflows.",
    ),
    "all_zero": (
        "Your gradient is 0 everywhere, and the right one is not.",
        (
            "Is the tensor that you return ever filled? Is one of its factors 0? In Python, 2 // 20 "
            "is 0."
        ),
    ),
    "inputs_changed": (
        "Your backward changes its inputs in place.",
        "Work on a copy: a -= b changes the caller's tensor, a = a - b does not.",
    ),
    "unexplained": (
        "Your gradient is wrong, and I don't know why.",
        (
            "Shrink the data until one or two entries are left, work out the wrong one on paper, "
            "and compare factor by factor."
        ),
    ),
}

NOT_FILLED = "Does your loop get there? Look at its range, and for a return inside the loop."

NOTES = {
    "tie_convention": "It differs only where {what}: there the derivative is a matter of "
    "convention, not a mistake.",
    "cancels": "The gradient is 0: its terms cancel, and what is left of them is rounding.",
    "nearly_cancels": "The right gradient nearly cancels to 0, and the difference is rounding: "
    "PyTorch's own is off by as much.",
    "lost_in_rounding": "The gradient is so small on these data that all of the difference is "
    "rounding. On other values yours is right.",
    "holds_data": "It is right on the data given. On other values it differs: it holds values "
    "computed outside of the function, or a step of the forward is left out that changes nothing on "
    "these data.",
    "nearly": "It is right on the data given. On other values it is off by {what} of the largest "
    "entry.",
    "other_sizes": "It is right on the data given. At other sizes it differs: {what}.",
    "other_numbers": "It is right {what}.",
    "other_values": "On the data given it is right, by coincidence. What is said here was found on "
    "other values of the same shapes.",
    "last_output": "The forward returns {what} outputs: this is about the gradient of the last.",
    "search_failed": "The search for a name broke off ({what}); that the gradient is wrong stands.",
    "upstream_ones": "No upstream gradient was given, so it is taken to be all ones.",
    "upstream_shows_nothing": "With an upstream gradient of ones the right gradient is 0 everywhere, "
    "which tells little: pass one with other values as upstream.",
    "random_forward": "The forward draws random numbers. Your backward starts from the same state of "
    "the generator: it must draw the same ones, in the same order, or take them as an input.",
    "own_backward": "The forward has a backward of its own ({what}). It is taken as right, but finite "
    "differences of the forward give another gradient.",
}
