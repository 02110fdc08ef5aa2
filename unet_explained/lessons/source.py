"""The package's own code, shown where a lesson speaks of it."""

import inspect

from ..extras import need
from ..model import UNet2DConditionModel


def source(thing):
    """The source of a class, function or module of the package, or of an object's class.

    Returns IPython's Code, coloured in a notebook.
    """
    need("IPython")
    from IPython.display import Code

    if isinstance(thing, UNet2DConditionModel):  # a pipeline's is of a class without the forward
        thing = UNet2DConditionModel
    if not (inspect.isclass(thing) or inspect.isroutine(thing) or inspect.ismodule(thing)):
        thing = type(thing)
    return Code(inspect.getsource(thing), language="python")
