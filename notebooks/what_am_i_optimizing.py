# /// script
# requires-python = ">=3.11"
# dependencies = ["maxrl[notebooks]"]
#
# # For a clone of maxrl's repository: the package is that of the folder above this file.
# [tool.uv.sources]
# maxrl = { path = "..", editable = true }
#
# [tool.marimo.display]
# theme = "system"
# ///
"""What an estimator optimises: marimo edit, marimo run, or python notebooks/what_am_i_optimizing.py -- --help."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="What am I optimizing?")

with app.setup:
    import sys

    import marimo as mo
    import numpy as np

    from maxrl.errors import InputError
    from maxrl.experiments.notebooks import estimator_view as view
    from maxrl.experiments.notebooks import plots as pictures
    from maxrl.experiments.notebooks.flags import or_exit, read_flags, with_value
    from maxrl.experiments.notebooks.toy import gradient_noise
    from maxrl.objectives import ESTIMATORS


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # What am I optimizing?

    On 0/1 rewards an **advantage estimator** is two numbers for each count of successes $K$ among the $N$ rollouts of a
    group: $a_s(K)$ for a success and $a_f(K)$ for a failure. Everything about the objective follows from them, exactly and
    without sampling. With pass rate $p$ the expected update is $w(p)\,\nabla p$, with the **effective weight**

    $$w(p) = \mathbb{E}_{k \sim \mathrm{Binomial}(N-1,\,p)}\,[\,a_s(k+1) - a_f(k)\,].$$

    Choose an estimator; its options are written as in Python: `order=16`, `no_success='penalize'`, `eps=0`.
    """)
    return


@app.cell(hide_code=True)
def _():
    flags = or_exit(
        lambda: read_flags(
            sys.argv[1:],
            "what_am_i_optimizing.py",
            "The exact objective and noise of an advantage estimator. `maxrl inspect` has more of it on the terminal.",
            {
                "estimator": ("maxrl", f"one of {', '.join(ESTIMATORS)}"),
                "options": ("", "its options, as order=16"),
                "n": (16, "N, the rollouts of a group"),
                "p": (0.05, "the pass rate that is looked at"),
                "output_dir": (None, "folder for the pictures as SVG files; by default none are written"),
            },
        )
    )
    return (flags,)


@app.cell(hide_code=True)
def _(flags):
    names = with_value(ESTIMATORS, flags.estimator)
    estimator = mo.ui.dropdown(names, value=flags.estimator, label="estimator")
    options = mo.ui.text(value=flags.options, placeholder="order=16", label="options")
    rollouts = mo.ui.slider(
        steps=with_value((*range(1, 17), 24, 32, 48, 64, 96, 128, 256, 512, 1024), flags.n),
        value=flags.n,
        label="rollouts N",
        show_value=True,
    )
    rate = mo.ui.slider(
        steps=with_value(view.RATE_STEPS, flags.p), value=flags.p, label="pass rate p", show_value=True
    )
    mo.hstack([estimator, options, rollouts, rate], wrap=True, justify="start", gap=2)
    return estimator, options, rate, rollouts


@app.cell(hide_code=True)
def _(estimator, options, rate, rollouts):
    def look():
        found = view.view_estimator(estimator.value, options.value, rollouts.value)
        return found, gradient_noise(found.exact, rate.value)

    try:
        shown, noise = or_exit(look) if mo.app_meta().mode == "script" else look()
    except InputError as error:
        mo.stop(True, mo.callout(mo.md(f"{error}"), kind="warn"))
    mo.vstack(
        [
            mo.md(f"`{shown.name}` with $N = {rollouts.value}$: `A = {shown.estimator.formula}`"),
            mo.md(shown.objective),
            *(mo.callout(mo.md(remark), kind="info") for remark in shown.remarks),
        ]
    )
    return noise, shown


@app.cell(hide_code=True)
def _(rate, shown):
    weight_figure = pictures.weight_figure(shown.exact, shown.name, rate.value)
    utility_figure = pictures.utility_figure(shown.exact, shown.name, rate.value)
    mo.vstack(
        [
            mo.md(r"""
    ## Objective

    Left, $w(p)$ between plain reinforcement learning, $w = 1$, and maximum likelihood, $w = 1/p$. Of **truncation order**
    $T$ it is $w_T(p) = (1 - (1-p)^T)/p$. Right, the **utility** that is climbed, $J' = w$ and $J(0) = 0$; of order $T$ it
    is $\sum_{k=1}^{T} \text{pass@}k / k$. The vertical line is the pass rate chosen above.
    """),
            mo.Html(pictures.side_by_side(weight_figure, utility_figure)),
        ]
    )
    return utility_figure, weight_figure


@app.cell(hide_code=True)
def _(noise, rate, rollouts, shown):
    noise_rates = list(np.geomspace(0.002, 0.98, 150))
    ratios = {
        name: view.signal_to_noise(exact, noise_rates)
        for name, exact in view.with_references(shown, rollouts.value).items()
    }
    noise_figure = pictures.noise_figure(noise_rates, ratios, rate.value)
    figures_at_p = view.noise_rows(shown.exact, noise, rate.value)
    mo.vstack(
        [
            mo.md(r"""
    ## Noise

    The gradient estimate of one group, $\hat g = \frac1N \sum_i A_i S_i$, has the mean $w(p)\,\nabla p$ and a variance that
    the estimator decides, too. Both are exact here, over $K \sim \mathrm{Binomial}(N, p)$, for a policy whose rollouts are
    their verdicts: $S = \nabla p/p$ for a success and $-\nabla p/(1-p)$ for a failure. The scores of a language model's
    rollouts vary about these, so its gradient is noisier; what an estimator adds or saves is seen all the same. The ratio
    does not depend on the estimator's scale, which a learning rate makes up for.
    """),
            mo.Html(
                pictures.side_by_side(
                    noise_figure, pictures.table([f"at p = {rate.value:g}", ""], figures_at_p)
                )
            ),
        ]
    )
    return figures_at_p, noise_figure


@app.cell(hide_code=True)
def _(rate, shown):
    advantages_figure = pictures.advantages_figure(shown.exact)
    rows = view.advantage_rows(shown.exact, rate.value)
    mo.vstack(
        [
            mo.md(r"""
    ## Advantages

    All that the above was computed from. *Chance* is that of a group with $K$ successes at the chosen pass rate.
    """),
            mo.Html(advantages_figure),
            mo.ui.table(
                rows,
                selection=None,
                pagination=True,
                page_size=17,
                format_mapping={"chance": "{:.3g}".format},
                show_download=False,
            ),
        ]
    )
    return advantages_figure, rows


@app.cell(hide_code=True)
def _(advantages_figure, figures_at_p, flags, noise_figure, rows, shown, utility_figure, weight_figure):
    if mo.app_meta().mode == "script":
        print(
            f"{shown.name}, N = {flags.n}: A = {shown.estimator.formula}",
            shown.objective,
            *shown.remarks,
            sep="\n",
        )
        print(f"\nat p = {flags.p:g}")
        for name, value in figures_at_p:
            print(f"  {name:<34}{value:>12}")
        print("\n" + "".join(f"{name:>18}" for name in rows[0]))
        for row in rows:
            print("".join(f"{'–' if value is None else f'{value:.6g}':>18}" for value in row.values()))
        if flags.output_dir:
            drawn = {"weight": weight_figure, "utility": utility_figure, "noise": noise_figure}
            for name, markup in {**drawn, "advantages": advantages_figure}.items():
                print(pictures.save_figure(markup, flags.output_dir / f"{name}.svg"))
    return


if __name__ == "__main__":
    app.run()
