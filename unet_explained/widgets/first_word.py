"""Which word of a prompt a view opens on: the first thing that it names."""

from collections.abc import Sequence

# What stands before, between and after the names of things. English, as the text encoders read.
LINKS = """
    a an the this that these those some any each every no one two three its his her their my our
    of on in at by to from with without into onto over under above below beside besides between
    behind before after near next around against along across through inside outside left right
    top bottom front back middle and or but nor not while as is are was were be being been has
    have had which who whose where when it he she they very
"""


def first_thing(words: Sequence[str]) -> int:
    """The index of the last word of the first name: of "the red fish left of a hat" it is 2.

    0 where no word is a name.
    """
    links, last = LINKS.split(), None
    for index, word in enumerate(map(str.lower, words)):
        linking = word in links or (last is not None and word.endswith("ing"))
        if last is not None and linking:
            break
        last = last if linking else index
    return last or 0
