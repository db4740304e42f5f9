"""Workers killed anywhere, and what must hold after it.

A warm parent that has imported everything forks a child for each attempt of a run, so that a trial costs little more
than the work in it (`server`). The child runs the steps of `synth.steps`; instruments that only it carries count every
durable action, whoever does it, and stop or kill the process at a chosen one (`boundaries`), and note every look at
private rows and every output of a mechanism in a file beside the run (`instruments`, `trace`). After a kill the run is
taken up again as a retry would (`trial`), and `judge` compares ledger, notes, workspace and bucket. `twins` are broken
versions of the library that show that each counter can fail.

`make chaos TRIALS=50` is the long version; `test_chaos` the one that runs with the tests.
"""
