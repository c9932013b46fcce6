"""Read and evaluate the equations of a page."""

from .check import Formula, Report, check_document, check_file, check_text
from .declare import CONVENTIONS, Declarations
from .front_matter import read_declarations
from .problem import BadDeclaration, Unreadable
from .verdict import Chain, Equality, Page

__all__ = [
    "CONVENTIONS",
    "BadDeclaration",
    "Chain",
    "Declarations",
    "Equality",
    "Formula",
    "Page",
    "Report",
    "Unreadable",
    "check_document",
    "check_file",
    "check_text",
    "read_declarations",
]
