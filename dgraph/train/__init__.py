"""Training: the `@train` and `@metric` functions of a program over data, into a run folder.

```python
from dgraph.train import load_params, train_program

summary = train_program(program, data="digits.npz", settings=["epochs=3"], out="run")
load_params(program, "run")                    # what `dgraph run --params run` does
```
"""

from dgraph.train.folder import load_params
from dgraph.train.start import run_seed, train_program

__all__ = ["load_params", "run_seed", "train_program"]
