"""Words that no task has: what a recording of another word fits better than any keyword."""

from __future__ import annotations

# Words that no task has, for telling speech that is no keyword from none: what fits one of them better than any keyword
# is an unknown word. None of them sounds like one of the 35 words or is an inflection of one.
FILLERS = tuple(
    """
    animal apple autumn banana basket bottle bridge brother button candle carpet chicken circle coffee corner cousin
    doctor dragon engine evening father finger flower forest garden guitar hammer hospital island jacket kettle kitchen
    ladder lamp lemon machine market mirror money monkey mother mountain music napkin number ocean office orange paper
    pencil people picture pillow planet pocket potato question rabbit river rocket school shadow shoulder silver sister
    soldier spoon student summer table teacher thunder tiger tomato travel umbrella uncle village voice water weather
    window winter wonder yellow
    """.split()
)
