"""The kinds of steps, one file each.

A step maps arrays (…, N, *features) of N samples to one such array. To add a kind:

1. Write its file here: a frozen dataclass that derives from `step.Step`, with the mathematics in its
   docstring. The step needs `vjp`, and `forward`, which accepts real, complex and wide numbers and any number
   of axes before the samples' axis. It also needs `formulas`, from which `gradcheck explain` and the docs
   write its derivation. Then override what applies; everything else has a default:

   - `of(features, **options)` builds the step from the options of a spec, and raises an `UnfitError` that
     names the option at fault. `out(*features)` is the shape of the output, if it differs from the input's.
   - `shapes`: the shapes of the parameters. `centre(name)` is None for weights, 0 for biases, 1 for scales.
   - `couples`: "nothing" if each number affects only its own output, "batch" if samples affect each other.
   - `factors(name, inputs)`: how a parameter enters the output, if the output is affine in the parameter.
     Then all entries of a unit can be checked by unit differences. Otherwise every entry is perturbed on its
     own, which is slower.
   - `part`: the part of the output that changes with a perturbed part of the input. The default evaluates
     whole samples, which is slower.
   - `link`: how the output depends on an input, if the output copies the input or is a product with it. A
     parameter below the step may then be checked by perturbing the step's output.
   - `has_pieces`, `pieces`, `branch` and `sides`, if the step has kinks.
   - `error` and `vjp_error`: bounds on rounding errors. The defaults nudge the inputs and observe the outputs
     (`nudged_rounding`); an analysis of the step itself is faster and tighter.
   - `heard`: a mask of the inputs that can matter, if not all can. `with_entries`: a faster way to perturb
     entries.
   - `label`, `makes_images`, `channel`, `multiplications`: see `Step`.

2. Write its model, a `LayerItem`, in the file of its family in `spec.layers`, and add its line to `KINDS`
   there. `build` adds the layer's nodes to a `Builder`; by default, it adds one step, of the class `step`. A
   layer that consists of several steps, or of other layers, overrides `build`.
3. Add rows to `tests/network/step_kinds.py` for the step, and to `tests/layer_kinds.py` for the layer, each
   with torch's function in the test of the same name. Every promise is tested on random draws of these rows.
4. Add its row to `docs/reference/layers.md`, and its key to the line `generated: derivations` below the
   table. Add an example to `docs/_generate/derivations.py`.
"""
