"""``qapsule search``: the widths, sparsity and reuse that give the best networks for their cost.

space.py       what is varied: settings of a recipe, each with its candidates
objectives.py  what a trial is judged by
trial.py       one trial, in a worker: a run of the recipe with its settings, and its figures
crews.py       who runs trials: processes of this machine, or a Dask cluster
study.py       asks for trials, hands them out, tells what they gave; resumable
front.py       the trials that no other one beats: table, JSON, PNG
"""
