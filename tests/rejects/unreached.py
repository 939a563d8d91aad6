"""Messages that no file and no call of the corpus earns, each with the reason why. Where the corpus starts to earn one,
or the code loses it, the test asks for it to be taken from here."""

EARLIER = "another message comes first; this one guards what the types of the code leave open"
BUNDLE = "needs a bundle, which holds code for one kind of processor; tests/whole/test_bundle.py earns it"
HOST = "the layer above asks only for names and types that it has looked up"
RACE = "needs another process, or an end at the wrong moment, while a run goes on"

UNREACHED: dict[str, str] = {
    "cli/commands.py: the result holds nan or inf": "a warning: the command ends well",
    "frontend/entry.py: `{}` has no function `{}`": HOST,
    "frontend/entry.py: this program nests too deeply": "the limits on nesting refuse such a program before",
    "frontend/entry.py: {} is generic in `{}`": HOST,
    "frontend/entry.py: {}, and `{}` needs {}": HOST,
    "frontend/initialisers.py: there is no key here": EARLIER,
    "frontend/initialisers.py: there is no param or state `{}`": HOST,
    "frontend/listing.py: the record `{}` is generic in `{}`, so its type cannot be told from a value": HOST,
    "frontend/numbers.py: {} is wanted here": EARLIER,
    "frontend/ranges.py: this read cannot be proven to stay inside": EARLIER,
    "frontend/read.py: more than {} branches": "the reader counts every `elif` as one level of nesting",
    "frontend/read_expressions.py: this is nested too deeply": "the reader refuses such nesting before",
    "frontend/statements.py: `{}` is not bound": EARLIER,
    "frontend/tracing.py: `{}` is neither a formal nor a param here": EARLIER,
    "frontend/transforms.py: a transform is applied to a function where it is written": EARLIER,
    "program/bundle.py: a bundle has no parts to time: {}": BUNDLE,
    "program/bundle.py: this function came from a bundle: copy {}": BUNDLE,
    "program/bundle.py: {} is a bundle of another format": "there is no other format yet",
    "program/check.py: the derivatives of `{}` are wrong: {}": "a rule of dgraph itself would have to be wrong",
    "program/chosen_bases.py: a derivative depends on the choice of a basis": "a warning: the command ends well",
    "program/compiled.py: there is not enough memory for {}": "a kernel that asks for too much says so itself",
    "program/nonfinite.py: {} is at the edge of what is finite": "another rounding would have to give a finite number",
    "program/profile.py: this system has no `clock_gettime`, so parts of a call cannot be timed": "this system has one",
    "train/checkpoint.py: {} is not a checkpoint of a run": "a file that is damaged is told when it is read",
    "train/columns.py: cannot read {}": "needs a file without the right to read it, which an administrator has",
    "train/folder.py: another run is writing to {}": RACE,
    "train/folder.py: cannot write to the run folder {}": RACE,
    "train/start.py: the run stands in the middle of epoch {}, so its batches cannot change now": RACE,
    "train/steps.py: there is no optimiser function `{}`": EARLIER,
}
