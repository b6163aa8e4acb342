"""What the interpreters of 3.9 and 3.10 call first; the newer ones have a frozen module of this name."""


def init():
    """Prepare nothing."""


def run():
    """Hand over to the compiler."""
    import __init__compiler

    __init__compiler.run("")
