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
"""One subset-sum experiment: marimo edit, marimo run, or python notebooks/max_rl.py -- --help."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="MaxRL on subset-sum")

with app.setup:
    from maxrl.experiments.notebooks.start import leave_out_jupyter

    leave_out_jupyter()

    import sys
    from pathlib import Path

    import marimo as mo
    from rich.console import Console

    from maxrl.errors import InputError
    from maxrl.experiments.notebooks import plots as pictures
    from maxrl.experiments.notebooks import run_view as view
    from maxrl.experiments.notebooks import single_run
    from maxrl.experiments.notebooks.flags import or_exit, with_value
    from maxrl.experiments.quiet import quiet_libraries
    from maxrl.objectives import ESTIMATORS

    RECIPE = Path(__file__).resolve().parent.parent / "recipes" / "subset_sum_qwen.yaml"


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # MaxRL on subset-sum

    A problem lists a few numbers and a target; an answer is right if it names some of them that add up to it. Of each
    problem a group of $N$ **rollouts** is sampled, each gets the reward 1 or 0, and an **advantage estimator** turns the
    rewards of a group, with mean $\hat r$, into advantages: MaxRL $(r - \hat r)/\hat r$, GRPO $(r - \hat r)/\hat\sigma$.
    What each of them optimises, on average: `what_am_i_optimizing.py`.

    The settings begin as those of the MaxRL-vs-GRPO benchmark that this project started from. Its Qwen model wants a GPU;
    the model `tiny` is made on the spot and trains on a laptop in a minute (the first time it is taught the format, which
    takes some minutes more and is kept). Rollouts are sampled, and the policy is trained, at the same temperature.
    """)
    return


@app.cell(hide_code=True)
def _():
    in_script = mo.app_meta().mode == "script"
    asked, overwrite = or_exit(lambda: single_run.parse_single_run(sys.argv[1:]))
    return asked, in_script, overwrite


@app.cell(hide_code=True)
def _(asked):
    rates = with_value(single_run.LEARNING_RATES, asked.learning_rate)
    form = mo.ui.dictionary(
        {
            "model_id": mo.ui.text(value=asked.model_id, label="model", full_width=True),
            "advantage_method": mo.ui.dropdown(
                with_value(ESTIMATORS, asked.advantage_method),
                value=asked.advantage_method,
                label="method (advantage estimator)",
            ),
            "batch_size": mo.ui.slider(
                steps=with_value(single_run.BATCH_SIZES, asked.batch_size),
                value=asked.batch_size,
                label="batch size, problems a step",
                show_value=True,
            ),
            "group_size": mo.ui.slider(
                steps=with_value(single_run.GROUP_SIZES, asked.group_size),
                value=asked.group_size,
                label="group size N, rollouts of each",
                show_value=True,
            ),
            "epochs": mo.ui.number(
                0,
                1000,
                value=asked.epochs or 0,
                label=f"epochs of {asked.steps_per_epoch} steps (0: the recipe's)",
            ),
            "learning_rate": mo.ui.dropdown(
                {"the recipe's": None, **{f"{rate:g}": rate for rate in rates}},
                value="the recipe's" if asked.learning_rate is None else f"{asked.learning_rate:g}",
                label="learning rate",
            ),
            "num_elements": mo.ui.slider(
                steps=with_value(single_run.ELEMENTS, asked.num_elements),
                value=asked.num_elements,
                label="num_elements",
                show_value=True,
            ),
            "temperature": mo.ui.slider(
                steps=with_value(single_run.TEMPERATURES, asked.temperature),
                value=asked.temperature,
                label="temperature",
                show_value=True,
            ),
            "lora_rank": mo.ui.number(0, value=asked.lora_rank or 0, label="LoRA rank (0: the recipe's)"),
            "seed": mo.ui.number(0, value=asked.seed, label="seed"),
        }
    )
    press = mo.ui.run_button(label="Train", kind="success")
    mo.vstack(
        [
            form["model_id"],
            mo.hstack(
                [form["advantage_method"], form["learning_rate"], form["epochs"]],
                wrap=True,
                justify="start",
                gap=2,
            ),
            mo.hstack([form["batch_size"], form["group_size"]], wrap=True, justify="start", gap=2),
            mo.hstack([form["num_elements"], form["temperature"]], wrap=True, justify="start", gap=2),
            mo.hstack([form["lora_rank"], form["seed"]], wrap=True, justify="start", gap=2),
            press,
        ]
    )
    return form, press


@app.cell(hide_code=True)
def _(asked, form, in_script):
    def plan():
        chosen = asked if in_script else single_run.chosen_in_widgets(asked, form.value)
        return chosen, single_run.single_run_fields(chosen, RECIPE)

    try:
        chosen, fields = or_exit(plan) if in_script else plan()
    except InputError as error:
        mo.stop(True, mo.callout(mo.md(f"{error}"), kind="warn"))
    mo.md(single_run.in_words(chosen, fields))
    return chosen, fields


@app.cell(hide_code=True)
def _(fields, in_script, overwrite, press):
    mo.stop(
        not in_script and not press.value,
        mo.md(
            "Press *Train*. A run of these settings that is done is shown at once, one that broke off goes on."
        ),
    )
    if in_script:
        quiet_libraries()
        console = Console(stderr=True, highlight=False)
        run = or_exit(lambda: single_run.make_single_run(fields, overwrite=overwrite, console=console))
    else:
        with mo.status.progress_bar(
            total=fields["max_steps"],
            title="Training",
            subtitle="preparing the model, measuring it",
            remove_on_exit=True,
        ) as bar:
            try:
                run = single_run.make_single_run_beside(fields, look=single_run.Progress(bar.update))
            except InputError as error:
                mo.stop(True, mo.callout(mo.md(f"{error}"), kind="danger"))
    return (run,)


@app.cell(hide_code=True)
def _(chosen, run):
    success_figure = view.success_figure(run, chosen.steps_per_epoch)
    passes = view.pass_at_k_figure(run)
    mo.vstack(
        [
            mo.md("## Before and after"),
            mo.Html(pictures.table(*view.before_and_after(run))),
            mo.md(view.how_measured(run)),
            mo.Html(pictures.side_by_side(success_figure, *([passes] if passes else []))),
            mo.md(f"Everything of this run: `marimo run notebooks/reading_a_run.py -- --run {run.folder}`"),
        ]
    )
    return (success_figure,)


@app.cell(hide_code=True)
def _(chosen, in_script, run, success_figure):
    if in_script:
        print(view.in_text(run))
        edges, means = view.epoch_means(run, chosen.steps_per_epoch)
        for number, mean in enumerate(means):
            print(f"epoch {number + 1:>3}, to step {edges[number + 1]:>5}: success rate {mean:.3f}")
        print(pictures.save_figure(success_figure, run.folder / "success.svg"))
    return


if __name__ == "__main__":
    app.run()
