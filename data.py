"""ImageBind's data helpers under their own names, for notebooks written for it: `import data`.

It lies beside the notebooks and is not part of the installed package, where a module called `data` could stand in for
a user's own. Everything is in `kws_imagebind.encoders.imagebind.helpers`.
"""

from kws_imagebind.encoders.imagebind.helpers import *  # noqa: F403
from kws_imagebind.encoders.imagebind.helpers import __all__  # noqa: F401
