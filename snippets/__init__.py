"""The code that the pages show.

Imported as `snippets.<layer>`, every call checks its tensors against the shapes in the
signature. A module copied elsewhere is plain PyTorch; there, `pytest
--jaxtyping-packages=<package>,beartype.beartype` switches the same checks on.
"""

from jaxtyping import install_import_hook

install_import_hook("snippets", "beartype.beartype")
